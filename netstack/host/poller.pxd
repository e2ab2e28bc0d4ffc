# Edge-triggered readiness behind four functions: epoll, kqueue or poll(2).
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    POLL_READ = 1
    POLL_WRITE = 2
    POLL_ERROR = 4          # POLLERR: something waits on the error queue or in SO_ERROR
    POLL_HUP = 8            # both directions are closed
    POLL_RDHUP = 16         # the peer has shut down its sending side

ctypedef struct poller_event:
    void *token
    uint32_t events

ctypedef struct poller_t:
    pass

cdef poller_t *poller_new() noexcept nogil                                      # NULL: errno says why
cdef void poller_free(poller_t *p) noexcept nogil
cdef int poller_add(poller_t *p, int fd, uint32_t events, void *token) noexcept nogil      # 0 or -errno; edge-triggered
# To be called when a read (POLL_READ) or write (POLL_WRITE) came to EAGAIN: free on epoll and kqueue, re-arms poll(2).
cdef void poller_rearm(poller_t *p, int fd, uint32_t events) noexcept nogil
cdef void poller_remove(poller_t *p, int fd) noexcept nogil                     # before close(fd)
# Waits until an event or the timeout (UINT64_MAX = for ever, 0 = only look); number of events or -errno (EINTR is 0).
cdef int poller_wait(poller_t *p, poller_event *out, int limit, uint64_t timeout_ns) noexcept nogil
