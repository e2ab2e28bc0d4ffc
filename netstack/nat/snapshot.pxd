# Every flow, and every neighbour, at one moment, for those who list them.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport nat_t
from netstack.wire.addr cimport addr_t

ctypedef struct flow_info:
    uint8_t protocol
    uint8_t state
    addr_t guest
    addr_t peer
    uint16_t guest_port
    uint16_t peer_port
    uint64_t id
    uint64_t bytes_up, bytes_down
    uint64_t age_ns
    uint64_t srtt_ns
    uint64_t retransmits
    uint32_t cwnd
    uint32_t buffered_up, buffered_down

ctypedef struct flows_arg:
    flow_info *items
    uint32_t n

ctypedef struct neighbors_arg:
    neighbor *items
    uint32_t n

# Each fills its arg; items are the caller's to free. -1: no memory.
cdef int64_t nat_snapshot(nat_t *nat, flows_arg *arg, uint64_t now_ns) noexcept nogil
cdef int64_t nat_neighbors(nat_t *nat, neighbors_arg *arg) noexcept nogil
# The same for Python; the items are freed.
cdef list flows_list(flows_arg *arg)
cdef list neighbors_list(neighbors_arg *arg)
