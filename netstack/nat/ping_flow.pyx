"""Echo to anywhere, truthfully: the kernel sends the request, and only what comes back is passed on (RFC 5508).

One ping socket per guest address and identifier. The guest's identifier is kept on its side; on the host's side the
kernel's own is used. The TTL is carried, so that traceroute works, and errors come back from who sent them.
"""
from libc.errno cimport EACCES, EAGAIN, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, EPERM
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.host.poller cimport POLL_ERROR, POLL_READ, poller_add, poller_rearm, poller_remove
from netstack.host.sockets cimport (
    sock_close, sock_error, sock_ping_is_raw, sock_ping_open, sock_ping_recv, sock_ping_send, sock_recv_error,
)
from netstack.iface.interface cimport iface_is_ours
from netstack.iface.neighbors cimport neighbor
from netstack.iface.packet cimport packet
from netstack.nat.context cimport (
    MAIL_PING_FORBIDDEN, nat_decide, nat_peer_seen, nat_post, nat_send_icmp_error, nat_send_ip, nat_t,
)
from netstack.nat.flow cimport POLLED_PING, udp_flow, udp_key
from netstack.nat.path_mtu cimport fragments_of, fragments_set, path_too_long
from netstack.nat.policy cimport TO_HOST, policy_of
from netstack.storage.counters cimport (
    ECHO_REPLIES, PING_DOWN, PING_FLOWS, PING_FLOWS_FULL, PING_FORBIDDEN, PING_REPLY_IGNORED, PING_SEND_FAILED,
    PING_UP, count,
)
from netstack.storage.decision cimport DECIDED_PING
from netstack.storage.pool cimport pool_get, pool_put
from netstack.storage.table cimport table_del, table_get, table_len, table_next, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer_init
from netstack.wire.addr cimport addr_t, addr_v4
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.icmp4 cimport (
    ICMP4_ECHO, ICMP4_ECHO_REPLY, ICMP4_FRAG_NEEDED, ICMP4_HOST_UNREACHABLE, ICMP4_NET_UNREACHABLE,
    ICMP4_PARAMETER, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE, icmp4_hdr, icmp4_parse, icmp4_write,
)
from netstack.wire.ipv4 cimport IPPROTO_ICMP4

cdef enum:
    ERRORS = 1024               # more than an error queue holds: its edge is not repeated
    QUOTED = 548
    RECV_ROUNDS = 1024
    ORIGIN_ICMP = 2


cdef void bury(nat_t *nat, udp_flow *flow) noexcept nogil:
    if flow.dead:
        return
    flow.dead = 1
    wheel_cancel(nat.wheel, &flow.timer)
    table_del(nat.ping_table, &flow.key)
    poller_remove(nat.poller, flow.polled.fd)
    sock_close(flow.polled.fd)
    flow.polled.fd = -1
    flow.next_dead = nat.dead_udp       # the same pool as UDP flows; reaped with them
    nat.dead_udp = flow


cdef void send_echo_reply(nat_t *nat, const neighbor *to, uint32_t src, uint32_t rest, const uint8_t *data,
                          uint32_t length) noexcept nogil:
    """An echo reply to the guest: the data that came, not a byte more (RFC 1122 3.2.2.6)."""
    cdef icmp4_hdr reply
    cdef int n
    reply.type = ICMP4_ECHO_REPLY
    reply.code = 0
    reply.rest = rest
    reply.body = data
    reply.body_length = length
    n = icmp4_write(nat.scratch, sizeof(nat.scratch), &reply)
    if 0 <= n <= 65515:
        nat_send_ip(nat, to, src, addr_v4(&to.address), IPPROTO_ICMP4, 0, nat.scratch, n)


