"""Reads the headers of one captured frame, from the link to DNS and DHCP.

Unlike ``netstack.wire``, which refuses what is not whole, this takes from a frame whatever of it is there, as
somebody who looks at a capture wants: a header with a wrong length still has addresses.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.capture.fields cimport (
    CHECK_ABSENT, CHECK_BAD, CHECK_GOOD, CHECK_PARTIAL,
    LAYER_ARP, LAYER_ARP4, LAYER_COOKED, LAYER_CUT, LAYER_DHCP4, LAYER_DHCP6, LAYER_DNS, LAYER_ETHERNET,
    LAYER_ETHERTYPE, LAYER_FRAGMENT, LAYER_FRAGMENT_HEADER, LAYER_ICMP4, LAYER_ICMP6, LAYER_IPV4, LAYER_IPV6,
    LAYER_MALFORMED, LAYER_MSS, LAYER_PORTS, LAYER_QUESTION, LAYER_SACK, LAYER_SACK_PERMITTED, LAYER_SOURCE,
    LAYER_TCP, LAYER_TCP_WHOLE, LAYER_TIMESTAMPS, LAYER_UDP, LAYER_VLAN, LAYER_VLAN_INNER, LAYER_WSCALE,
    WANT_APPLICATION, WANT_CHECKSUM, WANT_NETWORK, WANT_OPTIONS, WANT_TRANSPORT,
    fields_size, fields_t,
)
from netstack.capture.records cimport (
    LINK_COOKED, LINK_COOKED2, LINK_ETHERNET, LINK_IPV4, LINK_IPV6, LINK_LOOP, LINK_NULL, LINK_RAW,
    LINK_RAW_BSD, LINK_RAW_OPENBSD, frame_record,
)
from netstack.wire.addr cimport addr_from_v4, addr_from_v6, addr_t
from netstack.wire.be cimport be16, be32, be64
from netstack.wire.checksum cimport csum_add, csum_fold, csum_pseudo

cdef enum:
    TYPE_IPV4 = 0x0800
    TYPE_ARP = 0x0806
    TYPE_IPV6 = 0x86dd
    MAX_TAGS = 8
    PORT_DNS = 53
    PORT_DHCP_SERVER = 67
    PORT_DHCP_CLIENT = 68
    PORT_DHCP6_CLIENT = 546
    PORT_DHCP6_SERVER = 547
    PORT_MDNS = 5353
    PORT_LLMNR = 5355
    DHCP_OPTIONS = 240          # where they begin: after the fixed fields and the magic cookie
    DHCP_MAGIC = 0x63825363
    DHCP_MESSAGE_TYPE = 53


cdef struct span:               # what is left of a frame below a header
    const uint8_t *data
    uint32_t present            # bytes captured
    uint32_t length             # bytes on the wire; never less than present


cdef inline void narrow(span *s, uint32_t n) noexcept nogil:
    """Steps over n bytes, of which all are present."""
    s.data += n
    s.present -= n
    s.length -= n


cdef inline void end_at(span *s, uint32_t length) noexcept nogil:
    """What lies beyond length is padding."""
    if length < s.length:
        s.length = length
    if s.present > s.length:
        s.present = s.length


cdef inline uint64_t mac_at(const uint8_t *p) noexcept nogil:
    return (<uint64_t>be16(p) << 32) | be32(p + 2)


# --- transport

cdef uint8_t judge(const fields_t *f, const span *s, uint8_t protocol, int field) noexcept nogil:
    """The verdict on a checksum at field bytes into s, all of which was captured. The pseudo header's is of IPv4
    or IPv6, as the frame is; protocol 1 (ICMP) has none."""
    cdef addr_t src, dst
    cdef uint64_t pseudo = 0
    cdef uint16_t there
    if protocol != 1:
        if f.layers & LAYER_IPV4:
            src = addr_from_v4(f.ip_src)
            dst = addr_from_v4(f.ip_dst)
        else:
            addr_halves(&src, f.ip6_src)
            if f.routed:
                addr_halves(&dst, f.route)
            else:
                addr_halves(&dst, f.ip6_dst)
        pseudo = csum_pseudo(&src, &dst, protocol, s.length)
    if csum_fold(csum_add(s.data, s.length, pseudo)) == 0xffff:
        return CHECK_GOOD
    if protocol == 6 or protocol == 17:
        memcpy(&there, s.data + field, 2)
        if there == csum_fold(pseudo) or there == csum_fold(csum_pseudo(&src, &dst, protocol, 0)):
            return CHECK_PARTIAL
    return CHECK_BAD


cdef inline void addr_halves(addr_t *out, const uint64_t *halves) noexcept nogil:
    cdef uint8_t packed[16]
    cdef int i
    for i in range(8):
        packed[i] = <uint8_t>(halves[0] >> (56 - 8 * i))
        packed[8 + i] = <uint8_t>(halves[1] >> (56 - 8 * i))
    out[0] = addr_from_v6(packed)


cdef void read_options(fields_t *f, const uint8_t *p, uint32_t length) noexcept nogil:
    """RFC 9293 section 3.2, RFC 7323, RFC 2018: what lies between the fixed header and the data."""
    cdef uint32_t at = 0, size
    cdef uint8_t kind
    cdef int i
    while at < length:
        kind = p[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        if at + 1 >= length:
            f.layers |= LAYER_MALFORMED
            return
        size = p[at + 1]
        if size < 2 or size > length - at:
            f.layers |= LAYER_MALFORMED
            return
        if kind == 8 and size == 10:
            f.tcp_tsval = be32(p + at + 2)
            f.tcp_tsecr = be32(p + at + 6)
            f.layers |= LAYER_TIMESTAMPS
        elif kind == 2 and size == 4:
            f.tcp_mss = be16(p + at + 2)
            f.layers |= LAYER_MSS
        elif kind == 3 and size == 3:
            f.tcp_wscale = p[at + 2]
            f.layers |= LAYER_WSCALE
        elif kind == 4 and size == 2:
            f.layers |= LAYER_SACK_PERMITTED
        elif kind == 5 and size >= 10 and (size - 2) % 8 == 0:
            f.sack_count = <uint8_t>((size - 2) // 8)
            if f.sack_count > 4:
                f.sack_count = 4
            for i in range(2 * f.sack_count):
                f.tcp_sack[i] = be32(p + at + 2 + 4 * i)
            f.layers |= LAYER_SACK
        elif kind == 30 and size >= 3:
            f.mptcp |= <uint8_t>(1 << ((p[at + 2] >> 4) & 7))
        at += size


cdef void read_tcp(fields_t *f, span s, int want) noexcept nogil:
    cdef uint32_t header
    cdef const uint8_t *p = s.data
    if s.present < 20:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_TCP
    f.tcp_seq = be32(p + 4)
    f.tcp_ack = be32(p + 8)
    f.tcp_flags = be16(p + 12) & 0x0fff
    f.tcp_window = be16(p + 14)
    f.tcp_urgent = be16(p + 18)
    header = (p[12] >> 4) * 4
    f.tcp_header = <uint8_t>header
    if want & WANT_CHECKSUM and s.present == s.length and not f.layers & LAYER_FRAGMENT:
        f.l4_check = judge(f, &s, 6, 16)
    if header < 20 or header > s.length:
        f.layers |= LAYER_MALFORMED
        return
    if not f.layers & LAYER_FRAGMENT:
        f.payload = s.length - header
        f.layers |= LAYER_TCP_WHOLE
    if want & WANT_OPTIONS and header > 20:
        read_options(f, p + 20, (header if header < s.present else s.present) - 20)
    if want & WANT_APPLICATION and f.payload > 14 and (f.src_port == PORT_DNS or f.dst_port == PORT_DNS):
        if s.present >= header + 14 and be16(p + header) >= 12 and <uint32_t>be16(p + header) + 2 <= f.payload:
            narrow(&s, header + 2)
            end_at(&s, be16(p + header))
            read_dns(f, &s)


cdef void read_udp(fields_t *f, span s, int want) noexcept nogil:
    cdef const uint8_t *p = s.data
    cdef bint fits = True
    if s.present < 8:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_UDP
    f.udp_length = be16(p + 4)
    if f.udp_length >= 8:
        fits = f.udp_length <= s.length
        if not fits and not f.layers & LAYER_FRAGMENT:
            f.layers |= LAYER_MALFORMED
        end_at(&s, f.udp_length)
    elif f.udp_length:      # 0 is a jumbogram's
        f.layers |= LAYER_MALFORMED
        return
    f.payload = s.length - 8
    if want & WANT_CHECKSUM and not f.layers & LAYER_FRAGMENT:
        if be16(p + 6) == 0 and f.layers & LAYER_IPV4:
            f.l4_check = CHECK_ABSENT
        elif s.present == s.length and fits:
            f.l4_check = judge(f, &s, 17, 6)
    if want & WANT_APPLICATION:
        narrow(&s, 8)
        read_datagram(f, &s)


cdef void read_datagram(fields_t *f, span *s) noexcept nogil:
    cdef uint16_t a = f.src_port, b = f.dst_port
    if a == PORT_DNS or b == PORT_DNS or a == PORT_MDNS or b == PORT_MDNS or a == PORT_LLMNR or b == PORT_LLMNR:
        read_dns(f, s)
    elif b == PORT_DHCP_SERVER or b == PORT_DHCP_CLIENT or a == PORT_DHCP_SERVER or a == PORT_DHCP_CLIENT:
        read_dhcp(f, s)
    elif b == PORT_DHCP6_CLIENT or b == PORT_DHCP6_SERVER:
        if s.present >= 4:
            f.dhcp_type = s.data[0]
            f.layers |= LAYER_DHCP6


cdef void read_dns(fields_t *f, const span *s) noexcept nogil:
    """RFC 1035 section 4.1. The name is only stepped over here: who wants it reads it from f.message."""
    cdef const uint8_t *p = s.data
    cdef uint32_t at = 12
    if s.present < 12:
        return
    f.layers |= LAYER_DNS
    f.dns_id = be16(p)
    f.dns_flags = be16(p + 2)
    f.dns_rcode = p[3] & 0x0f
    if be16(p + 4) == 0:
        return
    while at < s.present and p[at] and p[at] < 64:
        at += 1 + p[at]
    if at >= s.present or p[at] and p[at] < 0xc0:       # labels of other kinds there are none
        return
    at += 2 if p[at] >= 0xc0 else 1
    if p[12] >= 0xc0 or at + 4 > s.present:
        return
    f.dns_type = be16(p + at)
    f.layers |= LAYER_QUESTION
    f.message = p
    f.message_length = s.present


cdef void read_dhcp(fields_t *f, const span *s) noexcept nogil:
    """RFC 2131 section 2, RFC 2132 section 9.6. BOOTP without a message type is DHCP of type 0."""
    cdef const uint8_t *p = s.data
    cdef uint32_t at = DHCP_OPTIONS
    if s.present < DHCP_OPTIONS or be32(p + 236) != DHCP_MAGIC:
        return
    f.layers |= LAYER_DHCP4
    while at + 1 < s.present and p[at] != 255:
        if p[at] == 0:
            at += 1
            continue
        if p[at] == DHCP_MESSAGE_TYPE and p[at + 1] == 1 and at + 2 < s.present:
            f.dhcp_type = p[at + 2]
            return
        at += 2 + <uint32_t>p[at + 1]


cdef inline void read_transport(fields_t *f, span s, int want) noexcept nogil:
    cdef uint8_t protocol = f.protocol
    if protocol == 6 or protocol == 17:
        if s.present < 4:
            f.layers |= LAYER_MALFORMED
            return
        f.layers |= LAYER_PORTS
        f.src_port = be16(s.data)
        f.dst_port = be16(s.data + 2)
        if protocol == 6:
            read_tcp(f, s, want)
        else:
            read_udp(f, s, want)
    elif protocol == 1 and f.layers & LAYER_IPV4 or protocol == 58 and f.layers & LAYER_IPV6:
        if s.present < 4:
            f.layers |= LAYER_MALFORMED
            return
        f.layers |= LAYER_ICMP4 if protocol == 1 else LAYER_ICMP6
        f.icmp_type = s.data[0]
        f.icmp_code = s.data[1]
        if want & WANT_CHECKSUM and s.present == s.length and not f.layers & LAYER_FRAGMENT:
            f.l4_check = judge(f, &s, protocol, 2)


# --- network

cdef inline void read_ipv4(fields_t *f, span s, int want) noexcept nogil:
    """RFC 791 section 3.1."""
    cdef const uint8_t *p = s.data
    cdef uint32_t header, total
    cdef uint16_t fragment
    if s.present < 20 or p[0] >> 4 != 4 or p[0] & 0x0f < 5:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_IPV4
    header = (p[0] & 0x0f) * 4
    total = be16(p + 2)
    f.ip_version = 4
    f.tos = p[1]
    f.ip_length = <uint16_t>total
    f.ip_id = be16(p + 4)
    fragment = be16(p + 6)
    f.ip_flags = <uint8_t>((fragment >> 13) & 3)
    f.fragment_offset = (fragment & 0x1fff) * 8
    f.ttl = p[8]
    f.protocol = p[9]
    f.ip_src = be32(p + 12)
    f.ip_dst = be32(p + 16)
    if fragment & 0x3fff:
        f.layers |= LAYER_FRAGMENT
    if total:               # 0: a super-frame that offload was to cut
        if total > s.length:
            f.layers |= LAYER_MALFORMED
        end_at(&s, total)
    if header > s.length:
        f.layers |= LAYER_MALFORMED
        return
    if header > s.present:
        return
    if want & WANT_CHECKSUM:
        f.ip_check = CHECK_GOOD if csum_fold(csum_add(p, header, 0)) == 0xffff else CHECK_BAD
    if header > 20:
        follow_source_route(f, p + 20, header - 20)
    narrow(&s, header)
    if want & WANT_TRANSPORT and f.fragment_offset == 0:
        read_transport(f, s, want)


cdef void follow_source_route(fields_t *f, const uint8_t *p, uint32_t length) noexcept nogil:
    """RFC 791 section 3.1: the destination of a source-routed packet, which its checksums and its conversation
    are about, is the end of the route."""
    cdef uint32_t at = 0, size
    while at + 1 < length and p[at]:
        if p[at] == 1:
            at += 1
            continue
        size = p[at + 1]
        if size < 2 or size > length - at:
            return
        if (p[at] == 131 or p[at] == 137) and size >= 7 and p[at + 2] <= size:
            f.ip_dst = be32(p + at + 3 + (size - 3) // 4 * 4 - 4)
            return
        at += size


cdef void follow_routing_header(fields_t *f, const uint8_t *p, uint32_t size) noexcept nogil:
    """RFC 8200 section 8.1: the pseudo header has the end of the route. RFC 6275, RFC 5095 and RFC 8754."""
    cdef uint32_t at = 8 if p[2] == 4 else size - 16
    if size < 24 or p[3] == 0 or p[2] != 0 and p[2] != 2 and p[2] != 4:
        return
    f.routed = 1
    f.route[0] = be64(p + at)
    f.route[1] = be64(p + at + 8)


cdef void read_ipv6(fields_t *f, span s, int want) noexcept nogil:
    """RFC 8200 sections 3 and 4, with every extension header there is."""
    cdef const uint8_t *p = s.data
    cdef uint8_t following
    cdef uint32_t size
    if s.present < 40 or p[0] >> 4 != 6:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_IPV6
    f.ip_version = 6
    f.tos = <uint8_t>((p[0] << 4) | (p[1] >> 4))
    f.ip_length = be16(p + 4)
    following = p[6]
    f.ttl = p[7]
    f.ip6_src[0] = be64(p + 8)
    f.ip6_src[1] = be64(p + 16)
    f.ip6_dst[0] = be64(p + 24)
    f.ip6_dst[1] = be64(p + 32)
    narrow(&s, 40)
    if f.ip_length:         # 0: a jumbogram, or a super-frame
        if f.ip_length > s.length:
            f.layers |= LAYER_MALFORMED
        end_at(&s, f.ip_length)
    while True:
        f.protocol = following
        p = s.data
        if following == 0 or following == 43 or following == 60 or following == 135 or following == 139 \
                or following == 140:
            size = ((<uint32_t>p[1] + 1) * 8) if s.present >= 8 else 8
        elif following == 51:
            size = ((<uint32_t>p[1] + 2) * 4) if s.present >= 8 else 8
        elif following == 44:
            size = 8
        else:
            break
        if size > s.present:
            f.layers |= LAYER_MALFORMED
            return
        if following == 43 and want & WANT_CHECKSUM:
            follow_routing_header(f, p, size)
        if following == 44:
            if not f.layers & LAYER_FRAGMENT_HEADER:
                f.ip_id = be32(p + 4)
            f.layers |= LAYER_FRAGMENT_HEADER
            f.fragment_offset = be16(p + 2) & 0xfff8
            f.ip_flags = p[3] & 1
            if f.fragment_offset or f.ip_flags:
                f.layers |= LAYER_FRAGMENT
        following = p[0]
        narrow(&s, size)
        if f.fragment_offset:
            f.protocol = following
            return
    if want & WANT_TRANSPORT:
        read_transport(f, s, want)


cdef void read_arp(fields_t *f, span s) noexcept nogil:
    """RFC 826: the addresses are those of IPv4, over hardware of any kind."""
    cdef const uint8_t *p = s.data
    cdef uint32_t hardware
    if s.present < 8:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_ARP
    f.arp_op = <uint8_t>be16(p + 6)
    if be16(p + 2) == TYPE_IPV4 and p[5] == 4:
        hardware = p[4]
        if s.present < 16 + 2 * hardware:
            f.layers |= LAYER_MALFORMED
            return
        f.layers |= LAYER_ARP4
        f.ip_src = be32(p + 8 + hardware)
        f.ip_dst = be32(p + 12 + 2 * hardware)


cdef inline void read_network(fields_t *f, const span *s, uint16_t kind, int want) noexcept nogil:
    if kind == TYPE_IPV4:
        read_ipv4(f, s[0], want)
    elif kind == TYPE_IPV6:
        read_ipv6(f, s[0], want)
    elif kind == TYPE_ARP:
        read_arp(f, s[0])


cdef void read_by_version(fields_t *f, const span *s, int want) noexcept nogil:
    if s.present and s.data[0] >> 4 == 6:
        read_ipv6(f, s[0], want)
    else:
        read_ipv4(f, s[0], want)


# --- link

cdef inline uint16_t step_over_tags(fields_t *f, span *s, uint16_t kind) noexcept nogil:
    """IEEE 802.1Q and 802.1ad; what lies beyond the tags."""
    cdef int tags = 0
    while kind == 0x8100 or kind == 0x88a8 or kind == 0x9100:
        if s.present < 4 or tags == MAX_TAGS:
            f.layers |= LAYER_MALFORMED
            return 0
        if tags == 0:
            f.vlan = be16(s.data) & 0x0fff
            f.layers |= LAYER_VLAN
        elif tags == 1:
            f.vlan_inner = be16(s.data) & 0x0fff
            f.layers |= LAYER_VLAN_INNER
        kind = be16(s.data + 2)
        narrow(s, 4)
        tags += 1
    if kind >= 0x0600:
        f.ethertype = kind
        f.layers |= LAYER_ETHERTYPE
    return kind


cdef void read_loop(fields_t *f, span *s, bint big, int want) noexcept nogil:
    """The address family of the system that captured, whose numbers for IPv6 differ."""
    cdef uint32_t family
    if s.present < 4:
        f.layers |= LAYER_MALFORMED
        return
    family = be32(s.data)
    if not big and family > 0xffff:         # of a machine with the other byte order
        family = ((family >> 24) & 0xff) | ((family >> 8) & 0xff00)
    narrow(s, 4)
    if family == 2:
        read_ipv4(f, s[0], want)
    elif family == 10 or family == 23 or family == 24 or family == 28 or family == 30:
        read_ipv6(f, s[0], want)


cdef void read_cooked(fields_t *f, span *s, bint second, int want) noexcept nogil:
    """LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2 of the pcap registry."""
    cdef uint32_t header = 20 if second else 16
    cdef const uint8_t *p = s.data
    cdef uint16_t hardware, kind
    if s.present < header:
        f.layers |= LAYER_MALFORMED
        return
    f.layers |= LAYER_COOKED
    hardware = be16(p + (8 if second else 2))
    kind = be16(p if second else p + 14)
    if (p[11] if second else be16(p + 4)) == 6 and (hardware == 1 or hardware == 772):
        f.eth_src = mac_at(p + (12 if second else 6))
        f.layers |= LAYER_SOURCE
    narrow(s, header)
    kind = step_over_tags(f, s, kind)
    if want & WANT_NETWORK:
        read_network(f, s, kind, want)


cdef void frame_dissect(const frame_record *frame, int want, fields_t *f) noexcept nogil:
    cdef span s
    cdef uint16_t kind
    memset(f, 0, fields_size(want))
    f.time = frame.time_ns
    f.length = frame.length
    f.captured = frame.captured
    f.interface = frame.interface
    f.link_type = frame.link_type
    s.data = frame.data
    s.present = frame.captured
    s.length = frame.length
    if s.length > s.present:
        f.layers = LAYER_CUT
    else:
        s.length = s.present        # files that claim less than they hold: the frame is what is there
    if frame.link_type == LINK_ETHERNET:
        if s.present < 14:
            f.layers |= LAYER_MALFORMED
            return
        f.layers |= LAYER_ETHERNET | LAYER_SOURCE
        f.eth_dst = mac_at(s.data)
        f.eth_src = mac_at(s.data + 6)
        kind = be16(s.data + 12)
        narrow(&s, 14)
        kind = step_over_tags(f, &s, kind)
        if want & WANT_NETWORK:
            read_network(f, &s, kind, want)
        return
    if frame.link_type == LINK_COOKED or frame.link_type == LINK_COOKED2:
        read_cooked(f, &s, frame.link_type == LINK_COOKED2, want)
    elif not want & WANT_NETWORK:
        pass
    elif frame.link_type == LINK_RAW or frame.link_type == LINK_RAW_BSD or frame.link_type == LINK_RAW_OPENBSD:
        read_by_version(f, &s, want)
    elif frame.link_type == LINK_IPV4:
        read_ipv4(f, s, want)
    elif frame.link_type == LINK_IPV6:
        read_ipv6(f, s, want)
    elif frame.link_type == LINK_NULL or frame.link_type == LINK_LOOP:
        read_loop(f, &s, frame.link_type == LINK_LOOP, want)
