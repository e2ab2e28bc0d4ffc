# Queries to the gateway's resolver over UDP: answered from the table of names, or passed raw to an upstream of
# the host.
from libc.stdint cimport uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport dns_query

cdef enum:
    TIMER_DNS = 4

cdef void dns_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
cdef void dns_flow_host_event(nat_t *nat, dns_query *q, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void dns_flow_timer(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil
# The upstreams are others now: what is under way is asked of them.
cdef void dns_flows_restart(nat_t *nat, uint64_t now_ns) noexcept nogil
cdef void dns_flows_reap(nat_t *nat) noexcept nogil
cdef void dns_flows_free_all(nat_t *nat) noexcept nogil
