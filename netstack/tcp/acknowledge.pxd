# RFC 9293 section 3.10.7.4, fifth step, in the states that may have data outstanding: what SEG.ACK and
# SEG.WND bring.
from libc.stdint cimport uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t
from netstack.wire.tcp cimport tcp_hdr

# SEG.ACK is acceptable (at most SND.NXT). Returns events.
cdef uint32_t acknowledge(tcb_t *t, const tcp_hdr *hdr, uint32_t length, uint64_t now_ns) noexcept nogil
# SND.WND from a segment whose window is scaled unless it carries SYN.
cdef void update_window(tcb_t *t, const tcp_hdr *hdr) noexcept nogil
cdef bint send_room_event(tcb_t *t) noexcept nogil
