"""What the user asks of a connection."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.storage.ring cimport ring_commit, ring_free_spans, ring_span
from netstack.tcp.block cimport (
    TCP_EV_OUTPUT,
    TCP_WANT_RST,
    TCP_WANT_SYN,
    tcb_t,
    u32_max,
    u32_min,
)
from netstack.tcp.life cimport enter_closed, reserve, set_state
from netstack.tcp.output cimport tcp_wants_output
from netstack.tcp.states cimport (
    TCP_CLOSE_WAIT,
    TCP_CLOSED,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT_1,
    TCP_FIN_WAIT_2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECEIVED,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)

cdef enum:
    FIRST_RING = 65536              # bytes
    LEAST_RING = 8192               # what memory pressure leaves to everyone


cdef uint32_t begin(tcb_t *t, uint8_t state, uint64_t now_ns) noexcept nogil:
    """Our SYN is due; nothing else is until it is acknowledged, or its time is over."""
    set_state(t, state)
    t.want |= TCP_WANT_SYN
    t.rtx_at = now_ns + t.rto_ns
    t.life_at = now_ns + t.config.syn_timeout_ns
    return TCP_EV_OUTPUT


cdef uint32_t tcp_established_ok(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.state != TCP_LISTEN:
        return 0
    return begin(t, TCP_SYN_RECEIVED, now_ns)


cdef uint32_t tcp_open(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.state != TCP_CLOSED:
        return 0
    t.active = 1
    return begin(t, TCP_SYN_SENT, now_ns)


cdef uint32_t tcp_close(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """The state changes at once, the FIN follows what is queued (RFC 9293 section 3.10.4)."""
    if t.fin_queued or t.state == TCP_CLOSED:
        return 0
    if t.state == TCP_SYN_SENT:
        return enter_closed(t, 0)               # nothing is sent; a late SYN-ACK meets no connection
    t.fin_queued = 1
    t.snd_blocked = 0
    if t.state == TCP_ESTABLISHED:
        set_state(t, TCP_FIN_WAIT_1)
    elif t.state == TCP_CLOSE_WAIT:
        set_state(t, TCP_LAST_ACK)
    else:
        return 0                                # LISTEN and SYN-RECEIVED: when the handshake is complete
    return TCP_EV_OUTPUT


cdef uint32_t tcp_stop_reading(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.stopped_reading or t.state == TCP_CLOSED:
        return 0
    t.stopped_reading = 1
    if t.state >= TCP_ESTABLISHED and t.state != TCP_TIME_WAIT \
            and (t.rcv_ring.tail != t.rcv_ring.head or t.reassembly.n):
        return tcp_abort(t, now_ns)
    if t.state == TCP_FIN_WAIT_2 and t.config.fin_wait_2_ns:
        t.life_at = now_ns + t.config.fin_wait_2_ns
    return 0


cdef uint32_t tcp_abort(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """RFC 9293 section 3.10.5."""
    if t.state == TCP_CLOSED:
        return 0
    if t.state == TCP_LISTEN:                   # the answer that a closed port gives
        t.rst_seq = 0
        t.rst_with_ack = 1
        t.want = TCP_WANT_RST
    elif t.state != TCP_SYN_SENT and t.state != TCP_TIME_WAIT:
        t.rst_seq = t.snd_nxt
        t.rst_with_ack = 1
        t.want = TCP_WANT_RST
    else:
        t.want = 0
    return enter_closed(t, 0)


# --- SEND

cdef int tcp_write_spans(tcb_t *t, uint32_t limit, ring_span *out) noexcept nogil:
    """Room grows with use: a ring begins small and doubles while it is filled, or a quarter of it waits for the peer.
    A little room in a full ring is refused (``TCP_EV_SPACE`` tells when there is more), so that a writer is not woken
    for crumbs."""
    cdef uint32_t held = <uint32_t>(t.snd_ring.tail - t.snd_ring.head), room, need
    if t.fin_queued or t.state == TCP_CLOSED or t.state == TCP_TIME_WAIT or limit == 0:
        return 0
    room = t.snd_limit - held if t.snd_limit > held else 0
    if room < limit and room < t.snd_limit // 4:
        t.snd_blocked = 1
        return 0
    if limit > room:
        limit = room
    if t.snd_ring.capacity - held < limit and (t.snd_filled or held >= t.snd_ring.capacity // 4):
        t.snd_filled = 0
        need = held + u32_min(limit, u32_max(FIRST_RING, t.snd_ring.capacity))
        if reserve(t, &t.snd_ring, need, False) < 0 and t.snd_ring.capacity < LEAST_RING:
            reserve(t, &t.snd_ring, LEAST_RING, True)
        if t.snd_ring.capacity == held:
            t.snd_blocked = 1
            return 0
    return ring_free_spans(&t.snd_ring, limit, out)


cdef uint32_t tcp_wrote(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil:
    ring_commit(&t.snd_ring, n)
    if t.snd_ring.tail - t.snd_ring.head == t.snd_ring.capacity:
        t.snd_filled = 1
    return TCP_EV_OUTPUT if tcp_wants_output(t) else 0


cdef uint32_t tcp_unacked(const tcb_t *t) noexcept nogil:
    return <uint32_t>(t.snd_ring.tail - t.snd_ring.head)


cdef void tcp_urgent(tcb_t *t) noexcept nogil:
    """RFC 9293 section 3.8.5: the urgent pointer names the octet behind the urgent bytes (MUST-62)."""
    t.snd_urgent = 1
    t.snd_up = <uint32_t>t.snd_ring.tail
