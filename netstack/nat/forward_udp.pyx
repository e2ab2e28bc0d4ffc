"""Published UDP ports: a client's datagrams reach the guest with the client's address, and answers leave by the
published socket, from the address of the host that the client has used. A mapping that has seen traffic both ways
lives as long as any UDP flow; at the limit the one that has been silent longest makes room.

The socket of a SOCKS association is the same but for two things: each datagram names its guest in a header, which
answers carry as well, and only the client of the association may send.
"""
from libc.errno cimport EAGAIN, EMSGSIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from netstack.host.poller cimport POLL_READ, poller_rearm
from netstack.host.sockets cimport sock_udp_recv, sock_udp_send, udp_message
from netstack.iface.interface cimport iface_is_guest
from netstack.iface.packet cimport packet
from netstack.nat.context cimport UDP_RECV_BATCH, UDP_RECV_ROOM, nat_client_seen, nat_peer_port, nat_t
from netstack.nat.flow cimport client_key, flow_key, forward_client, forward_t
from netstack.nat.path_mtu cimport fragments_of, fragments_set, path_too_long
from netstack.nat.resolve cimport resolve_send
from netstack.services.dns_lookup cimport dns_lookup_v4
from netstack.storage.decision cimport DECIDED_NOTHING, DECIDED_PUBLISHED
from netstack.storage.counters cimport (
    FORWARD_CLIENTS, FORWARD_DOWN, FORWARD_EVICTED, FORWARD_FAILED, FORWARD_NO_GUEST, FORWARD_UP,
    SOCKS_NOT_ALLOWED, count,
)
from netstack.storage.frame cimport GSO_UDP
from netstack.storage.lru cimport lru_add, lru_node, lru_oldest, lru_remove, lru_use
from netstack.storage.table cimport table_del, table_get, table_len, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer, wheel_timer_init
from netstack.wire.addr cimport addr_eq, addr_from_v4, addr_from_v6, addr_t, addr_v4
from netstack.wire.be cimport be32
from netstack.wire.ipv4 cimport IPPROTO_UDP4
from netstack.wire.socks cimport SOCKS_IPV4, SOCKS_NAME, socks_udp_hdr, socks_udp_parse, socks_udp_write

cdef enum:
    ROUNDS = 4


cdef void used(nat_t *nat, forward_client *c, uint64_t now_ns) noexcept nogil:
    c.last_ns = now_ns
    lru_use(&nat.client_recent, &c.recent, now_ns)


cdef void drop_client(nat_t *nat, forward_client *c) noexcept nogil:
    wheel_cancel(nat.wheel, &c.timer)
    table_del(nat.clients, &c.client)
    table_del(nat.client_keys, &c.key)
    lru_remove(&nat.client_recent, &c.recent)
    free(c)


cdef uint64_t idle_ns(const nat_t *nat, const forward_client *c) noexcept nogil:
    return nat.settings.udp_two_way_ns if c.two_way else nat.settings.udp_one_way_ns


