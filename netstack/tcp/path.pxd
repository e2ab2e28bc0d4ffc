# Path MTU (RFC 1191, 8201, 4821) and ICMP errors (RFC 5461, 5927).
from libc.stdint cimport uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t

# ICMP errors about a segment of ours with this sequence number (RFC 5927 checks): mtu > 0 is a too-big for
# the IP MTU.
cdef uint32_t tcp_icmp_error(tcb_t *t, uint32_t quoted_seq, bint hard, uint32_t mtu,
                             uint64_t now_ns) noexcept nogil
# Full-sized segments time out again and again while nothing says why: try the next plateau below.
cdef void suspect_black_hole(tcb_t *t, uint64_t now_ns) noexcept nogil
# A lowered path MTU is tried again after ten minutes.
cdef void raise_path(tcb_t *t, uint64_t now_ns) noexcept nogil
