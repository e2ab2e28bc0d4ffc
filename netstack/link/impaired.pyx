"""Any link behind a bad path: loss, delay, reordering, rate, each way with its own settings.

It stands in front of another link and holds frames until they are due; the engine tells it the time
(``advance``) and asks when to come back (``deadline``). Super-frames are cut into the packets of a real wire
on their way in, so that each packet meets its own fate.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from netstack.host.sockets cimport iovec
from netstack.link.framing cimport framing_send
from netstack.link.impair cimport (
    impair_change, impair_config, impair_free, impair_new, impair_next, impair_pop, impair_push, impair_t,
)
from netstack.link.link cimport LINK_AGAIN, LINK_CLOSED, LINK_OK, link_frame, link_t
from netstack.link.stored cimport stored_frame, stored_free, stored_new
from netstack.storage.counters cimport IMPAIR_CORRUPTED, IMPAIR_FULL, IMPAIR_LOST, LINK_DOWN, LINK_FULL, count
from netstack.storage.frame cimport frame_meta

cdef enum:
    BURST = 64                  # frames taken from the inner link before one is given
    ROOM = 65536

ctypedef struct impaired_t:
    link_t face                 # what the engine holds
    link_t intake               # where the inner link's frames are cut into packets: no offload, any length
    link_t *inner
    impair_t *up
    impair_t *down
    stored_frame *given         # by the last recv
    uint64_t *counters          # the engine's
    uint64_t now_ns
    int closed                  # the inner link has ended
    int whole                   # the path is good again: to be taken off when nothing is held


cdef int push(impaired_t *m, impair_t *path, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef uint64_t lost = path.stats.lost, full = path.stats.full
    if not impair_push(path, stored_new(meta, iov, n), m.now_ns):
        if path.stats.lost != lost:
            count(m.counters, IMPAIR_LOST)
        elif path.stats.full != full:
            count(m.counters, IMPAIR_FULL)
        else:
            count(m.counters, IMPAIR_CORRUPTED)
    return LINK_OK              # a frame that is lost was sent all the same


cdef int intake_send(link_t *link, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    return push(m, m.up, meta, iov, n)


cdef int impaired_recv(link_t *link, link_frame *out) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    cdef link_frame frame
    cdef iovec whole
    cdef uint32_t sent
    cdef int _i, rc
    for _i in range(BURST):
        if m.closed:
            break
        rc = m.inner.recv(m.inner, &frame)
        if rc < 0:
            m.closed = 1
        if rc <= 0:
            break
        whole.iov_base = <void *>frame.data
        whole.iov_len = frame.length
        framing_send(&m.intake, &frame.meta, &whole, 1, &sent)
    stored_free(m.given)
    m.given = impair_pop(m.up, m.now_ns)
    if m.given == NULL:
        return LINK_CLOSED if m.closed else 0
    out.data = m.given.data
    out.length = m.given.length
    out.meta = m.given.meta
    link.rx_frames += 1
    link.rx_bytes += out.length
    return 1


cdef int impaired_send(link_t *link, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    cdef int i
    link.tx_frames += 1
    for i in range(n):
        link.tx_bytes += iov[i].iov_len
    return push(m, m.down, meta, iov, n)


cdef int release(impaired_t *m) noexcept nogil:
    """What has come to the end of its path goes out; what the inner link has no room for is dropped there."""
    cdef stored_frame *f
    cdef iovec whole
    cdef uint32_t sent
    cdef int rc
    while True:
        f = impair_pop(m.down, m.now_ns)
        if f == NULL:
            return m.inner.flush(m.inner)
        whole.iov_base = f.data
        whole.iov_len = f.length
        rc = framing_send(m.inner, &f.meta, &whole, 1, &sent)
        stored_free(f)
        if rc == LINK_AGAIN:
            m.face.tx_full += 1
            count(m.counters, LINK_FULL)
        elif rc == LINK_CLOSED:
            m.closed = 1
            count(m.counters, LINK_DOWN)
            return rc


cdef int impaired_flush(link_t *link) noexcept nogil:
    return release(<impaired_t *>link.impl)


cdef void impaired_advance(link_t *link, uint64_t now_ns) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    m.now_ns = now_ns
    release(m)


cdef uint64_t impaired_deadline(const link_t *link) noexcept nogil:
    cdef const impaired_t *m = <const impaired_t *>link.impl
    cdef uint64_t up = impair_next(m.up), down = impair_next(m.down)
    return up if up < down else down


cdef int impaired_room(link_t *link) noexcept nogil:
    return ROOM


cdef void impaired_close(link_t *link) noexcept nogil:
    cdef link_t *inner = impaired_unwrap(link)
    inner.close(inner)


cdef bint is_impaired(const link_t *link) noexcept nogil:
    return link.advance == impaired_advance


cdef void impaired_change(link_t *link, const impair_config *up, const impair_config *down, bint whole,
                          uint64_t now_ns) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    m.whole = whole
    impair_change(m.up, up, now_ns)
    impair_change(m.down, down, now_ns)


cdef bint impaired_is_over(const link_t *link) noexcept nogil:
    cdef const impaired_t *m = <const impaired_t *>link.impl
    return m.whole and not m.closed and m.up.n == 0 and m.down.n == 0


cdef link_t *impaired_unwrap(link_t *link) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>link.impl
    cdef link_t *inner = m.inner
    impair_free(m.up)
    impair_free(m.down)
    stored_free(m.given)
    free(m)
    return inner


cdef link_t *impaired_link_new(link_t *inner, const impair_config *up, const impair_config *down,
                               uint64_t *counters) noexcept nogil:
    cdef impaired_t *m = <impaired_t *>calloc(1, sizeof(impaired_t))
    if m == NULL:
        return NULL
    m.up = impair_new(up)
    m.down = impair_new(down)
    if m.up == NULL or m.down == NULL:
        impair_free(m.up)
        impair_free(m.down)
        free(m)
        return NULL
    m.inner = inner
    m.counters = counters
    m.face.fd = inner.fd
    m.face.mtu = inner.mtu
    m.face.impl = m.intake.impl = m
    m.face.recv = impaired_recv
    m.face.send = impaired_send
    m.face.room = impaired_room
    m.face.flush = impaired_flush
    m.face.close = impaired_close
    m.face.advance = impaired_advance
    m.face.deadline = impaired_deadline
    m.intake.fd = -1
    m.intake.mtu = 65535
    m.intake.send = intake_send
    return &m.face
