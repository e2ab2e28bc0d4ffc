"""What all kinds of flows share: the way to the guest and the way to the control plane."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.host.sockets cimport iovec, wake_signal
from netstack.iface.neighbors cimport neighbor
from netstack.iface.output cimport (
    IFACE_HEADROOM, datagram, iface_arp_request, iface_icmp_error, iface_next_fragment, iface_udp_headers,
)
from netstack.storage.counters cimport MAILBOX_FULL, count
from netstack.storage.frame cimport CSUM_FULL, GSO_NONE, frame_meta
from netstack.storage.mailbox cimport mailbox_post
from netstack.storage.siphash cimport siphash_words
from netstack.storage.table cimport table_get, table_t
from netstack.wire.addr cimport addr_from_v4, addr_from_v6, addr_is_v4, addr_t, addr_v4
from netstack.wire.be cimport be64
from netstack.wire.checksum cimport csum_add, csum_finish, csum_pseudo, csum_store
from netstack.wire.ipv4 cimport IPPROTO_ICMP4, IPPROTO_UDP4
from netstack.wire.udp cimport udp_hdr, udp_write

cdef enum:
    FIRST_DYNAMIC = 49152       # the dynamic ports (RFC 6335)
    DYNAMIC_PORTS = 16384


cdef void nat_decide(nat_t *nat, uint8_t kind, const addr_t *target, uint16_t port, uint16_t local,
                     bint translated) noexcept nogil:
    nat.decided.kind = kind
    nat.decided.diverted = translated
    nat.decided.port = port
    nat.decided.local = local
    memcpy(nat.decided.address, target, 16)


cdef void nat_send_ip(nat_t *nat, const neighbor *to, uint32_t src, uint32_t dst, uint8_t protocol, uint8_t tos,
                      const uint8_t *data, uint32_t length) noexcept nogil:
    cdef datagram d
    cdef uint8_t[IFACE_HEADROOM] headers
    cdef iovec[2] iov
    cdef frame_meta meta
    cdef uint32_t at = 0, n = 0
    if to.port < 0:
        return
    d.to = to
    d.src = src
    d.dst = dst
    d.protocol = protocol
    d.tos = tos
    d.ttl = 0                           # the usual one
    d.dont_fragment = 0
    d.data = data
    d.length = length
    d.offset = 0
    d.started = 0
    memset(&meta, 0, sizeof(meta))
    meta.csum = CSUM_FULL
    meta.gso_type = GSO_NONE
    while iface_next_fragment(nat.iface, &d, headers, &at, &n):
        iov[0].iov_base = headers
        iov[0].iov_len = IFACE_HEADROOM
        iov[1].iov_base = <void *>(data + at)
        iov[1].iov_len = n
        nat.sink(nat.sink_context, to.port, &meta, iov, 2 if n else 1)


cdef void nat_send_icmp_error(nat_t *nat, const neighbor *to, uint32_t src, uint8_t type, uint8_t code, uint32_t rest,
                              const uint8_t *original, uint32_t length, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[600] message
    cdef int n = iface_icmp_error(nat.iface, type, code, rest, original, length, now_ns, message, sizeof(message))
    if n > 0:
        nat_send_ip(nat, to, src if src else nat.iface.gateway, addr_v4(&to.address), IPPROTO_ICMP4, 0, message, n)


cdef void nat_send_udp(nat_t *nat, const neighbor *to, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport,
                       const uint8_t *payload, uint32_t length, uint8_t tos, uint64_t now_ns) noexcept nogil:
    cdef udp_hdr udp
    cdef uint64_t sum
    cdef uint16_t check
    cdef addr_t a, b
    cdef uint8_t[64] headers
    cdef frame_meta meta
    cdef iovec[2] iov
    if length + 28 <= nat.iface.mtu:
        if to.port < 0:
            return
        iov[0].iov_base = headers
        iov[0].iov_len = iface_udp_headers(nat.iface, to, src, dst, sport, dport, length, 0, tos, 0, headers, &meta)
        iov[1].iov_base = <void *>payload
        iov[1].iov_len = length
        nat.sink(nat.sink_context, to.port, &meta, iov, 2 if length else 1)
        return
    if length > 65507:
        return
    # in fragments: the checksum has to be whole, and the header must lie in front of the payload
    a = addr_from_v4(src)
    b = addr_from_v4(dst)
    memcpy(nat.scratch + 8, payload, length)
    udp.sport = sport
    udp.dport = dport
    udp.length = <uint16_t>(8 + length)
    udp.checksum = 0
    udp_write(nat.scratch, 8, &udp)
    sum = csum_add(nat.scratch, 8 + length, csum_pseudo(&a, &b, IPPROTO_UDP4, 8 + length))
    check = csum_finish(sum)
    csum_store(nat.scratch + 6, check if check else 0xffff)
    nat_send_ip(nat, to, src, dst, IPPROTO_UDP4, tos, nat.scratch, 8 + length)


cdef void nat_send_arp_request(nat_t *nat, uint32_t target) noexcept nogil:
    cdef uint8_t[64] frame
    cdef iovec iov
    cdef frame_meta meta
    memset(&meta, 0, sizeof(meta))
    meta.csum = CSUM_FULL
    meta.gso_type = GSO_NONE
    iov.iov_base = frame
    iov.iov_len = iface_arp_request(nat.iface, target, frame, sizeof(frame))
    nat.sink(nat.sink_context, PORT_ALL, &meta, &iov, 1)


cdef int nat_post(nat_t *nat, uint32_t kind, const void *head, uint32_t head_length, const void *body,
                  uint32_t body_length) noexcept nogil:
    if mailbox_post(&nat.mailbox, kind, head, head_length, body, body_length) < 0:
        count(nat.counters, MAILBOX_FULL)
        return -1
    if nat.mail_fd >= 0:
        wake_signal(nat.mail_fd)
    return 0


cdef bint nat_peer_seen(nat_t *nat, const uint8_t *addr, uint32_t *v4) noexcept nogil:
    cdef addr_t a = addr_from_v6(addr)
    if not addr_is_v4(&a):
        return False
    v4[0] = addr_v4(&a)
    if v4[0] >> 24 == 127:
        if nat.iface.host_alias == 0:
            return False
        v4[0] = nat.iface.host_alias
    return True


cdef uint32_t nat_client_seen(const nat_t *nat, bint as_gateway, const uint8_t *addr) noexcept nogil:
    cdef addr_t a = addr_from_v6(addr)
    cdef uint32_t v4
    cdef uint32_t local = nat.iface.host_alias if nat.iface.host_alias else nat.iface.gateway
    if as_gateway:
        return nat.iface.gateway
    if not addr_is_v4(&a):              # a Unix socket's peer has no address; ::1 is the loopback
        return local if a.w[0] == 0 and be64(addr + 8) <= 1 else nat.iface.gateway
    v4 = addr_v4(&a)
    if v4 >> 24 == 127:
        return local
    if v4 >> 24 == 0 or v4 >> 28 >= 0xe or (v4 & nat.iface.netmask) == nat.iface.network:
        return nat.iface.gateway
    return v4


cdef bint nat_peer_port(const nat_t *nat, const table_t *taken, flow_key *key, uint16_t wanted, uint64_t a,
                        uint64_t b) noexcept nogil:
    cdef uint64_t[2] words
    cdef uint32_t start
    cdef int i
    key.peer_port = wanted
    if wanted and table_get(taken, key) == NULL:
        return True
    words[0] = a
    words[1] = b
    start = <uint32_t>siphash_words(words, 2, nat.k1, nat.k0)
    for i in range(DYNAMIC_PORTS):
        key.peer_port = <uint16_t>(FIRST_DYNAMIC + (start + <uint32_t>i) % DYNAMIC_PORTS)
        if table_get(taken, key) == NULL:
            return True
    return False
