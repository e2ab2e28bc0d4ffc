"""Published ports: each connection that a listening socket accepts becomes an active open to the guest by our own TCP.

The host's client is served only when the guest has accepted; it gets a reset when the guest refuses or does not
answer. The client's address and port are kept where the guest can answer them: a client on the loopback, or behind a
Unix socket, appears as the host alias, and one that the virtual network cannot name (IPv6, or an address of its own)
as the gateway. Where the guest has a connection of that name already, another port is taken (RFC 6056).
"""
from libc.errno cimport (
    EADDRNOTAVAIL, EAGAIN, ECONNABORTED, EHOSTUNREACH, EINTR, EMFILE, EMSGSIZE, ENFILE, ENOBUFS, ENOMEM,
    EPROTO,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from netstack.host.poller cimport POLL_READ, poller_add, poller_rearm, poller_remove
from netstack.host.sockets cimport sock_accept, sock_close, sock_set_abort, sock_udp_tell_local
from netstack.iface.interface cimport iface_is_guest
from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport nat_client_seen, nat_peer_port, nat_t
from netstack.nat.flow cimport (
    ORIGIN_DIALED, ORIGIN_PUBLISHED, POLLED_FORWARD, flow_key, forward_t, opening_t, socks_relay, tcp_flow,
)
from netstack.nat.forward_udp cimport forward_udp_forget, forward_udp_readable
from netstack.nat.opening cimport OPENING_MAX, opening_new
from netstack.nat.policy cimport policy_hide
from netstack.nat.resolve cimport resolve_begin, resolve_known
from netstack.nat.tcp_flow cimport tcp_flow_open_down
from netstack.storage.counters cimport FORWARD_FAILED, FORWARD_NO_GUEST, TCP_FLOWS_FULL, count
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer, wheel_timer_init
from netstack.wire.addr cimport addr_from_v4, addr_from_v6
from netstack.wire.ipv4 cimport IPPROTO_TCP4

cdef enum:
    ACCEPTS = 64                # of one socket before others have their turn
    RETRY_NS = 100000000        # after the descriptors have run out


cdef int forward_add(nat_t *nat, const forward_new *new) noexcept nogil:
    cdef forward_t *f = <forward_t *>calloc(1, sizeof(forward_t))
    cdef int rc
    if f == NULL:
        return -ENOMEM
    f.polled.kind = POLLED_FORWARD
    f.polled.fd = new.fd
    f.protocol = new.protocol
    f.as_gateway = new.as_gateway
    f.guest = new.guest
    f.guest_port = new.guest_port
    f.rule = new.rule
    if new.socks != NULL:
        f.socks = <socks_relay *>malloc(sizeof(socks_relay))
        if f.socks == NULL:
            free(f)
            return -ENOMEM
        f.socks[0] = new.socks[0]
        policy_hide(nat, f.socks.own_port, False, True)
    if new.protocol != IPPROTO_TCP4:
        sock_udp_tell_local(new.fd)
    rc = poller_add(nat.poller, new.fd, POLL_READ, &f.polled)
    if rc < 0:
        free(f.socks)
        free(f)
        return rc
    wheel_timer_init(&f.timer, TIMER_FORWARD, f)
    f.next = nat.forwards
    if f.next != NULL:
        f.next.previous = f
    nat.forwards = f
    return 0


cdef void bury(nat_t *nat, forward_t *f) noexcept nogil:
    f.dead = 1
    wheel_cancel(nat.wheel, &f.timer)
    poller_remove(nat.poller, f.polled.fd)
    sock_close(f.polled.fd)
    f.polled.fd = -1
    if f.previous != NULL:
        f.previous.next = f.next
    else:
        nat.forwards = f.next
    if f.next != NULL:
        f.next.previous = f.previous
    f.next = nat.dead_forwards
    nat.dead_forwards = f
    if f.protocol != IPPROTO_TCP4:
        forward_udp_forget(nat, f)
    if f.socks != NULL:
        policy_hide(nat, f.socks.own_port, False, False)


cdef int forward_remove(nat_t *nat, uint64_t rule) noexcept nogil:
    cdef forward_t *f = nat.forwards
    cdef forward_t *following
    cdef int n = 0
    while f != NULL:
        following = f.next
        if f.rule == rule:
            bury(nat, f)
            n += 1
        f = following
    return n


cdef void forward_retarget(nat_t *nat, uint64_t rule, uint32_t guest) noexcept nogil:
    cdef forward_t *f = nat.forwards
    while f != NULL:
        if f.rule == rule and f.guest != guest:
            f.guest = guest
            if f.protocol != IPPROTO_TCP4:
                forward_udp_forget(nat, f)
        f = f.next


cdef tcp_flow *open_down(nat_t *nat, uint32_t guest_v4, uint16_t guest_port, uint32_t peer, uint16_t peer_port, int fd,
                         uint8_t origin, uint64_t now_ns) noexcept nogil:
    cdef flow_key key
    cdef neighbor *guest = resolve_known(nat, guest_v4)
    key.guest = addr_from_v4(guest_v4)
    key.peer = addr_from_v4(peer)
    key.guest_port = guest_port
    key.protocol = IPPROTO_TCP4
    if not nat_peer_port(nat, nat.tcp_table, &key, peer_port, nat.next_id, key.guest.w[1]):
        return NULL
    if guest == NULL and resolve_begin(nat, guest_v4, now_ns) < 0:
        return NULL
    return tcp_flow_open_down(nat, &key, guest, fd, origin, now_ns)


cdef void serve(nat_t *nat, forward_t *f, int fd, const uint8_t *addr, uint16_t port, uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow = NULL
    if f.guest == 0 or not iface_is_guest(nat.iface, f.guest):
        count(nat.counters, FORWARD_NO_GUEST)
    else:
        flow = open_down(nat, f.guest, f.guest_port, nat_client_seen(nat, f.as_gateway, addr), port, fd,
                         ORIGIN_PUBLISHED, now_ns)
        if flow != NULL:
            flow.client = addr_from_v6(addr)
            flow.client_port = port
            return
        count(nat.counters, TCP_FLOWS_FULL)
    sock_set_abort(fd)
    sock_close(fd)


cdef void accept_all(nat_t *nat, forward_t *f, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[16] addr
    cdef uint16_t port = 0
    cdef int budget = ACCEPTS
    cdef int fd
    f.readable = 0
    while budget > 0:
        budget -= 1
        fd = sock_accept(f.polled.fd, addr, &port)
        if fd >= 0:
            serve(nat, f, fd, addr, port, now_ns)
        elif fd == -EAGAIN:
            poller_rearm(nat.poller, f.polled.fd, POLL_READ)
            return
        elif fd == -EMFILE or fd == -ENFILE or fd == -ENOBUFS or fd == -ENOMEM:
            count(nat.counters, FORWARD_FAILED)     # they wait in the kernel until descriptors are free again
            f.readable = 1
            wheel_arm(nat.wheel, &f.timer, now_ns + RETRY_NS)
            return
        elif fd != -ECONNABORTED and fd != -EINTR and fd != -EPROTO:
            count(nat.counters, FORWARD_FAILED)
    f.readable = 1
    wheel_arm(nat.wheel, &f.timer, now_ns)


cdef int64_t forward_dial(nat_t *nat, const dial_new *d, uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow
    cdef opening_t *opening = NULL
    if not iface_is_guest(nat.iface, d.guest):
        return -EHOSTUNREACH
    if d.n_host or d.n_guest:
        if d.n_host > OPENING_MAX or d.n_guest > OPENING_MAX:
            return -EMSGSIZE
        opening = opening_new(d.to_host, d.n_host, d.to_guest, d.n_guest)
        if opening == NULL:
            return -ENOMEM
    flow = open_down(nat, d.guest, d.guest_port, d.src if d.src else nat.iface.gateway, 0, d.fd, ORIGIN_DIALED, now_ns)
    if flow == NULL:
        free(opening)
        count(nat.counters, TCP_FLOWS_FULL)
        return -EADDRNOTAVAIL
    flow.opening = opening
    return <int64_t>flow.id


cdef void forward_host_event(nat_t *nat, forward_t *f, uint32_t events, uint64_t now_ns) noexcept nogil:
    if f.dead:
        return
    if f.protocol == IPPROTO_TCP4:
        accept_all(nat, f, now_ns)
    elif forward_udp_readable(nat, f, now_ns):
        wheel_arm(nat.wheel, &f.timer, now_ns)      # more may wait: after the others, without an edge


cdef void forward_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil:
    forward_host_event(nat, <forward_t *>timer.owner, POLL_READ, now_ns)


cdef void forwards_reap(nat_t *nat) noexcept nogil:
    cdef forward_t *f = nat.dead_forwards
    cdef forward_t *following
    nat.dead_forwards = NULL
    while f != NULL:
        following = f.next
        free(f.socks)
        free(f)
        f = following


cdef void forwards_free_all(nat_t *nat) noexcept nogil:
    while nat.forwards != NULL:
        bury(nat, nat.forwards)
    forwards_reap(nat)
