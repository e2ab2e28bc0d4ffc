"""The receiving half.

In-order payload that finds nothing waiting before it stays in the frame and is handed to the user from there
(``tcp_delivery``); ``tcp_take`` keeps what the user refuses. Where it closes a hole, the bytes of the frame
come first and those that had waited behind the hole follow in the ring: both in the order of the stream.
"""
from libc.stdint cimport UINT64_MAX, uint8_t, uint16_t, uint32_t, uint64_t

from netstack.storage.ranges cimport ranges_add, ranges_drop_below
from netstack.storage.ring cimport (
    ring_commit,
    ring_drop,
    ring_init,
    ring_place,
    ring_skip,
    ring_span,
    ring_spans,
)
from netstack.tcp.block cimport (
    MS,
    TCP_EV_DATA,
    TCP_EV_OUTPUT,
    TCP_WANT_ACK,
    TCP_WANT_RST,
    memory_pressed,
    tcb_t,
    tcp_delivery,
    u32_max,
    u32_min,
    u64_max,
    u64_min,
)
from netstack.tcp.life cimport enter_closed, reserve
from netstack.tcp.seq cimport seq_offset
from netstack.tcp.states cimport TCP_CLOSED, TCP_CLOSE_WAIT
from netstack.wire.tcp cimport tcp_hdr

cdef enum:
    RELEASE_AFTER = 1000            # ms an empty ring keeps its memory
    PRESSED_BUFFER = 16384          # what is offered while memory is short
    DEFAULT_RTT = 100               # ms, where nothing has been measured
    AMPLE = 1 << 20                 # bytes of a receive buffer that need no proof by the round trip
    ROUND = 10                      # ms over which at least is measured what deserves more
    PROMPT_ACKS = 3                 # sent at once for a new hole: what starts a fast retransmission
    HELD_SEGMENTS = 44              # at most behind one ACK for data out of order


cdef void receive_start(tcb_t *t, uint32_t irs) noexcept nogil:
    t.irs = irs
    t.rcv_nxt = irs + 1
    t.rcv_off = t.rcv_nxt
    t.rcv_adv = t.rcv_nxt
    t.last_ack_sent = t.rcv_nxt
    t.rcv_up = t.rcv_nxt
    ring_init(&t.rcv_ring, t.rcv_off)


# --- the window

cdef inline uint32_t held(const tcb_t *t) noexcept nogil:
    return <uint32_t>(t.rcv_ring.tail - t.rcv_ring.head)


cdef inline uint32_t buffer_limit(const tcb_t *t) noexcept nogil:
    if memory_pressed(t):
        return u32_min(t.rcv_buf, PRESSED_BUFFER)
    return t.rcv_buf


cdef inline uint32_t could_offer(const tcb_t *t) noexcept nogil:
    cdef uint32_t limit = buffer_limit(t), used = held(t)
    return limit - used if used < limit else 0


