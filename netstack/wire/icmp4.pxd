from libc.stdint cimport uint8_t, uint16_t, uint32_t

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

ctypedef struct icmp4_hdr:  # RFC 792
    uint8_t type
    uint8_t code
    uint16_t checksum
    uint32_t rest           # bytes 4..7 as one word: echo id << 16 | seq, or next-hop MTU in the low 16 bits
    const uint8_t *body     # what follows the 8 bytes: echo data or the quoted datagram
    uint32_t body_length

cdef int icmp4_parse(const uint8_t *data, size_t length, icmp4_hdr *out) noexcept nogil    # 8 or a wire_code
# Writes header, body and checksum; the number of bytes written or WIRE_NO_ROOM. body may already lie at out +
# 8.
cdef int icmp4_write(uint8_t *out, size_t room, const icmp4_hdr *hdr) noexcept nogil
