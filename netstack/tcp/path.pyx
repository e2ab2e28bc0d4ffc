"""Path MTU and ICMP errors."""
from libc.stdint cimport uint32_t, uint64_t

from netstack.tcp.block cimport (
    TCP_EV_OUTPUT,
    TCP_EV_RESET,
    TX_SACKED,
    tcb_t,
    u32_max,
)
from netstack.tcp.life cimport enter_closed, update_mss
from netstack.tcp.sack cimport tx_at, tx_mark_lost
from netstack.tcp.seq cimport seq_within
from netstack.tcp.states cimport TCP_CLOSED, TCP_LISTEN, TCP_SYN_RECEIVED, TCP_SYN_SENT

cdef extern from *:
    """
    /* MTU plateaus below which nothing but a smaller one helps: large Ethernet, Ethernet, every tunnel
       (RFC 8200), the old ones of RFC 1191 section 7 */
    static const unsigned short tcp_plateaus[] = {8166, 4352, 1500, 1280, 1006, 576};
    enum { tcp_n_plateaus = sizeof tcp_plateaus / sizeof *tcp_plateaus };
    """
    const unsigned short *tcp_plateaus
    int tcp_n_plateaus

cdef enum:
    LEAST_MTU4 = 68                 # RFC 1191 section 3
    LEAST_MTU6 = 1280               # RFC 8201 section 4: a smaller one is not believed
    BLACK_HOLE_TIMEOUTS = 2         # of full-sized segments in succession, where none has come through yet
    # the same where some have: it takes more to believe that the path has changed
    PATH_CHANGE_TIMEOUTS = 6
    BLACK_HOLE_FLOOR4 = 576         # MTU below which no probing goes
    RAISE_AFTER = 600               # s


cdef inline uint32_t headers(const tcb_t *t) noexcept nogil:
    return (t.config.ip_header if t.config.ip_header else 20) + 20


cdef void lower_path(tcb_t *t, uint32_t mtu, uint64_t now_ns) noexcept nogil:
    """Segments are cut anew at once; what was larger is sent again without a word to congestion control (RFC
    1191)."""
    cdef uint32_t mss = mtu - headers(t), i
    if mss >= t.path_mss:
        return
    t.path_mss = <unsigned short>mss
    t.path_mss_at = now_ns
    update_mss(t)
    for i in range(t.tx.n):
        if tx_at(&t.tx, i).mss > t.snd_mss and tx_at(&t.tx, i).end - tx_at(&t.tx, i).seq > t.snd_mss \
                and not tx_at(&t.tx, i).flags & TX_SACKED:
            tx_mark_lost(t, i)
    t.cwnd = u32_max(t.cwnd, t.snd_mss)


cdef uint32_t tcp_icmp_error(tcb_t *t, uint32_t quoted_seq, bint hard, uint32_t mtu,
                             uint64_t now_ns) noexcept nogil:
    """Only an error about something that is outstanding is believed; after the handshake a hard one is a hint
    and no more."""
    cdef uint32_t least = LEAST_MTU6 if t.config.ip_header == 40 else LEAST_MTU4
    if t.state == TCP_CLOSED or t.state == TCP_LISTEN or not seq_within(quoted_seq, t.snd_una, t.snd_nxt):
        return 0
    if mtu:
        if mtu < least:
            return 0
        lower_path(t, mtu, now_ns)
        return TCP_EV_OUTPUT if t.tx.lost else 0
    if hard and (t.state == TCP_SYN_SENT or t.state == TCP_SYN_RECEIVED):
        return enter_closed(t, TCP_EV_RESET)
    return 0


cdef void suspect_black_hole(tcb_t *t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t mtu = t.snd_mss + headers(t) + (12 if t.ts_on else 0), floor
    cdef int i
    floor = LEAST_MTU6 if t.config.ip_header == 40 else BLACK_HOLE_FLOOR4
    if (t.tx.n == 0 or tx_at(&t.tx, 0).mss < t.snd_mss
            or tx_at(&t.tx, 0).end - tx_at(&t.tx, 0).seq < t.snd_mss):
        return
    t.full_timeouts += 1
    if t.full_timeouts < (PATH_CHANGE_TIMEOUTS if t.proven_mss >= t.snd_mss else BLACK_HOLE_TIMEOUTS):
        return
    t.full_timeouts = 0
    t.proven_mss = 0
    for i in range(tcp_n_plateaus):
        if tcp_plateaus[i] < mtu and tcp_plateaus[i] >= floor:
            lower_path(t, tcp_plateaus[i], now_ns)
            t.backoff = 0               # it was the size and not congestion: the smaller ones do not wait
            return


cdef void raise_path(tcb_t *t, uint64_t now_ns) noexcept nogil:
    if t.path_mss < t.config.mss and now_ns - t.path_mss_at > RAISE_AFTER * <uint64_t>1000000000:
        t.path_mss = t.config.mss
        update_mss(t)
