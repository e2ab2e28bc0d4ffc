from libc.stdint cimport uint8_t, uint16_t, uint32_t

from netstack.wire.header cimport WireValue

ctypedef struct icmp_hdr:   # RFC 792, RFC 4443
    uint8_t type
    uint8_t code
    uint16_t checksum
    uint32_t rest           # bytes 4..7 as one word: echo id << 16 | seq, or the next-hop MTU
    const uint8_t *body     # what follows the 8 bytes: echo data or the quoted datagram
    uint32_t body_length

cdef int icmp_parse(const uint8_t *data, size_t length, icmp_hdr *out) noexcept nogil      # 8 or a wire_code
# Writes header and body, and 0 for the checksum; the number of bytes written or WIRE_NO_ROOM. body may already lie at
# out + 8.
cdef int icmp_put(uint8_t *out, size_t room, const icmp_hdr *hdr) noexcept nogil

cdef class ICMPMessage(WireValue):
    cdef icmp_hdr h
    cdef readonly bytes body
    cdef void hold(self, const uint8_t *data, size_t length)
    cdef icmp_hdr header(self) noexcept
    cdef tuple key(self)
