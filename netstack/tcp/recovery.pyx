"""Loss detection and recovery."""
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t

from netstack.tcp.block cimport (
    TCP_CA_CWR,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TX_AFTER_RTO,
    TX_LOST,
    TX_RETRANSMITTED,
    TX_SACKED,
    flight,
    tcb_t,
    tcp_sack_edges,
    ts_clock,
    tx_queue,
    tx_record,
    u32_max,
    u32_min,
    u64_min,
    unsent,
)
from netstack.tcp.congestion cimport congestion_of
from netstack.tcp.sack cimport tx_at, tx_find, tx_forget_sacks, tx_mark_lost, tx_sack_seen, tx_split
from netstack.tcp.seq cimport seq_geq, seq_gt, seq_leq, seq_lt, seq_max, ts_lt

cdef enum:
    DUP_THRESH = 3
    REO_PERSIST = 16                # recoveries after which the reordering window shrinks again


# --- what an ACK tells about single records

cdef inline bint sent_after(uint64_t a_ns, uint32_t a_end, uint64_t b_ns, uint32_t b_end) noexcept nogil:
    return a_ns > b_ns or (a_ns == b_ns and seq_gt(a_end, b_end))


cdef void delivered(tcb_t *t, const tcp_hdr *hdr, const tx_record *r, uint32_t end, uint64_t now_ns,
                    ack_info *info) noexcept nogil:
    """RFC 8985 section 6.2 steps 1 to 3 for bytes of r below end that have just been acknowledged for the
    first time."""
    cdef uint64_t rtt = now_ns - r.sent_ns
    if r.mss > t.proven_mss and end - r.seq >= r.mss:
        t.proven_mss = r.mss
    if r.flags & TX_RETRANSMITTED:
        info.delivered_resent = 1
        # Does the ACK answer the retransmission or what went before it? (Also Karn: no RTT sample from it.)
        if t.ts_on and hdr.has_timestamps and ts_lt(hdr.tsecr, ts_clock(t, r.sent_ns)):
            return
        if rtt < t.min_rtt_ns:
            return
    else:
        if t.recovery == TCP_CA_LOSS and not r.flags & TX_AFTER_RTO:
            info.delivered_original = 1
        if info.rtt_ns == UINT64_MAX or rtt > info.rtt_ns:
            info.rtt_ns = rtt
        if rtt < info.latest_ns:
            info.latest_ns = rtt
        if t.tx.sacked and seq_lt(end, t.tx.high_sacked):
            t.reordering_seen = 1
    if t.rack_sent_ns == 0 or sent_after(r.sent_ns, end, t.rack_sent_ns, t.rack_end):
        t.rack_sent_ns = r.sent_ns
        t.rack_end = end
        t.rack_rtt_ns = rtt


cdef void mark_sacked(tcb_t *t, const tcp_hdr *hdr, uint32_t left, uint32_t right, uint64_t now_ns,
                      ack_info *info) noexcept nogil:
    """[left, right) has arrived. Packets of which only a part would be SACKed do not count: nobody sends such
    parts."""
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    cdef uint32_t i = tx_find(q, left), cut, size
    while i < q.n:
        r = tx_at(q, i)
        if not seq_lt(r.seq, right):
            return
        if r.flags & TX_SACKED:
            i += 1
            continue
        size = r.mss if r.mss else 1
        if seq_lt(r.seq, left):
            cut = r.seq + (left - r.seq + size - 1) // size * size
            if seq_geq(cut, r.end):
                i += 1
                continue
            if tx_split(t, i, cut) < 0:
                return
            i += 1
            continue
        if seq_gt(r.end, right):
            cut = r.seq + (right - r.seq) // size * size
            if cut == r.seq or tx_split(t, i, cut) < 0:
                return
            r = tx_at(q, i)
        size = r.end - r.seq
        if r.flags & TX_LOST:
            r.flags &= ~TX_LOST
            q.lost -= size
        delivered(t, hdr, r, r.end, now_ns, info)
        r.flags |= TX_SACKED
        if q.sacked == 0:
            q.high_sacked = r.end
        else:
            q.high_sacked = seq_max(q.high_sacked, r.end)
        q.sacked += size
        info.delivered += size
        info.sacked = 1
        i += 1


