"""A link inside the process: two bounded frame queues, perhaps with a bad path in front of each.

Time is virtual (whoever steps the link says what time it is) or real (the link reads the clock itself). With
an impairment a frame waits in its model until ``step`` finds it due; without one it goes straight into the
queue.
"""
from collections import namedtuple

cimport cython
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from netstack.host.clock cimport clock_now_ns
from netstack.host.sockets cimport iovec, sock_close, wake_clear, wake_open, wake_signal
from netstack.link.impair cimport (
    Impairment, impair_free, impair_new, impair_next, impair_pop, impair_push, impair_t, stats_dict,
)
from netstack.link.link cimport (
    LINK_AGAIN, LINK_BAD_FRAME, LINK_CLOSED, LINK_CSUM, LINK_ECN, LINK_OK, LINK_TSO4, LINK_TSO6, LINK_USO,
    link_carries, link_frame, link_t,
)
from netstack.link.stored cimport stored_frame, stored_free, stored_new
from netstack.storage.frame cimport frame_meta

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t *m, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *m)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)

FEATURES = {"csum": LINK_CSUM, "tso4": LINK_TSO4, "tso6": LINK_TSO6, "ecn": LINK_ECN, "uso": LINK_USO}

FrameMeta = namedtuple(
    "FrameMeta", "csum gso_type gso_size hdr_len csum_start csum_offset", defaults=(0,) * 6, module=__name__
)
FrameMeta.__doc__ = "The offload metadata of a frame, in the terms of storage/frame.pxd."


cdef inline void append(memory_queue *q, stored_frame *f) noexcept nogil:
    """At the end of a queue; wakes its reader when it was empty."""
    f.next = NULL
    if q.last != NULL:
        q.last.next = f
    else:
        q.first = f
    q.last = f
    q.n += 1
    if not q.signalled:
        q.signalled = 1
        wake_signal(q.write_fd)


cdef inline stored_frame *take(memory_queue *q) noexcept nogil:
    """The first frame, or NULL after taking the wake-up back."""
    cdef stored_frame *f = q.first
    if f == NULL:
        if q.signalled:
            q.signalled = 0
            wake_clear(q.read_fd)
        return NULL
    q.first = f.next
    if q.first == NULL:
        q.last = NULL
    q.n -= 1
    return f


cdef void free_all(stored_frame *f) noexcept nogil:
    cdef stored_frame *following
    while f != NULL:
        following = f.next
        stored_free(f)
        f = following


cdef inline uint64_t time_of(const memory_t *m) noexcept nogil:
    return clock_now_ns() if m.real_time else m.now_ns


cdef void release(impair_t *model, memory_queue *q, uint64_t now_ns) noexcept nogil:
    """Moves what is due from the model to the queue, as far as there is room (the rest stays due)."""
    cdef stored_frame *f
    while model != NULL and q.n < q.limit:
        f = impair_pop(model, now_ns)
        if f == NULL:
            return
        append(q, f)


cdef int memory_recv(link_t *link, link_frame *out) noexcept nogil:
    cdef memory_t *m = <memory_t *>link.impl
    cdef stored_frame *f
    cdef int closed
    pthread_mutex_lock(&m.lock)
    if m.real_time:
        release(m.impair_up, &m.up, clock_now_ns())
    f = take(&m.up)
    closed = m.closed
    pthread_mutex_unlock(&m.lock)
    stored_free(m.current)
    m.current = f
    if f == NULL:
        return LINK_CLOSED if closed else 0
    out.data = f.data
    out.length = f.length
    out.meta = f.meta
    link.rx_frames += 1
    link.rx_bytes += f.length
    return 1


cdef int memory_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef memory_t *m = <memory_t *>link.impl
    cdef uint32_t length = 0
    cdef uint64_t due
    cdef stored_frame *f
    cdef int i, rc = LINK_OK
    if iovcnt < 1 or iovcnt > 8:
        return LINK_BAD_FRAME
    for i in range(iovcnt):
        length += <uint32_t>iov[i].iov_len
    if not link_carries(link, meta, length):
        return LINK_BAD_FRAME
    f = stored_new(meta, iov, iovcnt)
    if f == NULL:
        link.tx_full += 1
        return LINK_AGAIN
    pthread_mutex_lock(&m.lock)
    if m.closed:
        rc = LINK_CLOSED
    elif m.impair_down != NULL:
        due = impair_next(m.impair_down)
        impair_push(m.impair_down, f, time_of(m))
        release(m.impair_down, &m.down, time_of(m))
        if m.real_time and impair_next(m.impair_down) < due and not m.down.signalled:
            m.down.signalled = 1        # the reader sleeps until an older deadline, or without one
            wake_signal(m.down.write_fd)
    elif m.down.n >= m.down.limit:
        rc = LINK_AGAIN
    else:
        append(&m.down, f)
    pthread_mutex_unlock(&m.lock)
    if rc == LINK_OK:
        link.tx_frames += 1
        link.tx_bytes += length
    else:
        stored_free(f)
        if rc == LINK_AGAIN:
            link.tx_full += 1
    return rc