cdef forward_client *client_for(nat_t *nat, forward_t *f, const udp_message *m, uint32_t guest, uint16_t guest_port,
                                uint64_t now_ns) noexcept nogil:
    cdef client_key key
    cdef forward_client *c
    cdef uint16_t wanted
    memset(&key, 0, sizeof(key))
    key.addr = addr_from_v6(m.addr)
    key.local = addr_from_v6(m.local)
    key.forward = <uint64_t><size_t>f
    key.guest = guest
    key.port = m.port
    key.guest_port = guest_port
    c = <forward_client *>table_get(nat.clients, &key)
    if c != NULL:
        return c
    c = <forward_client *>lru_oldest(&nat.client_recent)
    if table_len(nat.clients) >= nat.settings.max_udp and c != NULL:
        count(nat.counters, FORWARD_EVICTED)
        drop_client(nat, c)
    c = <forward_client *>calloc(1, sizeof(forward_client))
    if c == NULL:
        return NULL
    c.client = key
    c.through = f
    c.key.guest = addr_from_v4(guest)
    c.key.peer = addr_from_v4(nat_client_seen(nat, f.as_gateway, m.addr))
    c.key.guest_port = guest_port
    c.key.protocol = IPPROTO_UDP4
    # a SOCKS client's port means nothing to the guest, and must not be one of the gateway's services
    wanted = 0 if f.socks != NULL else m.port
    if (not nat_peer_port(nat, nat.client_keys, &c.key, wanted, c.key.peer.w[1], wanted)
            or table_put(nat.clients, &c.client, c) < 0):
        free(c)
        return NULL
    if table_put(nat.client_keys, &c.key, c) < 0:
        table_del(nat.clients, &c.client)
        free(c)
        return NULL
    lru_add(&nat.client_recent, &c.recent, c, now_ns)
    wheel_timer_init(&c.timer, TIMER_CLIENT, c)
    wheel_arm(nat.wheel, &c.timer, now_ns + nat.settings.udp_one_way_ns)
    count(nat.counters, FORWARD_CLIENTS)
    return c


cdef int socks_target(nat_t *nat, const forward_t *f, const udp_message *m, uint32_t *guest,
                      uint16_t *guest_port) noexcept nogil:
    """For whom a SOCKS client's datagram is; the length of its header, or -1 where it goes nowhere."""
    cdef socks_udp_hdr hdr
    cdef addr_t sender = addr_from_v6(m.addr)
    cdef int n
    if not addr_eq(&sender, &f.socks.client) or (f.socks.client_port and m.port != f.socks.client_port):
        return -1
    n = socks_udp_parse(m.data, m.length, &hdr)
    if n < 0 or hdr.fragment or hdr.port == 0:      # fragments are optional, and nobody sends them
        return -1
    if hdr.type == SOCKS_IPV4:
        guest[0] = be32(hdr.address)
    elif hdr.type == SOCKS_NAME:
        guest[0] = dns_lookup_v4(nat.names, hdr.address, hdr.size, f.socks.domain, f.socks.domain_length)
    else:
        return -1
    guest_port[0] = hdr.port
    return n if iface_is_guest(nat.iface, guest[0]) else -1


cdef void give_down(nat_t *nat, forward_t *f, const udp_message *m, uint64_t now_ns) noexcept nogil:
    cdef forward_client *c
    cdef uint32_t guest = f.guest
    cdef uint16_t guest_port = f.guest_port
    cdef int skip = 0
    if f.socks != NULL:
        skip = socks_target(nat, f, m, &guest, &guest_port)
        if skip < 0:
            count(nat.counters, SOCKS_NOT_ALLOWED)
            return
    elif guest == 0 or not iface_is_guest(nat.iface, guest):
        count(nat.counters, FORWARD_NO_GUEST)
        return
    c = client_for(nat, f, m, guest, guest_port, now_ns)
    if c == NULL:
        count(nat.counters, FORWARD_FAILED)
        return
    c.interface = m.interface
    if c.last_ns == 0 and f.socks == NULL:
        nat.told.kind = DECIDED_PUBLISHED
        memcpy(nat.told.address, m.addr, 16)
        nat.told.port = m.port
    used(nat, c, now_ns)
    if resolve_send(nat, guest, addr_v4(&c.key.peer), IPPROTO_UDP4, c.key.peer_port, guest_port, m.tos, m.data + skip,
                    m.length - skip, now_ns) == 0:
        count(nat.counters, FORWARD_DOWN)
    nat.told.kind = DECIDED_NOTHING


