# Round-trip estimation and the retransmission time-out (RFC 6298), and the choice of what the one
# retransmission timer stands for (RFC 8985 section 8: RTO, tail loss probe, reordering, persist).
from libc.stdint cimport uint64_t
from netstack.tcp.block cimport tcb_t

# A sample; latest_ns is the one that suits the minimum (the newest segment acknowledged).
cdef void rtt_sample(tcb_t *t, uint64_t rtt_ns, uint64_t latest_ns, uint64_t now_ns) noexcept nogil
# The time-out with back-off, at most rto_max.
cdef uint64_t rto_now(const tcb_t *t) noexcept nogil
# Arms t.rtx_at for what is outstanding, or clears it. reorder_ns: RACK wants to be asked again then (0 = no).
cdef void arm_rtx(tcb_t *t, uint64_t now_ns, uint64_t reorder_ns) noexcept nogil
# R2 of RFC 9293 section 3.8.3.
cdef uint64_t user_timeout(const tcb_t *t) noexcept nogil
