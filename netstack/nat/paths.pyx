"""What changes of the host's addresses and routes mean for flows."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from netstack.host.sockets cimport sock_local
from netstack.nat.dns_flow cimport dns_flows_restart
from netstack.nat.flow cimport HOST_CONNECTING, HOST_OPEN, tcp_flow
from netstack.nat.tcp_flow cimport tcp_flow_lost
from netstack.storage.counters cimport TCP_ADDRESS_GONE, count
from netstack.storage.table cimport table_next


cdef int64_t paths_address_gone(nat_t *nat, const addr_t *gone, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[16] local
    cdef uint16_t port
    cdef uint32_t cursor = 0
    cdef int64_t n = 0
    cdef tcp_flow *flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while flow != NULL:
        if flow.polled.fd >= 0 and (flow.host == HOST_OPEN or flow.host == HOST_CONNECTING):
            if sock_local(flow.polled.fd, local, &port) >= 0 and memcmp(local, gone, 16) == 0:
                count(nat.counters, TCP_ADDRESS_GONE)
                tcp_flow_lost(nat, flow, now_ns)
                n += 1
        flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    return n


cdef void paths_changed(nat_t *nat, uint64_t now_ns) noexcept nogil:
    dns_flows_restart(nat, now_ns)
