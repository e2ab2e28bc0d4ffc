"""A descriptor that becomes readable when another thread says so: eventfd, or a pipe where there is none."""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t

from netstack.host.posix cimport host_wake_open, read, write


cdef int wake_open(int *read_fd, int *write_fd) noexcept nogil:
    """A descriptor to be polled for reading and one to signal it by; 0 or -errno."""
    return host_wake_open(read_fd, write_fd)


cdef void wake_signal(int write_fd) noexcept nogil:
    """Makes the reading descriptor readable. From any thread; a full pipe is readable already."""
    cdef uint64_t one = 1
    while write(write_fd, &one, 8) < 0 and errno == EINTR:
        pass


cdef void wake_clear(int read_fd) noexcept nogil:
    """Takes all signals, so that the next one is an edge."""
    cdef uint64_t sink[32]
    cdef ssize_t n
    while True:
        n = read(read_fd, sink, sizeof(sink))
        if n < 0 and errno == EINTR:
            continue
        if n < <ssize_t>sizeof(sink):
            return