cdef bint forward_udp_readable(nat_t *nat, forward_t *f, uint64_t now_ns) noexcept nogil:
    cdef udp_message[UDP_RECV_BATCH] messages
    cdef int rounds = ROUNDS
    cdef int i, n
    while rounds > 0:
        rounds -= 1
        for i in range(UDP_RECV_BATCH):
            messages[i].data = nat.recv_memory + i * UDP_RECV_ROOM
            messages[i].length = UDP_RECV_ROOM
        n = sock_udp_recv(f.polled.fd, messages, UDP_RECV_BATCH)
        if n == -EAGAIN or n == 0:
            poller_rearm(nat.poller, f.polled.fd, POLL_READ)
            return False
        if n < 0:                       # an earlier answer's error; the next call goes on
            count(nat.counters, FORWARD_FAILED)
            continue
        for i in range(n):
            give_down(nat, f, &messages[i], now_ns)
    return True


cdef int write_head(nat_t *nat, const forward_client *c) noexcept nogil:
    """A SOCKS client is told who answers."""
    cdef socks_udp_hdr hdr
    hdr.fragment = 0
    hdr.type = SOCKS_IPV4
    hdr.size = 4
    hdr.port = c.key.guest_port
    hdr.address = <const uint8_t *>&c.key.guest + 12
    return socks_udp_write(nat.scratch, sizeof(nat.scratch), &hdr)


cdef bint forward_udp_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef flow_key key
    cdef forward_client *c
    cdef udp_message m
    cdef uint32_t at = 0, n
    cdef uint32_t step = p.payload_length
    cdef int head = 0
    cdef int r
    if table_len(nat.client_keys) == 0:
        return False
    key.guest = p.src
    key.peer = p.dst
    key.guest_port = p.udp.sport
    key.peer_port = p.udp.dport
    key.protocol = IPPROTO_UDP4
    c = <forward_client *>table_get(nat.client_keys, &key)
    if c == NULL:
        return False
    c.two_way = 1
    used(nat, c, now_ns)
    memset(&m, 0, sizeof(m))
    memcpy(m.addr, &c.client.addr, 16)
    memcpy(m.local, &c.client.local, 16)
    m.interface = c.interface
    m.port = c.client.port
    m.tos = p.ip.tos
    if c.through.socks != NULL:
        head = write_head(nat, c)
        if p.meta.gso_type == GSO_UDP and p.meta.gso_size:
            step = p.meta.gso_size      # each datagram has a header
    elif p.meta.gso_type == GSO_UDP and p.meta.gso_size and p.payload_length > p.meta.gso_size:
        if nat.udp_gso:
            m.gso_size = p.meta.gso_size
        else:
            step = p.meta.gso_size      # a super-frame over a socket that cannot segment
    fragments_set(c.through.polled.fd, &c.through.fragments, fragments_of(p))
    while True:
        n = p.payload_length - at if p.payload_length - at < step else step
        m.data = <uint8_t *>p.payload + at
        m.length = n
        if head:
            memcpy(nat.scratch + head, m.data, n)
            m.data = nat.scratch
            m.length = head + n
        r = sock_udp_send(c.through.polled.fd, &m, 1)
        if r < 0 and r != -EAGAIN:
            # the first call may have reported an earlier datagram's error
            r = sock_udp_send(c.through.polled.fd, &m, 1)
        if r == -EMSGSIZE:
            path_too_long(nat, p, m.addr, now_ns)
        count(nat.counters, FORWARD_UP if r > 0 else FORWARD_FAILED)
        at += n
        if at >= p.payload_length:
            return True


cdef void forward_udp_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil:
    cdef forward_client *c = <forward_client *>timer.owner
    if now_ns - c.last_ns >= idle_ns(nat, c):
        drop_client(nat, c)
    else:
        wheel_arm(nat.wheel, &c.timer, c.last_ns + idle_ns(nat, c))


cdef void forward_udp_forget(nat_t *nat, forward_t *f) noexcept nogil:
    cdef lru_node *node = nat.client_recent.oldest
    cdef forward_client *c
    while node != NULL:
        c = <forward_client *>node.owner
        node = node.newer
        if c.through == f:
            drop_client(nat, c)
