# The header in front of each datagram of a SOCKS 5 UDP association (RFC 1928 section 7).
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    SOCKS_UDP_HDR_MAX = 262         # a name of 255 bytes
    SOCKS_UDP_HDR_V4 = 10           # with an IPv4 address

cdef enum socks_address_type:
    SOCKS_IPV4 = 1
    SOCKS_NAME = 3
    SOCKS_IPV6 = 4

ctypedef struct socks_udp_hdr:
    uint8_t fragment        # 0 = whole
    uint8_t type            # socks_address_type
    uint8_t size            # bytes of the address: 4, 16, or those of the name
    uint16_t port
    const uint8_t *address  # where it lies in the data, network byte order

cdef int socks_udp_parse(const uint8_t *data, size_t length, socks_udp_hdr *out) noexcept nogil  # or a wire_code
cdef int socks_udp_write(uint8_t *out, size_t room, const socks_udp_hdr *hdr) noexcept nogil
