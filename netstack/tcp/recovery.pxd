# Loss detection and recovery: RACK-TLP (RFC 8985), PRR (RFC 6937bis), NewReno (RFC 6582) for a peer without
# SACK, F-RTO (RFC 5682) and the undoing of reductions that were not due (Eifel, RFC 3522 and 4015; D-SACK,
# RFC 3708).
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t
from netstack.wire.tcp cimport tcp_hdr

ctypedef struct ack_info:           # what one ACK has brought
    uint32_t prior_una
    uint32_t prior_flight
    uint32_t acked                  # sequence numbers cumulatively acknowledged
    uint32_t delivered              # bytes newly known to have arrived
    uint64_t rtt_ns                 # of the oldest segment newly acknowledged, UINT64_MAX = none
    uint64_t latest_ns              # of the newest
    uint8_t dsack
    uint8_t sacked                  # new SACK information
    uint8_t duplicate               # a duplicate ACK in the sense of RFC 5681
    uint8_t delivered_resent        # it covered retransmitted bytes
    uint8_t delivered_original      # and bytes sent once, before the RTO

cdef void take_sacks(tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns, ack_info *info) noexcept nogil
cdef void take_cumulative(tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns, ack_info *info) noexcept nogil
# After the scoreboard is up to date: detects loss, moves the recovery state, sets cwnd. Returns when RACK's
# reordering timer is due (0 = not armed).
cdef uint64_t recover(tcb_t *t, const tcp_hdr *hdr, const ack_info *info, uint64_t now_ns) noexcept nogil
# RACK's reordering timer fired; as above.
cdef uint64_t reorder_timeout(tcb_t *t, uint64_t now_ns) noexcept nogil
cdef void enter_loss(tcb_t *t, uint64_t now_ns) noexcept nogil             # retransmission time-out
cdef void enter_cwr(tcb_t *t, uint64_t now_ns) noexcept nogil              # ECN
