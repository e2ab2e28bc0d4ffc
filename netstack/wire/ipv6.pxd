from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.wire.addr cimport addr_t

cdef enum:
    IPV6_HDR_LEN = 40
    IPPROTO_ICMP6 = 58

ctypedef struct ipv6_hdr:   # RFC 8200
    uint8_t traffic_class
    uint32_t flow_label
    uint16_t payload_length
    uint8_t next_header     # of the fixed header
    uint8_t hop_limit
    addr_t src
    addr_t dst
    # filled by ipv6_parse from the extension-header chain:
    uint8_t protocol        # of the upper layer; 44 = a fragment that is not the first, 59 = none
    uint16_t l4_offset      # bytes from the start of the IPv6 header to the upper layer
    uint16_t l4_length      # bytes of the upper layer present and claimed
    uint8_t is_fragment
    uint16_t frag_offset    # bytes
    uint8_t more_fragments
    uint32_t frag_ident

# 40 + extension headers, or a wire_code. The chain is bounded (at most 8 headers); jumbograms are
# WIRE_UNSUPPORTED.
cdef int ipv6_parse(const uint8_t *data, size_t length, ipv6_hdr *out) noexcept nogil
cdef int ipv6_write(uint8_t *out, size_t room, const ipv6_hdr *hdr) noexcept nogil   # the 40 bytes only
