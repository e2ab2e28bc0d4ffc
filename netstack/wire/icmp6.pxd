from libc.stdint cimport uint8_t
from netstack.wire.addr cimport addr_t
from netstack.wire.icmp cimport icmp_hdr

cdef enum:
    ICMP6_UNREACHABLE = 1
    ICMP6_TOO_BIG = 2
    ICMP6_TIME_EXCEEDED = 3
    ICMP6_PARAMETER = 4
    ICMP6_ECHO = 128
    ICMP6_ECHO_REPLY = 129
    ICMP6_ROUTER_SOLICIT = 133
    ICMP6_ROUTER_ADVERT = 134
    ICMP6_NEIGHBOR_SOLICIT = 135
    ICMP6_NEIGHBOR_ADVERT = 136

ctypedef icmp_hdr icmp6_hdr     # neighbour discovery too (RFC 4861)

cdef int icmp6_parse(const uint8_t *data, size_t length, icmp6_hdr *out) noexcept nogil    # 8 or a wire_code
cdef int icmp6_write(
    uint8_t *out, size_t room, const icmp6_hdr *hdr, const addr_t *src, const addr_t *dst
) noexcept nogil
# Steps over a neighbour-discovery option list: option length in bytes (>= 8) or a wire_code.
cdef int nd_option_parse(const uint8_t *data, size_t length, uint8_t *kind) noexcept nogil
