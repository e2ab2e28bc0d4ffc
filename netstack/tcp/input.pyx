"""SEGMENT ARRIVES: one function for each step of RFC 9293 section 3.10.7.

In front of the steps stands header prediction: the next bytes in order, or an ACK for what is outstanding, in
a connection where nothing else is going on. It takes the same functions as the steps do, and skips the
questions whose answer is known.
"""
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t

from netstack.tcp.acknowledge cimport acknowledge, update_window
from netstack.tcp.block cimport (
    MS,
    TCP_EV_CONNECTED,
    TCP_EV_FIN,
    TCP_EV_OUTPUT,
    TCP_EV_RESET,
    TCP_EV_URGENT,
    TCP_WANT_ACK,
    TCP_WANT_CHALLENGE,
    TCP_WANT_RST,
    TCP_WANT_SYN,
    tcb_t,
    tcp_delivery,
    ts_clock,
    u32_min,
)
from netstack.tcp.congestion cimport congestion_start
from netstack.tcp.life cimport enter_closed, free_sent, set_state, update_mss
from netstack.tcp.path cimport raise_path
from netstack.tcp.receive cimport note_duplicate, receive_start, take_text
from netstack.tcp.rto cimport rtt_sample
from netstack.tcp.seq cimport seq_geq, seq_gt, seq_leq, seq_lt, ts_lt
from netstack.tcp.states cimport (
    TCP_CLOSE_WAIT,
    TCP_CLOSED,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT_1,
    TCP_FIN_WAIT_2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECEIVED,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from netstack.wire.tcp cimport TCP_ACK, TCP_CWR, TCP_ECE, TCP_FIN, TCP_RST, TCP_SYN, TCP_URG, tcp_hdr

cdef enum:
    CE = 3
    PREDICTED = TCP_FIN | TCP_SYN | TCP_RST | TCP_URG | TCP_ECE | TCP_CWR
    PAWS_DAYS = 24
    DAY = 86400                     # s

# the arriving segment as the steps go on: cut to the window, SYN taken off
ctypedef struct segment:
    const tcp_hdr *hdr
    const uint8_t *payload
    uint32_t seq
    uint32_t length                 # payload bytes
    uint8_t flags
    uint8_t ip_ecn
    uint64_t now_ns


# --- opening

cdef void take_syn_options(tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns) noexcept nogil:
    if hdr.mss:
        t.peer_mss = hdr.mss
    t.wscale_on = hdr.wscale >= 0
    t.snd_wscale = 0
    if t.wscale_on:
        t.snd_wscale = <uint8_t>(hdr.wscale if hdr.wscale < 14 else 14)        # RFC 7323 section 2.3
    else:
        t.rcv_wscale = 0
    t.sack_on = t.config.sack and hdr.sack_permitted
    t.ts_on = t.config.timestamps and hdr.has_timestamps
    if t.ts_on:
        t.ts_recent = hdr.tsval
        t.ts_recent_ns = now_ns
    update_mss(t)


cdef int tcp_accept(tcb_t *t, const tcp_hdr *syn, uint8_t ip_ecn, uint64_t now_ns) noexcept nogil:
    if t.state != TCP_CLOSED or syn.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) != TCP_SYN:
        return -1
    receive_start(t, syn.seq)
    take_syn_options(t, syn, now_ns)
    t.ecn_on = t.config.ecn and syn.flags & (TCP_ECE | TCP_CWR) == (TCP_ECE | TCP_CWR)
    update_window(t, syn)
    t.last_rcv_ns = now_ns
    set_state(t, TCP_LISTEN)
    return 0


