# A guest's TCP connection joined to a stream descriptor of the host.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.iface.neighbors cimport neighbor
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport flow_key, tcp_flow
from netstack.storage.wheel cimport wheel_timer

cdef void tcp_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
# The descriptor has become readable, writable or failed (POLL_* bits).
cdef void tcp_flow_host_event(nat_t *nat, tcp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void tcp_flow_timer(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil
# An ICMP error from a guest that quotes a segment of this flow's.
cdef void tcp_flow_icmp_error(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
# A connection into a guest (an active open), whose host side is the connected stream fd (owned from here on,
# unless NULL is returned). guest is NULL where its MAC is still being asked for: tcp_flow_resolved goes on, with
# NULL when there was no answer.
cdef tcp_flow *tcp_flow_open_down(nat_t *nat, const flow_key *key, neighbor *guest, int fd, uint8_t origin,
                                  uint64_t now_ns) noexcept nogil
cdef void tcp_flow_resolved(nat_t *nat, tcp_flow *flow, neighbor *guest, uint64_t now_ns) noexcept nogil
# The host's end of the connection is no more: the guest gets a reset.
cdef void tcp_flow_lost(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil
# Sends what the touched flows have to send, sets their timers, and frees those that have ended.
cdef void tcp_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil
# The flows that waited for a link's room are touched, the longest waiting first.
cdef void tcp_flows_port_ready(nat_t *nat, int port) noexcept nogil
# Gives back the memory of flows that have ended; when no event of the round can name them any more.
cdef void tcp_flows_reap(nat_t *nat) noexcept nogil
cdef void tcp_flows_free_all(nat_t *nat, uint64_t now_ns) noexcept nogil
