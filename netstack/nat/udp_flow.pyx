"""UDP translation: one host socket per guest address and port, batched both ways, errors passed on as ICMP.

The table is bounded: at its limit the flow that has been silent longest makes room.
"""
from libc.errno cimport EAGAIN, EHOSTUNREACH, EMSGSIZE, ENETUNREACH
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.host.poller cimport POLL_ERROR, POLL_READ, poller_add, poller_rearm, poller_remove
from netstack.host.outbound cimport sock_is_loopback, sock_options, sock_options_near
from netstack.host.sockets cimport (
    iovec, sock_close, sock_error, sock_local, sock_recv_error, sock_udp_open, sock_udp_recv, sock_udp_send,
    udp_message,
)
from netstack.iface.output cimport iface_udp_headers
from netstack.iface.packet cimport packet
from netstack.nat.context cimport (
    UDP_BATCH, UDP_BATCH_BYTES, UDP_RECV_BATCH, UDP_RECV_ROOM, nat_decide, nat_may_join, nat_peer_seen,
    nat_send_icmp_error, nat_send_udp, nat_t,
)
from netstack.nat.divert cimport diverted_from
from netstack.nat.flow cimport POLLED_UDP, udp_flow, udp_key
from netstack.nat.path_mtu cimport fragments_of, fragments_set, path_mtu
from netstack.nat.policy cimport TO_HOST, TO_NOWHERE, policy_hide, verdict
from netstack.nat.udp_join cimport UDP_JOINED_MOST, udp_datagrams, udp_join, udp_join_run, udp_joins
from netstack.storage.counters cimport (
    UDP_DOWN, UDP_FLOW_EVICTED, UDP_FLOWS, UDP_NO_PORT, UDP_REPLY_NOT_ALLOWED, UDP_SEND_FAILED,
    UDP_SOCKET_FAILED, UDP_UP, count,
)
from netstack.storage.decision cimport DECIDED_UDP
from netstack.storage.frame cimport GSO_UDP, frame_meta
from netstack.storage.lru cimport lru_add, lru_oldest, lru_remove, lru_use
from netstack.storage.pool cimport pool_get, pool_put
from netstack.storage.table cimport table_del, table_get, table_len, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer_init
from netstack.wire.addr cimport addr_eq, addr_from_v4, addr_t, addr_v4
from netstack.wire.be cimport put_be16, put_be32
from netstack.wire.icmp4 cimport (
    ICMP4_FRAG_NEEDED, ICMP4_HOST_UNREACHABLE, ICMP4_NET_UNREACHABLE, ICMP4_PORT_UNREACHABLE, ICMP4_TIME_EXCEEDED,
    ICMP4_UNREACHABLE,
)
from netstack.wire.ipv4 cimport IPPROTO_UDP4

cdef enum:
    TTL_CARRIED = 32            # a TTL up to here is a traceroute's and is carried on; others are the system's
    RECV_ROUNDS = 4
    ORIGIN_ICMP = 2
    ERRORS = 1024               # more than an error queue holds: its edge is not repeated
    QUOTED = 548


