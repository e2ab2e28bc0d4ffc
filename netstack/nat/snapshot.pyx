"""What is known of every flow and neighbour at one moment, copied for the control plane."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport tcp_flow, udp_flow
from netstack.storage.table cimport table_len, table_next, table_t
from netstack.tcp.states import STATES
from netstack.wire.addr cimport addr_to_object


cdef void datagram_flows(nat_t *nat, flows_arg *arg, uint32_t total, bint ping, uint64_t now_ns) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef flow_info *out
    cdef udp_flow *u
    u = <udp_flow *>table_next(nat.ping_table if ping else nat.udp_table, &cursor)
    while u != NULL and arg.n < total:
        out = &arg.items[arg.n]
        arg.n += 1
        out.protocol = 1 if ping else 17
        out.guest = u.key.guest
        out.guest_port = u.key.guest_port
        out.peer = u.last_peer
        out.peer_port = u.last_peer_port
        out.bytes_up = u.bytes_up
        out.bytes_down = u.bytes_down
        out.age_ns = now_ns - u.last_ns
        u = <udp_flow *>table_next(nat.ping_table if ping else nat.udp_table, &cursor)


cdef int64_t nat_snapshot(nat_t *nat, flows_arg *arg, uint64_t now_ns) noexcept nogil:
    """Copies what is known of every flow."""
    cdef uint32_t total = table_len(nat.tcp_table) + table_len(nat.udp_table) + table_len(nat.ping_table)
    cdef uint32_t cursor = 0
    cdef tcp_flow *t
    cdef flow_info *out
    arg.n = 0
    arg.items = <flow_info *>calloc(total + 1, sizeof(flow_info))
    if arg.items == NULL:
        return -1
    t = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while t != NULL and arg.n < total:
        out = &arg.items[arg.n]
        arg.n += 1
        out.protocol = 6
        out.state = t.tcb.state
        out.guest = t.key.guest
        out.peer = t.key.peer
        out.guest_port = t.key.guest_port
        out.peer_port = t.key.peer_port
        out.id = t.id
        out.bytes_up = t.bytes_up
        out.bytes_down = t.bytes_down
        out.age_ns = now_ns - t.opened_ns
        out.srtt_ns = t.tcb.srtt_ns
        out.cwnd = t.tcb.cwnd
        out.retransmits = t.retransmits
        out.buffered_up = <uint32_t>(t.tcb.rcv_ring.tail - t.tcb.rcv_ring.head)
        out.buffered_down = <uint32_t>(t.tcb.snd_ring.tail - t.tcb.snd_ring.head)
        t = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    datagram_flows(nat, arg, total, False, now_ns)
    datagram_flows(nat, arg, total, True, now_ns)
    return 0


cdef int64_t nat_neighbors(nat_t *nat, neighbors_arg *arg) noexcept nogil:
    """Copies the table of neighbours, those without a link left out."""
    cdef table_t *table = nat.iface.neighbors.table
    cdef uint32_t total = table_len(table), cursor = 0
    cdef neighbor *known
    arg.n = 0
    arg.items = <neighbor *>calloc(total + 1, sizeof(neighbor))
    if arg.items == NULL:
        return -1
    known = <neighbor *>table_next(table, &cursor)
    while known != NULL and arg.n < total:
        if known.port > 0:
            arg.items[arg.n] = known[0]
            arg.n += 1
        known = <neighbor *>table_next(table, &cursor)
    return 0


cdef list flows_list(flows_arg *arg):
    """A dict for each flow; times in seconds."""
    cdef flow_info *f
    cdef list out = []
    cdef uint32_t i
    for i in range(arg.n):
        f = &arg.items[i]
        out.append({
            "protocol": {1: "icmp", 6: "tcp", 17: "udp"}[f.protocol],
            "state": STATES[f.state] if f.protocol == 6 else "",
            "guest": str(addr_to_object(&f.guest)),
            "guest_port": f.guest_port,
            "peer": str(addr_to_object(&f.peer)),
            "peer_port": f.peer_port,
            "id": f.id,
            "bytes_up": f.bytes_up,
            "bytes_down": f.bytes_down,
            "age": f.age_ns / 1e9,
            "rtt": f.srtt_ns / 1e9,
            "cwnd": f.cwnd,
            "retransmits": f.retransmits,
            "buffered_up": f.buffered_up,
            "buffered_down": f.buffered_down,
        })
    free(arg.items)
    return out


cdef list neighbors_list(neighbors_arg *arg):
    """(address as text, MAC, port) of each."""
    cdef uint32_t i
    out = [(str(addr_to_object(&arg.items[i].address)), <bytes>arg.items[i].mac[:6], arg.items[i].port)
           for i in range(arg.n)]
    free(arg.items)
    return out
