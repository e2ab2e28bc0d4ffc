# What to send next (RFC 9293 sections 3.8.4, 3.8.6.2.1 and 3.10.4), one segment or super-segment at a time.
from libc.stdint cimport uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t, tcp_segment
from netstack.wire.tcp cimport tcp_hdr

# The next segment to send (data, retransmission, ACK, SYN, FIN, RST, probe): 1, or 0 when there is nothing to
# send now. The caller sends what it got; a segment it cannot send counts as lost. ACKs owed are held until
# asked for here, so a caller that asks once per burst of input coalesces them.
cdef int tcp_next_segment(tcb_t *t, uint64_t now_ns, tcp_segment *out) noexcept nogil
# cheap test: an ACK is due now (not merely delayed) or data may go
cdef bint tcp_wants_output(const tcb_t *t) noexcept nogil

# --- segments without a connection (RFC 9293 3.10.7.1): fills out with the RST that answers hdr; 0 when none
# is due
cdef int tcp_reset_for(const tcp_hdr *hdr, uint32_t length, tcp_segment *out) noexcept nogil
