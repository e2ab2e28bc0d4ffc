"""From a frame to a verdict (RFC 894, 826, 1122 section 3.2)."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from netstack.iface.fragments cimport FRAG_DONE, FRAG_HELD, fragments_add
from netstack.iface.interface cimport iface_is_guest, iface_is_ours, iface_t
from netstack.iface.neighbors cimport neighbors_learn
from netstack.iface.packet cimport packet
from netstack.storage.counters cimport (
    ARP_BAD, ARP_REPLIES, ARP_SPOOFED, FRAME_BAD_SOURCE, FRAME_IPV6, FRAME_NOT_OURS, FRAME_OVERSIZED, FRAME_SHORT,
    FRAME_UNKNOWN_TYPE, FRAME_VLAN, ICMP_BAD, ICMP_ERRORS_RECEIVED, ICMP_IGNORED, IP_BAD_CHECKSUM,
    IP_BAD_DESTINATION, IP_BAD_HEADER, IP_BAD_SOURCE, IP_BROADCAST, IP_MULTICAST, IP_SOURCE_ROUTE, IP_SPOOFED,
    IP_TRUNCATED, IP_TTL, IP_UNKNOWN_PROTOCOL, NEIGHBORS_FULL, TCP_BAD_CHECKSUM, TCP_BAD_HEADER, UDP_BAD_CHECKSUM,
    UDP_BAD_HEADER, count,
)
from netstack.storage.frame cimport CSUM_FULL, CSUM_VALID, GSO_NONE, frame_meta
from netstack.wire.addr cimport addr_from_v4
from netstack.wire.arp cimport ARP_REPLY, ARP_REQUEST, arp_hdr, arp_parse, arp_write
from netstack.wire.checksum cimport csum_ok, csum_pseudo
from netstack.wire.code cimport WIRE_TRUNCATED
from netstack.wire.ethernet cimport (
    ETH_HDR_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, eth_hdr, eth_parse, eth_write,
)
from netstack.wire.icmp4 cimport (
    ICMP4_ECHO, ICMP4_ECHO_REPLY, ICMP4_PARAMETER, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE, icmp4_parse,
)
from netstack.wire.ipv4 cimport IPPROTO_ICMP4, IPPROTO_TCP4, IPPROTO_UDP4, ipv4_checksum_ok, ipv4_parse
from netstack.wire.tcp cimport tcp_parse
from netstack.wire.udp cimport UDP_HDR_LEN, udp_parse


cdef int iface_input(iface_t *f, const uint8_t *frame, uint32_t length, const frame_meta *meta, int port,
                     uint64_t now_ns, packet *p) noexcept nogil:
    cdef int n = eth_parse(frame, length, &p.eth)
    if n < 0:
        count(f.counters, FRAME_SHORT)
        return IFACE_DROPPED
    p.frame = frame
    p.length = length
    p.meta = meta[0]
    p.port = port
    if p.eth.vlan_tags:
        count(f.counters, FRAME_VLAN)
        return IFACE_DROPPED
    if p.eth.src[0] & 1 or memcmp(p.eth.src, f.mac, 6) == 0:
        count(f.counters, FRAME_BAD_SOURCE)
        return IFACE_DROPPED
    if not p.eth.dst[0] & 1 and memcmp(p.eth.dst, f.mac, 6) != 0:
        count(f.counters, FRAME_NOT_OURS)
        return IFACE_DROPPED
    if meta.gso_type == GSO_NONE and length > f.mtu + ETH_HDR_LEN:
        count(f.counters, FRAME_OVERSIZED)
        return IFACE_DROPPED
    if p.eth.ethertype == ETHERTYPE_IPV4:
        return input_ipv4(f, frame + n, length - n, now_ns, p)
    if p.eth.ethertype == ETHERTYPE_ARP:
        return input_arp(f, frame + n, length - n, now_ns, p)
    count(f.counters, FRAME_IPV6 if p.eth.ethertype == ETHERTYPE_IPV6 else FRAME_UNKNOWN_TYPE)
    return IFACE_DROPPED


cdef int input_arp(iface_t *f, const uint8_t *data, uint32_t length, uint64_t now_ns, packet *p) noexcept nogil:
    """Answers for our own addresses only, so that the guest's duplicate-address probes stay silent (RFC 826, 5227)."""
    cdef arp_hdr arp
    cdef arp_hdr reply
    cdef eth_hdr eth
    if arp_parse(data, length, &arp) < 0 or (arp.op != ARP_REQUEST and arp.op != ARP_REPLY):
        count(f.counters, ARP_BAD)
        return IFACE_DROPPED
    if memcmp(arp.sha, p.eth.src, 6) != 0 or (arp.spa != 0 and not iface_is_guest(f, arp.spa)):
        count(f.counters, ARP_SPOOFED)
        return IFACE_DROPPED
    if arp.spa != 0:
        p.src = addr_from_v4(arp.spa)
        if neighbors_learn(&f.neighbors, &p.src, arp.sha, p.port, now_ns) == NULL:
            count(f.counters, NEIGHBORS_FULL)
            return IFACE_DROPPED
    if arp.op != ARP_REQUEST or not iface_is_ours(f, arp.tpa):
        return IFACE_HELD               # learnt from; nothing else is due
    reply.op = ARP_REPLY
    memcpy(reply.sha, f.mac, 6)
    reply.spa = arp.tpa
    memcpy(reply.tha, arp.sha, 6)
    reply.tpa = arp.spa
    memset(&eth, 0, sizeof(eth))
    memcpy(eth.dst, arp.sha, 6)
    memcpy(eth.src, f.mac, 6)
    eth.ethertype = ETHERTYPE_ARP
    eth_write(f.reply, sizeof(f.reply), &eth)
    arp_write(f.reply + ETH_HDR_LEN, sizeof(f.reply) - ETH_HDR_LEN, &reply)
    f.reply_length = ETH_HDR_LEN + 28
    count(f.counters, ARP_REPLIES)
    return IFACE_REPLY


