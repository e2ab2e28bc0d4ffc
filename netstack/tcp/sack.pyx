"""The scoreboard of transmissions."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from netstack.tcp.block cimport (
    TX_LOST,
    TX_RETRANSMITTED,
    TX_SACKED,
    account,
    tcb_t,
    tcp_sack_edges,
    tx_queue,
    tx_record,
    tx_resend,
)
from netstack.tcp.seq cimport seq_gt, seq_leq, seq_lt

cdef enum:
    SEEN = SACK_SEEN * sizeof(tcp_sack_edges)       # bytes


cdef uint32_t tx_free(tx_queue *q) noexcept nogil:
    cdef uint32_t held = q.room * <uint32_t>sizeof(tx_record) + q.resent_room * <uint32_t>sizeof(tx_resend)
    if q.items != NULL:
        free(tx_sack_seen(q))
        held += SEEN
    free(q.resent)
    q.items = NULL
    q.resent = NULL
    q.head = q.n = q.room = 0
    q.resent_head = q.resent_n = q.resent_room = 0
    q.sacked = q.lost = 0
    return held


cdef int make_room(tcb_t *t) noexcept nogil:
    """Room for one more record behind the last."""
    cdef tx_queue *q = &t.tx
    cdef uint32_t room
    cdef uint8_t *memory
    if q.head + q.n < q.room:
        return 0
    if q.head > q.room // 2:            # the front half is free: moving down costs less than what it freed
        memmove(q.items, q.items + q.head, q.n * sizeof(tx_record))
        q.head = 0
        return 0
    room = q.room * 2 if q.room else 8
    memory = <uint8_t *>realloc(tx_sack_seen(q) if q.items != NULL else NULL, SEEN + room * sizeof(tx_record))
    if memory == NULL:
        return -1
    account(t, <int64_t>(room - q.room) * <int64_t>sizeof(tx_record) + (SEEN if q.items == NULL else 0))
    q.items = <tx_record *>(memory + SEEN)
    q.room = room
    return 0


cdef int tx_sent(tcb_t *t, uint32_t seq, uint32_t end, uint8_t flags, uint64_t now_ns) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    if q.n == 0:
        q.head = 0
        q.lost_hint = q.rack_hint = seq
    if make_room(t) < 0:
        return -1
    r = tx_at(q, q.n)
    r.seq = seq
    r.end = end
    r.sent_ns = now_ns
    r.mss = t.snd_mss
    r.flags = flags
    r.sends = 1
    q.n += 1
    return 0


cdef int tx_resent(tcb_t *t, uint32_t i, uint64_t now_ns) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef tx_record *r = tx_at(q, i)
    cdef uint32_t room
    cdef tx_resend *resent
    if q.resent_head == q.resent_n:
        q.resent_head = q.resent_n = 0
    if q.resent_n == q.resent_room:
        if q.resent_head > q.resent_room // 2:
            q.resent_n -= q.resent_head
            memmove(q.resent, q.resent + q.resent_head, q.resent_n * sizeof(tx_resend))
            q.resent_head = 0
        else:
            room = q.resent_room * 2 if q.resent_room else 8
            resent = <tx_resend *>realloc(q.resent, room * sizeof(tx_resend))
            if resent == NULL:
                return -1
            account(t, <int64_t>(room - q.resent_room) * <int64_t>sizeof(tx_resend))
            q.resent = resent
            q.resent_room = room
    q.resent[q.resent_n].sent_ns = now_ns
    q.resent[q.resent_n].seq = r.seq
    q.resent_n += 1
    if r.flags & TX_LOST:
        r.flags &= ~TX_LOST
        q.lost -= r.end - r.seq
    r.flags |= TX_RETRANSMITTED
    r.sent_ns = now_ns
    r.mss = t.snd_mss
    if r.sends < 255:
        r.sends += 1
    return 0


cdef uint32_t tx_find(const tx_queue *q, uint32_t seq) noexcept nogil:
    cdef uint32_t low = 0, high = q.n, middle
    while low < high:
        middle = (low + high) >> 1
        if seq_leq(tx_at(q, middle).end, seq):
            low = middle + 1
        else:
            high = middle
    if low < q.n and seq_gt(tx_at(q, low).seq, seq):
        return low                      # below the first record
    return low


cdef int tx_split(tcb_t *t, uint32_t i, uint32_t seq) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    if make_room(t) < 0:
        return -1
    r = tx_at(q, i)
    memmove(r + 1, r, (q.n - i) * sizeof(tx_record))
    q.n += 1
    r[0].end = seq
    r[1].seq = seq
    return 0


cdef uint32_t tx_next_lost(tcb_t *t, uint32_t most) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef uint32_t i
    cdef tx_record *r
    if q.lost == 0:
        return q.n
    i = tx_find(q, q.lost_hint)
    while i < q.n:
        r = tx_at(q, i)
        if r.flags & TX_LOST:
            q.lost_hint = r.seq
            if r.end - r.seq > most and tx_split(t, i, r.seq + most) < 0:
                return q.n
            return i
        i += 1
    return q.n


cdef void tx_mark_lost(tcb_t *t, uint32_t i) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef tx_record *r = tx_at(q, i)
    if r.flags & (TX_LOST | TX_SACKED):
        return
    r.flags |= TX_LOST
    q.lost += r.end - r.seq
    if seq_lt(r.seq, q.lost_hint) or q.lost == r.end - r.seq:
        q.lost_hint = r.seq


cdef void tx_forget_sacks(tcb_t *t) noexcept nogil:
    cdef tx_queue *q = &t.tx
    cdef uint32_t i
    for i in range(q.n):
        tx_at(q, i).flags &= ~TX_SACKED
    q.sacked = 0
    t.n_sack_seen = 0