cdef void take_dsack(tcb_t *t, const tcp_hdr *hdr, ack_info *info) noexcept nogil:
    """RFC 2883 section 4: the first block lies below the ACK or inside the second block."""
    cdef uint32_t left = hdr.sack[0].left, right = hdr.sack[0].right
    if not seq_lt(left, right):
        return
    if seq_leq(right, hdr.ack):
        if seq_lt(left, t.snd_una - (t.snd_max_wnd if t.snd_max_wnd < 1 << 30 else 1 << 30)):
            return
    elif not (hdr.n_sack > 1 and seq_geq(left, hdr.sack[1].left) and seq_leq(right, hdr.sack[1].right)):
        return
    info.dsack = 1
    if t.undo_valid and t.undo_sends and seq_geq(left, t.undo_una):
        t.undo_sends -= u32_min(t.undo_sends, right - left)
    # section 6.2 step 4 of RFC 8985: a spurious retransmission widens the reordering window, once a round
    if seq_geq(hdr.ack, t.dsack_round):
        t.dsack_round = t.snd_nxt
        t.reo_persist = REO_PERSIST
        if t.reo_mult < 255:
            t.reo_mult += 1


cdef void take_sacks(tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns, ack_info *info) noexcept nogil:
    cdef tcp_sack_edges seen[4]
    cdef uint32_t left, right
    cdef int i, k, n, n_seen = t.n_sack_seen
    take_dsack(t, hdr, info)
    if t.tx.n == 0:
        return                          # nothing is outstanding
    for k in range(n_seen):
        seen[k] = tx_sack_seen(&t.tx)[k]
    n = 0
    for i in range(hdr.n_sack):
        left = hdr.sack[i].left
        right = hdr.sack[i].right
        if (i == 0 and info.dsack) or not seq_lt(left, right) or seq_gt(right, t.snd_nxt) \
                or seq_leq(right, t.snd_una):
            continue
        left = seq_max(left, t.snd_una)
        tx_sack_seen(&t.tx)[n].left = left      # (marking may move the memory)
        tx_sack_seen(&t.tx)[n].right = right
        n += 1
        # Only what the last ACK had not said: the ends that grew (a packet's length more, for edges inside a
        # packet).
        for k in range(n_seen):
            if seq_leq(seen[k].left, left) and seq_geq(seen[k].right, right):
                left = right
                break
            if seen[k].left == left and seq_lt(seen[k].right, right):
                left = seq_max(left, seen[k].right - t.snd_mss)
                break
            if seen[k].right == right and seq_lt(left, seen[k].left):
                right = seen[k].left + t.snd_mss if seq_lt(seen[k].left + t.snd_mss, right) else right
                break
        if left != right:
            mark_sacked(t, hdr, left, right, now_ns, info)
    if n:
        t.n_sack_seen = <unsigned char>n


cdef void take_cumulative(tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns, ack_info *info) noexcept nogil:
    """Removes what lies below SEG.ACK from the scoreboard."""
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    cdef uint32_t ack = hdr.ack, size, end
    while q.n:
        r = tx_at(q, 0)
        if not seq_lt(r.seq, ack):
            break
        end = r.end if seq_leq(r.end, ack) else ack
        size = end - r.seq
        if r.flags & TX_SACKED:
            q.sacked -= size
        else:
            if r.flags & TX_LOST:
                q.lost -= size
            delivered(t, hdr, r, end, now_ns, info)
            info.delivered += size
        if end != r.end:
            r.seq = end
            break
        q.head += 1
        q.n -= 1
    if q.n == 0:
        q.head = 0
        q.resent_head = q.resent_n = 0
        q.sacked = q.lost = 0
        t.n_sack_seen = 0


# --- RACK

