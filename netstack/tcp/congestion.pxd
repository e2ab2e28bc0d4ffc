# Congestion control: which table serves a connection, and what all of them share.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t, tcp_cc

cdef const tcp_cc *congestion_of(uint8_t congestion) noexcept nogil
# the handshake is complete: initial window
cdef void congestion_start(tcb_t *t, uint64_t now_ns) noexcept nogil
cdef void restart_after_idle(tcb_t *t, uint64_t now_ns) noexcept nogil     # RFC 5681 section 4.1
cdef uint32_t initial_window(const tcb_t *t) noexcept nogil
