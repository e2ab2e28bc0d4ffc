"""Frames from and to a TAP device: one system call each, offload metadata in the 12-byte virtio header in
front.
"""
from libc.errno cimport EAGAIN, EBUSY, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from netstack.host.sockets cimport iovec
from netstack.host.tun cimport TUN_CSUM, TUN_ECN, TUN_TSO4, TUN_TSO6, TUN_USO, TUN_VNET_HDR
from netstack.link.face cimport Link
from netstack.link.link cimport (
    LINK_AGAIN, LINK_BAD_FRAME, LINK_CLOSED, LINK_CSUM, LINK_ECN, LINK_OK, LINK_TSO4, LINK_TSO6, LINK_USO,
    link_carries, link_frame, link_t,
)
from netstack.link.vnet cimport vnet_hdr, vnet_put, vnet_take
from netstack.storage.frame cimport frame_meta

cdef extern from "<sys/uio.h>" nogil:
    ssize_t writev(int fd, const iovec *iov, int n)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *p, size_t n)
    int close(int fd)

cdef enum:
    SMALLEST = 14
    LARGEST = 65535 + 14 + 4
    MAX_IOV = 8

ctypedef struct tap_t:
    link_t link
    uint32_t header             # bytes of vnet_hdr in front of each frame: 12 or 0
    uint8_t *buffer


cdef int tap_recv(link_t *link, link_frame *out) noexcept nogil:
    cdef tap_t *t = <tap_t *>link.impl
    cdef ssize_t n
    while True:
        n = read(link.fd, t.buffer, t.header + LARGEST)
        if n < 0:
            if errno == EINTR:
                continue
            return 0 if errno == EAGAIN else LINK_CLOSED
        if n < <ssize_t>(t.header + SMALLEST):
            link.rx_bad += 1
            continue
        out.data = t.buffer + t.header
        out.length = <uint32_t>n - t.header
        if t.header == 0:
            memset(&out.meta, 0, sizeof(frame_meta))
        elif not vnet_take(<vnet_hdr *>t.buffer, out.data, out.length, &out.meta):
            link.rx_bad += 1
            continue
        link.rx_frames += 1
        link.rx_bytes += out.length
        return 1


cdef int tap_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef tap_t *t = <tap_t *>link.impl
    cdef vnet_hdr v
    cdef iovec parts[MAX_IOV + 1]
    cdef uint32_t length = 0
    cdef ssize_t n
    cdef int i
    if iovcnt < 1 or iovcnt > MAX_IOV:
        return LINK_BAD_FRAME
    for i in range(iovcnt):
        parts[i + 1] = iov[i]
        length += <uint32_t>iov[i].iov_len
    if not link_carries(link, meta, length):
        return LINK_BAD_FRAME
    i = 1
    if t.header:
        vnet_put(&v, meta)
        parts[0].iov_base = &v
        parts[0].iov_len = sizeof(v)
        i = 0
    while True:
        n = writev(link.fd, &parts[i], iovcnt + 1 - i)
        if n >= 0:
            break
        if errno == EINTR:
            continue
        if errno == EINVAL or errno == EMSGSIZE:
            return LINK_BAD_FRAME
        if errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM or errno == EBUSY or errno == EIO:
            # EIO: the guest has taken its interface down; it polls as writable when it is up again.
            link.tx_full += 1
            return LINK_AGAIN
        return LINK_CLOSED
    link.tx_frames += 1
    link.tx_bytes += length
    return LINK_OK


cdef int tap_room(link_t *link) noexcept nogil:
    return 1 << 20


cdef int tap_flush(link_t *link) noexcept nogil:
    return LINK_OK


cdef void tap_close(link_t *link) noexcept nogil:
    cdef tap_t *t = <tap_t *>link.impl
    close(link.fd)
    free(t.buffer)
    free(t)


cdef link_t *tap_link_new(int fd, unsigned int granted, unsigned int mtu) noexcept nogil:
    """A link over a TAP descriptor; granted is what host/tun gave (0: no header, no offload)."""
    cdef tap_t *t = <tap_t *>calloc(1, sizeof(tap_t))
    if t == NULL:
        return NULL
    t.header = sizeof(vnet_hdr) if granted & TUN_VNET_HDR else 0
    t.buffer = <uint8_t *>malloc(sizeof(vnet_hdr) + LARGEST)
    if t.buffer == NULL:
        free(t)
        return NULL
    t.link.fd = fd
    t.link.mtu = mtu
    if t.header and granted & TUN_CSUM:
        t.link.features = LINK_CSUM
        if granted & TUN_TSO4:
            t.link.features |= LINK_TSO4
        if granted & TUN_TSO6:
            t.link.features |= LINK_TSO6
        if granted & TUN_ECN:
            t.link.features |= LINK_ECN
        if granted & TUN_USO:
            t.link.features |= LINK_USO
    t.link.impl = t
    t.link.recv = tap_recv
    t.link.send = tap_send
    t.link.room = tap_room
    t.link.flush = tap_flush
    t.link.close = tap_close
    return &t.link


cdef class TapLink(Link):
    """A TAP link as a Python object: it owns the descriptor."""

    def __cinit__(self, int fd, unsigned int granted=0, unsigned int mtu=1500):
        self.link = tap_link_new(fd, granted, mtu)
        if self.link == NULL:
            raise MemoryError
