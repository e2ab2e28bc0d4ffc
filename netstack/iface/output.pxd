# Packets towards the guests: headers, fragmentation and ICMP errors. Nothing is sent here: bytes are returned.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.iface.interface cimport iface_t
from netstack.iface.neighbors cimport neighbor
from netstack.storage.frame cimport frame_meta
from netstack.wire.tcp cimport tcp_hdr

cdef enum:
    IFACE_HEADROOM = 14 + 20        # Ethernet + IPv4 without options

ctypedef struct datagram:           # an IP payload on its way to a guest
    const neighbor *to
    uint32_t src                    # IPv4, host byte order
    uint32_t dst
    uint8_t protocol
    uint8_t tos
    uint8_t ttl
    uint8_t dont_fragment
    const uint8_t *data             # transport header and payload, checksum complete
    uint32_t length
    # where iface_next_fragment stands:
    uint32_t offset
    uint16_t ident
    uint8_t started

# The next frame of the datagram: its 34 header bytes are written to out and the payload is data[*at, *at + *n).
# 1, or 0 when
# all is out. A datagram that fits the MTU is one frame.
cdef int iface_next_fragment(iface_t *f, datagram *d, uint8_t *out, uint32_t *at, uint32_t *n) noexcept nogil

# Ethernet, IPv4 and TCP header of a segment with payload_length bytes behind them; the checksum is left partial
# and meta says so. Returns
# the number of header bytes.
cdef int iface_tcp_headers(iface_t *f, const neighbor *to, uint32_t src, uint32_t dst, tcp_hdr *hdr,
                           uint32_t payload_length, uint16_t gso_size, uint8_t tos, uint8_t *out, size_t room,
                           frame_meta *meta) noexcept nogil
# Ethernet, IPv4 and UDP header of a datagram that fits the MTU, or of a super-frame when gso_size > 0; partial
# checksum.
cdef int iface_udp_headers(iface_t *f, const neighbor *to, uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport,
                           uint32_t payload_length, uint16_t gso_size, uint8_t tos, uint8_t ttl, uint8_t *out,
                           frame_meta *meta) noexcept nogil

# A broadcast request for the MAC of a guest's address (RFC 826), asked by the gateway. Returns the number of
# bytes written to out (room >= 42).
cdef uint32_t iface_arp_request(iface_t *f, uint32_t target, uint8_t *out, size_t room) noexcept nogil

# An ICMP error message that quotes the IP datagram of original_length bytes at original (as many as RFC 1812
# 4.3.2.3 lets fit: 576 in all).
# Returns the number of bytes written to out (room >= 576), or 0 where RFC 1122 3.2.2 forbids the error or the
# limit is reached.
cdef int iface_icmp_error(iface_t *f, uint8_t type, uint8_t code, uint32_t rest, const uint8_t *original,
                          uint32_t original_length, uint64_t now_ns, uint8_t *out, size_t room) noexcept nogil
