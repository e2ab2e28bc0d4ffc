"""What an acceptable ACK does."""
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

from netstack.storage.ring cimport ring_drop
from netstack.tcp.block cimport (
    MS,
    TCP_CA_OPEN,
    TCP_EV_ACKED_FIN,
    TCP_EV_SPACE,
    TCP_TIMER_PERSIST,
    TCP_WANT_PERSIST,
    flight,
    memory_pressed,
    tcb_t,
    ts_clock,
    u32_min,
)
from netstack.tcp.hystart cimport hystart_round, hystart_sample
from netstack.tcp.recovery cimport ack_info, enter_cwr, recover, take_cumulative, take_sacks
from netstack.tcp.rto cimport arm_rtx, rtt_sample
from netstack.tcp.seq cimport seq_geq, seq_gt, seq_leq, seq_lt
from netstack.wire.tcp cimport TCP_ECE, TCP_FIN, TCP_SYN

cdef enum:
    AMPLE = 1 << 20                 # bytes of a send buffer
    RELEASE_AFTER = 1000            # ms an empty ring keeps its memory


cdef void update_window(tcb_t *t, const tcp_hdr *hdr) noexcept nogil:
    cdef uint32_t window = hdr.window
    if not hdr.flags & TCP_SYN:
        window <<= t.snd_wscale
    t.snd_wnd = window
    t.snd_wl1 = hdr.seq
    t.snd_wl2 = hdr.ack
    if window > t.snd_max_wnd:
        t.snd_max_wnd = window


cdef void end_round(tcb_t *t, uint32_t ack, uint64_t now_ns) noexcept nogil:
    """A round trip is over: everything outstanding at its beginning is acknowledged."""
    cdef uint64_t rate
    if now_ns > t.round_ns:
        rate = <uint64_t>(ack - t.round_una) * 1000000000 // (now_ns - t.round_ns)
        t.rate = rate if rate > t.rate else t.rate - t.rate // 4 + rate // 4
    t.round_una = ack
    t.round_end = t.snd_nxt
    t.round_ns = now_ns
    hystart_round(t)