cdef uint64_t reordering_window(const tcb_t *t) noexcept nogil:
    """RFC 8985 section 6.2 step 4."""
    if not t.reordering_seen:
        if t.recovery == TCP_CA_RECOVERY or t.recovery == TCP_CA_LOSS:
            return 0
        if t.tx.sacked > (DUP_THRESH - 1) * <uint32_t>t.snd_mss:
            return 0
    if t.min_rtt_ns == UINT64_MAX:
        return 0
    return u64_min(t.reo_mult * (t.min_rtt_ns // 4), t.srtt_ns)


cdef uint64_t rack_detect(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """RFC 8985 section 6.2 step 5: marks as lost what was sent before the latest delivery, a reordering
    window ago. Returns when to look again (0 = no need).

    First transmissions are in the order of time, so they are judged from rack_hint upwards; retransmissions
    have a queue of their own. Either stops at the first that is not yet due.
    """
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    cdef uint64_t window, due, again = 0
    cdef uint32_t i, seq
    cdef uint64_t sent_ns
    cdef bint waits
    if t.rack_sent_ns == 0 or q.n == 0:
        return 0
    window = t.rack_rtt_ns + reordering_window(t)
    i = tx_find(q, seq_max(q.rack_hint, t.snd_una))
    while i < q.n:
        r = tx_at(q, i)
        if not r.flags & (TX_SACKED | TX_LOST | TX_RETRANSMITTED):
            if not sent_after(t.rack_sent_ns, t.rack_end, r.sent_ns, r.end):
                break
            due = r.sent_ns + window
            if due > now_ns:
                again = due
                break
            tx_mark_lost(t, i)
        q.rack_hint = r.end
        i += 1
    while q.resent_head < q.resent_n:
        seq = seq_max(q.resent[q.resent_head].seq, t.snd_una)
        sent_ns = q.resent[q.resent_head].sent_ns
        waits = False
        i = tx_find(q, seq)
        while i < q.n:
            r = tx_at(q, i)
            if r.sent_ns != sent_ns or not r.flags & TX_RETRANSMITTED:
                break
            if not r.flags & (TX_SACKED | TX_LOST):
                if not sent_after(t.rack_sent_ns, t.rack_end, r.sent_ns, r.end):
                    waits = True
                    break
                due = r.sent_ns + window
                if due > now_ns:
                    waits = True
                    if again == 0 or due < again:
                        again = due
                    break
                tx_mark_lost(t, i)
            i += 1
        if waits:
            break
        q.resent_head += 1
    return again


# --- reductions and their undoing

cdef void reduce(tcb_t *t, uint64_t now_ns, bint undoable) noexcept nogil:
    t.prior_cwnd = t.cwnd
    t.prior_ssthresh = t.ssthresh
    t.undo_valid = undoable
    t.undo_una = t.snd_una
    t.undo_sends = 0
    t.undo_has_tsval = 0
    t.prr_flight = t.snd_nxt - t.snd_una
    t.prr_delivered = t.prr_out = 0
    t.recovery_point = t.snd_nxt
    t.ssthresh = congestion_of(t.config.congestion).on_loss(t, now_ns)
    t.tlp_active = 0
    if t.ecn_on:
        t.cwr_pending = 1


cdef void enter_recovery(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.recovery == TCP_CA_CWR:        # reduced in this round trip already
        t.recovery_point = t.snd_nxt
        t.undo_valid = 0
    else:
        reduce(t, now_ns, True)
    t.recovery = TCP_CA_RECOVERY


cdef void enter_cwr(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.recovery == TCP_CA_OPEN:
        reduce(t, now_ns, False)
        t.recovery = TCP_CA_CWR


cdef void enter_loss(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """A retransmission time-out (RFC 5681 section 3.1, RFC 8985 section 6.3)."""
    cdef tx_queue *q = &t.tx
    cdef tx_record *r
    cdef uint32_t i
    cdef uint64_t window
    cdef bint again = t.recovery == TCP_CA_LOSS and t.snd_una == t.undo_una
    cdef bint first = t.recovery == TCP_CA_OPEN or t.recovery == TCP_CA_CWR or seq_geq(t.snd_una,
                                                                                       t.recovery_point)
    if q.n == 0:
        return
    if tx_at(q, 0).flags & TX_SACKED or t.backoff:
        tx_forget_sacks(t)              # the peer may have thrown away what it reported
    # F-RTO: not where segments of the flight had been sent again before for another reason
    t.frto = 1 if t.recovery == TCP_CA_OPEN or (again and t.undo_valid) else 0
    if first:
        t.recovery = TCP_CA_LOSS
        reduce(t, now_ns, True)
    elif not again:
        t.undo_valid = 0
    t.recovery = TCP_CA_LOSS
    t.dup_bytes = 0
    t.recovery_point = t.snd_nxt
    t.cwnd = t.snd_mss
    t.dupacks = 0
    t.reo_persist = 0
    t.reo_mult = 1
    window = t.rack_rtt_ns + reordering_window(t)
    for i in range(q.n):
        r = tx_at(q, i)
        r.flags &= ~TX_AFTER_RTO
        if i == 0 or not t.sack_on or r.sent_ns + window <= now_ns:
            tx_mark_lost(t, i)
    q.rack_hint = t.snd_una


cdef void undo(tcb_t *t) noexcept nogil:
    """Nothing was lost: back to where the window was (RFC 4015 section 3.2 without its burst: cwnd only
    counts as a limit)."""
    cdef tx_queue *q = &t.tx
    cdef uint32_t i
    for i in range(q.n):
        tx_at(q, i).flags &= ~TX_LOST
    q.lost = 0
    q.rack_hint = t.snd_una
    t.cwnd = u32_max(t.cwnd, t.prior_cwnd)
    t.ssthresh = u32_max(t.ssthresh, t.prior_ssthresh)
    t.recovery = TCP_CA_OPEN
    t.dup_bytes = 0
    t.undo_valid = 0
    t.frto = 0
    t.backoff = 0
    t.dupacks = 0
    t.cwr_pending = 0
    congestion_of(t.config.congestion).on_undo(t)


cdef bint spurious(const tcb_t *t, const tcp_hdr *hdr, const ack_info *info) noexcept nogil:
    """Did the segments that were sent again arrive the first time?"""
    if not t.undo_valid:
        return False
    # Eifel: the ACK for retransmitted bytes echoes a time before the first retransmission
    if (info.acked and info.delivered_resent and t.undo_has_tsval and hdr.has_timestamps
            and ts_lt(hdr.tsecr, t.undo_tsval)):
        return True
    # D-SACK: every retransmission was a duplicate
    return info.dsack and t.undo_has_tsval and t.undo_sends == 0


# --- the state machine

cdef void tail_probe_acked(tcb_t *t, const tcp_hdr *hdr, const ack_info *info,
                           uint64_t now_ns) noexcept nogil:
    """RFC 8985 section 7.4.2."""
    if seq_lt(hdr.ack, t.tlp_end):
        return
    if not t.tlp_resent or info.dsack:
        t.tlp_active = 0
    elif info.duplicate and hdr.ack == t.tlp_end and not info.sacked:
        t.tlp_active = 0                # both copies came
    elif seq_gt(hdr.ack, t.tlp_end):
        t.tlp_active = 0
        enter_cwr(t, now_ns)            # the probe repaired a loss


cdef void proportional_rate(tcb_t *t, const ack_info *info, bint safe) noexcept nogil:
    """RFC 6937bis."""
    cdef uint32_t pipe = flight(t), mss = t.snd_mss
    cdef uint64_t proportion
    cdef int64_t send
    t.prr_delivered += info.delivered
    if pipe > t.ssthresh:
        proportion = (<uint64_t>t.prr_delivered * t.ssthresh + u32_max(t.prr_flight,
                                                                       1) - 1) // u32_max(t.prr_flight, 1)
        send = <int64_t>proportion - t.prr_out
    else:
        send = <int64_t>t.prr_delivered - t.prr_out
        if send < info.delivered:
            send = info.delivered
        if safe:
            send += mss
        if send > <int64_t>t.ssthresh - pipe:
            send = <int64_t>t.ssthresh - pipe
    if t.prr_out == 0 and send < mss:
        send = mss                      # the first retransmission is not held back
    if send < 0:
        send = 0
    t.cwnd = pipe + <uint32_t>send


cdef void leave(tcb_t *t) noexcept nogil:
    """A recovery is complete."""
    if t.recovery != TCP_CA_LOSS:
        t.cwnd = t.ssthresh
    t.recovery = TCP_CA_OPEN
    t.dup_bytes = 0
    t.undo_valid = 1 if t.undo_valid and t.undo_sends else 0     # a D-SACK may still come
    t.frto = 0
    t.dupacks = 0
    if t.reo_persist:
        t.reo_persist -= 1
        if t.reo_persist == 0:
            t.reo_mult = 1


cdef void newreno(tcb_t *t, const ack_info *info) noexcept nogil:
    """RFC 6582 and RFC 3042 on the scoreboard of a peer without SACK: each duplicate ACK stands for one
    segment that has arrived; the oldest one is lost at the third, and again after each partial ACK."""
    cdef tx_queue *q = &t.tx
    cdef uint32_t counted
    if q.n == 0:
        t.dup_bytes = 0
        return
    if info.acked:
        counted = info.acked - t.snd_mss if info.acked > t.snd_mss else 0
        t.dup_bytes -= u32_min(t.dup_bytes, counted if t.recovery == TCP_CA_RECOVERY else t.dup_bytes)
    elif info.duplicate:
        counted = t.snd_nxt - t.snd_una - t.tx.lost
        t.dup_bytes = u32_min(t.dup_bytes + t.snd_mss, counted - u32_min(counted, t.snd_mss))
    if t.recovery == TCP_CA_OPEN or t.recovery == TCP_CA_CWR:
        if t.dupacks < DUP_THRESH:
            return
    elif t.recovery != TCP_CA_RECOVERY or not info.acked:
        return
    if not tx_at(q, 0).flags & TX_LOST:
        if tx_at(q, 0).end - tx_at(q, 0).seq > t.snd_mss and tx_split(t, 0, t.snd_una + t.snd_mss) < 0:
            return
        tx_mark_lost(t, 0)
        counted = t.snd_nxt - t.snd_una - t.tx.lost
        t.dup_bytes = u32_min(t.dup_bytes, counted)


cdef void in_loss(tcb_t *t, const tcp_hdr *hdr, const ack_info *info, uint64_t now_ns) noexcept nogil:
    """RFC 5682 with SACK: is the time-out genuine?"""
    if t.frto and t.undo_valid and info.delivered_original and (info.acked or info.sacked):
        undo(t)
        return
    if t.frto == 1 and info.acked and not info.sacked and unsent(t) and seq_lt(hdr.ack, t.recovery_point):
        # two new segments rather than what is marked lost; the next ACK will tell
        t.frto = 2
    elif t.frto and (info.duplicate or info.sacked or info.acked):
        t.frto = 0


cdef uint64_t recover(tcb_t *t, const tcp_hdr *hdr, const ack_info *info, uint64_t now_ns) noexcept nogil:
    cdef uint32_t lost_before = t.tx.lost
    cdef uint64_t again = 0
    cdef bint fresh = False
    if t.tlp_active:
        tail_probe_acked(t, hdr, info, now_ns)
    if spurious(t, hdr, info):
        if t.recovery != TCP_CA_OPEN:
            undo(t)
        else:                           # the recovery is over already: only the window comes back
            t.cwnd = u32_max(t.cwnd, t.prior_cwnd)
            t.ssthresh = u32_max(t.ssthresh, t.prior_ssthresh)
            t.undo_valid = 0
            congestion_of(t.config.congestion).on_undo(t)
    if t.recovery == TCP_CA_LOSS:
        in_loss(t, hdr, info, now_ns)
    if t.recovery != TCP_CA_OPEN and info.acked and seq_geq(hdr.ack, t.recovery_point):
        leave(t)
        fresh = t.tx.lost != 0          # what is lost now was sent after the reduction: another one is due
    if t.sack_on:
        again = rack_detect(t, now_ns)
    else:
        newreno(t, info)
    if (fresh or t.tx.lost > lost_before) and (t.recovery == TCP_CA_OPEN or t.recovery == TCP_CA_CWR):
        enter_recovery(t, now_ns)
    if t.recovery == TCP_CA_RECOVERY or t.recovery == TCP_CA_CWR:
        if info.delivered or info.duplicate:
            proportional_rate(t, info, info.acked != 0 and t.tx.lost <= lost_before)
    elif info.acked and (t.cwnd_limited or (t.cwnd < t.ssthresh and t.cwnd < 2 * info.prior_flight)):
        congestion_of(t.config.congestion).on_ack(t, info.acked, now_ns)
    return again


cdef uint64_t reorder_timeout(tcb_t *t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t lost_before = t.tx.lost
    cdef ack_info nothing
    cdef uint64_t again = rack_detect(t, now_ns)
    if t.tx.lost > lost_before and (t.recovery == TCP_CA_OPEN or t.recovery == TCP_CA_CWR):
        enter_recovery(t, now_ns)
    if t.recovery == TCP_CA_RECOVERY:
        nothing.acked = nothing.delivered = 0
        nothing.dsack = nothing.sacked = nothing.duplicate = 0
        proportional_rate(t, &nothing, False)
    return again
