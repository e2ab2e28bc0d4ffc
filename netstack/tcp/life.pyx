"""The transmission control block: birth and death, the state, and the memory it holds."""
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from netstack.storage.ranges cimport ranges_free, ranges_init
from netstack.storage.ring cimport ring_free, ring_init, ring_reserve, ring_shrink, ring_t
from netstack.tcp.block cimport (
    SYN_MSS_FLOOR,
    TCP_EV_CLOSED,
    TCP_EV_OUTPUT,
    TCP_TIMER_NONE,
    TCP_WANT_RST,
    account,
    blocks_of,
    tcb_t,
    tcp_config,
)
from netstack.tcp.sack cimport tx_free
from netstack.tcp.states cimport TCP_CLOSED, tcp_transition_allowed

cdef enum:
    # ranges of out-of-order data (bounded reassembly: the bytes are bounded by the window)
    MAX_HOLES = 256
    SMALL_RING = 65536              # a ring that a memory limit refuses to grow may still have this much


cdef void tcb_init(tcb_t *t, const tcp_config *config, uint16_t local_port, uint16_t remote_port,
                   uint32_t iss, uint32_t ts_offset) noexcept nogil:
    """A connection in CLOSED. iss: initial send sequence number; ts_offset: added to the timestamp clock."""
    memset(t, 0, sizeof(tcb_t))
    t.config = config
    t.local_port = local_port
    t.remote_port = remote_port
    t.iss = iss
    t.ts_offset = ts_offset
    t.snd_una = t.snd_nxt = iss
    t.snd_limit = config.snd_buf_initial
    t.rcv_buf = config.rcv_buf_initial
    t.path_mss = config.mss
    t.peer_mss = 1220 if config.ip_header == 40 else 536
    t.rcv_mss = 536 if config.mss > 536 else config.mss
    t.rto_ns = config.rto_initial_ns
    t.min_rtt_ns = UINT64_MAX
    t.rtx_at = t.delack_at = t.keepalive_at = t.life_at = t.pace_at = t.shrink_at = UINT64_MAX
    t.rcv_wscale = 0
    while t.rcv_wscale < 14 and (config.rcv_buf_max >> t.rcv_wscale) > 65535:
        t.rcv_wscale += 1
    ring_init(&t.snd_ring, iss + 1)
    ring_init(&t.rcv_ring, 0)
    ranges_init(&t.reassembly, MAX_HOLES)
    t.tx.lost_hint = t.tx.rack_hint = t.dsack_round = t.recovery_point = t.undo_una = iss
    t.reo_mult = 1
    update_mss(t)


cdef void tcb_free(tcb_t *t) noexcept nogil:
    """Gives all memory back; harmless when repeated."""
    account(t, -<int64_t>t.snd_ring.capacity - <int64_t>t.rcv_ring.capacity)
    ring_free(&t.snd_ring, blocks_of(t))
    ring_free(&t.rcv_ring, blocks_of(t))
    ranges_free(&t.reassembly)
    account(t, -<int64_t>tx_free(&t.tx))


cdef void set_state(tcb_t *t, uint8_t state) noexcept nogil:
    if not tcp_transition_allowed(t.state, state):
        t.bad_transition = 1
    t.state = state


cdef void free_sent(tcb_t *t) noexcept nogil:
    account(t, -<int64_t>t.snd_ring.capacity)
    ring_free(&t.snd_ring, blocks_of(t))
    account(t, -<int64_t>tx_free(&t.tx))


cdef uint32_t enter_closed(tcb_t *t, uint32_t event) noexcept nogil:
    # Bytes that came in order before the end stay readable; nothing else is needed any more.
    if t.state != TCP_CLOSED:
        set_state(t, TCP_CLOSED)
    t.want &= TCP_WANT_RST
    t.rtx_at = t.delack_at = t.keepalive_at = t.life_at = t.pace_at = t.shrink_at = UINT64_MAX
    t.rtx_timer = TCP_TIMER_NONE
    t.ack_burst = 0
    free_sent(t)
    t.snd_una = t.snd_nxt
    ranges_free(&t.reassembly)
    if t.want:
        event |= TCP_EV_OUTPUT
    return event | TCP_EV_CLOSED


cdef void update_mss(tcb_t *t) noexcept nogil:
    """RFC 9293 section 3.7.1: the least of what the peer takes and the path carries, less our options."""
    cdef uint16_t mss = t.peer_mss
    if mss > t.path_mss:
        mss = t.path_mss
    if mss < SYN_MSS_FLOOR:
        mss = SYN_MSS_FLOOR
    if t.ts_on:
        mss -= 12
    if mss > t.config.max_gso:
        mss = <uint16_t>t.config.max_gso
    t.snd_mss = mss


cdef int reserve(tcb_t *t, ring_t *ring, uint32_t need, bint must) noexcept nogil:
    cdef uint32_t before = ring.capacity
    if need <= before:
        return 0
    if not must and need > SMALL_RING and t.config.memory != NULL \
            and t.config.memory.used + (need - before) > t.config.memory.limit:
        return -1
    if ring_reserve(ring, need, blocks_of(t)) < 0:
        return -1
    account(t, <int64_t>ring.capacity - <int64_t>before)
    return 0


cdef void shrink(tcb_t *t, ring_t *ring) noexcept nogil:
    cdef uint32_t before = ring.capacity
    ring_shrink(ring, blocks_of(t))
    account(t, <int64_t>ring.capacity - <int64_t>before)
