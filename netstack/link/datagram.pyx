"""Ethernet frames as messages: vfkit and krunkit (unixgram), QEMU's -netdev dgram (Unix and UDP), BESS (seqpacket).

Messages are received and sent in batches, one system call each. A socket that many could write to
(DATAGRAM_LEARN) belongs to whoever spoke first: the other side is replaced only by one that says hello (the
four bytes "VFKT" of vfkit and libkrun), or after the system has told that it is gone. So a machine that
starts anew is found again, and nobody else gets in between.
"""
from libc.errno cimport (
    EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINTR, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOENT, ENOMEM,
    ENOTCONN, EPERM, EPIPE, errno,
)
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from netstack.host.posix cimport (
    HOST_LINUX, MSG_TRUNC, close, host_link_prepare, host_recvmmsg, host_sendmmsg, iovec, mmsghdr, socklen_t,
)
from netstack.link.face cimport Link
from netstack.link.link cimport (
    LINK_ABSENT, LINK_AGAIN, LINK_BAD_FRAME, LINK_CLOSED, LINK_OK, link_carries, link_frame, link_t,
)
from netstack.storage.frame cimport frame_meta

KINDS = {"connected": DATAGRAM_CONNECTED, "packets": DATAGRAM_PACKETS, "learn": DATAGRAM_LEARN}

cdef enum:
    ETHERNET = 14
    MAX_IOV = 8
    NAME = 128                  # bytes of the longest socket address
    NAMELESS = 2                # bytes of a Unix address without a path: it cannot be answered
    RX_MOST = 64                # messages of one system call
    TX_MOST = 256               # messages that wait to be sent
    TX_CALL = 64
    LEAST = 8
    RX_BYTES = 262144
    TX_BYTES = 524288
    SOCKET_BUFFER = 1048576
    RETRY_NS = 500000           # the queue of a Unix socket that is not connected drains unannounced

ctypedef struct datagram_t:
    link_t link
    int kind
    uint8_t known               # the other side's address is known
    uint8_t ended
    uint8_t full                # the last send came to EAGAIN
    uint32_t slot               # bytes for one message
    int rx_slots, rx_n, rx_at
    int tx_slots, tx_start, tx_end
    socklen_t name_length
    uint8_t name[NAME]
    mmsghdr rx_messages[RX_MOST]
    iovec rx_iov[RX_MOST]
    uint8_t rx_names[RX_MOST * NAME]
    mmsghdr tx_messages[TX_MOST]
    iovec tx_iov[TX_MOST]
    uint8_t *rx
    uint8_t *tx


cdef inline bint is_hello(const uint8_t *p, uint32_t n) noexcept nogil:
    return n == 4 and memcmp(p, b"VFKT", 4) == 0


cdef bint from_the_other_side(datagram_t *d, const mmsghdr *m, bint hello) noexcept nogil:
    """Whether a message counts; learns where it came from when that is due."""
    cdef socklen_t n = m.msg_hdr.msg_namelen
    if n <= NAMELESS or n > NAME:
        return False
    if d.known and n == d.name_length and memcmp(d.name, m.msg_hdr.msg_name, n) == 0:
        return True
    if d.known and not hello:
        return False
    d.known = 1
    d.name_length = n
    memcpy(d.name, m.msg_hdr.msg_name, n)
    return True


cdef inline bint gone(int error) noexcept nogil:
    """The other side does not exist any more, or not yet."""
    return (error == ECONNREFUSED or error == ECONNRESET or error == ENOENT or error == ENOTCONN or error == EPIPE
            or error == EPERM or error == EHOSTUNREACH or error == ENETUNREACH)


cdef int datagram_recv(link_t *link, link_frame *out) noexcept nogil:
    cdef datagram_t *d = <datagram_t *>link.impl
    cdef mmsghdr *m
    cdef uint8_t *data
    cdef uint32_t n
    cdef int i, got
    cdef bint hello
    while True:
        while d.rx_at < d.rx_n:
            i = d.rx_at
            d.rx_at += 1
            m = &d.rx_messages[i]
            n = m.msg_len
            data = <uint8_t *>d.rx_iov[i].iov_base
            if n == 0:
                if d.kind == DATAGRAM_PACKETS:
                    d.ended = 1
                continue
            hello = is_hello(data, n)
            if m.msg_hdr.msg_flags & MSG_TRUNC or (
                    d.kind == DATAGRAM_LEARN and not from_the_other_side(d, m, hello)):
                link.rx_bad += 1
                continue
            if hello:
                continue
            out.data = data
            out.length = n
            memset(&out.meta, 0, sizeof(frame_meta))
            link.rx_frames += 1
            link.rx_bytes += n
            return 1
        if d.ended:
            return LINK_CLOSED
        for i in range(d.rx_slots):
            m = &d.rx_messages[i]
            m.msg_hdr.msg_flags = 0
            if d.kind == DATAGRAM_LEARN:
                m.msg_hdr.msg_name = d.rx_names + i * NAME
                m.msg_hdr.msg_namelen = NAME
        d.rx_at = d.rx_n = 0
        got = host_recvmmsg(link.fd, d.rx_messages, <unsigned int>d.rx_slots)
        if got > 0:
            d.rx_n = got
        elif got == 0:
            return 0
        elif errno == EAGAIN:
            return 0
        elif errno == EINTR:
            continue
        elif d.kind == DATAGRAM_LEARN and gone(errno):
            d.known = 0
        else:
            return LINK_CLOSED


