"""Slow start with HyStart++: leaves slow start when the round-trip time grows, before the queue overflows.

The threshold is at least 4 ms (RFC 9406 section 4.3), so that the jitter of a local link, whose round trip
takes tens of microseconds, never ends slow start.
"""
from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t

from netstack.tcp.block cimport tcb_t, u32_max, u64_min

cdef enum:
    MIN_THRESH = 4000               # microseconds
    MAX_THRESH = 16000
    THRESH_DIVISOR = 8
    SAMPLES = 8
    GROWTH_DIVISOR = 4
    CSS_ROUNDS = 5
    LIMIT = 8                       # segments of growth for one ACK (L of RFC 9406)
    CWND_MAX = 1 << 30


cdef void hystart_reset(tcb_t *t) noexcept nogil:
    t.hystart.last_min_us = t.hystart.current_min_us = t.hystart.baseline_min_us = UINT32_MAX
    t.hystart.samples = 0
    t.hystart.css_rounds = 0


cdef void hystart_round(tcb_t *t) noexcept nogil:
    if t.cwnd >= t.ssthresh:
        return
    t.hystart.last_min_us = t.hystart.current_min_us
    t.hystart.current_min_us = UINT32_MAX
    t.hystart.samples = 0
    if t.hystart.css_rounds:
        t.hystart.css_rounds += 1
        if t.hystart.css_rounds > CSS_ROUNDS:
            t.ssthresh = t.cwnd
            t.hystart.css_rounds = 0


cdef void hystart_sample(tcb_t *t, uint64_t rtt_ns) noexcept nogil:
    cdef uint32_t thresh, rtt_us
    if t.cwnd >= t.ssthresh:
        return
    rtt_us = <uint32_t>u64_min(rtt_ns // 1000, UINT32_MAX - 1)
    if rtt_us < t.hystart.current_min_us:
        t.hystart.current_min_us = rtt_us
    if t.hystart.samples < SAMPLES:
        t.hystart.samples += 1
        if t.hystart.samples < SAMPLES:
            return
    if t.hystart.css_rounds:
        if t.hystart.current_min_us < t.hystart.baseline_min_us:
            t.hystart.css_rounds = 0            # it was jitter: back to slow start
            t.hystart.baseline_min_us = UINT32_MAX
        return
    if t.hystart.last_min_us == UINT32_MAX:
        return
    thresh = t.hystart.last_min_us // THRESH_DIVISOR
    if thresh < MIN_THRESH:
        thresh = MIN_THRESH
    elif thresh > MAX_THRESH:
        thresh = MAX_THRESH
    if t.hystart.current_min_us >= t.hystart.last_min_us + thresh:
        t.hystart.baseline_min_us = t.hystart.current_min_us
        t.hystart.css_rounds = 1


cdef uint32_t slow_start(tcb_t *t, uint32_t acked) noexcept nogil:
    # One ACK may cover a super-segment: as much as one segment may carry is not a burst that slow start adds.
    cdef uint32_t growth, most = u32_max(LIMIT * <uint32_t>t.snd_mss, t.config.max_gso)
    growth = acked if acked < most else most
    if t.hystart.css_rounds:
        growth //= GROWTH_DIVISOR
    if t.cwnd + growth >= t.ssthresh:
        growth = t.ssthresh - t.cwnd
        t.cwnd = t.ssthresh
        return acked - growth
    t.cwnd += growth
    if t.cwnd > CWND_MAX:
        t.cwnd = CWND_MAX
    return 0
