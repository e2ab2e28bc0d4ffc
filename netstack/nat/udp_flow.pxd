# A guest's UDP port joined to one unconnected socket of the host (RFC 4787 REQ-1: endpoint-independent mapping).
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport udp_flow
from netstack.nat.policy cimport verdict
from netstack.wire.addr cimport addr_t

cdef enum:
    TIMER_UDP = 2

# where, target and port: what policy_of or a diversion says of the packet.
cdef void udp_flow_packet(nat_t *nat, const packet *p, verdict where, const addr_t *target, uint16_t port,
                          bint diverted, uint64_t now_ns) noexcept nogil
cdef void udp_flow_host_event(nat_t *nat, udp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void udp_flow_timer(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil
# Sends the datagrams that wait to go up together.
cdef void udp_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil
cdef void udp_flows_reap(nat_t *nat) noexcept nogil
cdef void udp_flows_free_all(nat_t *nat) noexcept nogil