cdef uint16_t offer_window(tcb_t *t, bint syn) noexcept nogil:
    """Silly-window avoidance (RFC 9293 section 3.8.6.2.2), and a right edge that never moves left (SHLD-14):
    not by a smaller buffer, and not by the rounding of the window scale."""
    cdef uint32_t current = t.rcv_adv - t.rcv_nxt
    cdef uint32_t free = could_offer(t), field, unit = 1 << t.rcv_wscale
    if current > 1 << 30:               # a FIN beyond the edge
        current = 0
    if syn:
        field = u32_min(free, 65535)
        t.rcv_wnd = field
        t.rcv_adv = t.rcv_nxt + field
        return <uint16_t>field
    if free < current or free - current < u32_min(t.rcv_mss, buffer_limit(t) // 2):
        field = (current + unit - 1) >> t.rcv_wscale
    else:
        field = free >> t.rcv_wscale
        if field << t.rcv_wscale < current:
            field = (current + unit - 1) >> t.rcv_wscale
    if field > 65535:
        field = 65535
    t.rcv_wnd = field << t.rcv_wscale
    if t.rcv_wnd > current:
        t.rcv_adv = t.rcv_nxt + t.rcv_wnd
    return <uint16_t>field


cdef uint32_t window_update(tcb_t *t) noexcept nogil:
    """An ACK is due when the user's reading has opened the window far, or out of near zero."""
    cdef uint32_t current = t.rcv_adv - t.rcv_nxt
    cdef uint32_t free = could_offer(t), growth
    if t.rcv_fin or t.state == TCP_CLOSED or t.state >= TCP_CLOSE_WAIT or free <= current:
        return 0
    growth = free - current
    if growth < u32_min(t.rcv_mss, buffer_limit(t) // 2):
        return 0
    if growth >= buffer_limit(t) // 4 or current < 2 * <uint32_t>t.rcv_mss:
        t.want |= TCP_WANT_ACK
        return TCP_EV_OUTPUT
    return 0


cdef void tune_window(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil:
    """Dynamic right-sizing: the buffer holds twice what the user takes in a round trip, so that a sender
    which doubles is never held back.

    The round trip is the shortest one: what waits in a queue on the way is the window's own, and a window that
    grew with it would grow without end, the more the larger it is already. Up to ``AMPLE`` a window is not worth
    such care: the streams that share a link all get that, and with it the same share.
    """
    cdef uint64_t rtt = t.rcv_rtt_ns, elapsed = now_ns - t.drs_ns, taken
    cdef bint ample = t.rcv_buf >= AMPLE
    t.drs_bytes += n
    if rtt == 0 or t.min_rtt_ns < rtt:      # the handshake's, if nothing else of ours was acknowledged
        rtt = u64_min(t.min_rtt_ns, DEFAULT_RTT * <uint64_t>MS)
    rtt = u64_max(rtt, MS)
    if elapsed < (u64_max(rtt, ROUND * <uint64_t>MS) if ample else rtt):
        return
    if elapsed < 2 * rtt + 2 * ROUND * <uint64_t>MS:
        taken = t.drs_bytes
        if ample and elapsed > rtt:     # several round trips: a burst in one of them is no reason
            taken = taken * rtt // elapsed
        if taken <= t.rcv_buf // 2:
            if not ample:
                return                  # it may still take that much
        elif t.rcv_buf < t.config.rcv_buf_max and not memory_pressed(t):
            taken = u64_min(2 * taken, t.config.rcv_buf_max)
            t.rcv_buf = u32_max(t.rcv_buf, <uint32_t>(taken if ample else u64_min(taken, AMPLE)))
    t.drs_ns = now_ns
    t.drs_bytes = 0


cdef inline void widen_behind_hole(tcb_t *t, uint32_t right) noexcept nogil:
    """Data out of order have come near the edge of the window: the sender is about to run dry.

    A retransmission that is lost as well is found by what is sent after it (RFC 8985 section 6.2). A sender that
    the window stops in the middle of recovery has nothing to send, and waits for its time-out.
    """
    if t.rcv_adv - right < t.rcv_buf // 4 and t.rcv_buf < t.config.rcv_buf_max and not memory_pressed(t):
        t.rcv_buf = u32_min(t.config.rcv_buf_max, 2 * t.rcv_buf)


# --- acknowledgments

cdef inline void acknowledge_soon(tcb_t *t, uint32_t length, uint64_t now_ns) noexcept nogil:
    """Every second full-sized segment at once, anything less within the delay (RFC 9293 section 3.8.6.3)."""
    t.ack_bytes += length
    if t.ack_bytes >= 2 * <uint32_t>t.rcv_mss or t.config.delayed_ack_ns == 0:
        t.want |= TCP_WANT_ACK
    elif t.delack_at == UINT64_MAX:
        t.delack_at = now_ns + t.config.delayed_ack_ns


cdef bint tcp_ack_waits(const tcb_t *t, uint32_t *step) noexcept nogil:
    """Whether an ACK should go before the rest of a batch of segments is looked at.

    One ACK for a batch is what fast senders want. A sender whose window is a few packets would get it only
    after the last of them, and send nothing meanwhile: so the first ACK of a batch goes after two segments,
    and the next ones at doubling distances. A new hole and a duplicate are reported at once (RFC 5681 section
    4.2): fast retransmission lives on it. After that, with SACK, one ACK tells as much as many, as long as its
    blocks have room for all the news (three beside timestamps).

    step: bytes until the next one; 0 at the beginning of a batch.
    """
    if not t.want & TCP_WANT_ACK:
        return False
    if t.dsack_left != t.dsack_right:
        return True
    if t.reassembly.n:
        return (not t.sack_on or t.hole_acks < PROMPT_ACKS or t.sack_news >= 3
                or t.ack_bytes >= HELD_SEGMENTS * <uint32_t>t.rcv_mss)
    if t.ack_bytes < u32_max(step[0], 2 * <uint32_t>t.rcv_mss):
        return False
    step[0] = 2 * t.ack_bytes
    return True


cdef void note_duplicate(tcb_t *t, uint32_t left, uint32_t right) noexcept nogil:
    if t.sack_on and left != right:
        t.dsack_left = left
        t.dsack_right = right


cdef int range_of(const tcb_t *t, uint32_t seq) noexcept nogil:
    """The index of the range that holds seq, or -1."""
    cdef int low = 0, high = <int>t.reassembly.n, middle
    cdef uint64_t offset = seq_offset(t.rcv_off, seq)
    while low < high:
        middle = (low + high) >> 1
        if t.reassembly.items[middle].right <= offset:
            low = middle + 1
        else:
            high = middle
    if low < <int>t.reassembly.n and t.reassembly.items[low].left <= offset:
        return low
    return -1


cdef void note_arrival(tcb_t *t, uint32_t seq) noexcept nogil:
    """The block that holds seq is the first to be reported (RFC 2018 section 4). It may have been known by
    another of its bytes: a block that grows does not push the others out."""
    cdef int i = 0, block = range_of(t, seq)
    while i < 3 and t.sack_order[i] != seq and (block < 0 or range_of(t, t.sack_order[i]) != block):
        i += 1
    if i == 3:                          # new, or so long ago that it may not have been reported
        t.sack_news += 1
    while i > 0:
        t.sack_order[i] = t.sack_order[i - 1]
        i -= 1
    t.sack_order[0] = seq


cdef int add_block(const tcb_t *t, tcp_hdr *hdr, int first, int n, int r) noexcept nogil:
    """Range r as block n, unless it is one of the blocks from first on; how many there are then."""
    cdef int k
    for k in range(first, n):
        if hdr.sack[k].left == <uint32_t>t.reassembly.items[r].left \
                and hdr.sack[k].right == <uint32_t>t.reassembly.items[r].right:
            return n
    hdr.sack[n].left = <uint32_t>t.reassembly.items[r].left
    hdr.sack[n].right = <uint32_t>t.reassembly.items[r].right
    return n + 1


cdef void write_sacks(tcb_t *t, tcp_hdr *hdr, int most) noexcept nogil:
    """D-SACK first (RFC 2883), then the blocks in the order of their latest arrival, then what room is left
    for the oldest: those that the sender misses first if ACKs are lost."""
    cdef int n = 0, first = 0, i, r
    if t.dsack_left != t.dsack_right:
        hdr.sack[0].left = t.dsack_left
        hdr.sack[0].right = t.dsack_right
        n = first = 1
        # a duplicate inside a block is followed by that block
        if range_of(t, t.dsack_left) >= 0:
            note_arrival(t, t.dsack_left)
        t.dsack_left = t.dsack_right = 0
    for i in range(4):
        if n == most or t.reassembly.n == 0:
            break
        r = range_of(t, t.sack_order[i])
        if r >= 0:
            n = add_block(t, hdr, first, n, r)
    r = 0
    while n < most and r < <int>t.reassembly.n and r < 4:
        n = add_block(t, hdr, first, n, r)
        r += 1
    hdr.n_sack = <uint8_t>n


# --- data

cdef bint join_reassembled(tcb_t *t) noexcept nogil:
    """rcv_off moves over what already waits behind it. True when there was some."""
    if t.reassembly.n and t.reassembly.items[0].left <= t.rcv_off:
        if t.reassembly.items[0].right > t.rcv_off:
            t.rcv_off = t.reassembly.items[0].right
        ranges_drop_below(&t.reassembly, t.rcv_off)
        return True
    return False


cdef uint32_t take_text(tcb_t *t, uint32_t seq, const uint8_t *payload, uint32_t length, uint64_t now_ns,
                        tcp_delivery *delivery) noexcept nogil:
    cdef uint64_t offset
    cdef uint32_t before = t.rcv_nxt, packet
    cdef int added
    packet = length if length < t.config.mss else t.config.mss
    if packet > t.rcv_mss:
        t.rcv_mss = <uint16_t>packet
    if seq != t.rcv_nxt:                # out of order: kept, and reported at once
        offset = seq_offset(t.rcv_off, seq)
        t.want |= TCP_WANT_ACK
        t.ack_bytes += length
        if not t.sack_on and t.ack_burst < 8:
            t.ack_burst += 1
        if reserve(t, &t.rcv_ring, <uint32_t>(offset + length - t.rcv_ring.head), False) < 0:
            return TCP_EV_OUTPUT        # no memory: it is as if it had been lost
        added = ranges_add(&t.reassembly, offset, offset + length)
        if added > 0:
            ring_place(&t.rcv_ring, offset, payload, length)
            note_arrival(t, seq)
            if t.sack_on:               # without SACK, an ACK with another window is no duplicate (RFC 5681 section 2)
                widen_behind_hole(t, seq + length)
        elif added == 0:
            note_duplicate(t, seq, seq + length)
        return TCP_EV_OUTPUT
    if t.rcv_ring.head == t.rcv_ring.tail:
        delivery.data = payload
        delivery.length = length
        t.rcv_off += length
        if join_reassembled(t):
            t.want |= TCP_WANT_ACK
    else:
        if reserve(t, &t.rcv_ring, <uint32_t>(t.rcv_off + length - t.rcv_ring.head), False) < 0:
            t.want |= TCP_WANT_ACK
            return TCP_EV_OUTPUT
        ring_place(&t.rcv_ring, t.rcv_off, payload, length)
        t.rcv_off += length
        if join_reassembled(t):
            t.want |= TCP_WANT_ACK
        ring_commit(&t.rcv_ring, <uint32_t>(t.rcv_off - t.rcv_ring.tail))
    t.rcv_nxt = <uint32_t>t.rcv_off
    t.rcv_wnd = t.rcv_adv - t.rcv_nxt
    t.hole_acks = 0
    if t.reassembly.n:
        t.want |= TCP_WANT_ACK          # a hole remains: every segment is acknowledged
    acknowledge_soon(t, t.rcv_nxt - before, now_ns)
    return TCP_EV_DATA | (TCP_EV_OUTPUT if t.want else 0)


cdef void tcp_take(tcb_t *t, const tcp_delivery *delivery, uint32_t consumed, uint64_t now_ns) noexcept nogil:
    cdef uint32_t rest
    if consumed > delivery.length:
        consumed = delivery.length
    rest = delivery.length - consumed
    ring_skip(&t.rcv_ring, consumed)
    if rest:
        if reserve(t, &t.rcv_ring, <uint32_t>(t.rcv_off - t.rcv_ring.head), True) < 0:
            # The machine has no memory. What nobody has acknowledged yet is as good as lost; otherwise the
            # stream is broken.
            if t.rcv_off == t.rcv_ring.head + rest and not t.rcv_fin:
                t.rcv_off -= rest
                t.rcv_nxt -= rest
            else:
                t.rst_seq = t.snd_nxt
                t.rst_with_ack = 1
                t.want = TCP_WANT_RST
                t.pending |= enter_closed(t, 0)
                return
        else:
            ring_place(&t.rcv_ring, t.rcv_ring.head, delivery.data + consumed, rest)
    ring_commit(&t.rcv_ring, <uint32_t>(t.rcv_off - t.rcv_ring.tail))
    if consumed:
        tune_window(t, consumed, now_ns)


cdef int tcp_read_spans(tcb_t *t, ring_span *out) noexcept nogil:
    return ring_spans(&t.rcv_ring, t.rcv_ring.head, held(t), out)


cdef uint32_t tcp_consumed(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil:
    ring_drop(&t.rcv_ring, n)
    if t.rcv_ring.head == t.rcv_ring.tail and t.reassembly.n == 0 and t.shrink_at == UINT64_MAX:
        t.shrink_at = now_ns + RELEASE_AFTER * <uint64_t>MS
    tune_window(t, n, now_ns)
    return window_update(t)


cdef uint32_t tcp_readable(const tcb_t *t) noexcept nogil:
    return held(t)
