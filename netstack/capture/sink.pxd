# Where a capture's blocks go: a file, a ring of files, a pipe or a socket. For one thread, which may be made to wait.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    SINK_PATIENCE_MS = 1000     # how long a capture that ends waits for the reader of a full pipe

ctypedef struct sink_t:
    int fd
    int error                   # errno of the failure that ended the capture, 0 while it runs
    int wake_fd                 # readable when `stop` has been set
    int *stop
    uint64_t patience_until     # once that is so: when to give up (CLOCK_MONOTONIC), 0 = not set yet
    uint8_t regular             # a file of our own, which a failed write may be cut off from again
    uint8_t stream              # a pipe or a socket: it can be full, and its reader can go
    uint8_t socket
    uint64_t whole              # bytes of whole blocks in this file
    uint64_t total              # and in all of them
    uint32_t files              # of the ring, 0 = no ring
    uint32_t number             # files so far
    char *stem                  # names in the ring are STEM_NUMBER_TIME SUFFIX
    char *suffix
    char **kept                 # names of the ring's files, each in the place of its number

# A descriptor of our own for standard output, or -1.
cdef int open_standard_output() noexcept nogil
# Each returns 0 or -errno.
cdef int sink_open_fd(sink_t *s, int fd) noexcept nogil         # the sink's from here on
cdef int sink_open(sink_t *s, const char *path) noexcept nogil  # "-" is standard output
# The first file of a ring, or the next; the oldest goes.
cdef int sink_ring(sink_t *s, const char *stem, const char *suffix, uint32_t files) noexcept nogil
cdef int sink_next(sink_t *s, uint64_t time_ns) noexcept nogil
# Writes whole blocks. After a failure the file holds a whole number of blocks, and *kept how many bytes of these.
cdef int sink_write(sink_t *s, const uint8_t *blocks, size_t length, size_t *kept) noexcept nogil
# Waits for a wake-up, at most so long (-1 = for ever); an error is found where the reader has gone.
cdef int sink_idle(sink_t *s, int milliseconds) noexcept nogil
# Closes and frees what the sink holds.
cdef int sink_close(sink_t *s) noexcept nogil
