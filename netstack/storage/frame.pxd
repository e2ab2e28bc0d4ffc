# What travels with every frame: the offload metadata, in the terms of virtio_net_hdr.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    GSO_NONE = 0            # the numbers are those of virtio_net_hdr.gso_type
    GSO_TCP4 = 1
    GSO_TCP6 = 4
    GSO_UDP = 5             # VIRTIO_NET_HDR_GSO_UDP_L4
    GSO_ECN = 0x80

cdef enum:
    CSUM_FULL = 0           # the transport checksum field is complete; nobody has verified it
    CSUM_VALID = 1          # complete or absent, and known to be good: it need not be verified
    CSUM_PARTIAL = 2        # the field holds the pseudo-header sum only; csum_start and csum_offset say where

ctypedef struct frame_meta:
    uint8_t csum
    uint8_t gso_type        # GSO_*, perhaps with GSO_ECN
    uint16_t gso_size       # payload bytes of each segment, 0 without GSO
    uint16_t hdr_len        # bytes of Ethernet + IP + transport header
    uint16_t csum_start     # from the start of the Ethernet frame
    uint16_t csum_offset    # from csum_start
