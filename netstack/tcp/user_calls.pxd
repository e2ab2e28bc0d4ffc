# The user's side: OPEN, SEND, CLOSE, ABORT (RFC 9293 section 3.10.1 to 3.10.5). RECEIVE is in receive.pxd.
from libc.stdint cimport uint32_t, uint64_t
from netstack.storage.ring cimport ring_span
from netstack.tcp.block cimport tcb_t

cdef uint32_t tcp_established_ok(tcb_t *t, uint64_t now_ns) noexcept nogil     # send the SYN-ACK; events
cdef uint32_t tcp_open(tcb_t *t, uint64_t now_ns) noexcept nogil               # active open; events
# no more writes: FIN behind what is queued
cdef uint32_t tcp_close(tcb_t *t, uint64_t now_ns) noexcept nogil
# The user will read no more: data that arrives later is answered by RST (RFC 9293 SHLD-3); with unread data:
# RST at once.
cdef uint32_t tcp_stop_reading(tcb_t *t, uint64_t now_ns) noexcept nogil
# RST (also in LISTEN: refuse); -> CLOSED
cdef uint32_t tcp_abort(tcb_t *t, uint64_t now_ns) noexcept nogil

# 0..2 spans to receive into
cdef int tcp_write_spans(tcb_t *t, uint32_t limit, ring_span *out) noexcept nogil
cdef uint32_t tcp_wrote(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil       # events
# bytes written and not acknowledged
cdef uint32_t tcp_unacked(const tcb_t *t) noexcept nogil
# the bytes written so far are urgent up to the last one
cdef void tcp_urgent(tcb_t *t) noexcept nogil
