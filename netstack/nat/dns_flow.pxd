# Queries to the gateway's resolver over UDP: answered from the table of names or the cache, or passed raw to a name
# server.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.dns_servers cimport dns_plan
from netstack.nat.flow cimport dns_query, dns_socket, udp_key

cdef enum:
    TIMER_DNS = 4
    TIMER_DNS_SOCKET = 20

ctypedef struct dns_from_control:       # COMMAND_DNS_ANSWER: what a server said that the control plane has asked
    udp_key key
    uint32_t attempt
    const uint8_t *data
    uint32_t length                     # 0: it has not answered; 1: it does not know the name, which is no fault

ctypedef struct dns_cached:             # COMMAND_DNS_CACHED: what the cache has for a query over TCP
    const uint8_t *query
    uint32_t length
    uint8_t stale                       # also what is over
    uint8_t *out
    uint32_t room

ctypedef struct dns_keep:               # COMMAND_DNS_KEEP: an answer over TCP for the cache
    const uint8_t *query
    uint32_t length
    const uint8_t *reply
    uint32_t reply_length

cdef void dns_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
cdef void dns_socket_event(nat_t *nat, dns_socket *s, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void dns_socket_timer(nat_t *nat, dns_socket *s) noexcept nogil
cdef void dns_flow_timer(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil
cdef void dns_from_control_arrives(nat_t *nat, const dns_from_control *a, uint64_t now_ns) noexcept nogil
# Other servers: what is under way is asked of them, and what the old ones said is forgotten.
cdef void dns_plan_set(nat_t *nat, const dns_plan *plan, uint64_t now_ns) noexcept nogil
# The way to the servers may be another now: new sockets, and what is under way is asked again.
cdef void dns_flows_restart(nat_t *nat, uint64_t now_ns) noexcept nogil
# The end of a burst: what waits is sent.
cdef void dns_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil
cdef void dns_flows_reap(nat_t *nat) noexcept nogil
cdef void dns_flows_free_all(nat_t *nat) noexcept nogil
