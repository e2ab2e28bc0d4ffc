# The process's heap.

cdef void memory_give_back() noexcept nogil     # what free() has kept for later goes back to the system (glibc; else nothing)
