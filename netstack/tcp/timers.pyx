"""Time as an input: what is due, and when to ask again."""
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t

from netstack.tcp.block cimport (
    MS,
    TCP_EV_OUTPUT,
    TCP_EV_TIMEOUT,
    TCP_TIMER_PERSIST,
    TCP_TIMER_PROBE,
    TCP_TIMER_REORDER,
    TCP_TIMER_RTO,
    TCP_WANT_ACK,
    TCP_WANT_HEAD,
    TCP_WANT_KEEPALIVE,
    TCP_WANT_PERSIST,
    TCP_WANT_PROBE,
    TCP_WANT_RST,
    TCP_WANT_SYN,
    account,
    tcb_t,
    u64_max,
    u64_min,
    unsent,
)
from netstack.tcp.life cimport enter_closed, shrink
from netstack.tcp.path cimport suspect_black_hole
from netstack.tcp.recovery cimport enter_loss, reorder_timeout
from netstack.tcp.rto cimport arm_rtx, rto_now, user_timeout
from netstack.tcp.sack cimport tx_free
from netstack.tcp.states cimport TCP_SYN_RECEIVED, TCP_SYN_SENT, TCP_TIME_WAIT

cdef enum:
    RELEASE_AFTER = 1000            # ms an unused ring keeps its memory


cdef uint64_t tcp_deadline(const tcb_t *t) noexcept nogil:
    cdef uint64_t at = u64_min(t.rtx_at, t.delack_at)
    at = u64_min(at, u64_min(t.keepalive_at, t.life_at))
    return u64_min(at, u64_min(t.pace_at, t.shrink_at))


cdef uint32_t die(tcb_t *t) noexcept nogil:
    """The peer is gone; should it come back, the RST tells it."""
    t.rst_seq = t.snd_nxt
    t.rst_with_ack = 1
    t.want = TCP_WANT_RST
    return enter_closed(t, TCP_EV_TIMEOUT)


cdef uint32_t retransmission(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """RFC 6298 (5.4)-(5.7)."""
    if now_ns - t.progress_ns >= user_timeout(t):
        return die(t)
    enter_loss(t, now_ns)
    if t.snd_wnd:
        suspect_black_hole(t, now_ns)
    if t.backoff < 255:
        t.backoff += 1
    t.rto_base_ns = now_ns
    t.want |= TCP_WANT_HEAD
    t.want &= ~TCP_WANT_PROBE
    arm_rtx(t, now_ns, 0)
    return TCP_EV_OUTPUT


cdef uint32_t persist(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """RFC 9293 section 3.8.6.1: at growing intervals, for as long as the peer answers."""
    if not t.persist_out:
        t.persist_out = 1
        t.progress_ns = now_ns          # the time without an answer begins with this probe
    elif now_ns - t.progress_ns >= user_timeout(t):
        return die(t)
    if t.backoff < 255:
        t.backoff += 1
    t.want |= TCP_WANT_PERSIST
    t.rtx_at = now_ns + rto_now(t)
    return TCP_EV_OUTPUT


cdef uint32_t retransmission_timer(tcb_t *t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t lost
    cdef uint64_t again
    if t.state == TCP_SYN_SENT or t.state == TCP_SYN_RECEIVED:
        if t.backoff < 255:
            t.backoff += 1
        t.want |= TCP_WANT_SYN
        t.rtx_at = now_ns + rto_now(t)
        return TCP_EV_OUTPUT
    if t.rtx_timer == TCP_TIMER_PROBE:
        t.want |= TCP_WANT_PROBE
        t.tlp_active = 1
        t.tlp_resent = 0
        t.tlp_end = t.snd_nxt
        t.rto_base_ns = now_ns
        arm_rtx(t, now_ns, 0)
        return TCP_EV_OUTPUT
    if t.rtx_timer == TCP_TIMER_REORDER:
        lost = t.tx.lost
        again = reorder_timeout(t, now_ns)
        arm_rtx(t, now_ns, again)
        return TCP_EV_OUTPUT if t.tx.lost > lost else 0
    if t.rtx_timer == TCP_TIMER_PERSIST:
        return persist(t, now_ns)
    if t.rtx_timer == TCP_TIMER_RTO:
        return retransmission(t, now_ns)
    t.rtx_at = UINT64_MAX
    return 0


cdef uint32_t keepalive(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """RFC 9293 section 3.8.4: only while nothing else would show that the peer is gone; one lost answer is
    not death."""
    cdef uint64_t due = t.last_rcv_ns + t.config.keepalive_idle_ns
    if t.tx.n or unsent(t):
        t.keepalive_out = 0
        t.keepalive_at = now_ns + t.config.keepalive_idle_ns
        return 0
    if due > now_ns:
        t.keepalive_out = 0
        t.keepalive_at = due
        return 0
    if t.keepalive_out >= t.config.keepalive_probes:
        return die(t)
    t.keepalive_out += 1
    t.want |= TCP_WANT_KEEPALIVE
    t.keepalive_at = now_ns + u64_max(t.config.keepalive_interval_ns, MS)
    return TCP_EV_OUTPUT


cdef uint32_t life(tcb_t *t) noexcept nogil:
    """The end of a handshake without success, of FIN-WAIT-2 without a FIN, of TIME-WAIT."""
    if t.state == TCP_TIME_WAIT:
        return enter_closed(t, 0)
    return enter_closed(t, TCP_EV_TIMEOUT)


cdef void release(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """An idle connection is small."""
    cdef uint64_t due = u64_max(t.last_send_ns, t.last_rcv_ns) + RELEASE_AFTER * <uint64_t>MS
    if due > now_ns and t.state != TCP_TIME_WAIT:
        t.shrink_at = due
        return
    t.shrink_at = UINT64_MAX
    shrink(t, &t.snd_ring)
    shrink(t, &t.rcv_ring)
    t.rcv_rtt_ns = 0                    # the path may be another one by then
    if t.tx.n == 0 and t.tx.room:
        account(t, -<int64_t>tx_free(&t.tx))
        if t.config.memory != NULL:
            t.config.memory.released += 1


cdef uint32_t tcp_timeout(tcb_t *t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t events = t.pending
    t.pending = 0
    if t.life_at <= now_ns:
        t.life_at = UINT64_MAX
        return events | life(t)
    if t.rtx_at <= now_ns:
        events |= retransmission_timer(t, now_ns)
    if t.delack_at <= now_ns:
        t.delack_at = UINT64_MAX
        t.want |= TCP_WANT_ACK
        events |= TCP_EV_OUTPUT
    if t.keepalive_at <= now_ns:
        events |= keepalive(t, now_ns)
    if t.pace_at <= now_ns:
        t.pace_at = UINT64_MAX
        events |= TCP_EV_OUTPUT
    if t.shrink_at <= now_ns:
        release(t, now_ns)
    return events
