# What a frame's headers say, one struct a frame: columns are copied out of it by offset.
from libc.stdint cimport int64_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum layer:                # bits of fields_t.layers
    LAYER_ETHERNET = 0x1
    LAYER_COOKED = 0x2          # Linux cooked capture: a link with a sender's address at most
    LAYER_VLAN = 0x4
    LAYER_VLAN_INNER = 0x8
    LAYER_ARP = 0x10
    LAYER_IPV4 = 0x20
    LAYER_IPV6 = 0x40
    LAYER_FRAGMENT = 0x80       # part of a datagram: the first has the ports, the others have not
    LAYER_PORTS = 0x100
    LAYER_TCP = 0x200
    LAYER_UDP = 0x400
    LAYER_ICMP4 = 0x800
    LAYER_ICMP6 = 0x1000
    LAYER_MSS = 0x2000
    LAYER_WSCALE = 0x4000
    LAYER_SACK_PERMITTED = 0x8000
    LAYER_SACK = 0x10000
    LAYER_TIMESTAMPS = 0x20000
    LAYER_DNS = 0x40000
    LAYER_QUESTION = 0x80000    # of DNS: name and type are there
    LAYER_DHCP4 = 0x100000
    LAYER_DHCP6 = 0x200000
    LAYER_CUT = 0x400000        # less was captured than was on the wire
    LAYER_MALFORMED = 0x800000  # a header contradicts itself, or is not there whole
    LAYER_FLOW = 0x1000000      # belongs to a conversation
    LAYER_RTT = 0x2000000       # acknowledges a segment whose sending was seen
    LAYER_SOURCE = 0x4000000    # the sender's hardware address is known
    LAYER_ETHERTYPE = 0x8000000
    LAYER_TCP_WHOLE = 0x10000000    # the TCP payload's length is known: no fragment
    LAYER_ARP4 = 0x20000000     # ARP for IPv4
    LAYER_FRAGMENT_HEADER = 0x40000000  # of IPv6; a datagram that is whole may have one (RFC 6946)

cdef enum verdict:              # of a checksum
    CHECK_NONE = 0              # there is none, or it cannot be verified: a fragment, or not captured whole
    CHECK_GOOD = 1
    CHECK_BAD = 2
    CHECK_PARTIAL = 3           # the pseudo header's sum: offload was to complete it after the capture
    CHECK_ABSENT = 4            # zero in UDP over IPv4: the sender made none

cdef enum finding:              # bits of fields_t.analysis
    FOUND_RETRANSMISSION = 0x1
    FOUND_FAST_RETRANSMISSION = 0x2
    FOUND_SPURIOUS_RETRANSMISSION = 0x4
    FOUND_OUT_OF_ORDER = 0x8
    FOUND_LOST_SEGMENT = 0x10   # data before this one were not captured
    FOUND_ACKED_UNSEEN = 0x20
    FOUND_DUPLICATE_ACK = 0x40
    FOUND_ZERO_WINDOW = 0x80
    FOUND_ZERO_WINDOW_PROBE = 0x100
    FOUND_ZERO_WINDOW_PROBE_ACK = 0x200
    FOUND_WINDOW_FULL = 0x400
    FOUND_WINDOW_UPDATE = 0x800
    FOUND_KEEP_ALIVE = 0x1000
    FOUND_KEEP_ALIVE_ACK = 0x2000
    FOUND_REUSED_PORTS = 0x4000

cdef enum depth:                # what is wanted of a frame; each includes what it needs
    WANT_LINK = 0x1
    WANT_NETWORK = 0x2
    WANT_TRANSPORT = 0x4
    WANT_OPTIONS = 0x8
    WANT_APPLICATION = 0x10     # DNS and DHCP
    WANT_CHECKSUM = 0x20
    WANT_CONVERSATION = 0x40

ctypedef struct fields_t:
    int64_t number              # in the file, from 1
    int64_t time                # ns since 1970
    uint64_t eth_src, eth_dst
    uint64_t ip6_src[2]         # the two halves in host byte order
    uint64_t ip6_dst[2]
    uint32_t layers
    uint32_t length, captured
    uint32_t interface
    uint32_t ip_src, ip_dst     # host byte order; sender and target of ARP
    uint32_t ip_id
    uint32_t tcp_seq, tcp_ack
    uint32_t payload            # bytes of TCP or UDP data on the wire
    uint16_t link_type, ethertype, vlan, vlan_inner
    uint16_t ip_length, fragment_offset, src_port, dst_port
    uint16_t tcp_flags, tcp_window, tcp_urgent, udp_length
    uint8_t ip_version, protocol, ttl, tos
    uint8_t ip_flags            # 2 = don't fragment, 1 = more fragments
    uint8_t icmp_type, icmp_code
    uint8_t tcp_header
    uint8_t arp_op
    # From here on only what WANT_OPTIONS and above ask for: fields_rest is the first of them.
    uint8_t fields_rest
    uint8_t tcp_wscale, sack_count
    uint8_t dns_rcode, dhcp_type
    uint8_t ip_check, l4_check
    uint16_t tcp_mss
    uint16_t dns_id, dns_type, dns_flags
    uint16_t analysis
    uint32_t tcp_tsval, tcp_tsecr
    uint32_t tcp_sack[8]        # left and right edge of up to four blocks
    int32_t flow                # number of the conversation, -1 = none
    int64_t rtt                 # ns
    # Not columns themselves:
    uint8_t routed              # route is where the packet ends, other than the header's destination
    uint64_t route[2]
    uint8_t mptcp               # bits of the MPTCP subtypes present
    uint16_t name_length
    const uint8_t *name         # where the DNS question's name begins
    const uint8_t *message      # and its message
    uint32_t message_length


cdef inline size_t fields_size(int want) noexcept nogil:
    """The bytes of a fields_t that are used: as few as there can be lie as close as they can."""
    cdef fields_t any
    if want & ~(WANT_LINK | WANT_NETWORK | WANT_TRANSPORT):
        return sizeof(fields_t)
    return (<size_t>(<char *>&any.fields_rest - <char *>&any) + 7) & ~<size_t>7
