"""The clocks and the random numbers of the operating system."""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint64_t

cdef extern from * nogil:
    """
    #include <time.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/random.h>
    static ssize_t host_random(void *p, size_t n) { return getrandom(p, n, 0); }
    #else
    #include <stdlib.h>
    static ssize_t host_random(void *p, size_t n) { arc4random_buf(p, n); return (ssize_t)n; }
    #endif
    static inline unsigned long long host_clock(clockid_t id) {
        struct timespec t;
        clock_gettime(id, &t);
        return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
    }
    """
    ssize_t host_random(void *p, size_t n)
    uint64_t host_clock(int clock_id)
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME


cdef uint64_t clock_now_ns() noexcept nogil:
    """Nanoseconds of CLOCK_MONOTONIC."""
    return host_clock(CLOCK_MONOTONIC)


cdef uint64_t clock_realtime_ns() noexcept nogil:
    """Nanoseconds since 1970 (CLOCK_REALTIME)."""
    return host_clock(CLOCK_REALTIME)


cdef int random_fill(void *out, size_t length) noexcept nogil:
    """Fills length bytes from the operating system's generator; 0 or -errno."""
    cdef uint8_t *p = <uint8_t *>out
    cdef ssize_t n
    while length:
        n = host_random(p, length)
        if n < 0:
            if errno == EINTR:
                continue
            return -errno
        p += n
        length -= <size_t>n
    return 0


def now_ns() -> int:
    """Nanoseconds of CLOCK_MONOTONIC."""
    return clock_now_ns()


def realtime_ns() -> int:
    """Nanoseconds since 1970."""
    return clock_realtime_ns()


def random_bytes(size_t length) -> bytes:
    """Random bytes from the operating system."""
    cdef bytearray out = bytearray(length)
    cdef int rc = random_fill(<char *>out, length)
    if rc < 0:
        raise OSError(-rc, "getrandom")
    return bytes(out)
