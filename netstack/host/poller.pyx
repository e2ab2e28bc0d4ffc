"""Edge-triggered readiness from epoll, kqueue or poll(2).

epoll and kqueue are edge-triggered by themselves. poll(2) is made so: a direction that was reported is not
asked for again until poller_rearm, which the user calls when a read or write came to EAGAIN. Errors and
hang-ups, which poll(2) reports unasked and for ever, silence the descriptor until it is re-armed when nothing
else is asked for.
"""
cimport cython
from libc.errno cimport EEXIST, EINTR, EINVAL, ENOMEM, errno
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, getenv, realloc
from libc.string cimport memset, strcmp

from netstack.host.clock cimport clock_now_ns
from netstack.host.scripted cimport (
    SCRIPTED_FD, scripted_next, scripted_of, scripted_t, scripted_unwatch, scripted_watch,
)
from netstack.host.spin cimport spin_disturbs, spin_found, spin_now, spin_slept

cdef enum:
    DISTURBED_NS = 8000         # a look takes less than 1000: somebody else has had the processor

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>
    #ifndef POLLRDHUP
    #define POLLRDHUP 0
    #endif
    #define HOST_READ 1
    #define HOST_WRITE 2
    #define HOST_ERROR 4
    #define HOST_HUP 8
    #define HOST_RDHUP 16
    #define HOST_BATCH 256
    typedef struct { void *token; uint32_t events; } host_event;
    static void host_set_errno(int e) { errno = e; }

    static int host_poll(struct pollfd *fds, unsigned n, uint64_t timeout_ns) {
    #ifdef __linux__
        struct timespec t = { (time_t)(timeout_ns / 1000000000ull), (long)(timeout_ns % 1000000000ull) };
        return ppoll(fds, n, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
    #else
        uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
        return poll(fds, n, timeout_ns == UINT64_MAX ? -1 : ms > 0x7fffffff ? 0x7fffffff : (int)ms);
    #endif
    }

    #if defined(__linux__)
    #include <sys/epoll.h>
    #include <sys/syscall.h>
    #ifndef SYS_epoll_pwait2
    #define SYS_epoll_pwait2 441
    #endif
    #define HOST_BEST 1
    static int host_open(unsigned kind) {
        if (kind != 1) { errno = ENOSYS; return -1; }
        return epoll_create1(EPOLL_CLOEXEC);
    }
    static int host_add(int ep, int fd, uint32_t events, void *token) {
        struct epoll_event ev = {0};
        ev.events = EPOLLET;
        if (events & HOST_READ) ev.events |= EPOLLIN | EPOLLRDHUP;
        if (events & HOST_WRITE) ev.events |= EPOLLOUT;
        ev.data.ptr = token;
        return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    }
    static void host_remove(int ep, int fd) {
        struct epoll_event ev = {0};
        epoll_ctl(ep, EPOLL_CTL_DEL, fd, &ev);
    }
    static int host_wait(int ep, host_event *out, int limit, uint64_t timeout_ns, uint32_t *coarse) {
        struct epoll_event evs[HOST_BATCH];
        int i, n;
        if (limit > HOST_BATCH) limit = HOST_BATCH;
        if (!*coarse) {
            struct { int64_t sec; int64_t nsec; } t =       /* __kernel_timespec */
                { (int64_t)(timeout_ns / 1000000000ull), (int64_t)(timeout_ns % 1000000000ull) };
            n = (int)syscall(SYS_epoll_pwait2, ep, evs, limit, timeout_ns == UINT64_MAX ? NULL : &t, NULL, 8);
            if (n < 0 && (errno == ENOSYS || errno == EPERM)) *coarse = 1;
        }
        if (*coarse) {
            uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
            int wait = timeout_ns == UINT64_MAX ? -1 : ms > 0x7fffffff ? 0x7fffffff : (int)ms;
            n = epoll_wait(ep, evs, limit, wait);
        }
        for (i = 0; i < n; i++) {
            uint32_t e = evs[i].events;
            out[i].token = evs[i].data.ptr;
            out[i].events = (e & EPOLLIN ? HOST_READ : 0) | (e & EPOLLOUT ? HOST_WRITE : 0) |
                (e & EPOLLERR ? HOST_ERROR : 0) | (e & EPOLLHUP ? HOST_HUP : 0) |
                (e & EPOLLRDHUP ? HOST_RDHUP : 0);
        }
        return n;
    }
    #elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
    #include <fcntl.h>
    #include <sys/types.h>
    #include <sys/event.h>
    #define HOST_BEST 2
    static int host_open(unsigned kind) {
        int fd;
        if (kind != 2) { errno = ENOSYS; return -1; }
        fd = kqueue();
        if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
        return fd;
    }
    static int host_add(int kq, int fd, uint32_t events, void *token) {
        struct kevent ch[2];
        int n = 0;
        if (events & HOST_READ) { EV_SET(&ch[n], fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, token); n++; }
        if (events & HOST_WRITE) { EV_SET(&ch[n], fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, token); n++; }
        return kevent(kq, ch, n, NULL, 0, NULL);
    }
    static void host_remove(int kq, int fd) {
        struct kevent ch;
        EV_SET(&ch, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL); kevent(kq, &ch, 1, NULL, 0, NULL);
        EV_SET(&ch, fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL); kevent(kq, &ch, 1, NULL, 0, NULL);
    }
    static int host_wait(int kq, host_event *out, int limit, uint64_t timeout_ns, uint32_t *coarse) {
        struct kevent evs[HOST_BATCH];
        struct timespec t = { (time_t)(timeout_ns / 1000000000ull), (long)(timeout_ns % 1000000000ull) };
        int i, n;
        (void)coarse;
        if (limit > HOST_BATCH) limit = HOST_BATCH;
        n = kevent(kq, NULL, 0, evs, limit, timeout_ns == UINT64_MAX ? NULL : &t);
        for (i = 0; i < n; i++) {
            out[i].token = evs[i].udata;
            if (evs[i].filter == EVFILT_READ)
                out[i].events = HOST_READ | (evs[i].flags & EV_EOF ? HOST_RDHUP : 0);
            else
                out[i].events = HOST_WRITE | (evs[i].flags & EV_EOF ? HOST_HUP : 0);
            if ((evs[i].flags & EV_ERROR) || ((evs[i].flags & EV_EOF) && evs[i].fflags))
                out[i].events |= HOST_ERROR;
        }
        return n;
    }
    #else
    #define HOST_BEST 0
    static int host_open(unsigned kind) { (void)kind; errno = ENOSYS; return -1; }
    static int host_add(int q, int fd, uint32_t events, void *token) {
        (void)q; (void)fd; (void)events; (void)token; errno = ENOSYS; return -1;
    }
    static void host_remove(int q, int fd) { (void)q; (void)fd; }
    static int host_wait(int q, host_event *out, int limit, uint64_t timeout_ns, uint32_t *coarse) {
        (void)q; (void)out; (void)limit; (void)timeout_ns; (void)coarse; errno = ENOSYS; return -1;
    }
    #endif
    """
    ctypedef struct host_event:
        pass
    int HOST_BEST
    void host_set_errno(int e)
    int host_open(unsigned int kind)
    int host_add(int q, int fd, uint32_t events, void *token)
    void host_remove(int q, int fd)
    int host_wait(int q, host_event *out, int limit, uint64_t timeout_ns, uint32_t *coarse)

cdef extern from "<poll.h>" nogil:
    ctypedef struct host_pollfd "struct pollfd":
        int fd
        short events
        short revents
    int POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL
    int POLLRDHUP
    int host_poll(host_pollfd *fds, unsigned int n, uint64_t timeout_ns)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


cdef poller_t *poller_new() noexcept nogil:
    """A poller of the best back-end, or of the one named by NETSTACK_POLLER.

    NULL with errno set (EINVAL: unknown name).
    """
    cdef const char *name = getenv("NETSTACK_POLLER")
    cdef uint32_t backend = <uint32_t>HOST_BEST
    cdef poller_t *p
    if name != NULL and name[0] != 0:
        if strcmp(name, "poll") == 0:
            backend = POLLER_POLL
        elif strcmp(name, "epoll") == 0:
            backend = POLLER_EPOLL
        elif strcmp(name, "kqueue") == 0:
            backend = POLLER_KQUEUE
        else:
            host_set_errno(EINVAL)
            return NULL
    p = <poller_t *>calloc(1, sizeof(poller_t))
    if p == NULL:
        return NULL
    p.backend = backend
    p.fd = -1
    if backend != POLLER_POLL:
        p.fd = host_open(backend)
        if p.fd < 0:
            free(p)
            return NULL
    return p


cdef void poller_free(poller_t *p) noexcept nogil:
    """Frees the poller; the descriptors stay open."""
    if p == NULL:
        return
    if p.fd >= 0:
        close(p.fd)
    free(p.polled)
    free(p.slots)
    free(p.places)
    free(p)


cdef inline void ask(poller_t *p, uint32_t place) noexcept nogil:
    """Tells poll(2) what the slot waits for."""
    cdef host_pollfd *f = &(<host_pollfd *>p.polled)[place]
    cdef poller_slot *s = &p.slots[place]
    f.fd = s.fd
    f.events = 0
    if s.armed & POLL_READ:
        f.events |= <short>(POLLIN | POLLRDHUP)
    if s.armed & POLL_WRITE:
        f.events |= <short>POLLOUT


cdef int poll_add(poller_t *p, int fd, uint32_t events, void *token) noexcept nogil:
    cdef uint32_t room
    cdef void *memory
    if fd < 0:
        return -EINVAL
    if <uint32_t>fd >= p.places_room:
        room = p.places_room if p.places_room else 64
        while room <= <uint32_t>fd:
            room *= 2
        memory = realloc(p.places, room * sizeof(int))
        if memory == NULL:
            return -ENOMEM
        p.places = <int *>memory
        memset(p.places + p.places_room, 0, (room - p.places_room) * sizeof(int))
        p.places_room = room
    if p.places[fd]:
        return -EEXIST
    if p.n == p.room:
        room = p.room * 2 if p.room else 16
        memory = realloc(p.polled, room * sizeof(host_pollfd))
        if memory == NULL:
            return -ENOMEM
        p.polled = memory
        memory = realloc(p.slots, room * sizeof(poller_slot))
        if memory == NULL:
            return -ENOMEM
        p.slots = <poller_slot *>memory
        p.room = room
    p.slots[p.n].token = token
    p.slots[p.n].fd = fd
    p.slots[p.n].interest = events & (POLL_READ | POLL_WRITE)
    p.slots[p.n].armed = p.slots[p.n].interest
    (<host_pollfd *>p.polled)[p.n].revents = 0
    ask(p, p.n)
    p.n += 1
    p.places[fd] = <int>p.n
    return 0


cdef int poller_add(poller_t *p, int fd, uint32_t events, void *token) noexcept nogil:
    """Watches fd for POLL_READ and/or POLL_WRITE (errors, hang-ups and the peer's shutdown come unasked)."""
    if fd >= SCRIPTED_FD:
        p.script = scripted_of(fd)
        return scripted_watch(fd, token)
    if p.backend == POLLER_POLL:
        return poll_add(p, fd, events, token)
    if host_add(p.fd, fd, events, token) < 0:
        return -errno
    return 0


cdef void poller_rearm(poller_t *p, int fd, uint32_t events) noexcept nogil:
    """A read (POLL_READ) and/or write (POLL_WRITE) on fd came to EAGAIN: the next readiness is news again."""
    cdef uint32_t place
    if p.backend != POLLER_POLL or fd < 0 or <uint32_t>fd >= p.places_room or p.places[fd] == 0:
        return
    place = <uint32_t>p.places[fd] - 1
    p.slots[place].armed |= events & p.slots[place].interest
    ask(p, place)


cdef void poller_remove(poller_t *p, int fd) noexcept nogil:
    """Stops watching fd; harmless when it is not watched."""
    cdef uint32_t place, last
    if fd >= SCRIPTED_FD:
        scripted_unwatch(fd)
        return
    if p.backend != POLLER_POLL:
        host_remove(p.fd, fd)
        return
    if fd < 0 or <uint32_t>fd >= p.places_room or p.places[fd] == 0:
        return
    place = <uint32_t>p.places[fd] - 1
    last = p.n - 1
    if place != last:
        p.slots[place] = p.slots[last]
        (<host_pollfd *>p.polled)[place] = (<host_pollfd *>p.polled)[last]
        p.places[p.slots[place].fd] = <int>place + 1
    p.places[fd] = 0
    p.n = last


cdef int poll_wait(poller_t *p, poller_event *out, int limit, uint64_t timeout_ns) noexcept nogil:
    cdef host_pollfd *f
    cdef poller_slot *s
    cdef uint32_t i, events
    cdef uint32_t place = 0
    cdef int seen, n = 0
    cdef short r
    seen = host_poll(<host_pollfd *>p.polled, p.n, timeout_ns)
    if seen < 0:
        return 0 if errno == EINTR else -errno
    if p.turn >= p.n:
        p.turn = 0
    for i in range(p.n):
        if seen == 0 or n == limit:
            break
        place = p.turn + i
        if place >= p.n:
            place -= p.n
        f = &(<host_pollfd *>p.polled)[place]
        r = f.revents
        if r == 0:
            continue
        seen -= 1
        s = &p.slots[place]
        events = 0
        if r & (POLLIN | POLLRDHUP):
            events |= POLL_READ & s.armed
        if r & POLLOUT:
            events |= POLL_WRITE & s.armed
        if r & POLLRDHUP:
            events |= POLL_RDHUP
        if r & (POLLERR | POLLNVAL):
            events |= POLL_ERROR
        if r & POLLHUP:
            events |= POLL_HUP
        s.armed &= ~events
        ask(p, place)
        # What poll(2) would repeat without end is silenced until somebody re-arms it.
        if r & (POLLHUP | POLLNVAL) or (r & POLLERR and s.armed == 0):
            f.fd = -1
        out[n].token = s.token
        out[n].events = events
        n += 1
    if n == limit:
        p.turn = place + 1
    return n


cdef int poller_wait(poller_t *p, poller_event *out, int limit, uint64_t timeout_ns) noexcept nogil:
    """Number of events (at most limit, and at most 256 a call), 0 after the time-out or a signal, or -errno.
    """
    cdef int n = 0
    if limit <= 0:
        return -EINVAL
    if p.script != NULL:
        while n < limit and scripted_next(<scripted_t *>p.script, &out[n].token, &out[n].events):
            n += 1
        return n
    if p.backend == POLLER_POLL:
        return poll_wait(p, out, limit, timeout_ns)
    if timeout_ns and p.spin.limit_ns:
        n = spinning_wait(p, out, limit, timeout_ns)
    else:
        n = host_wait(p.fd, <host_event *>out, limit, timeout_ns, &p.coarse)
    if n < 0:
        return 0 if errno == EINTR else -errno
    return n


cdef int spinning_wait(poller_t *p, poller_event *out, int limit, uint64_t timeout_ns) noexcept nogil:
    """Looks for a while, where that has paid of late (``spin``), and sleeps then."""
    cdef uint64_t begin, now, before, look = spin_now(&p.spin)
    cdef int n
    begin = now = clock_now_ns()
    if look > timeout_ns:
        look = timeout_ns
    while now - begin < look:
        n = host_wait(p.fd, <host_event *>out, limit, 0, &p.coarse)
        if n:
            spin_found(&p.spin)
            return n
        before = now
        now = clock_now_ns()
        if now - before > DISTURBED_NS:
            spin_disturbs(&p.spin)
            break
    n = host_wait(p.fd, <host_event *>out, limit, timeout_ns, &p.coarse)
    spin_slept(&p.spin, clock_now_ns() - begin)
    return n


@cython.auto_pickle(False)
cdef class Poller:
    """The poller as a Python object; tokens are integers.

    Events come as (token, mask of READ, WRITE, ...).
    """

    cdef poller_t *poller

    READ = POLL_READ
    WRITE = POLL_WRITE
    ERROR = POLL_ERROR
    HUP = POLL_HUP
    RDHUP = POLL_RDHUP

    def __cinit__(self):
        self.poller = poller_new()
        if self.poller == NULL:
            raise OSError(errno, "poller_new")

    def __dealloc__(self):
        poller_free(self.poller)

    @property
    def backend(self) -> str:
        """poll, epoll or kqueue."""
        return ("poll", "epoll", "kqueue")[self.poller.backend]

    def add(self, int fd, uint32_t events, size_t token) -> None:
        """Watch a descriptor; OSError when that fails."""
        cdef int rc = poller_add(self.poller, fd, events, <void *>token)
        if rc < 0:
            raise OSError(-rc, "poller_add")

    def rearm(self, int fd, uint32_t events) -> None:
        """To be called after EAGAIN."""
        poller_rearm(self.poller, fd, events)

    def remove(self, int fd) -> None:
        """Stop watching a descriptor."""
        poller_remove(self.poller, fd)

    def wait(self, uint64_t timeout_ns=UINT64_MAX, int limit=64) -> list:
        """Events as (token, mask)."""
        cdef poller_event out[256]
        cdef int i, n
        if limit > 256:
            limit = 256
        with nogil:
            n = poller_wait(self.poller, out, limit, timeout_ns)
        if n < 0:
            raise OSError(-n, "poller_wait")
        return [(<size_t>out[i].token, out[i].events) for i in range(n)]