cdef uint32_t connected(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """The handshake is complete: SYN acknowledged both ways."""
    t.snd_una = t.iss + 1
    t.rtx_at = t.life_at = UINT64_MAX
    t.want &= ~TCP_WANT_SYN
    if t.syn_sends == 1 and now_ns > t.last_send_ns:
        rtt_sample(t, now_ns - t.last_send_ns, now_ns - t.last_send_ns, now_ns)
    elif t.syn_sends > 1 and t.rto_ns < 3000 * <uint64_t>MS and t.srtt_ns == 0:
        t.rto_ns = 3000 * <uint64_t>MS          # RFC 6298 (5.7)
    t.backoff = 0
    t.last_send_ns = 0
    t.progress_ns = t.rto_base_ns = t.drs_ns = now_ns
    congestion_start(t, now_ns)
    if t.config.keepalive_idle_ns:
        t.keepalive_at = now_ns + t.config.keepalive_idle_ns
    set_state(t, TCP_ESTABLISHED)
    if t.fin_queued:
        set_state(t, TCP_FIN_WAIT_1)
    return TCP_EV_CONNECTED | TCP_EV_OUTPUT


cdef uint32_t refuse(tcb_t *t, uint32_t ack) noexcept nogil:
    """<SEQ=SEG.ACK><CTL=RST>; the connection stays as it is."""
    t.rst_seq = ack
    t.rst_with_ack = 0
    t.want |= TCP_WANT_RST
    return TCP_EV_OUTPUT


cdef uint32_t challenge(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """An ACK that anybody can provoke: so many, and no more (RFC 5961 section 7)."""
    if now_ns < t.challenge_ns:
        return 0
    t.challenge_ns = now_ns + t.config.challenge_interval_ns
    t.want |= TCP_WANT_CHALLENGE
    return TCP_EV_OUTPUT


cdef uint32_t arrives_in_listen(tcb_t *t, segment *s) noexcept nogil:
    """Section 3.10.7.2. The SYN is here, its answer held back: only an RST that fits ends the attempt."""
    if s.flags & TCP_RST:
        if not s.flags & TCP_SYN and (s.seq == t.rcv_nxt or s.seq == t.irs):
            return enter_closed(t, TCP_EV_RESET)
        return 0
    if s.flags & TCP_ACK:
        return refuse(t, s.hdr.ack)
    return 0


cdef uint32_t arrives_in_syn_sent(tcb_t *t, segment *s, tcp_delivery *delivery) noexcept nogil:
    """Section 3.10.7.3."""
    cdef uint32_t events
    cdef const tcp_hdr *hdr = s.hdr
    # first, the ACK bit
    if s.flags & TCP_ACK and (seq_leq(hdr.ack, t.iss) or seq_gt(hdr.ack, t.snd_nxt)):
        return 0 if s.flags & TCP_RST else refuse(t, hdr.ack)
    # second, the RST bit: only with an acceptable ACK
    if s.flags & TCP_RST:
        return enter_closed(t, TCP_EV_RESET) if s.flags & TCP_ACK else 0
    # fourth, the SYN bit (a SYN with FIN is nothing that a peer sends)
    if not s.flags & TCP_SYN or (s.flags & TCP_FIN and not s.flags & TCP_ACK):
        return 0
    receive_start(t, s.seq)
    take_syn_options(t, hdr, s.now_ns)
    update_window(t, hdr)
    if not s.flags & TCP_ACK:                   # simultaneous open
        t.ecn_on = 0
        set_state(t, TCP_SYN_RECEIVED)
        t.want |= TCP_WANT_SYN
        return TCP_EV_OUTPUT
    t.ecn_on = t.config.ecn and s.flags & (TCP_ECE | TCP_CWR) == TCP_ECE
    events = connected(t, s.now_ns)
    t.want |= TCP_WANT_ACK
    s.seq += 1
    s.flags &= ~TCP_SYN
    # The window of our SYN was what may come with the answer.
    t.rcv_adv = t.rcv_nxt + u32_min(t.rcv_buf, 65535)
    if s.length or s.flags & (TCP_URG | TCP_FIN):
        cut_to_window(t, s)
        events |= sixth_urgent(t, s)
        events |= seventh_text(t, s, delivery)
        events |= eighth_fin(t, s)
    return events


# --- first step

cdef inline void note_received(tcb_t *t, const segment *s) noexcept nogil:
    """What a segment repeats of the bytes below RCV.NXT, and no byte more: a D-SACK of what has not come would be
    taken for a SACK (RFC 2883 section 4), and the byte believed to be here."""
    if s.length and seq_lt(s.seq, t.rcv_nxt):
        note_duplicate(t, s.seq, s.seq + u32_min(t.rcv_nxt - s.seq, s.length))


cdef bint timestamp_ok(tcb_t *t, segment *s, uint32_t *events) noexcept nogil:
    """RFC 7323 section 5.3: PAWS, before the sequence number is looked at."""
    if not t.ts_on or s.flags & TCP_RST:
        return True
    if not s.hdr.has_timestamps:
        return (s.flags & TCP_SYN) != 0         # a segment without a timestamp is dropped silently
    if not ts_lt(s.hdr.tsval, t.ts_recent):
        return True
    if s.now_ns - t.ts_recent_ns > PAWS_DAYS * DAY * <uint64_t>1000000000:
        return True                             # ts_recent is too old to be compared with
    if s.length:
        note_received(t, s)
        t.want |= TCP_WANT_ACK
        events[0] |= TCP_EV_OUTPUT
    elif s.flags & TCP_SYN or not t.state == TCP_TIME_WAIT:
        events[0] |= challenge(t, s.now_ns)
    return False


cdef bint first_sequence(tcb_t *t, segment *s, uint32_t *events) noexcept nogil:
    """Section 3.10.7.4, first step: the four cases of length and window. The window is the largest ever
    offered.

    One case is wider than the table: an empty segment at the right edge, which is what a peer sends that has
    filled the window while some of it is still under way.
    """
    cdef uint32_t window = t.rcv_adv - t.rcv_nxt
    cdef uint32_t offset = s.seq - t.rcv_nxt
    cdef uint32_t length = s.length + (1 if s.flags & TCP_FIN else 0) + (1 if s.flags & TCP_SYN else 0)
    if window > 1 << 30:
        window = 0
    if length == 0:
        if offset < window or offset == 0 or (offset == window and not s.flags & TCP_RST):
            return True
    elif window == 0:
        if offset == 0 and not s.flags & TCP_SYN:
            return True                         # its ACK, URG, RST and a bare FIN count; the text is cut off
    elif offset < window or (offset + length - 1 < window and not s.flags & TCP_SYN):
        return True
    elif seq_lt(s.seq, t.rcv_nxt) and seq_gt(s.seq + length, t.rcv_nxt):
        return True                             # begins before the window and ends behind it
    if s.flags & TCP_RST:
        return False
    if s.flags & TCP_SYN:
        events[0] |= fourth_syn(t, s)
        return False
    note_received(t, s)
    if t.state == TCP_TIME_WAIT and not s.flags & TCP_ACK:
        return False
    if s.flags & TCP_FIN and t.state == TCP_TIME_WAIT:
        t.life_at = s.now_ns + t.config.time_wait_ns        # the peer has not seen our ACK
    if length:
        t.want |= TCP_WANT_ACK
        events[0] |= TCP_EV_OUTPUT
        # SACK on an old segment still counts, and so does its ACK: retransmissions cross (Linux does the
        # same)
        if s.flags & TCP_ACK and synchronized_ack(t, s.hdr.ack) and t.state != TCP_TIME_WAIT \
                and seq_leq(s.seq + length, t.rcv_nxt):
            return True
    else:
        events[0] |= challenge(t, s.now_ns)
    return False


cdef inline bint synchronized_ack(const tcb_t *t, uint32_t ack) noexcept nogil:
    return t.state >= TCP_ESTABLISHED and seq_leq(ack, t.snd_nxt) and seq_geq(ack, t.snd_una)


cdef void cut_to_window(tcb_t *t, segment *s) noexcept nogil:
    """What remains lies in the window: bytes already received go, and what lies beyond the right edge, FIN
    included."""
    cdef uint32_t n, window = t.rcv_adv - t.rcv_nxt
    if window > 1 << 30:
        window = 0
    if seq_lt(s.seq, t.rcv_nxt):
        n = t.rcv_nxt - s.seq
        note_received(t, s)
        t.want |= TCP_WANT_ACK
        if n >= s.length:
            if n > s.length:
                s.flags &= ~TCP_FIN             # that was taken before
            n = s.length
        s.payload += n
        s.length -= n
        s.seq = t.rcv_nxt
    if s.length and s.seq - t.rcv_nxt + s.length > window:
        t.want |= TCP_WANT_ACK
        s.flags &= ~TCP_FIN
        s.length = window - (s.seq - t.rcv_nxt) if window > s.seq - t.rcv_nxt else 0


# --- second to fifth step

cdef uint32_t second_reset(tcb_t *t, segment *s) noexcept nogil:
    """RFC 5961 section 3: exactly RCV.NXT resets, elsewhere in the window is challenged. TIME-WAIT is not to
    be assassinated (RFC 1337)."""
    if t.state == TCP_TIME_WAIT:
        return 0
    if s.seq == t.rcv_nxt:
        return enter_closed(t, TCP_EV_RESET)
    return challenge(t, s.now_ns)


cdef uint32_t fourth_syn(tcb_t *t, segment *s) noexcept nogil:
    """RFC 5961 section 4: a SYN in a synchronized state is challenged, wherever it lies."""
    if t.state == TCP_SYN_RECEIVED and s.seq == t.irs and not s.flags & TCP_ACK:
        t.want |= TCP_WANT_SYN                  # the peer has not seen our SYN-ACK
        return TCP_EV_OUTPUT
    return challenge(t, s.now_ns)


cdef bint fifth_ack(tcb_t *t, segment *s, uint32_t *events) noexcept nogil:
    """False when the segment goes no further."""
    cdef uint32_t ack = s.hdr.ack, most
    if t.state == TCP_SYN_RECEIVED:
        if not (seq_lt(t.snd_una, ack) and seq_leq(ack, t.snd_nxt)):
            events[0] |= refuse(t, ack)
            return False
        update_window(t, s.hdr)
        events[0] |= connected(t, s.now_ns)
    else:
        # RFC 5961 section 5
        most = t.snd_max_wnd
        if seq_gt(ack, t.snd_nxt) or (seq_lt(ack, t.snd_una) and t.snd_una - ack > most):
            if s.length:
                t.want |= TCP_WANT_ACK
                events[0] |= TCP_EV_OUTPUT
            else:
                events[0] |= challenge(t, s.now_ns)
            return False
    take_timestamp(t, s)
    if t.state == TCP_TIME_WAIT:
        return True
    events[0] |= acknowledge(t, s.hdr, s.length, s.now_ns)
    if t.fin_acked:
        return after_fin_acked(t, s, events)
    return True


cdef bint after_fin_acked(tcb_t *t, segment *s, uint32_t *events) noexcept nogil:
    if t.state == TCP_FIN_WAIT_1:
        free_sent(t)
        set_state(t, TCP_FIN_WAIT_2)
        if t.stopped_reading and t.config.fin_wait_2_ns:
            t.life_at = s.now_ns + t.config.fin_wait_2_ns
    elif t.state == TCP_CLOSING:
        free_sent(t)
        events[0] |= enter_time_wait(t, s.now_ns)
        return False
    elif t.state == TCP_LAST_ACK:
        events[0] |= enter_closed(t, 0)
        return False
    return True


cdef uint32_t enter_time_wait(tcb_t *t, uint64_t now_ns) noexcept nogil:
    set_state(t, TCP_TIME_WAIT)
    t.rtx_at = t.keepalive_at = t.pace_at = UINT64_MAX
    t.life_at = now_ns + t.config.time_wait_ns
    t.shrink_at = now_ns if t.rcv_ring.capacity else UINT64_MAX
    return 0


cdef inline void take_timestamp(tcb_t *t, segment *s) noexcept nogil:
    """RFC 7323 section 4.3, once the ACK has proved acceptable; never from a segment that lies wholly before
    the window (R2 of section 5.3): its newer time would turn what is late, and still wanted, into an old
    duplicate."""
    if seq_lt(s.seq, t.rcv_nxt) and seq_leq(s.seq + s.length, t.rcv_nxt):
        return
    if (t.ts_on and s.hdr.has_timestamps and seq_leq(s.seq, t.last_ack_sent)
            and not ts_lt(s.hdr.tsval, t.ts_recent)):
        t.ts_recent = s.hdr.tsval
        t.ts_recent_ns = s.now_ns


# --- sixth to eighth step

cdef uint32_t sixth_urgent(tcb_t *t, segment *s) noexcept nogil:
    """The bytes travel in band; the user is told that there are some (MUST-31, MUST-32)."""
    cdef uint32_t up
    if not s.flags & TCP_URG or t.rcv_fin or t.state > TCP_FIN_WAIT_2:
        return 0
    up = s.hdr.seq + s.hdr.urgent
    if not seq_gt(up, t.rcv_nxt) or (t.rcv_urgent and not seq_gt(up, t.rcv_up)):
        return 0
    t.rcv_up = up
    t.rcv_urgent = 1
    return TCP_EV_URGENT


cdef uint32_t seventh_text(tcb_t *t, segment *s, tcp_delivery *delivery) noexcept nogil:
    cdef uint32_t events
    cdef uint64_t rtt
    if s.length == 0 or t.rcv_fin or t.state > TCP_FIN_WAIT_2:
        return 0
    if t.stopped_reading:                       # nobody will read it: SHLD-3
        t.rst_seq = t.snd_nxt
        t.rst_with_ack = 1
        t.want = TCP_WANT_RST
        return enter_closed(t, 0)
    if s.ip_ecn == CE and t.ecn_on:
        t.ecn_echo = 1
        t.want |= TCP_WANT_ACK
    if t.ts_on and s.hdr.tsecr and s.hdr.has_timestamps:
        rtt = <uint64_t>(ts_clock(t, s.now_ns) - s.hdr.tsecr) * MS
        if rtt < 10000 * <uint64_t>MS:
            if rtt < MS:
                rtt = MS
            if t.rcv_rtt_ns == 0 or rtt < t.rcv_rtt_ns:
                t.rcv_rtt_ns = rtt
    events = take_text(t, s.seq, s.payload, s.length, s.now_ns, delivery)
    if t.rcv_urgent and seq_geq(t.rcv_nxt, t.rcv_up):
        t.rcv_urgent = 0
    return events


cdef uint32_t eighth_fin(tcb_t *t, segment *s) noexcept nogil:
    """A FIN that comes too early is remembered until the bytes before it are here."""
    if s.flags & TCP_FIN and not t.rcv_fin and t.state <= TCP_FIN_WAIT_2 and t.state >= TCP_ESTABLISHED:
        t.rcv_fin_known = 1
        t.rcv_fin_seq = s.seq + s.length
        t.want |= TCP_WANT_ACK
    if not t.rcv_fin_known or t.rcv_fin or t.rcv_nxt != t.rcv_fin_seq:
        return 0
    t.rcv_fin = 1
    t.rcv_nxt += 1
    if seq_lt(t.rcv_adv, t.rcv_nxt):
        t.rcv_adv = t.rcv_nxt
    t.want |= TCP_WANT_ACK
    if t.state == TCP_ESTABLISHED:
        set_state(t, TCP_CLOSE_WAIT)
    elif t.state == TCP_FIN_WAIT_1:
        set_state(t, TCP_CLOSING)
    elif t.state == TCP_FIN_WAIT_2:
        enter_time_wait(t, s.now_ns)
    return TCP_EV_FIN | TCP_EV_OUTPUT


# --- all of it

cdef uint32_t take_in_steps(tcb_t *t, segment *s, tcp_delivery *delivery) noexcept nogil:
    """Section 3.10.7.4."""
    cdef uint32_t events = 0
    if t.state == TCP_SYN_RECEIVED and s.flags & (TCP_SYN | TCP_ACK | TCP_RST) == (TCP_SYN | TCP_ACK) \
            and s.seq == t.irs and s.hdr.ack == t.snd_nxt:
        # The other half of a simultaneous open: its SYN is known, its ACK is what we wait for.
        s.seq += 1
        s.flags &= ~TCP_SYN
        t.want |= TCP_WANT_ACK
    if not timestamp_ok(t, s, &events):
        return events
    if not first_sequence(t, s, &events):
        return events
    if s.flags & TCP_RST:
        return events | second_reset(t, s)
    if s.flags & TCP_SYN:
        return events | fourth_syn(t, s)
    if not s.flags & TCP_ACK:
        return events
    if not fifth_ack(t, s, &events):
        return events
    if t.state == TCP_TIME_WAIT:
        if s.length or s.flags & TCP_FIN:
            t.want |= TCP_WANT_ACK
            events |= TCP_EV_OUTPUT
        return events
    if s.flags & TCP_CWR and t.ecn_on:
        t.ecn_echo = 0
    if s.length or s.flags & (TCP_FIN | TCP_URG):
        cut_to_window(t, s)
        events |= sixth_urgent(t, s)
        events |= seventh_text(t, s, delivery)
        if t.state != TCP_CLOSED:
            events |= eighth_fin(t, s)
    return events


cdef inline bint predicted(const tcb_t *t, const tcp_hdr *hdr, uint32_t length) noexcept nogil:
    """Nothing but the next bytes, or an ACK for what is outstanding."""
    if t.state != TCP_ESTABLISHED or hdr.flags & (PREDICTED | TCP_ACK) != TCP_ACK or hdr.seq != t.rcv_nxt:
        return False
    if t.ts_on and (not hdr.has_timestamps or ts_lt(hdr.tsval, t.ts_recent)):
        return False
    if seq_lt(hdr.ack, t.snd_una) or seq_gt(hdr.ack, t.snd_nxt) or hdr.n_sack:
        return False
    return length <= t.rcv_adv - t.rcv_nxt and not t.stopped_reading and not t.rcv_fin_known


cdef uint32_t tcp_segment_arrives(tcb_t *t, const tcp_hdr *hdr, const uint8_t *payload, uint32_t length,
                                  uint8_t ip_ecn,
                                  uint64_t now_ns, tcp_delivery *delivery) noexcept nogil:
    cdef segment s
    cdef uint32_t events = t.pending
    t.pending = 0
    delivery.data = NULL
    delivery.length = 0
    t.last_rcv_ns = now_ns
    t.keepalive_out = 0
    s.hdr = hdr
    s.payload = payload
    s.seq = hdr.seq
    s.length = length
    s.flags = hdr.flags
    s.ip_ecn = ip_ecn
    s.now_ns = now_ns
    if predicted(t, hdr, length):
        take_timestamp(t, &s)
        if length == 0 or hdr.ack != t.snd_una or hdr.window != t.snd_wnd >> t.snd_wscale or t.tx.n:
            events |= acknowledge(t, hdr, length, now_ns)
        else:
            t.snd_wl1 = hdr.seq
        if length:
            events |= seventh_text(t, &s, delivery)
    elif t.state == TCP_CLOSED:
        return events
    elif t.state == TCP_LISTEN:
        events |= arrives_in_listen(t, &s)
    elif t.state == TCP_SYN_SENT:
        events |= arrives_in_syn_sent(t, &s, delivery)
    else:
        events |= take_in_steps(t, &s, delivery)
    if t.path_mss < t.config.mss:
        raise_path(t, now_ns)
    if t.want:
        events |= TCP_EV_OUTPUT
    return events


cdef bint tcp_may_reopen(const tcb_t *t, const tcp_hdr *hdr, uint64_t now_ns) noexcept nogil:
    if t.state != TCP_TIME_WAIT or hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) != TCP_SYN:
        return False
    if t.ts_on and hdr.has_timestamps:          # RFC 6191 section 2
        if ts_lt(t.ts_recent, hdr.tsval):
            return True
        if hdr.tsval != t.ts_recent:
            return False
    return seq_gt(hdr.seq, t.rcv_nxt)
