# Slow start: RFC 5681 with appropriate byte counting (RFC 3465) and HyStart++ (RFC 9406).
from libc.stdint cimport uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t

cdef void hystart_reset(tcb_t *t) noexcept nogil
cdef void hystart_round(tcb_t *t) noexcept nogil                    # a round trip is over
cdef void hystart_sample(tcb_t *t, uint64_t rtt_ns) noexcept nogil  # an RTT was measured
# Grows cwnd by slow start; returns the bytes of acked that remain for congestion avoidance.
cdef uint32_t slow_start(tcb_t *t, uint32_t acked) noexcept nogil