cdef bint has_source_route(const uint8_t *options, uint32_t length) noexcept nogil:
    """Loose (131) or strict (137) source route; other options are ignored (RFC 1122 3.2.1.8)."""
    cdef uint32_t i = 0
    while i < length:
        if options[i] == 0:
            return False
        if options[i] == 1:
            i += 1
            continue
        if options[i] == 131 or options[i] == 137:
            return True
        if i + 1 >= length or options[i + 1] < 2:
            return False
        i += options[i + 1]
    return False


cdef inline bint without_checksum(const packet *p, const uint8_t *data) noexcept nogil:
    """A request for an address with a checksum of zero: VPNKit's Go client makes its DISCOVER by hand and
    leaves it out."""
    return (data[10] == 0 and data[11] == 0 and p.ip.src == 0 and p.ip.dst == 0xffffffffu
            and p.ip.protocol == IPPROTO_UDP4)


cdef int input_ipv4(iface_t *f, const uint8_t *data, uint32_t length, uint64_t now_ns, packet *p) noexcept nogil:
    cdef int n = ipv4_parse(data, length, &p.ip)
    cdef uint32_t src, dst
    cdef bint broadcast
    if n < 0:
        count(f.counters, IP_TRUNCATED if n == WIRE_TRUNCATED else IP_BAD_HEADER)
        return IFACE_DROPPED
    if not ipv4_checksum_ok(data, n) and not without_checksum(p, data):
        count(f.counters, IP_BAD_CHECKSUM)
        return IFACE_DROPPED
    if p.ip.ttl == 0:
        count(f.counters, IP_TTL)
        return IFACE_DROPPED
    if n > 20 and has_source_route(p.ip.options, n - 20):
        count(f.counters, IP_SOURCE_ROUTE)
        return IFACE_DROPPED
    src = p.ip.src
    dst = p.ip.dst
    p.src = addr_from_v4(src)
    p.dst = addr_from_v4(dst)
    p.l3 = data
    p.l4 = data + n
    p.l4_length = p.ip.total_length - n
    p.guest = NULL
    broadcast = dst == 0xffffffffu or dst == f.broadcast or dst == f.network
    if src == 0:
        # a guest without an address may only ask for one
        if not broadcast or p.ip.protocol != IPPROTO_UDP4:
            count(f.counters, IP_BAD_SOURCE)
            return IFACE_DROPPED
    elif src >> 28 >= 0xe or src >> 24 == 127 or src >> 24 == 0:
        count(f.counters, IP_BAD_SOURCE)
        return IFACE_DROPPED
    elif not iface_is_guest(f, src):
        count(f.counters, IP_SPOOFED)
        return IFACE_DROPPED
    else:
        p.guest = neighbors_learn(&f.neighbors, &p.src, p.eth.src, p.port, now_ns)
        if p.guest == NULL:
            count(f.counters, NEIGHBORS_FULL)
            return IFACE_DROPPED
    if dst >> 28 == 0xe:
        count(f.counters, IP_MULTICAST)
        return IFACE_DROPPED
    if broadcast and p.ip.protocol != IPPROTO_UDP4:
        count(f.counters, IP_BROADCAST)
        return IFACE_DROPPED
    if not broadcast and (dst >> 24 == 127 or dst >> 24 == 0 or dst >> 28 == 0xf):
        count(f.counters, IP_BAD_DESTINATION)
        return IFACE_DROPPED
    if not broadcast and p.eth.dst[0] & 1:
        count(f.counters, IP_BROADCAST)     # unicast IP in a link broadcast (RFC 1122 3.3.6)
        return IFACE_DROPPED
    if p.ip.more_fragments or p.ip.frag_offset:
        n = fragments_add(&f.fragments, &p.ip, data, p.l4, p.l4_length, now_ns, f.counters)
        if n != FRAG_DONE:
            return IFACE_HELD if n == FRAG_HELD else IFACE_DROPPED
        n = f.fragments.done[0] & 0xf
        p.frame = NULL
        p.l3 = f.fragments.done
        p.l4 = f.fragments.done + n * 4
        p.l4_length = f.fragments.done_length - n * 4
        p.meta.csum = CSUM_FULL
        p.meta.gso_type = GSO_NONE
    return input_transport(f, p)


