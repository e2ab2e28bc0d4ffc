# A guest's echo requests joined to an unprivileged ping socket of the host (RFC 5508).
from libc.stdint cimport uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport udp_flow

cdef enum:
    TIMER_PING = 3

cdef void ping_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
cdef void ping_flow_host_event(nat_t *nat, udp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void ping_flow_timer(nat_t *nat, udp_flow *flow, uint64_t now_ns) noexcept nogil
cdef void ping_flows_free_all(nat_t *nat) noexcept nogil
