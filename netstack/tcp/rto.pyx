"""RFC 6298, and the one retransmission timer."""
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

from netstack.tcp.block cimport (
    MS,
    TCP_CA_OPEN,
    TCP_TIMER_NONE,
    TCP_TIMER_PERSIST,
    TCP_TIMER_PROBE,
    TCP_TIMER_REORDER,
    TCP_TIMER_RTO,
    flight,
    tcb_t,
    u64_max,
    u64_min,
    unsent,
)
from netstack.tcp.sack cimport tx_at

cdef enum:
    GRANULARITY = MS                # G of RFC 6298
    PROBE_FLOOR = 5 * MS            # on a local link twice the SRTT is below what scheduling takes
    ACK_DELAY = 200 * MS            # what a peer may wait before it acknowledges a single segment
    R2 = 100000                     # ms, RFC 9293 SHLD-11
cdef enum:
    MIN_RTT_WINDOW = 60             # s


cdef void rtt_sample(tcb_t *t, uint64_t rtt_ns, uint64_t latest_ns, uint64_t now_ns) noexcept nogil:
    cdef uint64_t difference
    if rtt_ns == 0:
        rtt_ns = 1
    if latest_ns == 0:
        latest_ns = 1
    if latest_ns <= t.min_rtt_ns or now_ns - t.min_rtt_at > MIN_RTT_WINDOW * 1000 * <uint64_t>MS:
        t.min_rtt_ns = latest_ns
        t.min_rtt_at = now_ns
    if t.srtt_ns == 0:
        t.srtt_ns = rtt_ns
        t.rttvar_ns = rtt_ns // 2
    else:
        difference = t.srtt_ns - rtt_ns if t.srtt_ns > rtt_ns else rtt_ns - t.srtt_ns
        t.rttvar_ns = t.rttvar_ns - t.rttvar_ns // 4 + difference // 4
        t.srtt_ns = t.srtt_ns - t.srtt_ns // 8 + rtt_ns // 8
    # The floor is applied to the variance term, so that a path whose RTT is near the floor keeps a margin for
    # the peer's delayed ACKs: never less than what RFC 6298 with this minimum gives.
    t.rto_ns = t.srtt_ns + u64_max(GRANULARITY, u64_max(4 * t.rttvar_ns, t.config.rto_min_ns))
    if t.rto_ns > t.config.rto_max_ns:
        t.rto_ns = t.config.rto_max_ns
    t.rtt_since_probe = 1


cdef uint64_t rto_now(const tcb_t *t) noexcept nogil:
    cdef uint64_t rto = t.rto_ns
    cdef uint32_t shift = t.backoff if t.backoff < 20 else 20
    rto <<= shift
    return rto if rto < t.config.rto_max_ns else t.config.rto_max_ns


cdef uint64_t user_timeout(const tcb_t *t) noexcept nogil:
    return t.config.user_timeout_ns if t.config.user_timeout_ns else R2 * <uint64_t>MS


cdef void arm_rtx(tcb_t *t, uint64_t now_ns, uint64_t reorder_ns) noexcept nogil:
    cdef uint64_t at, probe
    if t.state <= 3:
        return                          # the handshake keeps its own time
    if t.tx.n == 0:
        if unsent(t) and (t.state >= 4):
            # Nothing is in flight to bring an ACK: the window is shut, or too small to be used at once.
            if t.rtx_timer != TCP_TIMER_PERSIST:
                t.rtx_timer = TCP_TIMER_PERSIST
                t.backoff = 0
                t.rtx_at = now_ns + rto_now(t)
                t.progress_ns = now_ns
            return
        t.rtx_timer = TCP_TIMER_NONE
        t.rtx_at = UINT64_MAX
        return
    # RFC 6298 (5.1)-(5.3), and never earlier than one RTO after the last transmission of the oldest segment
    at = u64_max(t.rto_base_ns, tx_at(&t.tx, 0).sent_ns) + rto_now(t)
    t.rtx_timer = TCP_TIMER_RTO
    if reorder_ns and reorder_ns < at:
        t.rtx_timer = TCP_TIMER_REORDER
        at = reorder_ns
    elif (t.sack_on and t.recovery == TCP_CA_OPEN and t.backoff == 0 and not t.tlp_active
            and t.tx.sacked == 0 and t.tx.lost == 0 and (t.rtt_since_probe or t.srtt_ns == 0)):
        # RFC 8985 section 7.2
        if t.srtt_ns == 0:
            probe = 1000 * <uint64_t>MS
        else:
            probe = u64_max(2 * t.srtt_ns, PROBE_FLOOR)
            if flight(t) <= t.snd_mss:
                probe += ACK_DELAY
        probe += u64_max(t.last_send_ns, t.rto_base_ns)
        t.rtx_timer = TCP_TIMER_PROBE
        at = u64_min(at, probe)
    t.rtx_at = at