cdef udp_flow *flow_for(nat_t *nat, const packet *p, uint16_t ident, uint64_t now_ns) noexcept nogil:
    cdef udp_key key
    cdef udp_flow *flow
    cdef uint16_t host_ident = 0
    cdef int fd
    key.guest = p.src
    key.guest_port = ident
    key.zero = 0
    key.protocol = IPPROTO_ICMP4
    flow = <udp_flow *>table_get(nat.ping_table, &key)
    if flow != NULL:
        return flow
    if table_len(nat.ping_table) >= nat.settings.max_ping:
        count(nat.counters, PING_FLOWS_FULL)
        return NULL
    fd = sock_ping_open(False, &nat.options, &host_ident)
    if fd < 0:
        count(nat.counters, PING_FORBIDDEN)
        if (fd == -EACCES or fd == -EPERM) and not nat.ping_warned:
            nat.ping_warned = 1
            nat_post(nat, MAIL_PING_FORBIDDEN, NULL, 0, NULL, 0)
        return NULL
    flow = <udp_flow *>pool_get(nat.udp_pool)
    if flow == NULL:
        sock_close(fd)
        count(nat.counters, PING_FLOWS_FULL)
        return NULL
    flow.polled.kind = POLLED_PING
    flow.polled.fd = fd
    flow.raw = sock_ping_is_raw(fd)
    flow.ident = host_ident
    flow.guest = p.guest
    flow.key = key
    wheel_timer_init(&flow.timer, TIMER_PING, flow)
    if table_put(nat.ping_table, &flow.key, flow) < 0 or poller_add(nat.poller, fd, POLL_READ, &flow.polled) < 0:
        table_del(nat.ping_table, &flow.key)
        sock_close(fd)
        pool_put(nat.udp_pool, flow)
        count(nat.counters, PING_FLOWS_FULL)
        return NULL
    wheel_arm(nat.wheel, &flow.timer, now_ns + nat.settings.ping_timeout_ns)
    count(nat.counters, PING_FLOWS)
    nat_decide(nat, DECIDED_PING, &p.dst, 0, 0, False)
    return flow


cdef void ping_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef addr_t target
    cdef udp_flow *flow
    cdef icmp4_hdr echo
    cdef int n, r
    cdef uint16_t ident = <uint16_t>(p.icmp.rest >> 16)
    if iface_is_ours(nat.iface, p.ip.dst):
        count(nat.counters, ECHO_REPLIES)
        send_echo_reply(nat, p.guest, p.ip.dst, p.icmp.rest, p.payload, p.payload_length)
        return
    if p.ip.ttl <= 1:
        nat_send_icmp_error(nat, p.guest, 0, ICMP4_TIME_EXCEEDED, 0, 0, p.l3, p.ip.header_length + p.l4_length, now_ns)
        return
    if policy_of(nat, p.ip.dst, 0, False, &target) != TO_HOST:
        nat_send_icmp_error(nat, p.guest, 0, ICMP4_UNREACHABLE, ICMP4_HOST_UNREACHABLE, 0, p.l3,
                            p.ip.header_length + p.l4_length, now_ns)
        return
    flow = flow_for(nat, p, ident, now_ns)
    if flow == NULL:
        return
    flow.guest = p.guest
    flow.last_ns = now_ns
    flow.last_peer = p.dst
    echo.type = ICMP4_ECHO
    echo.code = 0
    echo.rest = (<uint32_t>flow.ident << 16) | (p.icmp.rest & 0xffff)
    echo.body = p.payload
    echo.body_length = p.payload_length
    n = icmp4_write(nat.scratch, sizeof(nat.scratch), &echo)
    if n < 0:
        count(nat.counters, PING_SEND_FAILED)
        return
    fragments_set(flow.polled.fd, &flow.fragments, fragments_of(p))
    r = sock_ping_send(flow.polled.fd, <const uint8_t *>&target, nat.scratch, n, p.ip.ttl - 1)
    if r < 0:
        drain_errors(nat, flow, now_ns)
        r = sock_ping_send(flow.polled.fd, <const uint8_t *>&target, nat.scratch, n, p.ip.ttl - 1)
    if r < 0:
        count(nat.counters, PING_SEND_FAILED)
        if r == -ENETUNREACH or r == -EHOSTUNREACH:
            nat_send_icmp_error(nat, p.guest, 0, ICMP4_UNREACHABLE,
                                ICMP4_NET_UNREACHABLE if r == -ENETUNREACH else ICMP4_HOST_UNREACHABLE, 0, p.l3,
                                p.ip.header_length + p.l4_length, now_ns)
        elif r == -EMSGSIZE:
            path_too_long(nat, p, <const uint8_t *>&target, now_ns)
        return
    flow.packets_up += 1
    flow.bytes_up += p.payload_length
    count(nat.counters, PING_UP)


cdef void pass_error(nat_t *nat, udp_flow *flow, uint32_t src, uint8_t type, uint8_t code, uint32_t rest, uint32_t dst,
                     const uint8_t *echo, uint32_t length, uint64_t now_ns) noexcept nogil:
    """An ICMP error about one of our requests; echo is the request's ICMP header and what is known of its data."""
    cdef uint8_t[20 + QUOTED] quote
    cdef uint32_t kept = length if length < QUOTED else QUOTED
    if length < 8 or echo[0] != ICMP4_ECHO:
        return
    memset(quote, 0, 20)
    quote[0] = 0x45
    put_be16(quote + 2, <uint16_t>(20 + kept))
    quote[8] = 1
    quote[9] = IPPROTO_ICMP4
    put_be32(quote + 12, addr_v4(&flow.key.guest))
    put_be32(quote + 16, dst)
    memcpy(quote + 20, echo, kept)
    # the guest's identifier again, and a checksum that fits it (RFC 1624)
    fix_ident(quote + 20, flow.key.guest_port)
    nat_send_icmp_error(nat, flow.guest, src, type, code, rest, quote, 20 + kept, now_ns)


