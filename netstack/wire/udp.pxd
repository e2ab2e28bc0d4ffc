from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    UDP_HDR_LEN = 8

ctypedef struct udp_hdr:    # RFC 768
    uint16_t sport
    uint16_t dport
    uint16_t length         # header + payload, bytes
    uint16_t checksum

cdef int udp_parse(const uint8_t *data, size_t length, udp_hdr *out) noexcept nogil    # 8 or a wire_code
cdef int udp_write(uint8_t *out, size_t room, const udp_hdr *hdr) noexcept nogil   # checksum as given
