"""Reno congestion avoidance."""
from libc.stdint cimport uint32_t, uint64_t

from netstack.tcp.block cimport flight, tcb_t, tcp_cc, u32_max
from netstack.tcp.hystart cimport slow_start

cdef tcp_cc RENO


cdef void reno_init(tcb_t *t, uint64_t now_ns) noexcept nogil:
    t.cwnd_credit = 0


cdef void reno_on_ack(tcb_t *t, uint32_t acked, uint64_t now_ns) noexcept nogil:
    if t.cwnd < t.ssthresh:
        acked = slow_start(t, acked)
        if acked == 0:
            return
    t.cwnd_credit += acked
    if t.cwnd_credit >= t.cwnd:
        t.cwnd_credit -= t.cwnd
        t.cwnd += t.snd_mss
        if t.cwnd_credit > t.cwnd:
            t.cwnd_credit = t.cwnd


cdef uint32_t reno_on_loss(tcb_t *t, uint64_t now_ns) noexcept nogil:
    t.cwnd_credit = 0
    return u32_max(flight(t) // 2 if flight(t) < t.cwnd else t.cwnd // 2, 2 * <uint32_t>t.snd_mss)


cdef void reno_on_undo(tcb_t *t) noexcept nogil:
    t.cwnd_credit = 0


cdef void reno_on_idle(tcb_t *t, uint64_t idle_ns) noexcept nogil:
    t.cwnd_credit = 0


cdef const tcp_cc *reno_table() noexcept nogil:
    return &RENO


RENO.init = reno_init
RENO.on_ack = reno_on_ack
RENO.on_loss = reno_on_loss
RENO.on_undo = reno_on_undo
RENO.on_idle = reno_on_idle