cdef void fix_ident(uint8_t *echo, uint16_t ident) noexcept nogil:
    cdef uint32_t sum = (~be16(echo + 2) & 0xffff) + (~be16(echo + 4) & 0xffff) + ident
    sum = (sum & 0xffff) + (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16)
    put_be16(echo + 2, <uint16_t>~sum)
    put_be16(echo + 4, ident)


cdef void drain_errors(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil:
    cdef sock_error e
    cdef uint8_t[QUOTED] payload
    cdef uint32_t src = 0, dst = 0
    cdef int rounds = ERRORS
    if flow.raw:
        return
    while rounds > 0:
        rounds -= 1
        e.payload = payload
        e.payload_length = sizeof(payload)
        if sock_recv_error(flow.polled.fd, &e) <= 0:
            return
        if e.origin != ORIGIN_ICMP or not nat_peer_seen(nat, e.peer, &dst):
            continue
        if not nat_peer_seen(nat, e.offender, &src):
            src = 0
        pass_error(nat, flow, src, e.type, e.code,
                   e.info if e.type == ICMP4_UNREACHABLE and e.code == ICMP4_FRAG_NEEDED else 0, dst, payload,
                   e.payload_length, now_ns)


cdef void give_down(nat_t *nat, udp_flow *flow, const uint8_t *addr, const uint8_t *message, uint32_t length,
                    uint64_t now_ns) noexcept nogil:
    cdef icmp4_hdr icmp
    cdef uint32_t src = 0, ihl
    if icmp4_parse(message, length, &icmp) < 0 or not nat_peer_seen(nat, addr, &src):
        count(nat.counters, PING_REPLY_IGNORED)
        return
    if icmp.type == ICMP4_ECHO_REPLY:
        if <uint16_t>(icmp.rest >> 16) != flow.ident:
            count(nat.counters, PING_REPLY_IGNORED)
            return
        flow.two_way = 1
        flow.packets_down += 1
        flow.bytes_down += icmp.body_length
        count(nat.counters, PING_DOWN)
        send_echo_reply(nat, flow.guest, src, (<uint32_t>flow.key.guest_port << 16) | (icmp.rest & 0xffff), icmp.body,
                        icmp.body_length)
        return
    # a raw socket hears errors as messages: those that quote a request of this flow's are its own
    if icmp.type != ICMP4_UNREACHABLE and icmp.type != ICMP4_TIME_EXCEEDED and icmp.type != ICMP4_PARAMETER:
        count(nat.counters, PING_REPLY_IGNORED)
        return
    if icmp.body_length < 28:
        count(nat.counters, PING_REPLY_IGNORED)
        return
    ihl = (icmp.body[0] & 0xf) * 4
    if (ihl < 20 or icmp.body_length < ihl + 8 or icmp.body[9] != IPPROTO_ICMP4
            or be16(icmp.body + ihl + 4) != flow.ident):
        count(nat.counters, PING_REPLY_IGNORED)
        return
    pass_error(nat, flow, src, icmp.type, icmp.code, icmp.rest, be32(icmp.body + 16), icmp.body + ihl,
               icmp.body_length - ihl, now_ns)


cdef void ping_flow_host_event(nat_t *nat, udp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[16] addr
    cdef uint8_t ttl
    cdef int n
    cdef int rounds = RECV_ROUNDS
    if flow.dead:
        return
    if events & POLL_ERROR:
        drain_errors(nat, flow, now_ns)
    while rounds > 0:
        rounds -= 1
        n = sock_ping_recv(flow.polled.fd, nat.recv_memory, 65536, addr, &ttl)
        if n == -EAGAIN:
            break
        if n < 0:
            drain_errors(nat, flow, now_ns)
            continue
        give_down(nat, flow, addr, nat.recv_memory, n, now_ns)
    poller_rearm(nat.poller, flow.polled.fd, POLL_READ)


cdef void ping_flow_timer(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil:
    if flow.dead:
        return
    if now_ns - flow.last_ns >= nat.settings.ping_timeout_ns:
        bury(nat, flow)
    else:
        wheel_arm(nat.wheel, &flow.timer, flow.last_ns + nat.settings.ping_timeout_ns)


cdef void ping_flows_free_all(nat_t *nat) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef udp_flow *flow = <udp_flow *>table_next(nat.ping_table, &cursor)
    while flow != NULL:
        bury(nat, flow)
        flow = <udp_flow *>table_next(nat.ping_table, &cursor)
