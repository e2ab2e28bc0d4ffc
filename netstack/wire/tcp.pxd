from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t

cdef enum:
    TCP_HDR_LEN = 20
    TCP_FIN = 0x01
    TCP_SYN = 0x02
    TCP_RST = 0x04
    TCP_PSH = 0x08
    TCP_ACK = 0x10
    TCP_URG = 0x20
    TCP_ECE = 0x40
    TCP_CWR = 0x80

ctypedef struct tcp_sack_block:
    uint32_t left
    uint32_t right

ctypedef struct tcp_hdr:    # RFC 9293 section 3.1; options RFC 7323, 2018
    uint16_t sport
    uint16_t dport
    uint32_t seq
    uint32_t ack
    uint8_t data_offset     # bytes, 20..60
    uint8_t flags
    uint16_t window         # as on the wire, unscaled
    uint16_t checksum
    uint16_t urgent
    # options
    uint16_t mss            # 0 = absent
    int8_t wscale           # -1 = absent; as on the wire (may exceed 14)
    uint8_t sack_permitted
    uint8_t has_timestamps
    uint8_t n_sack          # 0..4
    uint32_t tsval
    uint32_t tsecr
    tcp_sack_block sack[4]

# data offset in bytes (20..60) or a wire_code. Unknown options are skipped by length; a length of 0, 1 or
# past the end ends option parsing and is WIRE_BAD_OPTION (RFC 9293 MUST-7).
cdef int tcp_parse(const uint8_t *data, size_t length, tcp_hdr *out) noexcept nogil
# Writes header and the options that are set; checksum field is written as given (hdr.checksum, big-endian).
# In a SYN the order is MSS, SACK-permitted, timestamps, NOP, window scale. Returns the data offset or
# WIRE_NO_ROOM.
cdef int tcp_write(uint8_t *out, size_t room, const tcp_hdr *hdr) noexcept nogil
