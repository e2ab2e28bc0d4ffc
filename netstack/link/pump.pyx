"""Joins two links: frames from either go to the other, segmented where that lacks an offload.

It waits without the GIL, holds no frame of its own, and reads from a side only while the other has room: what
does not fit stays in the sender's queue. A side that is full is written to again when the poller, or after a
short time the clock, says so.
"""
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.string cimport memset

from netstack.host.poller cimport (
    POLL_READ, POLL_WRITE, poller_add, poller_event, poller_free, poller_new, poller_rearm, poller_remove, poller_t,
    poller_wait,
)
from netstack.host.sockets cimport iovec
from netstack.link.datagram cimport datagram_link_new
from netstack.link.datagram import KINDS
from netstack.link.framing cimport framing_send
from netstack.link.link cimport LINK_AGAIN, LINK_CLOSED, LINK_OK, link_frame, link_t
from netstack.link.stream cimport stream_link_new
from netstack.link.stream import FRAMINGS
from netstack.link.tap cimport tap_link_new

cdef enum:
    BURST = 64
    EVENTS = 8
    SUPER_FRAME = 81920         # bytes of the largest super-frame in pieces
    STOP = 4                    # tokens: 0 and 1 a side to read, 2 and 3 a side to write, and this
    RETRY_NS = 1000000

ctypedef struct side_t:
    link_t *link
    int reserve                 # frames of room for one frame of the other side
    bint readable
    bint unflushed
    bint blocked
    bint watched                # its write_fd is in the poller

ctypedef struct pump_t:
    side_t sides[2]
    poller_t *poller
    int tokens[5]
    uint64_t frames[2]          # taken from each side
    uint64_t lost[2]            # that the other side then refused


cdef int flush_side(pump_t *p, int i) noexcept nogil:
    """LINK_OK, LINK_AGAIN or LINK_CLOSED."""
    cdef side_t *s = &p.sides[i]
    cdef int r = s.link.flush(s.link)
    if r == LINK_AGAIN:
        if not s.watched and s.link.write_fd:
            s.watched = poller_add(p.poller, s.link.write_fd, POLL_WRITE, &p.tokens[2 + i]) == 0
        elif s.watched:
            poller_rearm(p.poller, s.link.write_fd, POLL_WRITE)
        s.blocked = True
    elif r == LINK_OK:
        s.unflushed = s.blocked = False
        if s.watched:
            poller_remove(p.poller, s.link.write_fd)
            s.watched = False
    return r


cdef int carry(pump_t *p, int i) noexcept nogil:
    """One burst from side i to the other; LINK_CLOSED when either has ended."""
    cdef side_t *source = &p.sides[i]
    cdef side_t *target = &p.sides[1 - i]
    cdef link_frame frame
    cdef iovec iov
    cdef uint32_t sent
    cdef int r, budget = BURST
    while budget > 0:
        if target.link.bounded and target.link.room(target.link) < target.reserve:
            if target.blocked:
                return LINK_OK
            r = flush_side(p, 1 - i)
            if r != LINK_OK:
                return LINK_CLOSED if r == LINK_CLOSED else LINK_OK
        r = source.link.recv(source.link, &frame)
        if r == 0:
            source.readable = False
            poller_rearm(p.poller, source.link.fd, POLL_READ)
            return LINK_OK
        if r < 0:
            return LINK_CLOSED
        budget -= 1
        p.frames[i] += 1
        iov.iov_base = <void *>frame.data
        iov.iov_len = frame.length
        r = framing_send(target.link, &frame.meta, &iov, 1, &sent)
        if sent:
            target.unflushed = True
        if r == LINK_CLOSED:
            return LINK_CLOSED
        if r != LINK_OK:
            p.lost[i] += 1
    return LINK_OK


cdef bint can_read(pump_t *p, int i) noexcept nogil:
    """Whether side i has frames and the other side room."""
    cdef side_t *target = &p.sides[1 - i]
    if not p.sides[i].readable:
        return False
    return not (target.blocked and target.link.bounded and target.link.room(target.link) < target.reserve)


