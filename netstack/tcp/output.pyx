"""What to send next.

The order: RST, SYN, what is lost, probes, new data with its FIN, and last an ACK that nothing has carried.
Data stay in the send ring: a segment points into it, and holds as many packets as the link may cut
(``gso_size``).
"""
from libc.stdint cimport UINT64_MAX, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from netstack.storage.ring cimport ring_spans
from netstack.tcp.block cimport (
    MS,
    TCP_CA_CWR,
    TCP_CA_LOSS,
    TCP_CA_RECOVERY,
    TCP_WANT_ACK,
    TCP_WANT_CHALLENGE,
    TCP_WANT_HEAD,
    TCP_WANT_KEEPALIVE,
    TCP_WANT_PERSIST,
    TCP_WANT_PROBE,
    TCP_WANT_RST,
    TCP_WANT_SYN,
    TX_AFTER_RTO,
    TX_SACKED,
    can_send_data,
    flight,
    tcb_t,
    tcp_segment,
    ts_clock,
    tx_record,
    u32_max,
    u32_min,
    u64_max,
    unsent,
)
from netstack.tcp.congestion cimport restart_after_idle
from netstack.tcp.receive cimport offer_window, write_sacks
from netstack.tcp.rto cimport arm_rtx, rto_now
from netstack.tcp.sack cimport tx_at, tx_next_lost, tx_resent, tx_sent, tx_split
from netstack.tcp.seq cimport seq_gt, seq_lt, seq_offset
from netstack.tcp.states cimport TCP_SYN_RECEIVED, TCP_SYN_SENT
from netstack.wire.tcp cimport (
    TCP_ACK,
    TCP_CWR,
    TCP_ECE,
    TCP_FIN,
    TCP_PSH,
    TCP_RST,
    TCP_SYN,
    TCP_URG,
    tcp_hdr,
)

cdef enum:
    ECT0 = 2
    SHORT_PATH = 2 * MS             # below this RTT the link's own queue is the path


# --- the header

cdef void begin(tcb_t *t, tcp_segment *out, uint32_t seq, uint8_t flags, uint64_t now_ns) noexcept nogil:
    """Everything but payload. An ACK that is owed is paid by it."""
    cdef tcp_hdr *h = &out.hdr
    memset(out, 0, sizeof(tcp_segment))
    h.sport = t.local_port
    h.dport = t.remote_port
    h.seq = seq
    h.flags = flags
    h.wscale = -1
    h.data_offset = 20
    if t.ts_on:
        h.has_timestamps = 1
        h.tsval = ts_clock(t, now_ns)
        h.tsecr = t.ts_recent if flags & TCP_ACK else 0
        h.data_offset = 32
    if flags & TCP_ACK:
        h.ack = t.rcv_nxt
        if flags & TCP_RST:
            return
        h.window = offer_window(t, (flags & TCP_SYN) != 0)
        if t.ecn_echo and not flags & TCP_SYN:
            h.flags |= TCP_ECE
        t.last_ack_sent = t.rcv_nxt
        t.want &= ~(TCP_WANT_ACK | TCP_WANT_CHALLENGE)
        t.ack_bytes = 0
        t.delack_at = UINT64_MAX
        t.sack_news = 0
        if t.reassembly.n and t.hole_acks < 255:
            t.hole_acks += 1
        if t.sack_on and not flags & TCP_SYN and (t.reassembly.n or t.dsack_left != t.dsack_right):
            write_sacks(t, h, 3 if t.ts_on else 4)
            if h.n_sack:
                h.data_offset += 4 + 8 * h.n_sack


cdef inline uint32_t packet_size(const tcb_t *t, const tcp_segment *out) noexcept nogil:
    """Payload of one packet beside the SACK blocks of this segment (RFC 9293 MUST-16)."""
    cdef uint32_t mss = t.snd_mss
    if out.hdr.n_sack:
        mss -= 4 + 8 * <uint32_t>out.hdr.n_sack if mss > 4 + 8 * <uint32_t>out.hdr.n_sack + 8 else 0
    return mss


