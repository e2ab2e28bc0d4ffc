# A parsed frame.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.iface.neighbors cimport neighbor
from netstack.storage.frame cimport frame_meta
from netstack.wire.addr cimport addr_t
from netstack.wire.ethernet cimport eth_hdr
from netstack.wire.icmp4 cimport icmp4_hdr
from netstack.wire.ipv4 cimport ipv4_hdr
from netstack.wire.tcp cimport tcp_hdr
from netstack.wire.udp cimport udp_hdr

ctypedef struct packet:
    const uint8_t *frame        # NULL once reassembled from fragments
    uint32_t length
    frame_meta meta
    int port                    # the switch port that the frame came by
    neighbor *guest             # who sent it; NULL where the source is 0.0.0.0 (UDP only)
    eth_hdr eth
    ipv4_hdr ip                 # of the first fragment when reassembled
    addr_t src
    addr_t dst
    const uint8_t *l3           # the IP header; behind it l4_length bytes of transport
    const uint8_t *l4
    uint32_t l4_length
    tcp_hdr tcp                 # the one that the verdict names is valid
    udp_hdr udp
    icmp4_hdr icmp
    const uint8_t *payload      # behind the transport header
    uint32_t payload_length
