# Learning L2 switch, pure: who has which MAC, on which port (a small integer). Port 0 is the gateway.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    SWITCH_FLOOD = -1       # broadcast, multicast or not learnt: to every port but the one it came by

ctypedef struct switch_t:
    pass

cdef switch_t *switch_new(uint32_t limit, uint64_t ageing_ns, uint64_t k0, uint64_t k1) noexcept nogil
cdef void switch_free(switch_t *s) noexcept nogil
# Learns src on port; 0, or 1 when it has moved from another port, -1 when the table is full (not learnt).
cdef int switch_learn(switch_t *s, const uint8_t *src, int port, uint64_t now_ns) noexcept nogil
cdef int switch_lookup(switch_t *s, const uint8_t *dst, uint64_t now_ns) noexcept nogil
cdef void switch_forget_port(switch_t *s, int port) noexcept nogil
cdef uint32_t switch_len(const switch_t *s) noexcept nogil
