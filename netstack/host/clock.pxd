from libc.stdint cimport uint64_t

cdef uint64_t clock_now_ns() noexcept nogil         # CLOCK_MONOTONIC
cdef uint64_t clock_realtime_ns() noexcept nogil
cdef int random_fill(void *out, size_t length) noexcept nogil    # from the OS; 0 or -errno
