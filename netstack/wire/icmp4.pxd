from libc.stdint cimport uint8_t
from netstack.wire.icmp cimport icmp_hdr

cdef enum:
    ICMP4_ECHO_REPLY = 0
    ICMP4_UNREACHABLE = 3
    ICMP4_REDIRECT = 5
    ICMP4_ECHO = 8
    ICMP4_TIME_EXCEEDED = 11
    ICMP4_PARAMETER = 12
    ICMP4_NET_UNREACHABLE = 0
    ICMP4_HOST_UNREACHABLE = 1
    ICMP4_PROTOCOL_UNREACHABLE = 2
    ICMP4_PORT_UNREACHABLE = 3
    ICMP4_FRAG_NEEDED = 4
    ICMP4_ADMIN_PROHIBITED = 13

ctypedef icmp_hdr icmp4_hdr

cdef int icmp4_parse(const uint8_t *data, size_t length, icmp4_hdr *out) noexcept nogil    # 8 or a wire_code
# Writes header, body and checksum, as icmp_put.
cdef int icmp4_write(uint8_t *out, size_t room, const icmp4_hdr *hdr) noexcept nogil
