"""Ethernet frames over a byte stream: VPNKit's Ethernet protocol and QEMU's, which differ in the length in front, and
our own between relay and serve, which has the offload metadata there as well.

One read takes as many frames as lie ready, and they are given out where they lie; those that continue one TCP stream
as one super-frame (link/coalesce). Frames to the other side
are gathered in one buffer and written together; when the stream is full they wait there, and send says
LINK_AGAIN once there is no room for a whole frame more: a frame is taken whole or not at all, so the other
side never loses count.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset

from netstack.host.posix cimport close, host_link_prepare, iovec, read, write
from netstack.link.coalesce cimport coalesce_add, coalesce_begin, coalesce_end, coalesce_t
from netstack.link.face cimport Link
from netstack.link.link cimport (
    LINK_AGAIN, LINK_BAD_FRAME, LINK_CLOSED, LINK_CSUM, LINK_ECN, LINK_OK, LINK_TSO4, LINK_TSO6, LINK_USO, link_carries,
    link_frame, link_t,
)
from netstack.link.vnet cimport vnet_hdr, vnet_put, vnet_take
from netstack.storage.frame cimport frame_meta

FRAMINGS = {"hyperkit": FRAMING_HYPERKIT, "qemu": FRAMING_QEMU, "offload": FRAMING_OFFLOAD}

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define netstack_htole16(x) __builtin_bswap16(x)
    #else
    #define netstack_htole16(x) (x)
    #endif
    """
    uint16_t htole16 "netstack_htole16"(uint16_t v) nogil

cdef enum:
    ETHERNET = 14
    MAX_IOV = 8
    WRITE_EARLY = 131072        # bytes that are worth a system call before the end of the round
    SOCKET_BUFFER = 1048576     # bytes asked of the kernel; it may grant less

ctypedef struct stream_t:
    link_t link
    int framing
    uint32_t head               # bytes of the length, and of the metadata
    uint32_t largest            # frame that is believed
    uint8_t full                # the last write came to EAGAIN
    uint8_t ended               # end of file was read
    uint8_t *rx
    uint32_t rx_start, rx_end
    uint8_t *tx
    uint32_t tx_start, tx_end


cdef inline uint32_t length_at(const stream_t *s, const uint8_t *p) noexcept nogil:
    if s.framing == FRAMING_HYPERKIT:
        return p[0] | <uint32_t>p[1] << 8
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]


cdef inline void put_length(const stream_t *s, uint8_t *p, uint32_t n) noexcept nogil:
    if s.framing == FRAMING_HYPERKIT:
        p[0] = <uint8_t>n
        p[1] = <uint8_t>(n >> 8)
    else:
        p[0] = <uint8_t>(n >> 24)
        p[1] = <uint8_t>(n >> 16)
        p[2] = <uint8_t>(n >> 8)
        p[3] = <uint8_t>n


cdef inline void little_endian(vnet_hdr *v) noexcept nogil:
    """From the host's byte order to the wire's, and back."""
    v.hdr_len = htole16(v.hdr_len)
    v.gso_size = htole16(v.gso_size)
    v.csum_start = htole16(v.csum_start)
    v.csum_offset = htole16(v.csum_offset)


cdef bint offloaded(const uint8_t *header, link_frame *out) noexcept nogil:
    """Reads the metadata of a frame; False when it contradicts the frame, or asks for more work than it is worth."""
    cdef vnet_hdr v
    memcpy(&v, header, sizeof(v))
    little_endian(&v)
    if not vnet_take(&v, out.data, out.length, &out.meta):
        return False
    return not out.meta.gso_type or out.length <= STREAM_SEGMENTS * <uint32_t>out.meta.gso_size


cdef void gather(stream_t *s, link_frame *out) noexcept nogil:
    """Joins what lies behind a frame and continues its flow to it. It waits for nothing."""
    cdef coalesce_t c
    cdef uint32_t n
    if s.rx_end - s.rx_start <= s.head or not coalesce_begin(&c, <uint8_t *>out.data, out.length, s.link.mtu):
        return
    while s.rx_end - s.rx_start > s.head:
        n = length_at(s, s.rx + s.rx_start)
        if n > s.rx_end - s.rx_start - s.head or not coalesce_add(&c, s.rx + s.rx_start + s.head, n):
            break
        s.rx_start += s.head + n
        s.link.rx_frames += 1
        s.link.rx_bytes += n
    coalesce_end(&c, out)


cdef int stream_recv(link_t *link, link_frame *out) noexcept nogil:
    """The next frame. Empty ones are stepped over; a length that nobody can mean ends the link, for there is
    no way to find the next frame behind it."""
    cdef stream_t *s = <stream_t *>link.impl
    cdef uint32_t have, n
    cdef ssize_t got
    while True:
        have = s.rx_end - s.rx_start
        if have >= s.head:
            n = length_at(s, s.rx + s.rx_start)
            if n > s.largest:
                link.rx_bad += 1
                return LINK_CLOSED
            if have - s.head >= n:
                out.data = s.rx + s.rx_start + s.head
                out.length = n
                s.rx_start += s.head + n
                link.rx_frames += 1
                if n == 0:
                    continue
                link.rx_bytes += n
                if s.framing == FRAMING_OFFLOAD:
                    if not offloaded(out.data - sizeof(vnet_hdr), out):
                        link.rx_bad += 1
                        continue
                else:
                    memset(&out.meta, 0, sizeof(frame_meta))
                    gather(s, out)
                return 1
        if s.ended:
            if have:
                link.rx_bad += 1        # it went in the middle of a frame
                s.rx_end = s.rx_start
            return LINK_CLOSED
        if s.rx_start:
            if have:
                memmove(s.rx, s.rx + s.rx_start, have)
            s.rx_start = 0
            s.rx_end = have
        got = read(link.fd, s.rx + have, STREAM_RX - have)
        if got > 0:
            s.rx_end += <uint32_t>got
        elif got == 0:
            s.ended = 1
        elif errno == EAGAIN:
            return 0
        elif errno != EINTR:
            s.ended = 1


