"""The process's heap: what is freed and what the system gets back of it are two things."""

cdef extern from * nogil:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static void heap_trim(void) { malloc_trim(0); }
    #else
    static void heap_trim(void) {}
    #endif
    """
    void heap_trim()


cdef void memory_give_back() noexcept nogil:
    """Costs milliseconds after much was freed, little otherwise; threads that allocate wait for it."""
    heap_trim()