cdef void grow_send_buffer(tcb_t *t) noexcept nogil:
    """The user was refused room. More helps only where the window is open, and where the ring is what limits:
    on a short path a longer queue would only make the round trip longer (four of the shortest are enough to
    keep it busy). What is ``AMPLE`` grows only while there is hardly any queue: else the stream that came first
    would keep the larger share of a link."""
    cdef uint64_t useful
    if t.snd_limit >= t.config.snd_buf_max or memory_pressed(t) or t.rate == 0 or t.min_rtt_ns == UINT64_MAX:
        return
    if t.cwnd < t.snd_limit // 2 or t.snd_wnd < t.snd_limit // 2:
        return
    useful = t.rate * (t.min_rtt_ns // 1000) // 1000000 * (4 if t.snd_limit < AMPLE else 2)
    if useful > t.snd_limit:
        t.snd_limit = u32_min(t.config.snd_buf_max, 2 * t.snd_limit)


cdef bint send_room_event(tcb_t *t) noexcept nogil:
    """True once the user, who was refused room, should be told of it: not for every ACK, but when a third is
    free."""
    cdef uint32_t held = <uint32_t>(t.snd_ring.tail - t.snd_ring.head)
    if not t.snd_blocked:
        return False
    if held != 0 and (held >= t.snd_limit or t.snd_limit - held < t.snd_limit // 3):
        return False
    t.snd_blocked = 0
    return True


cdef uint32_t drop_acknowledged(tcb_t *t, uint32_t ack, uint64_t now_ns) noexcept nogil:
    """SND.UNA moves up to ack. Events."""
    cdef uint32_t events = 0, held
    cdef uint32_t n = ack - t.snd_una
    if t.snd_una == t.iss:
        n -= 1                          # the SYN
    t.snd_una = ack
    held = <uint32_t>(t.snd_ring.tail - t.snd_ring.head)
    if t.fin_sent and ack == t.snd_nxt and not t.fin_acked:
        t.fin_acked = 1
        events |= TCP_EV_ACKED_FIN
    if n > held:
        n = held
    if n:
        ring_drop(&t.snd_ring, n)
        if t.snd_blocked:
            grow_send_buffer(t)
            if send_room_event(t):
                events |= TCP_EV_SPACE
        if n == held and t.shrink_at == UINT64_MAX:
            t.shrink_at = now_ns + RELEASE_AFTER * <uint64_t>MS
    if t.snd_urgent and seq_geq(ack, t.snd_up):
        t.snd_urgent = 0
    return events


cdef uint32_t acknowledge(tcb_t *t, const tcp_hdr *hdr, uint32_t length, uint64_t now_ns) noexcept nogil:
    cdef ack_info info
    cdef uint32_t events = 0, before_wnd = t.snd_wnd, ack = hdr.ack
    cdef uint64_t again = 0, rtt_ms
    cdef bint advances = seq_gt(ack, t.snd_una)
    cdef bint newer

    # SND.WND: newer by WL1/WL2; also an equal ACK with a larger window (RFC 9293 section 3.10.7.4)
    newer = seq_lt(t.snd_wl1, hdr.seq) or (t.snd_wl1 == hdr.seq and seq_leq(t.snd_wl2, ack))
    if ack == t.snd_una and (<uint32_t>hdr.window << t.snd_wscale) > t.snd_wnd:
        newer = True
    if newer and seq_geq(ack, t.snd_una):
        update_window(t, hdr)
    if t.rtx_timer == TCP_TIMER_PERSIST:
        t.persist_out = 0               # the peer lives, whatever its window says (MUST-37)
        t.want &= ~TCP_WANT_PERSIST
        if t.snd_wnd != before_wnd and t.snd_wnd:
            t.backoff = 0
    if t.tx.n == 0 and not (hdr.n_sack and t.sack_on):
        return events                   # nothing is outstanding, and no late D-SACK

    info.prior_una = t.snd_una
    info.prior_flight = flight(t)
    info.acked = ack - t.snd_una if advances else 0
    info.delivered = 0
    info.rtt_ns = info.latest_ns = UINT64_MAX
    info.dsack = info.sacked = info.duplicate = info.delivered_resent = info.delivered_original = 0

    if hdr.n_sack and t.sack_on:
        take_sacks(t, hdr, now_ns, &info)
    if advances:
        take_cumulative(t, hdr, now_ns, &info)
        events |= drop_acknowledged(t, ack, now_ns)
        t.rto_base_ns = t.progress_ns = now_ns
        t.dupacks = 0
        if seq_geq(ack, t.round_end):
            end_round(t, ack, now_ns)
    elif (t.tx.n and ack == t.snd_una and length == 0 and not hdr.flags & (TCP_SYN | TCP_FIN)
            and t.snd_wnd == before_wnd):
        info.duplicate = 1
        if t.dupacks < 255:
            t.dupacks += 1
        if not t.sack_on:
            info.delivered = t.snd_mss
    if t.snd_wnd == 0:
        t.progress_ns = now_ns          # a shut window is no failure (SHLD-17, MUST-37)

    # An ACK that covers retransmitted bytes may have waited for them: it times nothing else either (Karn).
    if info.rtt_ns != UINT64_MAX and not info.delivered_resent:
        rtt_sample(t, info.rtt_ns, info.latest_ns, now_ns)
        hystart_sample(t, info.latest_ns)
        t.backoff = t.full_timeouts = 0
    elif advances and t.ts_on and hdr.has_timestamps:
        rtt_ms = ts_clock(t, now_ns) - hdr.tsecr        # RFC 7323 section 4: valid although it was sent again
        if 0 < rtt_ms < 1000000:
            rtt_sample(t, rtt_ms * MS, rtt_ms * MS, now_ns)
        t.backoff = t.full_timeouts = 0
    if hdr.flags & TCP_ECE and t.ecn_on and t.recovery == TCP_CA_OPEN and (advances or info.sacked):
        enter_cwr(t, now_ns)
    again = recover(t, hdr, &info, now_ns)
    arm_rtx(t, now_ns, again)
    return events