cdef void used(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil:
    flow.last_ns = now_ns
    lru_use(&nat.udp_recent, &flow.recent, now_ns)


cdef void bury(nat_t *nat, udp_flow *flow) noexcept nogil:
    if flow.dead:
        return
    if nat.batch_flow == flow:
        nat.batch_flow = NULL
        nat.batch_n = 0
        nat.batch_bytes = 0
    flow.dead = 1
    wheel_cancel(nat.wheel, &flow.timer)
    table_del(nat.udp_table, &flow.key)
    lru_remove(&nat.udp_recent, &flow.recent)
    poller_remove(nat.poller, flow.polled.fd)
    sock_close(flow.polled.fd)
    flow.polled.fd = -1
    policy_hide(nat, flow.local_port, False, False)
    flow.next_dead = nat.dead_udp
    nat.dead_udp = flow


cdef uint64_t idle_ns(const nat_t *nat, const udp_flow *flow) noexcept nogil:
    return nat.settings.udp_two_way_ns if flow.two_way else nat.settings.udp_one_way_ns


cdef udp_flow *flow_for(nat_t *nat, const packet *p, const addr_t *target, uint16_t port,
                        uint64_t now_ns) noexcept nogil:
    cdef udp_key key
    cdef udp_flow *flow
    cdef addr_t any_v4
    cdef sock_options options = nat.options
    cdef uint8_t[16] local
    cdef int fd
    key.guest = p.src
    key.guest_port = p.udp.sport
    key.zero = 0
    key.protocol = IPPROTO_UDP4
    flow = <udp_flow *>table_get(nat.udp_table, &key)
    if flow != NULL:
        return flow
    flow = <udp_flow *>lru_oldest(&nat.udp_recent)
    if table_len(nat.udp_table) >= nat.settings.max_udp and flow != NULL:
        count(nat.counters, UDP_FLOW_EVICTED)
        bury(nat, flow)
    any_v4 = addr_from_v4(0)
    if sock_is_loopback(<const uint8_t *>target):
        options = sock_options_near(&nat.options)
    fd = sock_udp_open(<const uint8_t *>&any_v4, &options)
    flow = <udp_flow *>pool_get(nat.udp_pool) if fd >= 0 else NULL
    if flow == NULL:
        if fd >= 0:
            sock_close(fd)
        count(nat.counters, UDP_SOCKET_FAILED)
        return NULL
    flow.polled.kind = POLLED_UDP
    flow.polled.fd = fd
    flow.guest = p.guest
    flow.key = key
    flow.last_ns = now_ns
    wheel_timer_init(&flow.timer, TIMER_UDP, flow)
    if table_put(nat.udp_table, &flow.key, flow) < 0 or poller_add(nat.poller, fd, POLL_READ, &flow.polled) < 0:
        table_del(nat.udp_table, &flow.key)
        sock_close(fd)
        pool_put(nat.udp_pool, flow)
        count(nat.counters, UDP_SOCKET_FAILED)
        return NULL
    if sock_local(fd, local, &flow.local_port) == 0:
        policy_hide(nat, flow.local_port, False, True)
    lru_add(&nat.udp_recent, &flow.recent, flow, now_ns)
    wheel_arm(nat.wheel, &flow.timer, now_ns + nat.settings.udp_one_way_ns)
    count(nat.counters, UDP_FLOWS)
    nat_decide(nat, DECIDED_UDP, target, port, flow.local_port, port != p.udp.dport or not addr_eq(target, &p.dst))
    return flow


cdef void udp_flow_packet(nat_t *nat, const packet *p, verdict where, const addr_t *target, uint16_t port,
                          bint diverted, uint64_t now_ns) noexcept nogil:
    cdef udp_flow *flow
    cdef udp_message *m
    cdef uint16_t gso = 0
    cdef uint8_t ttl
    if where != TO_HOST or p.udp.dport == 0:
        count(nat.counters, UDP_NO_PORT)
        nat_send_icmp_error(nat, p.guest, 0 if where == TO_NOWHERE else p.ip.dst, ICMP4_UNREACHABLE,
                            ICMP4_HOST_UNREACHABLE if where == TO_NOWHERE else ICMP4_PORT_UNREACHABLE, 0, p.l3,
                            p.ip.header_length + p.l4_length, now_ns)
        return
    if p.ip.ttl <= 1 and addr_v4(target) == p.ip.dst:      # the gateway is a hop of its own
        nat_send_icmp_error(nat, p.guest, 0, ICMP4_TIME_EXCEEDED, 0, 0, p.l3, p.ip.header_length + p.l4_length, now_ns)
        return
    flow = flow_for(nat, p, target, port, now_ns)
    if flow == NULL:
        return
    flow.guest = p.guest
    flow.diverted |= diverted
    used(nat, flow, now_ns)
    flow.last_peer = p.dst
    flow.last_peer_port = p.udp.dport
    flow.bytes_up += p.payload_length
    if p.meta.gso_type == GSO_UDP and p.meta.gso_size and p.payload_length > p.meta.gso_size:
        gso = p.meta.gso_size
    if (nat.batch_flow != flow or nat.batch_n == UDP_BATCH
            or nat.batch_bytes + p.payload_length > UDP_BATCH_BYTES):
        udp_flows_flush(nat, now_ns)
        if flow.dead:
            return
    if flow.fragments != fragments_of(p):
        udp_flows_flush(nat, now_ns)    # what waits goes as it came
        if flow.dead:
            return
        fragments_set(flow.polled.fd, &flow.fragments, fragments_of(p))
    nat.batch_flow = flow
    ttl = p.ip.ttl - 1 if p.ip.ttl <= TTL_CARRIED and addr_v4(target) == p.ip.dst else 0
    memcpy(nat.batch_memory + nat.batch_bytes, p.payload, p.payload_length)
    nat.batch_bytes += p.payload_length
    if nat.batch_n and gso == 0 and nat_may_join(nat):
        m = &nat.batch[nat.batch_n - 1]
        if udp_joins(m, p.payload_length, ttl, p.ip.tos, <const uint8_t *>target, port):
            udp_join(m, p.payload_length)
            return
    m = &nat.batch[nat.batch_n]
    nat.batch_n += 1
    m.data = nat.batch_memory + nat.batch_bytes - p.payload_length
    m.length = p.payload_length
    m.gso_size = gso
    m.ttl = ttl
    m.tos = p.ip.tos
    memcpy(m.addr, target, 16)
    m.port = port


cdef int send_in_pieces(udp_flow *flow, const udp_message *m) noexcept nogil:
    """A super-frame over a socket that cannot segment."""
    cdef udp_message piece = m[0]
    cdef uint32_t at = 0
    cdef int r
    piece.gso_size = 0
    while at < m.length:
        piece.data = m.data + at
        piece.length = m.gso_size if m.length - at > m.gso_size else m.length - at
        r = sock_udp_send(flow.polled.fd, &piece, 1)
        if r < 0:
            return r
        at += piece.length
    return 1


cdef void udp_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef udp_flow *flow = nat.batch_flow
    cdef uint32_t sent = 0
    cdef int at = 0, r, tries = 0
    if flow == NULL or nat.batch_n == 0:
        return
    while at < nat.batch_n and not flow.dead:
        if nat.batch[at].gso_size and not nat.udp_gso:
            r = send_in_pieces(flow, &nat.batch[at])
        else:
            r = sock_udp_send(flow.polled.fd, &nat.batch[at], nat.batch_n - at)
        if r > 0:
            tries = 0
            while r > 0:
                sent += udp_datagrams(&nat.batch[at])
                at += 1
                r -= 1
            continue
        # An earlier datagram's ICMP error is reported by the next call, which has sent nothing: say so to the
        # guest, try again once.
        drain_errors(nat, flow, now_ns)
        tries += 1
        if tries > 1 or r == -EMSGSIZE:
            send_failed(nat, flow, &nat.batch[at], r, now_ns)
            at += 1
            tries = 0
    nat.counters[<int>UDP_UP] += sent
    flow.packets_up += sent
    nat.batch_n = 0
    nat.batch_bytes = 0
    nat.batch_flow = NULL


cdef void send_failed(nat_t *nat, udp_flow *flow, const udp_message *m, int error, uint64_t now_ns) noexcept nogil:
    cdef uint32_t length
    count(nat.counters, UDP_SEND_FAILED)
    if error == -ENETUNREACH or error == -EHOSTUNREACH:
        quote_and_send(nat, flow, 0, ICMP4_UNREACHABLE,
                       ICMP4_NET_UNREACHABLE if error == -ENETUNREACH else ICMP4_HOST_UNREACHABLE, 0, m.addr, m.port,
                       m.data, m.length, now_ns)
    elif error == -EMSGSIZE:
        length = m.gso_size if m.gso_size and m.gso_size < m.length else m.length
        quote_and_send(nat, flow, 0, ICMP4_UNREACHABLE, ICMP4_FRAG_NEEDED, path_mtu(nat, m.addr, 28 + length), m.addr,
                       m.port, m.data, length, now_ns)


cdef bint peer_seen(nat_t *nat, const udp_flow *flow, const uint8_t *addr, uint16_t *port, uint32_t *v4) noexcept nogil:
    """The peer as the guest knows it: what a diversion has sent elsewhere comes back from where the guest sent it."""
    cdef addr_t a
    if flow.diverted:
        memcpy(&a, addr, 16)
        if diverted_from(nat, &a, port, IPPROTO_UDP4, v4):
            return True
    return nat_peer_seen(nat, addr, v4)


cdef void quote_and_send(nat_t *nat, udp_flow *flow, uint32_t src, uint8_t type, uint8_t code, uint32_t rest,
                         const uint8_t *peer, uint16_t peer_port, const uint8_t *payload, uint32_t length,
                         uint64_t now_ns) noexcept nogil:
    """An ICMP error about a datagram that the guest sent, quoted as the guest sent it (RFC 5508 REQ-4)."""
    cdef uint8_t[28 + QUOTED] quote
    cdef uint32_t kept = length if length < QUOTED else QUOTED
    cdef uint32_t v4 = 0
    cdef uint32_t total = 28 + length
    if not peer_seen(nat, flow, peer, &peer_port, &v4):
        return
    memset(quote, 0, 28)
    quote[0] = 0x45
    if type == ICMP4_UNREACHABLE and code == ICMP4_FRAG_NEEDED:
        quote[6] = 0x40                 # it had DF
    put_be16(quote + 2, <uint16_t>(total if total < 65535 else 65535))
    quote[8] = 64
    quote[9] = IPPROTO_UDP4
    put_be32(quote + 12, addr_v4(&flow.key.guest))
    put_be32(quote + 16, v4)
    put_be16(quote + 20, flow.key.guest_port)
    put_be16(quote + 22, peer_port)
    put_be16(quote + 24, <uint16_t>(8 + length))
    memcpy(quote + 28, payload, kept)
    nat_send_icmp_error(nat, flow.guest, src, type, code, rest, quote, 28 + kept, now_ns)


cdef void drain_errors(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil:
    """Passes on what the error queue holds. What the host itself finds too long (EMSGSIZE) whoever sent it reports, who
    knows all of it."""
    cdef sock_error e
    cdef uint8_t[QUOTED] payload
    cdef uint32_t src = 0
    cdef int rounds = ERRORS
    while rounds > 0:
        rounds -= 1
        e.payload = payload
        e.payload_length = sizeof(payload)
        if sock_recv_error(flow.polled.fd, &e) <= 0:
            return
        if e.origin == ORIGIN_ICMP:
            if not nat_peer_seen(nat, e.offender, &src):
                src = 0
            quote_and_send(nat, flow, src, e.type, e.code,
                           e.info if e.type == ICMP4_UNREACHABLE and e.code == ICMP4_FRAG_NEEDED else 0, e.peer,
                           e.peer_port, payload, e.payload_length, now_ns)
        elif e.error == EHOSTUNREACH or e.error == ENETUNREACH:
            quote_and_send(nat, flow, 0, ICMP4_UNREACHABLE, ICMP4_HOST_UNREACHABLE, 0, e.peer, e.peer_port, payload,
                           e.payload_length, now_ns)


cdef void give_down(nat_t *nat, udp_flow *flow, const udp_message *m, uint64_t now_ns) noexcept nogil:
    cdef uint32_t v4 = 0
    cdef uint32_t at = 0, n
    cdef uint8_t[64] headers
    cdef frame_meta meta
    cdef iovec[2] iov
    cdef uint16_t port = m.port
    if not peer_seen(nat, flow, m.addr, &port, &v4):
        count(nat.counters, UDP_REPLY_NOT_ALLOWED)
        return
    flow.two_way = 1
    flow.bytes_down += m.length
    if m.gso_size == 0 or m.length <= m.gso_size:
        nat_send_udp(nat, flow.guest, v4, port, addr_v4(&flow.key.guest), flow.key.guest_port, m.data, m.length,
                     m.tos, now_ns)
        flow.packets_down += 1
        count(nat.counters, UDP_DOWN)
        return
    n = udp_datagrams(m)
    flow.packets_down += n
    nat.counters[<int>UDP_DOWN] += n
    if m.gso_size + 28u <= nat.iface.mtu and m.length <= UDP_JOINED_MOST:
        if flow.guest.port < 0:
            return
        iov[0].iov_base = headers
        iov[0].iov_len = iface_udp_headers(nat.iface, flow.guest, v4, addr_v4(&flow.key.guest), port,
                                           flow.key.guest_port, m.length, m.gso_size, m.tos, 0, headers, &meta)
        iov[1].iov_base = m.data
        iov[1].iov_len = m.length
        nat.sink(nat.sink_context, flow.guest.port, &meta, iov, 2)
        return
    while at < m.length:                    # joined by the kernel, too large for the link: one by one
        n = m.gso_size if m.length - at > m.gso_size else m.length - at
        nat_send_udp(nat, flow.guest, v4, port, addr_v4(&flow.key.guest), flow.key.guest_port, m.data + at, n,
                     m.tos, now_ns)
        at += n


cdef void udp_flow_host_event(nat_t *nat, udp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil:
    cdef udp_message[UDP_RECV_BATCH] messages
    cdef int rounds = RECV_ROUNDS
    cdef int i, n, joined
    if flow.dead:
        return
    if events & POLL_ERROR:
        drain_errors(nat, flow, now_ns)
    while rounds > 0:
        rounds -= 1
        for i in range(UDP_RECV_BATCH):
            messages[i].data = nat.recv_memory + i * UDP_RECV_ROOM
            messages[i].length = UDP_RECV_ROOM
        n = sock_udp_recv(flow.polled.fd, messages, UDP_RECV_BATCH)
        if n == -EAGAIN or n == 0:
            flow.readable = 0
            poller_rearm(nat.poller, flow.polled.fd, POLL_READ)
            return
        if n < 0:                           # a pending error; the queue holds the details
            drain_errors(nat, flow, now_ns)
            continue
        used(nat, flow, now_ns)
        i = 0
        while i < n:
            joined = udp_join_run(&messages[i], n - i, UDP_RECV_ROOM, nat.iface.mtu - 28)
            give_down(nat, flow, &messages[i], now_ns)
            i += joined
        if n < UDP_RECV_BATCH:
            flow.readable = 0
            poller_rearm(nat.poller, flow.polled.fd, POLL_READ)
            return
    # more may wait: come back after the others, without an edge
    flow.readable = 1
    wheel_arm(nat.wheel, &flow.timer, now_ns)


cdef void udp_flow_timer(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil:
    if flow.dead:
        return
    if flow.readable:
        udp_flow_host_event(nat, flow, POLL_READ, now_ns)
        if flow.readable:
            return
    if now_ns - flow.last_ns >= idle_ns(nat, flow):
        bury(nat, flow)
    else:
        wheel_arm(nat.wheel, &flow.timer, flow.last_ns + idle_ns(nat, flow))


cdef void udp_flows_reap(nat_t *nat) noexcept nogil:
    cdef udp_flow *flow = nat.dead_udp
    cdef udp_flow *next_flow
    nat.dead_udp = NULL
    while flow != NULL:
        next_flow = flow.next_dead
        pool_put(nat.udp_pool, flow)
        flow = next_flow


cdef void udp_flows_free_all(nat_t *nat) noexcept nogil:
    while lru_oldest(&nat.udp_recent) != NULL:
        bury(nat, <udp_flow *>lru_oldest(&nat.udp_recent))
    udp_flows_reap(nat)
