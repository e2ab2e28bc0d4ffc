# The receiving half: window, reassembly, what is acknowledged and when, and the SACK blocks (RFC 9293
# sections 3.8.6.2 and 3.10.7.4 seventh and eighth step, RFC 2018, 2883).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.storage.ring cimport ring_span
from netstack.tcp.block cimport tcb_t, tcp_delivery
from netstack.wire.tcp cimport tcp_hdr

cdef void receive_start(tcb_t *t, uint32_t irs) noexcept nogil
# SEG.TEXT, already cut to the window. Events.
cdef uint32_t take_text(tcb_t *t, uint32_t seq, const uint8_t *payload, uint32_t length, uint64_t now_ns,
                        tcp_delivery *delivery) noexcept nogil
# The window field of a segment sent now; remembers the right edge it offers.
cdef uint16_t offer_window(tcb_t *t, bint syn) noexcept nogil
# Notes a duplicate for the next ACK.
cdef void note_duplicate(tcb_t *t, uint32_t left, uint32_t right) noexcept nogil
# Writes the SACK blocks of the next ACK, at most most.
cdef void write_sacks(tcb_t *t, tcp_hdr *hdr, int most) noexcept nogil

cdef void tcp_take(tcb_t *t, const tcp_delivery *delivery, uint32_t consumed, uint64_t now_ns) noexcept nogil
# 0..2 spans of in-order bytes
cdef int tcp_read_spans(tcb_t *t, ring_span *out) noexcept nogil
# events (a window update may be due)
cdef uint32_t tcp_consumed(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil
# bytes in order and not consumed
cdef uint32_t tcp_readable(const tcb_t *t) noexcept nogil
# step: bytes until the next ACK inside a batch, 0 at its beginning
cdef bint tcp_ack_waits(const tcb_t *t, uint32_t *step) noexcept nogil
