# Time as an input.
from libc.stdint cimport uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t

cdef uint64_t tcp_deadline(const tcb_t *t) noexcept nogil                            # UINT64_MAX = none
# to be called at or after the deadline; events
cdef uint32_t tcp_timeout(tcb_t *t, uint64_t now_ns) noexcept nogil
