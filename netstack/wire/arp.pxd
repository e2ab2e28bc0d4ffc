from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    ARP_LEN = 28
    ARP_REQUEST = 1
    ARP_REPLY = 2

ctypedef struct arp_hdr:    # Ethernet/IPv4 only (RFC 826)
    uint16_t op
    uint8_t sha[6]
    uint32_t spa            # host byte order
    uint8_t tha[6]
    uint32_t tpa

cdef int arp_parse(const uint8_t *data, size_t length, arp_hdr *out) noexcept nogil    # 28 or a wire_code
cdef int arp_write(uint8_t *out, size_t room, const arp_hdr *hdr) noexcept nogil
