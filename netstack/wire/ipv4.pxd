from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    IPV4_HDR_LEN = 20
    IPPROTO_ICMP4 = 1
    IPPROTO_TCP4 = 6
    IPPROTO_UDP4 = 17

ctypedef struct ipv4_hdr:   # RFC 791
    uint8_t header_length   # bytes, 20..60
    uint8_t tos
    uint8_t ttl
    uint8_t protocol
    uint16_t total_length   # bytes, header included
    uint16_t ident
    uint16_t frag_offset    # bytes
    uint8_t dont_fragment
    uint8_t more_fragments
    uint32_t src            # host byte order
    uint32_t dst
    const uint8_t *options  # header_length - 20 bytes, NULL when there are none

# The header's length or a wire_code. Checks version, IHL, total length against the bytes present (a
# super-frame whose total length is 0 is WIRE_BAD_LENGTH). The header checksum is ipv4_checksum_ok's business.
cdef int ipv4_parse(const uint8_t *data, size_t length, ipv4_hdr *out) noexcept nogil
cdef bint ipv4_checksum_ok(const uint8_t *data, int header_length) noexcept nogil
# Writes the header with options (padded with EOL to 4 bytes; header_length is recomputed from it) and its
# checksum.
cdef int ipv4_write(uint8_t *out, size_t room, const ipv4_hdr *hdr) noexcept nogil
