# A TCP flow's entry in the table, and what others are told about it.
from libc.stdint cimport uint8_t, uint64_t
from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport flow_key, tcp_flow

cdef enum:
    TIMER_TCP = 1           # kind of a flow's wheel_timer

# A flow in the table, without a host side; NULL at a limit.
cdef tcp_flow *tcp_entry_make(nat_t *nat, const flow_key *key, neighbor *guest, uint64_t now_ns) noexcept nogil
# Takes it back at once; only where nobody else can have seen it.
cdef void tcp_entry_unmake(nat_t *nat, tcp_flow *flow) noexcept nogil
# The guest's SYN as an ICMP error quotes it: its IP header and the first eight bytes of TCP.
cdef void tcp_entry_quote_syn(const tcp_flow *flow, uint8_t *out) noexcept nogil
# What there is to say about a segment that is about to be sent (nat_t.told).
cdef void tcp_entry_tell(nat_t *nat, const tcp_flow *flow, uint8_t flags) noexcept nogil
# MAIL_DIALED, where a program has dialled.
cdef void tcp_entry_tell_dialer(nat_t *nat, const tcp_flow *flow, int error) noexcept nogil

# The flow has something to do at the end of this round (tcp_flows_flush).
cdef inline void tcp_entry_touch(nat_t *nat, tcp_flow *flow) noexcept nogil:
    if not flow.touched:
        flow.touched = 1
        flow.next_touched = nat.touched
        nat.touched = flow
