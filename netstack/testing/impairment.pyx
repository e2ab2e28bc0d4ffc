"""The bad-path box: joins two TAP devices (or links in memory) through loss, delay, jitter, reordering, rate
and a queue.

A thread of its own carries the frames without the GIL, so a busy Python program changes nothing about the
path. Typical use: a guest's namespace on one side, a bridge with the TAP that the stack serves on the other::

    with ImpairmentBox(fd_a, fd_b, up="loss=0.1 delay=5", down="loss=0.1 delay=5 reorder=1") as box:
        ...
    print(box.stats())
"""
import os
import threading

cimport cython
from libc.errno cimport EPIPE, errno
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

from netstack.host.clock cimport clock_now_ns
from netstack.host.poller cimport (
    POLL_READ, poller_add, poller_event, poller_free, poller_new, poller_rearm, poller_t, poller_wait,
)
from netstack.host.sockets cimport iovec, sock_close, wake_clear, wake_open, wake_signal
from netstack.host.tun cimport tun_adopt
from netstack.link.framing cimport framing_send
from netstack.link.impair cimport (
    Impairment, impair_free, impair_new, impair_next, impair_pop, impair_push, impair_t, stats_dict,
)
from netstack.link.link cimport LINK_AGAIN, LINK_OK, link_frame, link_t
from netstack.link.memory cimport MemoryLink
from netstack.link.stored cimport stored_frame, stored_free, stored_new
from netstack.link.tap cimport tap_link_new

from netstack.host import namespace

cdef enum:
    BURST = 64                  # frames taken from one side before the other gets its turn
    MTU = 65521

ctypedef struct side_t:
    link_t *link                # where this side's frames come from
    int poll_fd
    bint owned                  # a TAP link that we made
    bint ready                  # recv has not come to an end yet
    impair_t *path              # what these frames go through
    uint64_t refused            # frames that came out and that the far link could not carry
    uint64_t full               # ... or had no room for


cdef Impairment settings(object value):
    if value is None:
        return Impairment()
    if isinstance(value, Impairment):
        return value
    if isinstance(value, str):
        return Impairment.parse(value)
    return Impairment(**value)


