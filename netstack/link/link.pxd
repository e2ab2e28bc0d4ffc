# A link is where frames come from and go to. Every kind gives the same five functions.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.sockets cimport iovec
from netstack.storage.frame cimport CSUM_PARTIAL, GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, frame_meta

cdef enum:
    LINK_CSUM = 1           # takes CSUM_PARTIAL frames (TX checksum offload)
    LINK_TSO4 = 2           # takes GSO_TCP4 super-frames
    LINK_TSO6 = 4
    LINK_ECN = 8            # may set GSO_ECN
    LINK_USO = 16           # takes GSO_UDP super-frames

cdef enum:
    LINK_OK = 0
    LINK_AGAIN = -1         # full now: nothing was taken
    LINK_CLOSED = -2        # the other side is gone, or the descriptor failed
    # refused: longer than the link can carry, or metadata it cannot carry; nothing was sent
    LINK_BAD_FRAME = -3
    LINK_ABSENT = -4        # nobody is at the other side yet: nothing was sent, and the link stays

ctypedef struct link_frame:
    const uint8_t *data     # the Ethernet frame; valid until the next call of recv on this link
    uint32_t length
    frame_meta meta

ctypedef struct link_t:
    int fd                  # to be polled for reading, -1 for a link in memory
    int write_fd            # to be polled for writing after LINK_AGAIN from flush; 0 = there is nothing to wait for
    uint32_t retry_ns       # or to be flushed again after this time, where polling does not tell; 0 = polling does
    uint8_t bounded         # room means something: senders that can wait should ask it
    uint32_t features       # LINK_* towards the guest
    uint32_t mtu            # IP bytes
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_full, rx_bad
    uint64_t tx_lost        # frames that send had taken and the system then refused
    void *impl
    # 1 = a frame is in out; 0 = none waits; LINK_CLOSED
    int (*recv)(link_t *self, link_frame *out) noexcept nogil
    # Sends one frame gathered from iov (at most 8 entries; iov[0] begins with the Ethernet header and holds
    # all headers). LINK_OK, LINK_AGAIN, LINK_CLOSED, LINK_BAD_FRAME, LINK_ABSENT. A link without an offload gets only
    # frames that need none: segmentation is link/framing's work before send.
    int (*send)(link_t *self, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil
    # Frames of the MTU's size that may be sent now without LINK_AGAIN (an estimate; large for a TAP).
    int (*room)(link_t *self) noexcept nogil
    # Pushes out what send has batched. LINK_OK, LINK_AGAIN (poll fd for writing, call again) or LINK_CLOSED.
    int (*flush)(link_t *self) noexcept nogil
    void (*close)(link_t *self) noexcept nogil      # closes fd and frees everything, self included
    # Both NULL but for a link that holds frames for a while. advance: it is now_ns, for all calls until the
    # next advance; what is due towards the guest goes out, and recv is to be asked. deadline: when to advance
    # it again at the latest, UINT64_MAX = never.
    void (*advance)(link_t *self, uint64_t now_ns) noexcept nogil
    uint64_t (*deadline)(const link_t *self) noexcept nogil


cdef inline uint32_t link_needs(const frame_meta *meta) noexcept nogil:
    """The LINK_* features that a frame with this metadata needs."""
    cdef uint32_t need = 0
    cdef uint8_t gso = meta.gso_type & ~<uint8_t>GSO_ECN
    if meta.csum == CSUM_PARTIAL:
        need = LINK_CSUM
    if gso == GSO_TCP4:
        need |= LINK_TSO4
    elif gso == GSO_TCP6:
        need |= LINK_TSO6
    elif gso == GSO_UDP:
        need |= LINK_USO
    if meta.gso_type & GSO_ECN:
        need |= LINK_ECN
    return need


cdef inline bint link_carries(const link_t *link, const frame_meta *meta, uint32_t length) noexcept nogil:
    """True when the link has the offloads and the MTU for a frame of length bytes (Ethernet header included,
    no tag).
    """
    cdef uint32_t need = link_needs(meta)
    if length < 14 or need & ~link.features:
        return False
    if meta.gso_type & ~GSO_ECN:
        # hdr_len may be 0 (unknown); then Ethernet, IPv4 and UDP headers are the least there can be
        return length <= 65535 + 14 and meta.gso_size and \
            (meta.hdr_len if meta.hdr_len else 42) + <uint32_t>meta.gso_size <= link.mtu + 14
    return length <= link.mtu + 14
