# A wake-up descriptor.

# eventfd (a pipe where there is none); the two descriptors always differ, close both
cdef int wake_open(int *read_fd, int *write_fd) noexcept nogil
cdef void wake_signal(int write_fd) noexcept nogil
cdef void wake_clear(int read_fd) noexcept nogil