@cython.auto_pickle(False)
cdef class ImpairmentBox:
    """Joins ``a`` and ``b`` (TAP descriptors, which stay the caller's, or MemoryLinks); ``up`` is the path
    from a to b.

    ``up`` and ``down`` are an Impairment, a text like "loss=1 delay=10", a dict, or None for a good path.
    TAPs should be opened without offloads (``namespace.open_tap(name, 0)``). ``start`` and ``stop``, or use
    it as a context manager.
    """

    cdef side_t sides[2]
    cdef poller_t *poller
    cdef int stop_read
    cdef int stop_write
    cdef bint stopping
    cdef int failure            # why the loop ended by itself: 0, or an errno
    cdef object thread
    cdef object keep            # the MemoryLinks

    def __cinit__(self, a, b, up=None, down=None):
        cdef Impairment way
        cdef unsigned int granted
        cdef int i, fd, rc
        self.stop_read = self.stop_write = -1
        self.keep = (a, b)
        rc = wake_open(&self.stop_read, &self.stop_write)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        self.poller = poller_new()
        if self.poller == NULL:
            raise OSError(errno, os.strerror(errno))
        rc = poller_add(self.poller, self.stop_read, POLL_READ, NULL)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        for i, end in enumerate((a, b)):
            way = settings((up, down)[i])
            self.sides[i].path = impair_new(&way.config)
            if self.sides[i].path == NULL:
                raise MemoryError
            if isinstance(end, MemoryLink):
                self.sides[i].link = (<MemoryLink>end).link
                self.sides[i].poll_fd = (<MemoryLink>end).wake_fd
            else:
                fd = os.dup(end)
                rc = tun_adopt(fd, 0, &granted)
                if rc >= 0:
                    self.sides[i].link = tap_link_new(fd, granted, MTU)
                if self.sides[i].link == NULL:
                    os.close(fd)
                    if rc < 0:
                        raise OSError(-rc, f"descriptor {end} is not a TAP: {os.strerror(-rc)}")
                    raise MemoryError
                self.sides[i].owned = True
                self.sides[i].poll_fd = fd
            self.sides[i].ready = True
            rc = poller_add(self.poller, self.sides[i].poll_fd, POLL_READ, &self.sides[i])
            if rc < 0:
                raise OSError(-rc, os.strerror(-rc))

    def __dealloc__(self):
        cdef int i
        poller_free(self.poller)
        for i in range(2):
            if self.sides[i].owned:
                self.sides[i].link.close(self.sides[i].link)
            impair_free(self.sides[i].path)
        if self.stop_read >= 0:
            sock_close(self.stop_read)
        if self.stop_write >= 0:
            sock_close(self.stop_write)

    cdef int take(self, side_t *s) noexcept nogil:
        """Puts up to a burst of a side's frames on their path; -1 when the link is closed."""
        cdef link_frame f
        cdef iovec whole
        cdef int _, rc
        for _ in range(BURST):
            rc = s.link.recv(s.link, &f)
            if rc < 0:
                return -1
            if rc == 0:
                s.ready = False
                poller_rearm(self.poller, s.poll_fd, POLL_READ)
                return 0
            whole.iov_base = <void *>f.data
            whole.iov_len = f.length
            impair_push(s.path, stored_new(&f.meta, &whole, 1), clock_now_ns())
        return 0

    cdef void give(self, side_t *s, side_t *far) noexcept nogil:
        """Sends what has come to the end of its path."""
        cdef stored_frame *f
        cdef iovec whole
        cdef uint32_t sent
        cdef int rc
        while True:
            f = impair_pop(s.path, clock_now_ns())
            if f == NULL:
                return
            whole.iov_base = f.data
            whole.iov_len = f.length
            rc = framing_send(far.link, &f.meta, &whole, 1, &sent)
            if rc == LINK_AGAIN:
                s.full += 1
            elif rc != LINK_OK:
                s.refused += 1
            stored_free(f)

    cdef int loop(self) noexcept nogil:
        """Carries frames until it is stopped (0) or a link is closed or the poller fails (an errno)."""
        cdef poller_event events[8]
        cdef uint64_t due, now, timeout
        cdef side_t *a = &self.sides[0]
        cdef side_t *b = &self.sides[1]
        cdef int i, n
        while not self.stopping:
            if a.ready and self.take(a) < 0:
                return EPIPE
            if b.ready and self.take(b) < 0:
                return EPIPE
            self.give(a, b)
            self.give(b, a)
            timeout = 0
            if not a.ready and not b.ready:
                due = impair_next(a.path)
                if impair_next(b.path) < due:
                    due = impair_next(b.path)
                timeout = UINT64_MAX
                if due != UINT64_MAX:
                    now = clock_now_ns()
                    timeout = due - now if due > now else 0
            n = poller_wait(self.poller, events, 8, timeout)
            if n < 0:
                return -n
            for i in range(n):
                if events[i].token == NULL:
                    return 0
                (<side_t *>events[i].token).ready = True
        return 0

    def _run(self):
        namespace.set_timer_slack(1)
        with nogil:
            self.failure = self.loop()

    def start(self) -> None:
        """Begin to carry frames; RuntimeError when it runs already."""
        if self.thread is not None:
            raise RuntimeError("the box runs already")
        self.stopping = False
        self.failure = 0
        wake_clear(self.stop_read)
        poller_rearm(self.poller, self.stop_read, POLL_READ)
        self.thread = threading.Thread(target=self._run, name="impairment", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread; frames on the path are thrown away with the box.

        ConnectionError: a link had failed.
        """
        thread, self.thread = self.thread, None
        if thread is None:
            return
        self.stopping = True
        wake_signal(self.stop_write)
        thread.join()
        if self.failure:
            raise ConnectionError(f"a side of the box failed: {os.strerror(self.failure)}")

    @property
    def running(self) -> bool:
        """True while frames are carried; False before start, after stop, and when a side has failed."""
        return self.thread is not None and self.thread.is_alive()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def stats(self) -> dict:
        """{"up": {...}, "down": {...}}: frames by fate, "refused" and "far_full" (the far link's queue)
        included.
        """
        out = {}
        for i, name in enumerate(("up", "down")):
            way = stats_dict(&self.sides[i].path.stats)
            way["refused"] = self.sides[i].refused
            way["far_full"] = self.sides[i].full
            out[name] = way
        return out
