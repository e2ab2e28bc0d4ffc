"""Congestion control common to all algorithms, and the one that does none."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.tcp.block cimport (
    TCP_CC_NONE,
    TCP_CC_RENO,
    tcb_t,
    tcp_cc,
    u32_max,
    u32_min,
)
from netstack.tcp.cubic cimport cubic_table
from netstack.tcp.hystart cimport hystart_reset
from netstack.tcp.reno cimport reno_table

cdef enum:
    UNBOUNDED = 1 << 30

cdef tcp_cc NONE


cdef void none_init(tcb_t *t, uint64_t now_ns) noexcept nogil:
    t.cwnd = UNBOUNDED


cdef void none_on_ack(tcb_t *t, uint32_t acked, uint64_t now_ns) noexcept nogil:
    t.cwnd = UNBOUNDED


cdef uint32_t none_on_loss(tcb_t *t, uint64_t now_ns) noexcept nogil:
    return UNBOUNDED


cdef void none_on_undo(tcb_t *t) noexcept nogil:
    t.cwnd = UNBOUNDED


cdef void none_on_idle(tcb_t *t, uint64_t idle_ns) noexcept nogil:
    t.cwnd = UNBOUNDED


cdef const tcp_cc *congestion_of(uint8_t congestion) noexcept nogil:
    if congestion == TCP_CC_NONE:
        return &NONE
    if congestion == TCP_CC_RENO:
        return reno_table()
    return cubic_table()


cdef uint32_t initial_window(const tcb_t *t) noexcept nogil:
    """RFC 6928: ten segments, bounded for large ones; one when the SYN or SYN-ACK was lost (RFC 5681 section
    3.1)."""
    cdef uint32_t mss = t.snd_mss
    if t.syn_sends > 1:
        return mss
    return u32_min(10 * mss, u32_max(2 * mss, 14600))


cdef void congestion_start(tcb_t *t, uint64_t now_ns) noexcept nogil:
    t.cwnd = initial_window(t)
    t.ssthresh = UNBOUNDED
    hystart_reset(t)
    congestion_of(t.config.congestion).init(t, now_ns)
    t.round_end = t.round_una = t.snd_nxt
    t.round_ns = now_ns


cdef void restart_after_idle(tcb_t *t, uint64_t now_ns) noexcept nogil:
    """Called before data is sent with nothing in flight."""
    cdef uint64_t idle
    if t.last_send_ns == 0 or now_ns <= t.last_send_ns:
        return
    idle = now_ns - t.last_send_ns
    if idle > t.rto_ns:
        t.cwnd = u32_min(t.cwnd, u32_max(initial_window(t), t.snd_mss))
        hystart_reset(t)
        congestion_of(t.config.congestion).on_idle(t, idle)
        t.last_send_ns = now_ns


NONE.init = none_init
NONE.on_ack = none_on_ack
NONE.on_loss = none_on_loss
NONE.on_undo = none_on_undo
NONE.on_idle = none_on_idle
