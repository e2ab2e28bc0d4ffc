# A link is where frames come from and go to. Every kind gives the same five functions.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.sockets cimport iovec
from netstack.storage.frame cimport frame_meta

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
    LINK_BAD_FRAME = -3     # refused: longer than the link can carry, or metadata it cannot carry; nothing was sent

ctypedef struct link_frame:
    const uint8_t *data     # the Ethernet frame; valid until the next call of recv on this link
    uint32_t length
    frame_meta meta

ctypedef struct link_t:
    int fd                  # to be polled for reading, -1 for a link in memory
    uint32_t features       # LINK_* towards the guest
    uint32_t mtu            # IP bytes
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_full, rx_bad
    void *impl
    # 1 = a frame is in out; 0 = none waits; LINK_CLOSED
    int (*recv)(link_t *self, link_frame *out) noexcept nogil
    # Sends one frame gathered from iov (at most 8 entries; iov[0] begins with the Ethernet header and holds all headers).
    # LINK_OK, LINK_AGAIN, LINK_CLOSED or LINK_BAD_FRAME. A link without an offload gets only frames that need none:
    # segmentation is link/framing's work before send.
    int (*send)(link_t *self, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil
    # Frames that may be sent now without LINK_AGAIN (an estimate; large for a TAP).
    int (*room)(link_t *self) noexcept nogil
    # Pushes out what send has batched. LINK_OK, LINK_AGAIN (poll fd for writing, call again) or LINK_CLOSED.
    int (*flush)(link_t *self) noexcept nogil
    void (*close)(link_t *self) noexcept nogil      # closes fd and frees everything, self included
