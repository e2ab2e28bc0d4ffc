# The process's heap.

# What free() has kept for later goes back to the system (glibc; elsewhere nothing happens).
cdef void memory_give_back() noexcept nogil
