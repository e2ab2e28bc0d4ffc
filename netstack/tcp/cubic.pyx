"""CUBIC congestion avoidance (RFC 9438), slow start by HyStart++."""
from libc.math cimport cbrt
from libc.stdint cimport uint32_t, uint64_t

from netstack.tcp.block cimport TCP_CA_LOSS, tcb_t, tcp_cc, u32_max
from netstack.tcp.hystart cimport slow_start

cdef tcp_cc CUBIC

cdef double C = 0.4                 # segments per second cubed
cdef double BETA = 0.7
cdef double ALPHA = 0.5294117647058824      # 3 (1 - BETA) / (1 + BETA)


cdef void cubic_init(tcb_t *t, uint64_t now_ns) noexcept nogil:
    t.cubic.w_max = t.cubic.prior_w_max = 0
    t.cubic.epoch_ns = 0
    t.cubic.fraction = 0


cdef void begin_epoch(tcb_t *t, double cwnd, uint64_t now_ns) noexcept nogil:
    t.cubic.epoch_ns = now_ns if now_ns else 1
    t.cubic.w_est = cwnd
    if t.cubic.w_max > cwnd:
        t.cubic.k = cbrt((t.cubic.w_max - cwnd) / C)
    else:
        t.cubic.k = 0
        t.cubic.w_max = cwnd


cdef void cubic_on_ack(tcb_t *t, uint32_t acked, uint64_t now_ns) noexcept nogil:
    cdef double mss = t.snd_mss
    cdef double cwnd, elapsed, offset, w_cubic, target, growth
    if t.cwnd < t.ssthresh:
        acked = slow_start(t, acked)
        if acked == 0:
            return
    cwnd = t.cwnd / mss
    if t.cubic.epoch_ns == 0:
        begin_epoch(t, cwnd, now_ns)
    elapsed = <double>(now_ns - t.cubic.epoch_ns) * 1e-9 if now_ns > t.cubic.epoch_ns else 0.0
    offset = elapsed - t.cubic.k
    w_cubic = C * offset * offset * offset + t.cubic.w_max
    # section 4.3: what Reno would have; from w_max on with its full slope
    t.cubic.w_est += (ALPHA if t.cubic.w_est < t.cubic.w_max else 1.0) * (acked / mss) / cwnd
    if w_cubic < t.cubic.w_est:
        growth = (t.cubic.w_est - cwnd) * mss
    else:
        # section 4.2: the window that CUBIC wants one RTT from now, within [cwnd, 1.5 cwnd]
        offset += <double>t.srtt_ns * 1e-9
        target = C * offset * offset * offset + t.cubic.w_max
        if target < cwnd:
            target = cwnd
        elif target > 1.5 * cwnd:
            target = 1.5 * cwnd
        growth = (target - cwnd) / cwnd * acked
    growth += t.cubic.fraction
    if growth > 0:
        if growth > acked:
            growth = acked
        t.cwnd += <uint32_t>growth
        t.cubic.fraction = growth - <uint32_t>growth
        if t.cwnd > 1 << 30:
            t.cwnd = 1 << 30


cdef uint32_t cubic_on_loss(tcb_t *t, uint64_t now_ns) noexcept nogil:
    cdef double cwnd = <double>t.cwnd / t.snd_mss
    t.cubic.prior_w_max = t.cubic.w_max
    if t.recovery == TCP_CA_LOSS:
        t.cubic.w_max = 0               # section 4.8: after a time-out the curve starts at the new window
    elif cwnd < t.cubic.w_max:
        t.cubic.w_max = cwnd * (1 + BETA) / 2       # section 4.7, fast convergence
    else:
        t.cubic.w_max = cwnd
    t.cubic.epoch_ns = 0
    t.cubic.fraction = 0
    return u32_max(<uint32_t>(t.cwnd * BETA), 2 * <uint32_t>t.snd_mss)


cdef void cubic_on_undo(tcb_t *t) noexcept nogil:
    t.cubic.w_max = t.cubic.prior_w_max
    t.cubic.epoch_ns = 0


cdef void cubic_on_idle(tcb_t *t, uint64_t idle_ns) noexcept nogil:
    if t.cubic.epoch_ns:                # section 5.8: the curve does not run while nothing is sent
        t.cubic.epoch_ns += idle_ns


cdef const tcp_cc *cubic_table() noexcept nogil:
    return &CUBIC


CUBIC.init = cubic_init
CUBIC.on_ack = cubic_on_ack
CUBIC.on_loss = cubic_on_loss
CUBIC.on_undo = cubic_on_undo
CUBIC.on_idle = cubic_on_idle