cdef int datagram_flush(link_t *link) noexcept nogil:
    cdef datagram_t *d = <datagram_t *>link.impl
    cdef int n, sent
    while d.tx_start < d.tx_end:
        n = d.tx_end - d.tx_start
        if n > TX_CALL:
            n = TX_CALL
        sent = host_sendmmsg(link.fd, &d.tx_messages[d.tx_start], <unsigned int>n)
        if sent > 0:
            d.tx_start += sent
            continue
        if errno == EINTR:
            continue
        if errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM:
            d.full = 1
            return LINK_AGAIN
        if errno == EMSGSIZE:           # this one alone is too long for the socket
            link.tx_lost += 1
            d.tx_start += 1
            continue
        if d.kind != DATAGRAM_LEARN or not gone(errno):
            return LINK_CLOSED
        link.tx_lost += <unsigned long>(d.tx_end - d.tx_start)
        d.known = 0
        break
    d.tx_start = d.tx_end = 0
    d.full = 0
    return LINK_OK


cdef int datagram_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef datagram_t *d = <datagram_t *>link.impl
    cdef uint32_t length = 0
    cdef uint8_t *p
    cdef mmsghdr *m
    cdef int i
    if iovcnt < 1 or iovcnt > MAX_IOV:
        return LINK_BAD_FRAME
    for i in range(iovcnt):
        length += <uint32_t>iov[i].iov_len
    if not link_carries(link, meta, length) or length > d.slot:
        return LINK_BAD_FRAME
    if d.kind == DATAGRAM_LEARN and not d.known:
        return LINK_ABSENT
    if d.tx_end == d.tx_slots:
        # the slots lie in a row, so they are used again only when all of them have gone
        if d.full or datagram_flush(link) != LINK_OK:
            link.tx_full += 1
            return LINK_AGAIN
        if d.kind == DATAGRAM_LEARN and not d.known:
            return LINK_ABSENT
    i = d.tx_end
    p = d.tx + <size_t>i * d.slot
    m = &d.tx_messages[i]
    d.tx_iov[i].iov_len = length
    if d.kind == DATAGRAM_LEARN:
        m.msg_hdr.msg_name = d.name
        m.msg_hdr.msg_namelen = d.name_length
    d.tx_end += 1
    for i in range(iovcnt):
        memcpy(p, iov[i].iov_base, iov[i].iov_len)
        p += iov[i].iov_len
    link.tx_frames += 1
    link.tx_bytes += length
    return LINK_OK


cdef int datagram_room(link_t *link) noexcept nogil:
    """The slots behind the last one in use; those in front of the first come back when all have gone."""
    cdef datagram_t *d = <datagram_t *>link.impl
    return d.tx_slots - d.tx_end


cdef void datagram_close(link_t *link) noexcept nogil:
    cdef datagram_t *d = <datagram_t *>link.impl
    close(link.fd)
    close(link.write_fd)
    free(d.rx)
    free(d.tx)
    free(d)


cdef inline int clamp(uint32_t n, int most) noexcept nogil:
    return LEAST if n < LEAST else most if n > <uint32_t>most else <int>n


cdef link_t *datagram_link_new(int fd, int kind, uint32_t mtu) noexcept nogil:
    """See the contract in datagram.pxd."""
    cdef datagram_t *d = <datagram_t *>calloc(1, sizeof(datagram_t))
    cdef int i, copy
    if d == NULL:
        return NULL
    d.kind = kind
    d.slot = (mtu + ETHERNET + 4 + 63) & ~<uint32_t>63
    d.rx_slots = clamp(RX_BYTES / d.slot, RX_MOST)
    d.tx_slots = clamp(TX_BYTES / d.slot, TX_MOST)
    d.rx = <uint8_t *>malloc(<size_t>d.slot * d.rx_slots)
    d.tx = <uint8_t *>malloc(<size_t>d.slot * d.tx_slots)
    copy = host_link_prepare(fd, fd, SOCKET_BUFFER) if d.rx != NULL and d.tx != NULL else -1
    if copy < 0:
        free(d.rx)
        free(d.tx)
        free(d)
        return NULL
    for i in range(d.rx_slots):
        d.rx_iov[i].iov_base = d.rx + <size_t>i * d.slot
        d.rx_iov[i].iov_len = d.slot
        d.rx_messages[i].msg_hdr.msg_iov = &d.rx_iov[i]
        d.rx_messages[i].msg_hdr.msg_iovlen = 1
    for i in range(d.tx_slots):
        d.tx_iov[i].iov_base = d.tx + <size_t>i * d.slot
        d.tx_messages[i].msg_hdr.msg_iov = &d.tx_iov[i]
        d.tx_messages[i].msg_hdr.msg_iovlen = 1
    d.link.fd = fd
    d.link.write_fd = copy
    d.link.retry_ns = RETRY_NS if kind == DATAGRAM_LEARN or not HOST_LINUX else 0
    d.link.bounded = 1
    d.link.mtu = mtu
    d.link.impl = d
    d.link.recv = datagram_recv
    d.link.send = datagram_send
    d.link.room = datagram_room
    d.link.flush = datagram_flush
    d.link.close = datagram_close
    return &d.link


cdef class DatagramLink(Link):
    """A datagram link as a Python object. ``kind``: "connected", "packets" (SOCK_SEQPACKET) or "learn" (a
    bound socket).

    Raises:
        ValueError: no such kind.
        OSError: the descriptor cannot be used; it is still the caller's then.
    """

    def __cinit__(self, int fd, str kind="connected", uint32_t mtu=1500):
        if kind not in KINDS:
            raise ValueError(f"no such kind: {kind!r} (there are {', '.join(KINDS)})")
        self.link = datagram_link_new(fd, KINDS[kind], mtu)
        if self.link == NULL:
            raise OSError(f"descriptor {fd} cannot be used as a link")
