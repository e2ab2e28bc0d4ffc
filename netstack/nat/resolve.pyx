"""What is sent first to a guest waits for its MAC: three requests, one a second, then it has failed.

Waiting flows are found in the table by their address, so that nothing here points at a flow that may end.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from netstack.iface.neighbors cimport neighbor, neighbors_find
from netstack.nat.context cimport nat_send_arp_request, nat_send_ip, nat_send_udp, nat_t
from netstack.nat.flow cimport tcp_flow
from netstack.nat.tcp_flow cimport tcp_flow_resolved
from netstack.storage.counters cimport FORWARD_NO_GUEST, count
from netstack.storage.table cimport table_del, table_get, table_len, table_next, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer, wheel_timer_init
from netstack.wire.addr cimport addr_eq, addr_from_v4, addr_t
from netstack.wire.ipv4 cimport IPPROTO_UDP4

cdef enum:
    TRIES = 3
    INTERVAL_NS = 1000000000
    HELD = 8                    # datagrams for one address


ctypedef struct held_t:         # a datagram; its bytes lie behind the struct
    held_t *next
    uint32_t src
    uint32_t length
    uint16_t sport
    uint16_t dport
    uint8_t protocol
    uint8_t tos


ctypedef struct resolution_t:
    addr_t guest
    uint32_t v4
    int tries
    int n
    held_t *first
    held_t **last
    wheel_timer timer


cdef neighbor *resolve_known(nat_t *nat, uint32_t v4) noexcept nogil:
    cdef addr_t address = addr_from_v4(v4)
    cdef neighbor *guest = neighbors_find(&nat.iface.neighbors, &address)
    return guest if guest != NULL and guest.port >= 0 else NULL


cdef resolution_t *entry_for(nat_t *nat, uint32_t v4, uint64_t now_ns) noexcept nogil:
    cdef addr_t address = addr_from_v4(v4)
    cdef resolution_t *r = <resolution_t *>table_get(nat.resolutions, &address)
    if r != NULL:
        return r
    r = <resolution_t *>calloc(1, sizeof(resolution_t))
    if r == NULL:
        return NULL
    r.guest = address
    r.v4 = v4
    r.last = &r.first
    if table_put(nat.resolutions, &r.guest, r) < 0:
        free(r)
        return NULL
    wheel_timer_init(&r.timer, TIMER_RESOLVE, r)
    ask(nat, r, now_ns)
    return r


cdef void ask(nat_t *nat, resolution_t *r, uint64_t now_ns) noexcept nogil:
    r.tries += 1
    nat_send_arp_request(nat, r.v4)
    wheel_arm(nat.wheel, &r.timer, now_ns + INTERVAL_NS)


cdef int resolve_begin(nat_t *nat, uint32_t v4, uint64_t now_ns) noexcept nogil:
    return 0 if entry_for(nat, v4, now_ns) != NULL else -1


cdef void give(nat_t *nat, const neighbor *to, uint32_t v4, uint32_t src, uint8_t protocol, uint16_t sport,
               uint16_t dport, uint8_t tos, const uint8_t *data, uint32_t length, uint64_t now_ns) noexcept nogil:
    if protocol == IPPROTO_UDP4:
        nat_send_udp(nat, to, src, sport, v4, dport, data, length, tos, now_ns)
    else:
        nat_send_ip(nat, to, src, v4, protocol, tos, data, length)


cdef int resolve_send(nat_t *nat, uint32_t v4, uint32_t src, uint8_t protocol, uint16_t sport, uint16_t dport,
                      uint8_t tos, const uint8_t *data, uint32_t length, uint64_t now_ns) noexcept nogil:
    cdef neighbor *guest = resolve_known(nat, v4)
    cdef resolution_t *r
    cdef held_t *held
    if guest != NULL:
        give(nat, guest, v4, src, protocol, sport, dport, tos, data, length, now_ns)
        return 0
    r = entry_for(nat, v4, now_ns)
    held = <held_t *>malloc(sizeof(held_t) + length) if r != NULL and r.n < HELD else NULL
    if held == NULL:
        count(nat.counters, FORWARD_NO_GUEST)
        return -1
    held.next = NULL
    held.src = src
    held.length = length
    held.sport = sport
    held.dport = dport
    held.protocol = protocol
    held.tos = tos
    memcpy(held + 1, data, length)
    r.last[0] = held
    r.last = &held.next
    r.n += 1
    return 0


cdef void finish(nat_t *nat, resolution_t *r, neighbor *guest, uint64_t now_ns) noexcept nogil:
    """The answer, or NULL when there is none."""
    cdef uint32_t cursor = 0
    cdef held_t *held
    cdef tcp_flow *flow
    wheel_cancel(nat.wheel, &r.timer)
    table_del(nat.resolutions, &r.guest)
    while r.first != NULL:
        held = r.first
        r.first = held.next
        if guest != NULL:
            give(nat, guest, r.v4, held.src, held.protocol, held.sport, held.dport, held.tos,
                 <const uint8_t *>(held + 1), held.length, now_ns)
        else:
            count(nat.counters, FORWARD_NO_GUEST)
        free(held)
    flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while flow != NULL:
        if flow.resolving and addr_eq(&flow.key.guest, &r.guest):
            tcp_flow_resolved(nat, flow, guest, now_ns)
        flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    free(r)


cdef void resolve_look(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef resolution_t *r
    cdef neighbor *guest
    if nat.neighbor_changes == nat.iface.neighbors.changes:
        return
    nat.neighbor_changes = nat.iface.neighbors.changes
    if table_len(nat.resolutions) == 0:
        return
    r = <resolution_t *>table_next(nat.resolutions, &cursor)
    while r != NULL:
        guest = resolve_known(nat, r.v4)
        if guest != NULL:
            finish(nat, r, guest, now_ns)
        r = <resolution_t *>table_next(nat.resolutions, &cursor)


cdef void resolve_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil:
    cdef resolution_t *r = <resolution_t *>timer.owner
    if r.tries < TRIES:
        ask(nat, r, now_ns)
    else:
        finish(nat, r, NULL, now_ns)


cdef void resolve_free_all(nat_t *nat) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef held_t *held
    cdef resolution_t *r = <resolution_t *>table_next(nat.resolutions, &cursor)
    while r != NULL:
        wheel_cancel(nat.wheel, &r.timer)
        table_del(nat.resolutions, &r.guest)
        while r.first != NULL:
            held = r.first
            r.first = held.next
            free(held)
        free(r)
        r = <resolution_t *>table_next(nat.resolutions, &cursor)
