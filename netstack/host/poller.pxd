# Edge-triggered readiness behind four functions: epoll, kqueue or poll(2).
from libc.stdint cimport uint32_t, uint64_t

from netstack.host.spin cimport spin_t

cdef enum:
    POLL_READ = 1
    POLL_WRITE = 2
    POLL_ERROR = 4          # POLLERR: something waits on the error queue or in SO_ERROR
    POLL_HUP = 8            # both directions are closed
    POLL_RDHUP = 16         # the peer has shut down its sending side

cdef enum:
    POLLER_POLL = 0         # the back-ends
    POLLER_EPOLL = 1
    POLLER_KQUEUE = 2

ctypedef struct poller_event:
    void *token
    uint32_t events

ctypedef struct poller_slot:
    void *token
    int fd
    uint32_t interest       # POLL_READ | POLL_WRITE as asked for
    uint32_t armed          # those of them that have not been reported since

ctypedef struct poller_t:
    uint32_t backend        # POLLER_*
    int fd                  # of epoll or kqueue
    uint32_t coarse         # epoll_pwait2 is missing: time-outs are rounded up to milliseconds
    # poll(2): parallel arrays, and the place of each descriptor in them
    void *polled            # struct pollfd
    poller_slot *slots
    uint32_t n
    uint32_t room
    uint32_t turn           # where the next scan begins, so that a small limit starves nobody
    int *places             # by descriptor: place + 1, 0 = not here
    uint32_t places_room
    spin_t spin             # how long to look before sleeping; its owner's to set up (spin_init), else never
    void *script            # of the scripted host whose sockets are watched (host/scripted): then only those are

# The best back-end there is, or the one that the environment variable NETSTACK_POLLER (poll, epoll, kqueue)
# names.
cdef poller_t *poller_new() noexcept nogil                                      # NULL: errno says why
cdef void poller_free(poller_t *p) noexcept nogil
# 0 or -errno; edge-triggered
cdef int poller_add(poller_t *p, int fd, uint32_t events, void *token) noexcept nogil
# To be called when a read (POLL_READ) or write (POLL_WRITE) came to EAGAIN: free on epoll and kqueue, re-arms
# poll(2).
cdef void poller_rearm(poller_t *p, int fd, uint32_t events) noexcept nogil
# Before close(fd). Events that poller_wait has already given out for fd are not taken back: the token must
# outlive the batch.
cdef void poller_remove(poller_t *p, int fd) noexcept nogil
# Waits until an event or the timeout (UINT64_MAX = for ever, 0 = only look); number of events or -errno
# (EINTR is 0).
cdef int poller_wait(poller_t *p, poller_event *out, int limit, uint64_t timeout_ns) noexcept nogil
