"""From what is to be said to the bytes of a frame."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.iface.interface cimport ICMP_BURST, ICMP_INTERVAL_NS, iface_t
from netstack.iface.neighbors cimport neighbor
from netstack.storage.counters cimport ARP_REQUESTS, FRAGMENTS_SENT, ICMP_ERRORS_SENT, ICMP_RATE_LIMITED, count
from netstack.storage.frame cimport CSUM_PARTIAL, GSO_NONE, GSO_TCP4, GSO_UDP, frame_meta
from netstack.wire.addr cimport addr_from_v4, addr_t
from netstack.wire.arp cimport ARP_REQUEST, arp_hdr, arp_write
from netstack.wire.be cimport be16, be32
from netstack.wire.checksum cimport csum_fold, csum_pseudo, csum_store
from netstack.wire.ethernet cimport ETH_HDR_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, eth_hdr, eth_write
from netstack.wire.icmp4 cimport ICMP4_ECHO, icmp4_hdr, icmp4_write
from netstack.wire.ipv4 cimport IPPROTO_ICMP4, IPPROTO_TCP4, IPPROTO_UDP4, ipv4_hdr, ipv4_write
from netstack.wire.tcp cimport tcp_hdr, tcp_write
from netstack.wire.udp cimport udp_hdr, udp_write

cdef enum:
    TTL = 64
    MAX_ICMP = 548              # 576 - IPv4 header - ICMP header


cdef void link_and_ip(iface_t *f, const neighbor *to, ipv4_hdr *ip, uint8_t *out) noexcept nogil:
    cdef eth_hdr eth
    memcpy(eth.dst, to.mac, 6)
    memcpy(eth.src, f.mac, 6)
    eth.ethertype = ETHERTYPE_IPV4
    eth.vlan_tags = 0
    eth_write(out, 14, &eth)
    ip.header_length = 20
    ip.options = NULL
    ipv4_write(out + 14, 20, ip)


cdef int iface_next_fragment(iface_t *f, datagram *d, uint8_t *out, uint32_t *at, uint32_t *n) noexcept nogil:
    cdef ipv4_hdr ip
    cdef uint32_t left = d.length - d.offset
    cdef uint32_t most = (f.mtu - 20) & ~7u
    cdef bint whole = d.length + 20 <= f.mtu
    if d.started and left == 0:
        return 0
    if not d.started:
        d.started = 1
        d.ident = 0
        if not d.dont_fragment or not whole:
            f.next_ident += 1
            d.ident = f.next_ident
    if whole:
        n[0] = left
    else:
        n[0] = most if left > most else left
        count(f.counters, FRAGMENTS_SENT)
    at[0] = d.offset
    ip.tos = d.tos
    ip.ttl = d.ttl if d.ttl else TTL
    ip.protocol = d.protocol
    ip.total_length = <uint16_t>(20 + n[0])
    ip.ident = d.ident
    ip.frag_offset = <uint16_t>d.offset
    ip.dont_fragment = 1 if d.dont_fragment and whole else 0
    ip.more_fragments = 1 if n[0] < left else 0
    ip.src = d.src
    ip.dst = d.dst
    link_and_ip(f, d.to, &ip, out)
    d.offset += n[0]
    return 1


cdef void transport_ip(iface_t *f, const neighbor *to, uint32_t src, uint32_t dst, uint8_t protocol, uint32_t l4_length,
                       uint8_t tos, uint8_t ttl, uint8_t *out) noexcept nogil:
    cdef ipv4_hdr ip
    ip.tos = tos
    ip.ttl = ttl if ttl else TTL
    ip.protocol = protocol
    ip.total_length = <uint16_t>(20 + l4_length)
    ip.ident = 0                # atomic datagrams need none (RFC 6864)
    ip.frag_offset = 0
    ip.dont_fragment = 1
    ip.more_fragments = 0
    ip.src = src
    ip.dst = dst
    link_and_ip(f, to, &ip, out)


cdef void partial_checksum(uint32_t src, uint32_t dst, uint8_t protocol, uint32_t l4_length, uint8_t *field,
                           uint16_t offset, uint32_t hdr_len, uint16_t gso_size, uint8_t gso_type,
                           frame_meta *meta) noexcept nogil:
    cdef addr_t a = addr_from_v4(src)
    cdef addr_t b = addr_from_v4(dst)
    csum_store(field, csum_fold(csum_pseudo(&a, &b, protocol, l4_length)))
    meta.csum = CSUM_PARTIAL
    meta.csum_start = 34
    meta.csum_offset = offset
    meta.hdr_len = <uint16_t>hdr_len
    meta.gso_size = gso_size
    meta.gso_type = gso_type if gso_size else GSO_NONE


cdef int iface_tcp_headers(iface_t *f, const neighbor *to, uint32_t src, uint32_t dst, tcp_hdr *hdr,
                           uint32_t payload_length, uint16_t gso_size, uint8_t tos, uint8_t *out, size_t room,
                           frame_meta *meta) noexcept nogil:
    cdef int n
    hdr.checksum = 0
    n = tcp_write(out + 34, room - 34, hdr)
    transport_ip(f, to, src, dst, IPPROTO_TCP4, n + payload_length, tos, TTL, out)
    partial_checksum(src, dst, IPPROTO_TCP4, n + payload_length, out + 34 + 16, 16, 34 + n, gso_size, GSO_TCP4, meta)
    return 34 + n


cdef int iface_udp_headers(iface_t *f, const neighbor *to, uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport,
                           uint32_t payload_length, uint16_t gso_size, uint8_t tos, uint8_t ttl, uint8_t *out,
                           frame_meta *meta) noexcept nogil:
    cdef udp_hdr udp
    udp.sport = sport
    udp.dport = dport
    udp.length = <uint16_t>(8 + payload_length)
    udp.checksum = 0
    udp_write(out + 34, 8, &udp)
    transport_ip(f, to, src, dst, IPPROTO_UDP4, 8 + payload_length, tos, ttl, out)
    partial_checksum(src, dst, IPPROTO_UDP4, 8 + payload_length, out + 34 + 6, 6, 42, gso_size, GSO_UDP, meta)
    return 42


cdef bint may_send_error(iface_t *f, const uint8_t *original, uint32_t length, uint64_t now_ns) noexcept nogil:
    """RFC 1122 3.2.2: never about an ICMP error, a fragment other than the first, a broadcast or an unspecified
    source."""
    cdef uint32_t ihl, src, dst
    if length < 20:
        return False
    ihl = (original[0] & 0xf) * 4
    src = be32(original + 12)
    dst = be32(original + 16)
    if ihl < 20 or length < ihl + 8 or be16(original + 6) & 0x1fff:
        return False
    if src == 0 or src >> 28 >= 0xe or dst >> 28 >= 0xe or dst == f.broadcast or dst == f.network:
        return False
    if original[9] == IPPROTO_ICMP4 and original[ihl] != ICMP4_ECHO:
        return False
    f.icmp_tokens += now_ns - f.icmp_refill_ns
    f.icmp_refill_ns = now_ns
    if f.icmp_tokens > <uint64_t>ICMP_BURST * ICMP_INTERVAL_NS:
        f.icmp_tokens = <uint64_t>ICMP_BURST * ICMP_INTERVAL_NS
    if f.icmp_tokens < ICMP_INTERVAL_NS:
        count(f.counters, ICMP_RATE_LIMITED)
        return False
    f.icmp_tokens -= ICMP_INTERVAL_NS
    return True


cdef int iface_icmp_error(iface_t *f, uint8_t type, uint8_t code, uint32_t rest, const uint8_t *original,
                          uint32_t original_length, uint64_t now_ns, uint8_t *out, size_t room) noexcept nogil:
    cdef icmp4_hdr icmp
    cdef int n
    if not may_send_error(f, original, original_length, now_ns):
        return 0
    icmp.type = type
    icmp.code = code
    icmp.rest = rest
    icmp.body = original
    icmp.body_length = original_length if original_length < MAX_ICMP else MAX_ICMP
    n = icmp4_write(out, room, &icmp)
    if n < 0:
        return 0
    count(f.counters, ICMP_ERRORS_SENT)
    return n


cdef uint32_t iface_arp_request(iface_t *f, uint32_t target, uint8_t *out, size_t room) noexcept nogil:
    cdef eth_hdr eth
    cdef arp_hdr arp
    memset(&eth, 0, sizeof(eth))
    memset(eth.dst, 0xff, 6)
    memcpy(eth.src, f.mac, 6)
    eth.ethertype = ETHERTYPE_ARP
    memset(&arp, 0, sizeof(arp))
    arp.op = ARP_REQUEST
    memcpy(arp.sha, f.mac, 6)
    arp.spa = f.gateway
    arp.tpa = target
    eth_write(out, room, &eth)
    arp_write(out + ETH_HDR_LEN, room - ETH_HDR_LEN, &arp)
    count(f.counters, ARP_REQUESTS)
    return ETH_HDR_LEN + 28
