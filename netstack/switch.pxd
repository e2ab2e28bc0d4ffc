# Learning L2 switch, pure: who has which MAC, on which port (a small integer). Port 0 is the gateway.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.storage.pool cimport pool_t
from netstack.storage.table cimport table_t

cdef enum:
    SWITCH_FLOOD = -1       # broadcast, multicast or not learnt: to every port but the one it came by

ctypedef struct switch_station:
    uint64_t mac            # the six bytes and two of zero, as they lie in memory
    uint64_t seen_ns
    int port

ctypedef struct switch_t:
    table_t *stations       # by mac
    pool_t *pool
    uint64_t ageing_ns
    uint64_t swept_ns       # when a full table was last searched for the aged

cdef switch_t *switch_new(uint32_t limit, uint64_t ageing_ns, uint64_t k0, uint64_t k1) noexcept nogil
cdef void switch_free(switch_t *s) noexcept nogil
# Learns src on port; 0, or 1 when it has moved from another port, -1 when it is not learnt: the table is
# full, or src is no station's address (multicast or zero).
cdef int switch_learn(switch_t *s, const uint8_t *src, int port, uint64_t now_ns) noexcept nogil
cdef int switch_lookup(switch_t *s, const uint8_t *dst, uint64_t now_ns) noexcept nogil
cdef void switch_forget_port(switch_t *s, int port) noexcept nogil
cdef uint32_t switch_len(const switch_t *s) noexcept nogil
