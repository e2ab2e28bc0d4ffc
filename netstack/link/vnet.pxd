# The header that carries offload metadata in front of a frame: struct virtio_net_hdr_v1 (virtio 1.1 section 5.1.6).
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset
from netstack.storage.frame cimport (
    CSUM_FULL, CSUM_PARTIAL, CSUM_VALID, GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, frame_meta,
)

cdef enum:
    VNET_NEEDS_CSUM = 1
    VNET_DATA_VALID = 2
    VNET_ETHERNET = 14

# 12 bytes, in the host's byte order
ctypedef struct vnet_hdr:
    uint8_t flags
    uint8_t gso_type
    uint16_t hdr_len
    uint16_t gso_size
    uint16_t csum_start
    uint16_t csum_offset
    uint16_t num_buffers


cdef inline bint vnet_take(const vnet_hdr *v, const uint8_t *frame, uint32_t length,
                           frame_meta *meta) noexcept nogil:
    """Translates the header of a received frame; False when it contradicts the frame.

    The header's hdr_len is a hint about how much lies in one piece, so ours is read from the frame (0 = unknown).
    """
    cdef uint8_t gso = v.gso_type & ~<uint8_t>GSO_ECN
    cdef uint32_t end
    memset(meta, 0, sizeof(frame_meta))
    meta.csum = CSUM_FULL
    if v.flags & VNET_NEEDS_CSUM:
        if <uint32_t>v.csum_start + v.csum_offset + 2 > length or v.csum_start < VNET_ETHERNET:
            return False
        meta.csum = CSUM_PARTIAL
        meta.csum_start = v.csum_start
        meta.csum_offset = v.csum_offset
    elif v.flags & VNET_DATA_VALID:
        meta.csum = CSUM_VALID
    if gso != GSO_NONE:
        if (gso != GSO_TCP4 and gso != GSO_TCP6 and gso != GSO_UDP) or v.gso_size == 0:
            return False
        meta.gso_type = v.gso_type
        meta.gso_size = v.gso_size
        if meta.csum == CSUM_PARTIAL:
            end = meta.csum_start + 8
            if gso != GSO_UDP and end + 12 <= length:
                end = meta.csum_start + (frame[meta.csum_start + 12] >> 4) * 4
            if end > length:
                return False
            meta.hdr_len = <uint16_t>end
    return True


cdef inline void vnet_put(vnet_hdr *v, const frame_meta *meta) noexcept nogil:
    """The header of a frame that is sent."""
    memset(v, 0, sizeof(vnet_hdr))
    if meta.csum == CSUM_PARTIAL:
        v.flags = VNET_NEEDS_CSUM
        v.csum_start = meta.csum_start
        v.csum_offset = meta.csum_offset
    elif meta.csum == CSUM_VALID:
        v.flags = VNET_DATA_VALID
    if meta.gso_type:
        v.gso_type = meta.gso_type
        v.gso_size = meta.gso_size
        v.hdr_len = meta.hdr_len
