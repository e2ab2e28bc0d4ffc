# The scoreboard: what was sent, what of it is acknowledged, lost, sent again (RFC 2018, 6675, 8985). All of
# it is amortised O(1) or O(log n) for each ACK: records are found by bisection and hints remember how far
# RACK and the resending have come.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.tcp.block cimport tcb_t, tcp_sack_edges, tx_queue, tx_record

cdef uint32_t tx_free(tx_queue *q) noexcept nogil                  # bytes given back
# Records a first transmission of [seq, end). 0, or -1 without memory.
cdef int tx_sent(tcb_t *t, uint32_t seq, uint32_t end, uint8_t flags, uint64_t now_ns) noexcept nogil
# Records that items[i] was sent again.
cdef int tx_resent(tcb_t *t, uint32_t i, uint64_t now_ns) noexcept nogil
# The index of the record that holds seq, n when there is none.
cdef uint32_t tx_find(const tx_queue *q, uint32_t seq) noexcept nogil
# Cuts the record i at seq, so that seq begins record i + 1. 0, or -1 without memory.
cdef int tx_split(tcb_t *t, uint32_t i, uint32_t seq) noexcept nogil
# The first record to be sent again, at most most bytes of it (the rest is cut off); n when there is none.
cdef uint32_t tx_next_lost(tcb_t *t, uint32_t most) noexcept nogil
cdef void tx_mark_lost(tcb_t *t, uint32_t i) noexcept nogil
# after an RTO the peer may have reneged (RFC 2018)
cdef void tx_forget_sacks(tcb_t *t) noexcept nogil


cdef enum:
    SACK_SEEN = 4                   # blocks


# The blocks of the last ACK that had any: what they cover is not looked at twice. They lie before the records, and are
# there while one is: a connection without loss or in silence has no room for them.
cdef inline tcp_sack_edges *tx_sack_seen(const tx_queue *q) noexcept nogil:
    return <tcp_sack_edges *>q.items - SACK_SEEN


cdef inline tx_record *tx_at(const tx_queue *q, uint32_t i) noexcept nogil:
    return &q.items[q.head + i]