cdef bint checksum_good(packet *p, uint8_t protocol) noexcept nogil:
    return p.meta.csum != CSUM_FULL or csum_ok(p.l4, p.l4_length, csum_pseudo(&p.src, &p.dst, protocol, p.l4_length))


cdef int input_transport(iface_t *f, packet *p) noexcept nogil:
    cdef int n
    if p.ip.protocol == IPPROTO_TCP4:
        n = tcp_parse(p.l4, p.l4_length, &p.tcp)
        if n < 0:
            count(f.counters, TCP_BAD_HEADER)
            return IFACE_DROPPED
        if not checksum_good(p, IPPROTO_TCP4):
            count(f.counters, TCP_BAD_CHECKSUM)
            return IFACE_DROPPED
        p.payload = p.l4 + n
        p.payload_length = p.l4_length - n
        return IFACE_TCP
    if p.ip.protocol == IPPROTO_UDP4:
        n = udp_parse(p.l4, p.l4_length, &p.udp)
        if n < 0 or p.udp.length < UDP_HDR_LEN or p.udp.length > p.l4_length:
            count(f.counters, UDP_BAD_HEADER)
            return IFACE_DROPPED
        p.l4_length = p.udp.length
        if p.udp.checksum != 0 and not checksum_good(p, IPPROTO_UDP4):
            count(f.counters, UDP_BAD_CHECKSUM)
            return IFACE_DROPPED
        p.payload = p.l4 + UDP_HDR_LEN
        p.payload_length = p.udp.length - UDP_HDR_LEN
        return IFACE_UDP
    if p.ip.protocol == IPPROTO_ICMP4:
        return input_icmp(f, p)
    count(f.counters, IP_UNKNOWN_PROTOCOL)
    return IFACE_UNREACHABLE


cdef int input_icmp(iface_t *f, packet *p) noexcept nogil:
    if icmp4_parse(p.l4, p.l4_length, &p.icmp) < 0 or not (
            p.meta.csum == CSUM_VALID or csum_ok(p.l4, p.l4_length, 0)):
        count(f.counters, ICMP_BAD)
        return IFACE_DROPPED
    p.payload = p.icmp.body
    p.payload_length = p.icmp.body_length
    if p.icmp.type == ICMP4_ECHO:
        return IFACE_ECHO
    if p.icmp.type == ICMP4_ECHO_REPLY and p.ip.dst == f.gateway:
        return IFACE_ECHO_REPLY
    if (p.icmp.type == ICMP4_UNREACHABLE or p.icmp.type == ICMP4_TIME_EXCEEDED
            or p.icmp.type == ICMP4_PARAMETER):
        count(f.counters, ICMP_ERRORS_RECEIVED)
        return IFACE_ICMP_ERROR
    count(f.counters, ICMP_IGNORED)
    return IFACE_DROPPED
