# RFC 9293 section 3.10.7, SEGMENT ARRIVES.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t, tcp_delivery
from netstack.wire.tcp cimport tcp_hdr

# Passive open: takes a SYN; nothing is answered until tcp_established_ok (the host side is connected) or
# tcp_abort (RST). Retransmitted SYNs in between are absorbed by tcp_segment_arrives. 0, or -1 when it is not
# a SYN that may open.
cdef int tcp_accept(tcb_t *t, const tcp_hdr *syn, uint8_t ip_ecn, uint64_t now_ns) noexcept nogil
# ip_ecn: the two ECN bits of the IP header. delivery is filled with in-order payload which lies in the frame
# (length 0 when there is none or it was kept in the ring because older bytes wait there). The user must then
# call tcp_take.
cdef uint32_t tcp_segment_arrives(tcb_t *t, const tcp_hdr *hdr, const uint8_t *payload, uint32_t length,
                                  uint8_t ip_ecn,
                                  uint64_t now_ns, tcp_delivery *delivery) noexcept nogil
# A connection in TIME-WAIT: may this SYN open a new one on the same ports (RFC 9293 MAY-2, RFC 6191)? The
# user then frees this tcb and takes the SYN into a fresh one.
cdef bint tcp_may_reopen(const tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns) noexcept nogil
