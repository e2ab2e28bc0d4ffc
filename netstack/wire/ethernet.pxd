from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    ETH_HDR_LEN = 14
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_QINQ = 0x88a8
    ETHERTYPE_IPV6 = 0x86dd

ctypedef struct eth_hdr:
    uint8_t dst[6]
    uint8_t src[6]
    uint16_t ethertype      # of the payload; behind any 802.1Q tags
    uint8_t vlan_tags       # number of 802.1Q / 802.1ad tags in front of ethertype (at most 2 are parsed)
    uint16_t vlan_tci       # the outermost tag's TCI

# The header's length (14, 18 or 22) or a wire_code. Tagged frames parse; who does not carry VLANs refuses
# them by name.
cdef int eth_parse(const uint8_t *data, size_t length, eth_hdr *out) noexcept nogil
# Untagged: 14 or WIRE_NO_ROOM.
cdef int eth_write(uint8_t *out, size_t room, const eth_hdr *hdr) noexcept nogil