cdef int memory_room(link_t *link) noexcept nogil:
    cdef memory_t *m = <memory_t *>link.impl
    cdef int room
    pthread_mutex_lock(&m.lock)
    room = <int>(m.down.limit - m.down.n) if m.impair_down == NULL else <int>m.down.limit
    pthread_mutex_unlock(&m.lock)
    return room


cdef int memory_flush(link_t *link) noexcept nogil:
    return LINK_OK


cdef void memory_close(link_t *link) noexcept nogil:
    """Marks the link closed; the MemoryLink that owns it frees it."""
    cdef memory_t *m = <memory_t *>link.impl
    pthread_mutex_lock(&m.lock)
    m.closed = 1
    pthread_mutex_unlock(&m.lock)


@cython.auto_pickle(False)
cdef class MemoryLink:
    """A link inside the process; the engine has one end, this object is the other.

    ``mtu`` in IP bytes; ``features`` names of offloads ("csum", "tso4", "tso6", "ecn", "uso") that the engine
    may use towards this end; ``queue`` frames each way; ``impair`` an Impairment for both directions or a
    pair (up, down) with None for a good path; ``real_time``: the link reads the clock, else it goes by what
    inject and step are told.
    """

    def __cinit__(self, uint32_t mtu=1500, features=(), uint32_t queue=1024, impair=None,
                  bint real_time=False):
        cdef Impairment up = None
        cdef Impairment down = None
        cdef memory_t *m
        cdef int rc
        if not 68 <= mtu <= 65521:
            raise ValueError("mtu must be 68 to 65521")
        if queue == 0:
            raise ValueError("queue must be at least 1 frame")
        if isinstance(impair, Impairment):
            up = down = impair
        elif impair is not None:
            up, down = impair
        bits = 0
        for name in features:
            if name not in FEATURES:
                raise ValueError(f"no such feature: {name!r} (there are {', '.join(FEATURES)})")
            bits |= FEATURES[name]
        m = <memory_t *>calloc(1, sizeof(memory_t))
        if m == NULL:
            raise MemoryError
        self.memory = m
        self.link = &m.link
        pthread_mutex_init(&m.lock, NULL)
        m.up.read_fd = m.up.write_fd = m.down.read_fd = m.down.write_fd = -1
        m.up.limit = m.down.limit = queue
        m.real_time = real_time
        m.link.fd = -1
        m.link.mtu = mtu
        m.link.features = bits
        m.link.impl = m
        m.link.recv = memory_recv
        m.link.send = memory_send
        m.link.room = memory_room
        m.link.flush = memory_flush
        m.link.close = memory_close
        rc = wake_open(&m.up.read_fd, &m.up.write_fd)
        if rc == 0:
            rc = wake_open(&m.down.read_fd, &m.down.write_fd)
        if rc < 0:
            raise OSError(-rc, "no wake-up descriptor")
        self.wake_fd = m.up.read_fd
        self.out_fd = m.down.read_fd
        if up is not None:
            m.impair_up = impair_new(&up.config)
            if m.impair_up == NULL:
                raise MemoryError
        if down is not None:
            m.impair_down = impair_new(&down.config)
            if m.impair_down == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef memory_t *m = self.memory
        if m == NULL:
            return
        free_all(m.up.first)
        free_all(m.down.first)
        stored_free(m.current)
        impair_free(m.impair_up)
        impair_free(m.impair_down)
        for fd in (m.up.read_fd, m.up.write_fd, m.down.read_fd, m.down.write_fd):
            if fd >= 0:
                sock_close(fd)
        pthread_mutex_destroy(&m.lock)
        free(m)

    def inject(self, const uint8_t[::1] frame not None, meta=None, now=None) -> bool:
        """Put a frame in as if the guest had sent it at ``now`` (ns; None: the time last stepped to, or the
        clock).

        ``meta`` is a FrameMeta (None: a plain frame). False when the queue is full, the frame is lost on the
        path, or the link is closed.
        """
        cdef memory_t *m = self.memory
        cdef frame_meta c
        cdef iovec iov
        cdef stored_frame *f
        cdef uint64_t when = 0
        cdef bint given = now is not None
        cdef bint taken = False
        memset(&c, 0, sizeof(c))
        if meta is not None:
            c.csum, c.gso_type, c.gso_size, c.hdr_len, c.csum_start, c.csum_offset = meta
        if given:
            when = now
        iov.iov_base = <void *>(&frame[0] if frame.shape[0] else NULL)
        iov.iov_len = frame.shape[0]
        with nogil:
            f = stored_new(&c, &iov, 1 if iov.iov_len else 0)
            if f != NULL:
                pthread_mutex_lock(&m.lock)
                if not given:
                    when = time_of(m)
                elif not m.real_time and when > m.now_ns:
                    m.now_ns = when
                if m.closed or (m.impair_up == NULL and m.up.n >= m.up.limit):
                    stored_free(f)
                elif m.impair_up != NULL:
                    taken = impair_push(m.impair_up, f, when)
                    release(m.impair_up, &m.up, when)
                else:
                    append(&m.up, f)
                    taken = True
                pthread_mutex_unlock(&m.lock)
        if f == NULL:
            raise MemoryError
        return taken

    def drain(self, uint32_t limit=0) -> list:
        """What the engine sent to the guest, as (frame, FrameMeta); at most limit of them when that is not 0.
        """
        cdef memory_t *m = self.memory
        cdef stored_frame *first = NULL
        cdef stored_frame *last = NULL
        cdef stored_frame *f
        cdef uint32_t n = 0
        with nogil:
            pthread_mutex_lock(&m.lock)
            if m.real_time:
                release(m.impair_down, &m.down, clock_now_ns())
            while limit == 0 or n < limit:
                f = take(&m.down)
                if f == NULL:
                    break
                f.next = NULL
                if last != NULL:
                    last.next = f
                else:
                    first = f
                last = f
                n += 1
            pthread_mutex_unlock(&m.lock)
        out = []
        try:
            f = first
            while f != NULL:
                out.append((<bytes>f.data[:f.length], FrameMeta(
                    f.meta.csum, f.meta.gso_type, f.meta.gso_size, f.meta.hdr_len, f.meta.csum_start,
                    f.meta.csum_offset)))
                f = f.next
        finally:
            free_all(first)
        return out

    def step(self, now=None) -> None:
        """Move time on to ``now`` (ns; None: the clock) and hand over the frames that are due by then."""
        cdef memory_t *m = self.memory
        cdef uint64_t when
        if now is None:
            when = clock_now_ns()
        else:
            when = now
        with nogil:
            pthread_mutex_lock(&m.lock)
            if when > m.now_ns:
                m.now_ns = when
            release(m.impair_up, &m.up, when)
            release(m.impair_down, &m.down, when)
            pthread_mutex_unlock(&m.lock)

    def next_deadline(self) -> int | None:
        """When the next frame that the path holds is due (ns), None when it holds none."""
        cdef memory_t *m = self.memory
        cdef uint64_t due = UINT64_MAX
        cdef uint64_t other
        with nogil:
            pthread_mutex_lock(&m.lock)
            if m.impair_up != NULL:
                due = impair_next(m.impair_up)
            if m.impair_down != NULL:
                other = impair_next(m.impair_down)
                if other < due:
                    due = other
            pthread_mutex_unlock(&m.lock)
        return None if due == UINT64_MAX else due

    def pending(self) -> tuple:
        """(frames that wait for the engine, frames that wait for drain)."""
        return self.memory.up.n, self.memory.down.n

    def close(self) -> None:
        """Close the link: the engine's next recv (when its queue is empty) and send say so."""
        with nogil:
            memory_close(self.link)
            wake_signal(self.memory.up.write_fd)

    def stats(self) -> dict:
        """The link's counters, and under "up" and "down" those of the impaired path (None for a good one)."""
        cdef memory_t *m = self.memory
        return {
            "rx_frames": m.link.rx_frames, "rx_bytes": m.link.rx_bytes, "tx_frames": m.link.tx_frames,
            "tx_bytes": m.link.tx_bytes, "tx_full": m.link.tx_full, "rx_bad": m.link.rx_bad,
            "up": stats_dict(&m.impair_up.stats) if m.impair_up != NULL else None,
            "down": stats_dict(&m.impair_down.stats) if m.impair_down != NULL else None,
        }

    @property
    def mtu(self) -> int:
        """IP bytes."""
        return self.link.mtu

    # The engine's end, for tests and for programs that play the engine themselves.

    def engine_recv(self):
        """What the engine would receive.

        (frame, FrameMeta), None when nothing waits; ConnectionError when closed.
        """
        cdef link_frame f
        cdef int rc
        with nogil:
            rc = self.link.recv(self.link, &f)
        if rc == 0:
            return None
        if rc < 0:
            raise ConnectionError("the link is closed")
        return <bytes>f.data[:f.length], FrameMeta(
            f.meta.csum, f.meta.gso_type, f.meta.gso_size, f.meta.hdr_len, f.meta.csum_start,
            f.meta.csum_offset)

    def engine_send(self, const uint8_t[::1] frame not None, meta=None) -> int:
        """Send as the engine would: LINK_OK 0, LINK_AGAIN -1, LINK_CLOSED -2, LINK_BAD_FRAME -3."""
        cdef frame_meta c
        cdef iovec iov
        cdef int rc
        memset(&c, 0, sizeof(c))
        if meta is not None:
            c.csum, c.gso_type, c.gso_size, c.hdr_len, c.csum_start, c.csum_offset = meta
        iov.iov_base = <void *>(&frame[0] if frame.shape[0] else NULL)
        iov.iov_len = frame.shape[0]
        with nogil:
            rc = self.link.send(self.link, &c, &iov, 1)
        return rc