cdef int push(stream_t *s) noexcept nogil:
    """Writes what waits: LINK_OK when all is gone."""
    cdef ssize_t n
    while s.tx_start < s.tx_end:
        n = write(s.link.write_fd, s.tx + s.tx_start, s.tx_end - s.tx_start)
        if n >= 0:
            s.tx_start += <uint32_t>n
        elif errno == EAGAIN:
            s.full = 1
            return LINK_AGAIN
        elif errno != EINTR:
            return LINK_CLOSED
    s.tx_start = s.tx_end = 0
    s.full = 0
    return LINK_OK


cdef int stream_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef stream_t *s = <stream_t *>link.impl
    cdef uint32_t length = 0
    cdef uint32_t need, waiting
    cdef vnet_hdr v
    cdef uint8_t *p
    cdef int i
    if iovcnt < 1 or iovcnt > MAX_IOV:
        return LINK_BAD_FRAME
    for i in range(iovcnt):
        length += <uint32_t>iov[i].iov_len
    if not link_carries(link, meta, length) or length > s.largest:
        return LINK_BAD_FRAME
    need = s.head + length
    if STREAM_TX - s.tx_end < need:
        waiting = s.tx_end - s.tx_start
        if STREAM_TX - waiting < need:
            link.tx_full += 1
            return LINK_AGAIN
        memmove(s.tx, s.tx + s.tx_start, waiting)
        s.tx_start = 0
        s.tx_end = waiting
    p = s.tx + s.tx_end
    put_length(s, p, length)
    if s.framing == FRAMING_OFFLOAD:
        vnet_put(&v, meta)
        little_endian(&v)
        memcpy(p + s.head - sizeof(v), &v, sizeof(v))
    p += s.head
    for i in range(iovcnt):
        memcpy(p, iov[i].iov_base, iov[i].iov_len)
        p += iov[i].iov_len
    s.tx_end += need
    link.tx_frames += 1
    link.tx_bytes += length
    if not s.full and s.tx_end - s.tx_start >= WRITE_EARLY and push(s) == LINK_CLOSED:
        return LINK_CLOSED
    return LINK_OK


cdef int stream_room(link_t *link) noexcept nogil:
    cdef stream_t *s = <stream_t *>link.impl
    return <int>((STREAM_TX - (s.tx_end - s.tx_start)) / (link.mtu + ETHERNET + s.head))


cdef int stream_flush(link_t *link) noexcept nogil:
    return push(<stream_t *>link.impl)


cdef void stream_close(link_t *link) noexcept nogil:
    cdef stream_t *s = <stream_t *>link.impl
    close(link.fd)
    close(link.write_fd)
    free(s.rx)
    free(s.tx)
    free(s)


cdef link_t *stream_link_new(int read_fd, int out_fd, int framing, uint32_t mtu) noexcept nogil:
    """See the contract in stream.pxd. The descriptor for writing is a duplicate, so that it can be polled by itself."""
    cdef stream_t *s = <stream_t *>calloc(1, sizeof(stream_t))
    cdef int copy
    if s == NULL:
        return NULL
    s.framing = framing
    if framing == FRAMING_HYPERKIT:
        s.head = 2
        s.largest = 65535
    elif framing == FRAMING_QEMU:
        s.head = 4
        s.largest = STREAM_LARGEST_QEMU
    else:
        s.head = 4 + sizeof(vnet_hdr)
        s.largest = STREAM_LARGEST_OFFLOAD
        s.link.features = LINK_CSUM | LINK_TSO4 | LINK_TSO6 | LINK_ECN | LINK_USO
    s.rx = <uint8_t *>malloc(STREAM_RX)
    s.tx = <uint8_t *>malloc(STREAM_TX)
    copy = host_link_prepare(read_fd, out_fd, SOCKET_BUFFER) if s.rx != NULL and s.tx != NULL else -1
    if copy < 0:
        free(s.rx)
        free(s.tx)
        free(s)
        return NULL
    if out_fd != read_fd:
        close(out_fd)
    s.link.fd = read_fd
    s.link.write_fd = copy
    s.link.bounded = 1
    s.link.mtu = mtu if mtu + ETHERNET <= s.largest else s.largest - ETHERNET
    s.link.impl = s
    s.link.recv = stream_recv
    s.link.send = stream_send
    s.link.room = stream_room
    s.link.flush = stream_flush
    s.link.close = stream_close
    return &s.link


cdef class StreamLink(Link):
    """A stream link as a Python object. ``framing`` is "hyperkit", "qemu" or "offload"; ``out_fd`` another descriptor
    to write to.

    Raises:
        ValueError: no such framing.
        OSError: the descriptors cannot be used; they are still the caller's then.
    """

    def __cinit__(self, int fd, str framing="hyperkit", uint32_t mtu=1500, int out_fd=-1):
        if framing not in FRAMINGS:
            raise ValueError(f"no such framing: {framing!r} (there are {', '.join(FRAMINGS)})")
        self.link = stream_link_new(fd, fd if out_fd < 0 else out_fd, FRAMINGS[framing], mtu)
        if self.link == NULL:
            raise OSError(f"descriptor {fd} cannot be used as a link")