cdef int pump(pump_t *p) noexcept nogil:
    """Until a side ends: 0 or 1 for which, or STOP when it was told to."""
    cdef poller_event[EVENTS] events
    cdef uint64_t timeout
    cdef int i, n, token
    while True:
        timeout = UINT64_MAX
        for i in range(2):
            if p.sides[i].blocked and (p.sides[i].link.retry_ns or not p.sides[i].watched):
                timeout = RETRY_NS
        if can_read(p, 0) or can_read(p, 1):
            timeout = 0
        n = poller_wait(p.poller, events, EVENTS, timeout)
        for i in range(n):
            token = (<int *>events[i].token)[0]
            if token == STOP:
                return STOP
            if token < 2:
                p.sides[token].readable = True
            elif flush_side(p, token - 2) == LINK_CLOSED:
                return token - 2
        if n == 0 and timeout == RETRY_NS:
            for i in range(2):
                if p.sides[i].blocked and flush_side(p, i) == LINK_CLOSED:
                    return i
        for i in range(2):
            if can_read(p, i) and carry(p, i) == LINK_CLOSED:
                return i
        for i in range(2):
            if p.sides[i].unflushed and not p.sides[i].blocked and flush_side(p, i) == LINK_CLOSED:
                return i


cdef class Pump:
    """A TAP joined to another link. Give it both, then ``run``.

    Args:
        fd: an open TAP, owned by the pump.
        granted: its TUN_* offloads.
        mtu: IP bytes of both sides.
        stop_fd: ``run`` returns when this becomes readable; stays the caller's.
    """

    cdef pump_t p
    cdef int stop_fd
    cdef uint32_t mtu

    def __cinit__(self, int fd, uint32_t granted, uint32_t mtu, int stop_fd):
        memset(&self.p, 0, sizeof(self.p))
        self.stop_fd = stop_fd
        self.mtu = mtu
        self.p.sides[0].link = tap_link_new(fd, granted, mtu)
        if self.p.sides[0].link == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.detach()
        if self.p.sides[0].link != NULL:
            self.p.sides[0].link.close(self.p.sides[0].link)
            self.p.sides[0].link = NULL

    cdef _attach(self, link_t *link, int fd):
        self.detach()
        if link == NULL:
            raise OSError(f"descriptor {fd} cannot be used as a link")
        self.p.sides[1].link = link

    def attach_stream(self, int fd, int out_fd, str framing) -> None:
        """The other side: connected descriptors, owned by the pump, with framing "hyperkit", "qemu" or "offload".

        Raises:
            OSError: they cannot be used, and are still the caller's.
        """
        self._attach(stream_link_new(fd, out_fd, FRAMINGS[framing], self.mtu), fd)

    def attach_messages(self, int fd, str kind) -> None:
        """The other side: a socket with a frame in each message, "connected" or "packets"; owned by the pump.

        Raises:
            OSError: it cannot be used, and is still the caller's.
        """
        self._attach(datagram_link_new(fd, KINDS[kind], self.mtu), fd)

    def detach(self) -> None:
        """Closes the other side; another can be attached. Harmless when there is none."""
        if self.p.sides[1].link != NULL:
            self.p.sides[1].link.close(self.p.sides[1].link)
            self.p.sides[1].link = NULL

    def run(self) -> str:
        """Carries frames, without the GIL, until "stop", or a side has ended: "tap" or "link".

        Raises:
            OSError: there is no poller to be had.
            ValueError: nothing is attached.
        """
        cdef int i, ended
        cdef pump_t *p = &self.p
        if p.sides[1].link == NULL:
            raise ValueError("attach the other side first")
        p.poller = poller_new()
        if p.poller == NULL:
            raise OSError("no descriptors are left: raise the limit (ulimit -n)")
        try:
            for i in range(5):
                p.tokens[i] = i
            for i in range(2):
                p.sides[i].readable = True
                p.sides[i].unflushed = p.sides[i].blocked = p.sides[i].watched = False
                p.sides[i].reserve = 1 + SUPER_FRAME / <int>(p.sides[i].link.mtu + 16)
                if poller_add(p.poller, p.sides[i].link.fd, POLL_READ, &p.tokens[i]) < 0:
                    raise OSError("a descriptor cannot be polled")
            if poller_add(p.poller, self.stop_fd, POLL_READ, &p.tokens[STOP]) < 0:
                raise OSError("the descriptor that stops cannot be polled")
            with nogil:
                ended = pump(p)
        finally:
            poller_free(p.poller)
            p.poller = NULL
        return "stop" if ended == STOP else "link" if ended == 1 else "tap"

    def stats(self) -> dict:
        """Frames from the TAP (up) and to it (down), and those that were lost because the other side could not
        take them."""
        return {
            "up": self.p.frames[0], "down": self.p.frames[1],
            "up_lost": self.p.lost[0], "down_lost": self.p.lost[1],
        }