cdef void attach(tcb_t *t, tcp_segment *out, uint32_t seq, uint32_t length) noexcept nogil:
    """Payload [seq, seq + length) of the send ring."""
    cdef uint32_t size = packet_size(t, out)
    out.length = length
    out.n_spans = ring_spans(&t.snd_ring, seq_offset(t.snd_ring.head, seq), length, out.span)
    if length > size:
        out.gso_size = <uint16_t>size
    if t.snd_urgent and seq_lt(seq, t.snd_up):
        out.hdr.flags |= TCP_URG
        out.hdr.urgent = <uint16_t>u32_min(t.snd_up - seq, 65535)


# --- handshake and reset

cdef void send_syn(tcb_t *t, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    cdef bint reply = t.state == TCP_SYN_RECEIVED
    cdef tcp_hdr *h = &out.hdr
    t.want &= ~TCP_WANT_SYN
    begin(t, out, t.iss, TCP_SYN | TCP_ACK if reply else TCP_SYN, now_ns)
    h.mss = t.config.mss
    h.data_offset = 24
    if not reply:
        h.window = offer_window(t, True)
        h.has_timestamps = t.config.timestamps
        h.tsval = ts_clock(t, now_ns) if t.config.timestamps else 0
        h.wscale = t.rcv_wscale
        h.sack_permitted = t.config.sack
        # RFC 3168 section 6.1.1.1: a SYN that got no answer is sent again without
        if t.config.ecn and t.syn_sends == 0:
            h.flags |= TCP_ECE | TCP_CWR
    else:
        h.wscale = t.rcv_wscale if t.wscale_on else -1
        h.sack_permitted = t.sack_on
        if t.ecn_on:
            h.flags |= TCP_ECE
    if h.has_timestamps:
        h.data_offset += 12
    elif h.sack_permitted:
        h.data_offset += 4
    if h.wscale >= 0:
        h.data_offset += 4
    out.retransmit = t.syn_sends > 0
    if t.syn_sends < 255:
        t.syn_sends += 1
    t.last_send_ns = now_ns
    t.snd_nxt = t.iss + 1
    t.rtx_at = now_ns + rto_now(t)


cdef void send_reset(tcb_t *t, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    t.want &= ~TCP_WANT_RST
    begin(t, out, t.rst_seq, TCP_RST | TCP_ACK if t.rst_with_ack else TCP_RST, now_ns)


cdef int tcp_reset_for(const tcp_hdr *hdr, uint32_t length, tcp_segment *out) noexcept nogil:
    if hdr.flags & TCP_RST:
        return 0
    memset(out, 0, sizeof(tcp_segment))
    out.hdr.sport = hdr.dport
    out.hdr.dport = hdr.sport
    out.hdr.wscale = -1
    out.hdr.data_offset = 20
    if hdr.flags & TCP_ACK:
        out.hdr.seq = hdr.ack
        out.hdr.flags = TCP_RST
    else:
        out.hdr.flags = TCP_RST | TCP_ACK
        out.hdr.ack = hdr.seq + length + (1 if hdr.flags & TCP_SYN else 0) + (1 if hdr.flags & TCP_FIN else 0)
    return 1


# --- data

cdef inline bint fin_due(const tcb_t *t) noexcept nogil:
    return t.fin_queued and not t.fin_sent and can_send_data(t)


cdef inline bint link_full(const tcb_t *t) noexcept nogil:
    """As many packets are out as the link's queue takes. Where the path is longer than the link, pacing
    spreads them."""
    return t.config.burst_packets and t.tx.n >= t.config.burst_packets and t.min_rtt_ns < SHORT_PATH


cdef uint32_t sendable(const tcb_t *t, bint *limited) noexcept nogil:
    """How many bytes of new data may go in the next segment; limited: it is cwnd that allows no more."""
    cdef uint32_t n = unsent(t), mss = t.snd_mss, room, all_of_it = n, most, used
    cdef int32_t usable
    limited[0] = False
    if n == 0 or not can_send_data(t):
        return 0
    usable = <int32_t>(t.snd_una + t.snd_wnd - t.snd_nxt)
    if usable <= 0:
        return 0                        # shut, or taken back by the peer (MUST-34)
    n = u32_min(n, <uint32_t>usable)
    used = flight(t)
    room = t.cwnd - used if t.cwnd > used else 0
    if used == 0 and room < mss:
        room = mss
    if room < n:
        limited[0] = True
        if room < mss:
            return 0
        n = room - room % mss
    if link_full(t):
        limited[0] = True
        return 0
    most = u32_max(t.config.max_gso, 1)
    if n > most:
        n = most
    if n > mss and n < all_of_it:
        n -= n % mss
    # A little now would make the next segments little as well: where many packets are out, wait for more
    # ACKs.
    if n < all_of_it and n < most // 2 and t.cwnd >= 2 * most and used > n * 4 and t.recovery == 0:
        return 0
    if n >= mss:
        if n == all_of_it and n % mss and t.config.nagle and not t.fin_queued:
            n -= n % mss                # Nagle: the tail waits for the ACK of what goes now
        return n
    # Less than a full segment (RFC 9293 section 3.8.6.2.1)
    if n == all_of_it:
        if t.snd_nxt == t.snd_una or not t.config.nagle or t.fin_queued:
            return n
        return n if t.snd_urgent and seq_gt(t.snd_up, t.snd_nxt) else 0
    if n >= t.snd_max_wnd // 2:
        return n
    return 0                            # the persist timer overrides


cdef bint paced(tcb_t *t, uint32_t *n, uint64_t now_ns) noexcept nogil:
    """Where the link's queue is short and the path long, data leave at a little more than one window in a
    round trip. True: wait until t.pace_at."""
    cdef uint64_t rate, quantum, cost
    cdef uint32_t burst
    if (t.config.burst_packets == 0 or t.min_rtt_ns < SHORT_PATH or t.srtt_ns == 0
            or t.min_rtt_ns == UINT64_MAX):
        return False
    burst = u32_max(t.config.burst_packets // 2, 1) * u32_max(t.snd_mss, 1)
    if t.cwnd <= burst:
        return False
    rate = <uint64_t>t.cwnd * (2 if t.cwnd < t.ssthresh else 1)
    rate += 0 if t.cwnd < t.ssthresh else rate // 4
    rate = u64_max(rate * 1000 // u64_max(t.srtt_ns // 1000000, 1), 1)         # bytes per second
    quantum = <uint64_t>burst * 1000000000 // rate
    if t.pace_ns > now_ns + quantum:
        t.pace_at = t.pace_ns - quantum
        return True
    t.pace_at = UINT64_MAX
    if n[0] > burst:
        n[0] = burst
    cost = <uint64_t>n[0] * 1000000000 // rate
    t.pace_ns = u64_max(t.pace_ns, now_ns) + cost
    return False


cdef void sent_data(tcb_t *t, uint32_t length, uint64_t now_ns) noexcept nogil:
    """Book-keeping common to first and repeated transmissions."""
    if t.recovery == TCP_CA_RECOVERY or t.recovery == TCP_CA_CWR:
        t.prr_out += length
    t.last_send_ns = now_ns


cdef int send_new(tcb_t *t, uint32_t n, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    """n bytes at SND.NXT, and the FIN when it follows them."""
    cdef uint32_t seq = t.snd_nxt, end, size
    cdef bint all_of_it = n == unsent(t)
    cdef bint fin = all_of_it and fin_due(t)
    if n == 0 and not fin:
        return 0
    begin(t, out, seq, TCP_ACK, now_ns)
    size = packet_size(t, out)
    # a link without segmentation offload, and SACK blocks beside the data
    if n > size and n > t.config.max_gso:
        n = size
        all_of_it = fin = False
    end = seq + n + (1 if fin else 0)
    if tx_sent(t, seq, end, TX_AFTER_RTO if t.recovery == TCP_CA_LOSS else 0, now_ns) < 0:
        t.want |= TCP_WANT_ACK
        return 0
    if n:
        attach(t, out, seq, n)
        if t.ecn_on:
            out.ecn = ECT0
            if t.cwr_pending:
                out.hdr.flags |= TCP_CWR
                t.cwr_pending = 0
    if all_of_it and n:
        out.hdr.flags |= TCP_PSH
    if fin:
        out.hdr.flags |= TCP_FIN
        t.fin_sent = 1
    if t.tx.n == 1:
        t.rto_base_ns = t.progress_ns = now_ns
    t.snd_nxt = end
    sent_data(t, end - seq, now_ns)
    arm_rtx(t, now_ns, 0)
    return 1


cdef int send_again(tcb_t *t, uint32_t i, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    """Record i once more."""
    cdef tx_record *r = tx_at(&t.tx, i)
    cdef uint32_t data_end = <uint32_t>t.snd_ring.tail, n, size
    begin(t, out, r.seq, TCP_ACK, now_ns)
    size = packet_size(t, out)
    if r.end - r.seq > size and r.end - r.seq > t.config.max_gso:
        if tx_split(t, i, r.seq + size) < 0:
            return 0
        r = tx_at(&t.tx, i)
    n = (r.end if not seq_gt(r.end, data_end) else data_end) - r.seq
    if tx_resent(t, i, now_ns) < 0:
        return 0
    r = tx_at(&t.tx, i)
    if n:
        attach(t, out, r.seq, n)
        if r.seq + n == data_end:
            out.hdr.flags |= TCP_PSH
    if t.fin_sent and r.end == t.snd_nxt:
        out.hdr.flags |= TCP_FIN
    out.retransmit = 1
    if not t.undo_has_tsval:
        t.undo_has_tsval = 1
        t.undo_tsval = ts_clock(t, now_ns)
    t.undo_sends += r.end - r.seq
    sent_data(t, r.end - r.seq, now_ns)
    arm_rtx(t, now_ns, 0)
    return 1


cdef int send_lost(tcb_t *t, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    """The oldest lost bytes, as far as cwnd and the peer's window allow."""
    cdef uint32_t used = flight(t), room, i
    cdef tx_record *r
    room = t.cwnd - used if t.cwnd > used else 0
    if room < t.snd_mss and (used != 0 or t.snd_wnd == 0):
        i = tx_next_lost(t, t.snd_mss)      # less than a packet: only what is less than a packet fits
        if i == t.tx.n or tx_at(&t.tx, i).end - tx_at(&t.tx, i).seq > room:
            return 0
    room = u32_max(room - room % t.snd_mss, t.snd_mss)
    i = tx_next_lost(t, u32_min(room, u32_max(t.config.max_gso - t.config.max_gso % t.snd_mss, t.snd_mss)))
    if i == t.tx.n:
        return 0
    r = tx_at(&t.tx, i)
    if not seq_lt(r.seq, t.snd_una + t.snd_wnd):
        # beyond the window that the peer has left (SHLD-15); the RTO probes it
        return 0
    return send_again(t, i, out, now_ns)


cdef int send_head(tcb_t *t, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    """After a time-out: one packet at SND.UNA, whatever the windows say."""
    cdef tx_record *r
    t.want &= ~TCP_WANT_HEAD
    if t.tx.n == 0:
        return 0
    r = tx_at(&t.tx, 0)
    if r.end - r.seq > t.snd_mss and tx_split(t, 0, r.seq + t.snd_mss) < 0:
        return 0
    return send_again(t, 0, out, now_ns)


cdef int send_tail_probe(tcb_t *t, tcp_segment *out, uint64_t now_ns) noexcept nogil:
    """RFC 8985 section 7.3: new data if the peer's window has room for it, otherwise the last segment
    again."""
    cdef uint32_t n = u32_min(unsent(t), t.snd_mss), i
    cdef int32_t usable = <int32_t>(t.snd_una + t.snd_wnd - t.snd_nxt)
    cdef tx_record *r
    t.want &= ~TCP_WANT_PROBE
    if t.tx.n == 0:
        return 0
    t.rtt_since_probe = 0
    t.tlp_active = 1
    if n and usable > 0 and n <= <uint32_t>usable:
        t.tlp_resent = 0
        if send_new(t, n, out, now_ns):
            t.tlp_end = t.snd_nxt
            return 1
    i = t.tx.n - 1
    r = tx_at(&t.tx, i)
    if r.end - r.seq > t.snd_mss and not r.flags & TX_SACKED:
        if tx_split(t, i, r.end - t.snd_mss) < 0:
            return 0
        i += 1
    t.tlp_resent = 1
    t.tlp_end = t.snd_nxt
    return send_again(t, i, out, now_ns)


cdef int tcp_next_segment(tcb_t *t, uint64_t now_ns, tcp_segment *out) noexcept nogil:
    cdef uint32_t n
    cdef bint limited
    if t.want & TCP_WANT_RST:
        send_reset(t, out, now_ns)
        return 1
    if t.state <= TCP_SYN_RECEIVED:
        if t.want & TCP_WANT_SYN and t.state >= TCP_SYN_SENT:
            send_syn(t, out, now_ns)
            return 1
        if t.state != TCP_SYN_RECEIVED or not t.want & (TCP_WANT_ACK | TCP_WANT_CHALLENGE):
            t.want &= TCP_WANT_RST | TCP_WANT_SYN
            return 0
        begin(t, out, t.snd_nxt, TCP_ACK, now_ns)
        return 1
    if t.want & TCP_WANT_HEAD and send_head(t, out, now_ns):
        return 1
    if t.tx.lost and t.frto != 2 and send_lost(t, out, now_ns):
        return 1
    if t.want & TCP_WANT_PROBE and send_tail_probe(t, out, now_ns):
        return 1
    if unsent(t) or fin_due(t):
        if t.snd_nxt == t.snd_una:
            restart_after_idle(t, now_ns)
        n = sendable(t, &limited)
        if t.want & TCP_WANT_PERSIST and n == 0 and unsent(t) and t.snd_nxt == t.snd_una and t.snd_wnd:
            # the override of silly-window avoidance
            n = u32_min(u32_min(unsent(t), t.snd_wnd), t.snd_mss)
            t.want &= ~TCP_WANT_PERSIST
        if n == 0 and t.frto == 2 and not limited and t.snd_nxt == t.recovery_point:
            t.frto = 0
            if t.tx.lost and send_lost(t, out, now_ns):
                return 1
        if n == 0:
            t.cwnd_limited = limited
            if unsent(t) == 0 and send_new(t, 0, out, now_ns):
                return 1
            if t.tx.n == 0 and unsent(t):
                arm_rtx(t, now_ns, 0)   # persist
        elif not paced(t, &n, now_ns) and send_new(t, n, out, now_ns):
            t.cwnd_limited = limited or (unsent(t) != 0 and flight(t) + t.snd_mss > t.cwnd)
            return 1
    else:
        t.cwnd_limited = 0 if flight(t) + t.snd_mss < t.cwnd else t.cwnd_limited
    if t.want & (TCP_WANT_PERSIST | TCP_WANT_KEEPALIVE):
        # An old sequence number without a byte: any receiver answers it with an ACK (RFC 9293 SHLD-12,
        # section 3.8.6.1).
        t.want &= ~(TCP_WANT_PERSIST | TCP_WANT_KEEPALIVE)
        begin(t, out, t.snd_una - 1, TCP_ACK, now_ns)
        return 1
    if t.want & (TCP_WANT_ACK | TCP_WANT_CHALLENGE):
        begin(t, out, t.snd_nxt, TCP_ACK, now_ns)
        if t.ack_burst:
            t.ack_burst -= 1
            if t.ack_burst:
                t.want |= TCP_WANT_ACK
        return 1
    t.ack_burst = 0
    return 0


cdef bint tcp_wants_output(const tcb_t *t) noexcept nogil:
    cdef bint limited
    cdef uint32_t used
    if t.want:
        return True
    if t.state <= TCP_SYN_RECEIVED:
        return False
    if t.tx.lost and seq_lt(t.tx.lost_hint, t.snd_una + t.snd_wnd):
        used = flight(t)
        if used == 0 or t.cwnd >= used + t.snd_mss:
            return True
    if unsent(t):
        return t.pace_at == UINT64_MAX and sendable(t, &limited) != 0
    return fin_due(t)
