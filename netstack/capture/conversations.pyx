"""Which frames belong together, and what the order of TCP's segments says.

A conversation is what passes between two addresses, and ports where the protocol has them. The client is who
sent the SYN, or else who was seen first. A SYN with a new sequence number begins another conversation of the
same addresses and ports.

The findings follow the definitions in Wireshark's User's Guide ("TCP Analysis"), so that a capture reads the
same in both. All of it is memory: bounded by MAX_CONVERSATIONS and MAX_UNACKED.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from netstack.capture.fields cimport (
    FOUND_ACKED_UNSEEN, FOUND_DUPLICATE_ACK, FOUND_FAST_RETRANSMISSION, FOUND_KEEP_ALIVE, FOUND_KEEP_ALIVE_ACK,
    FOUND_LOST_SEGMENT, FOUND_OUT_OF_ORDER, FOUND_RETRANSMISSION, FOUND_REUSED_PORTS,
    FOUND_SPURIOUS_RETRANSMISSION, FOUND_WINDOW_FULL, FOUND_WINDOW_UPDATE, FOUND_ZERO_WINDOW,
    FOUND_ZERO_WINDOW_PROBE, FOUND_ZERO_WINDOW_PROBE_ACK,
    LAYER_FLOW, LAYER_IPV4, LAYER_IPV6, LAYER_RTT, LAYER_SACK, LAYER_TCP_WHOLE, LAYER_WSCALE,
    fields_t,
)
from netstack.storage.table cimport table_del, table_free, table_get, table_new, table_put
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    FAST_RETRANSMISSION_NS = 20000000   # at most so long after the last duplicate acknowledgement
    OUT_OF_ORDER_NS = 3000000           # where no round-trip time is known: later is a retransmission
    CONTROL = TCP_SYN | TCP_FIN | TCP_RST

cdef struct key_t:
    uint64_t a[2]
    uint64_t b[2]
    uint16_t port_a, port_b
    uint8_t protocol, version
    uint16_t zero


cdef inline bint before(uint32_t a, uint32_t b) noexcept nogil:
    """Sequence numbers, modulo 2^32 (RFC 9293 section 3.4)."""
    return <int32_t>(a - b) < 0


cdef conversations_t *conversations_new(uint64_t k0, uint64_t k1) noexcept nogil:
    cdef conversations_t *c = <conversations_t *>calloc(1, sizeof(conversations_t))
    if c == NULL:
        return NULL
    c.table = table_new(sizeof(key_t), 1024, MAX_CONVERSATIONS, k0, k1)
    if c.table == NULL:
        free(c)
        return NULL
    return c


cdef void conversations_free(conversations_t *c) noexcept nogil:
    cdef uint32_t i
    if c == NULL:
        return
    for i in range(c.n):
        free(c.list[i].client.unacked)
        free(c.list[i].server.unacked)
        free(c.list[i])
    free(c.list)
    table_free(c.table)
    free(c)


cdef bint make_key(const fields_t *f, key_t *key) noexcept nogil:
    """The key, smaller end first; true where the sender is its second end."""
    cdef uint64_t src[2]
    cdef uint64_t dst[2]
    cdef bint second
    memset(key, 0, sizeof(key_t))
    if f.layers & LAYER_IPV6:
        memcpy(src, f.ip6_src, 16)
        memcpy(dst, f.ip6_dst, 16)
    else:
        src[0] = dst[0] = 0
        src[1] = f.ip_src
        dst[1] = f.ip_dst
    if src[0] != dst[0]:
        second = src[0] > dst[0]
    elif src[1] != dst[1]:
        second = src[1] > dst[1]
    else:
        second = f.src_port > f.dst_port
    memcpy(&key.b[0] if second else &key.a[0], src, 16)
    memcpy(&key.a[0] if second else &key.b[0], dst, 16)
    key.port_a = f.dst_port if second else f.src_port
    key.port_b = f.src_port if second else f.dst_port
    key.protocol = f.protocol
    key.version = f.ip_version
    return second


cdef conversation_t *add(conversations_t *c, const key_t *key, const fields_t *f, bint second) noexcept nogil:
    """A new conversation whose client is the sender of f; NULL where there is no room."""
    cdef conversation_t **grown
    cdef conversation_t *v
    cdef uint32_t room
    if c.n == MAX_CONVERSATIONS:
        return NULL
    if c.n == c.room:
        room = c.room * 2 if c.room else 256
        grown = <conversation_t **>realloc(c.list, room * sizeof(conversation_t *))
        if grown == NULL:
            return NULL
        c.list = grown
        c.room = room
    v = <conversation_t *>calloc(1, sizeof(conversation_t))
    if v == NULL:
        return NULL
    if table_put(c.table, key, v) < 0:
        free(v)
        return NULL
    v.number = c.n
    v.version = f.ip_version
    v.protocol = f.protocol
    v.swapped = second
    v.port[0] = f.src_port
    v.port[1] = f.dst_port
    v.v4[0] = f.ip_src
    v.v4[1] = f.ip_dst
    memcpy(&v.v6[0], f.ip6_src, 16)
    memcpy(&v.v6[2], f.ip6_dst, 16)
    v.first = f.time
    c.list[c.n] = v
    c.n += 1
    return v


cdef bint begins_anew(const conversation_t *v, const side_t *sender, const fields_t *f) noexcept nogil:
    """Is this the SYN of another connection than the one seen between these ports so far?"""
    return f.layers & LAYER_TCP_WHOLE and (f.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN and sender.has_seq \
        and f.tcp_seq != sender.first_seq


cdef void conversations_see(conversations_t *c, fields_t *f) noexcept nogil:
    cdef key_t key
    cdef conversation_t *v
    cdef side_t *sender
    cdef bint second
    f.flow = -1
    if not f.layers & (LAYER_IPV4 | LAYER_IPV6):
        return
    second = make_key(f, &key)
    v = <conversation_t *>table_get(c.table, &key)
    if v != NULL and begins_anew(v, &v.client if second == v.swapped else &v.server, f):
        table_del(c.table, &key)
        v = add(c, &key, f, second)
        if v != NULL:
            v.reused = 1
            f.analysis |= FOUND_REUSED_PORTS
    elif v == NULL:
        # Who answers a SYN that was not captured is the server all the same.
        v = add(c, &key, f, second)
        if v != NULL and f.layers & LAYER_TCP_WHOLE and f.tcp_flags & TCP_SYN and f.tcp_flags & TCP_ACK:
            turn_round(v)
    if v == NULL:
        c.refused += 1
        return
    sender = &v.client if second == v.swapped else &v.server
    f.flow = <int32_t>v.number
    f.layers |= LAYER_FLOW
    v.last = f.time
    sender.frames += 1
    sender.bytes += f.length
    sender.payload += f.payload
    if f.layers & LAYER_TCP_WHOLE:
        analyse(v, sender, &v.server if sender == &v.client else &v.client, f)


cdef void turn_round(conversation_t *v) noexcept nogil:
    cdef uint64_t halves[2]
    cdef uint16_t port = v.port[0]
    cdef uint32_t address = v.v4[0]
    v.swapped = not v.swapped
    v.port[0] = v.port[1]
    v.port[1] = port
    v.v4[0] = v.v4[1]
    v.v4[1] = address
    memcpy(halves, &v.v6[0], 16)
    memcpy(&v.v6[0], &v.v6[2], 16)
    memcpy(&v.v6[2], halves, 16)


# --- TCP

cdef inline void note(fields_t *f, uint16_t bits) noexcept nogil:
    f.analysis |= bits


cdef bint judge_window(const side_t *me, const side_t *other, fields_t *f) noexcept nogil:
    """What this segment says beside its data; true where it can be no duplicate acknowledgement."""
    cdef bint control = f.tcp_flags & CONTROL
    cdef bint empty = f.payload == 0
    cdef bint expected = me.has_seq and f.tcp_seq == me.next_seq
    cdef bint same_ack = me.has_ack and f.tcp_ack == me.last_ack
    cdef bint same_window = f.tcp_window == me.window
    if f.payload == 1 and expected and other.has_ack and other.window == 0:
        note(f, FOUND_ZERO_WINDOW_PROBE)
        return True
    if f.tcp_window == 0 and not control:
        note(f, FOUND_ZERO_WINDOW)
    if me.has_seq and before(me.next_seq, f.tcp_seq) and not f.tcp_flags & TCP_RST:
        note(f, FOUND_LOST_SEGMENT)
    if f.payload <= 1 and me.has_seq and f.tcp_seq == me.next_seq - 1 and not control:
        note(f, FOUND_KEEP_ALIVE)
    if empty and f.tcp_window and not same_window and expected and same_ack and not control:
        note(f, FOUND_WINDOW_UPDATE)
    if not empty and other.knows_scale and f.tcp_seq + f.payload == other.right_edge and not control:
        note(f, FOUND_WINDOW_FULL)
    if empty and expected and same_ack and same_window and not control:
        if f.tcp_window and other.analysis & FOUND_KEEP_ALIVE:
            note(f, FOUND_KEEP_ALIVE_ACK)
            return True
        if f.tcp_window == 0 and other.analysis & FOUND_ZERO_WINDOW_PROBE:
            note(f, FOUND_ZERO_WINDOW_PROBE_ACK)
            return True
    return False


cdef void judge_ack(side_t *me, side_t *other, fields_t *f, bint settled) noexcept nogil:
    cdef bint sack = f.layers & LAYER_SACK
    if f.payload == 0 and f.tcp_window and not settled and not f.tcp_flags & CONTROL and me.has_seq \
            and f.tcp_seq == me.next_seq and me.has_ack and f.tcp_ack == me.last_ack \
            and (f.tcp_window == me.window or sack):
        me.duplicates += 1
        me.duplicate_acks += 1
        note(f, FOUND_DUPLICATE_ACK)
        if sack:
            f.analysis &= <uint16_t>~FOUND_WINDOW_UPDATE
    if f.tcp_flags & TCP_ACK and (not me.has_ack or f.tcp_ack != me.last_ack):
        me.duplicates = 0
    if f.tcp_flags & TCP_ACK and other.has_contiguous and before(other.contiguous, f.tcp_ack):
        note(f, FOUND_ACKED_UNSEEN)
        other.contiguous = other.next_seq


cdef void judge_data(
    const conversation_t *v, side_t *me, const side_t *other, fields_t *f, uint32_t next_seq
) noexcept nogil:
    """Is what carries data, or a SYN or FIN, new? f.payload or one of the flags is there."""
    cdef bint old = me.has_seq and before(f.tcp_seq, me.next_seq)
    cdef uint32_t end = f.tcp_seq + f.payload
    cdef int64_t patience = v.handshake if v.handshake else OUT_OF_ORDER_NS
    if f.analysis & FOUND_KEEP_ALIVE:
        return
    if f.payload > 1 and me.has_seq and me.next_seq - 1 == f.tcp_seq:
        old = False         # the byte of a zero window probe again, and what follows it
    if f.payload and other.has_ack and not before(other.last_ack, end):
        note(f, FOUND_SPURIOUS_RETRANSMISSION | FOUND_RETRANSMISSION)
    elif not old:
        return
    elif other.duplicates >= 2 and other.last_ack == f.tcp_seq \
            and f.time - other.last_ack_time < FAST_RETRANSMISSION_NS:
        note(f, FOUND_FAST_RETRANSMISSION | FOUND_RETRANSMISSION)
    elif f.time - me.next_seq_time < patience and me.next_seq != next_seq:
        note(f, FOUND_OUT_OF_ORDER)
    else:
        note(f, FOUND_RETRANSMISSION)
    if f.analysis & FOUND_OUT_OF_ORDER:
        me.out_of_order += 1
    else:
        me.retransmissions += 1


cdef void remember_segment(side_t *me, const fields_t *f, uint32_t next_seq) noexcept nogil:
    cdef uint32_t room
    cdef unacked_t *grown
    if me.n_unacked == me.room:
        room = me.room * 2 if me.room else 8
        if room > MAX_UNACKED:
            return
        grown = <unacked_t *>realloc(me.unacked, room * sizeof(unacked_t))
        if grown == NULL:
            return
        me.unacked = grown
        me.room = room
    me.unacked[me.n_unacked].seq = f.tcp_seq
    me.unacked[me.n_unacked].next_seq = next_seq
    me.unacked[me.n_unacked].time = f.time
    me.n_unacked += 1


cdef void take_acknowledged(side_t *me, side_t *other, fields_t *f) noexcept nogil:
    """Forgets the other's segments that f acknowledges, and measures the round trip of the one that ends there."""
    cdef uint32_t i, kept = 0
    cdef const unacked_t *u
    for i in range(other.n_unacked):
        u = &other.unacked[i]
        if u.next_seq == f.tcp_ack and not f.layers & LAYER_RTT:
            f.layers |= LAYER_RTT
            f.rtt = f.time - u.time
        if before(f.tcp_ack, u.next_seq):
            if kept != i:
                other.unacked[kept] = u[0]
            kept += 1
    other.n_unacked = kept
    if f.layers & LAYER_RTT:
        if me.rtt_count == 0 or f.rtt < me.rtt_min:
            me.rtt_min = f.rtt
        if me.rtt_count == 0 or f.rtt > me.rtt_max:
            me.rtt_max = f.rtt
        me.rtt_sum += f.rtt
        me.rtt_count += 1


cdef void learn_handshake(conversation_t *v, side_t *me, side_t *other, const fields_t *f) noexcept nogil:
    if f.tcp_flags & TCP_SYN:
        me.knows_scale = 1
        if f.layers & LAYER_WSCALE:
            me.scale = f.tcp_wscale if f.tcp_wscale < 14 else 14
            if not me.seen & SEEN_SYN:
                v.scales += 1
        if f.tcp_flags & TCP_ACK:
            v.syn_ack_time = f.time
        elif v.syn_time == 0:
            v.syn_time = f.time
    elif v.handshake == 0 and v.syn_time and v.syn_ack_time and me == &v.client and f.tcp_flags & TCP_ACK:
        v.handshake = f.time - v.syn_time
        v.syn_ack_time = 0


cdef void analyse(conversation_t *v, side_t *me, side_t *other, fields_t *f) noexcept nogil:
    """One segment, in the order of the capture."""
    cdef bint control = f.tcp_flags & (TCP_SYN | TCP_FIN)
    cdef bint settled
    cdef uint32_t next_seq = f.tcp_seq + f.payload + (1 if control else 0)
    cdef bint first = not me.has_seq
    if not first and f.tcp_flags & TCP_SYN and f.tcp_flags & TCP_ACK and f.tcp_seq != me.first_seq:
        # Another answer to the same SYN: a server that refused first, or one that has started again.
        note(f, FOUND_REUSED_PORTS)
        me.has_seq = me.has_contiguous = 0
        me.n_unacked = 0
        first = True
    if first:
        me.first_seq = f.tcp_seq if f.tcp_flags & TCP_SYN else f.tcp_seq - 1
    settled = judge_window(me, other, f)
    judge_ack(me, other, f, settled)
    if f.payload or control:
        judge_data(v, me, other, f, next_seq)
        remember_segment(me, f, next_seq)
    if f.analysis & FOUND_ZERO_WINDOW:
        me.zero_windows += 1
    if f.analysis & FOUND_LOST_SEGMENT:
        me.lost_segments += 1
    learn_handshake(v, me, other, f)
    if not f.analysis & FOUND_ZERO_WINDOW_PROBE and (first or before(me.next_seq, next_seq)):
        me.next_seq = next_seq
        me.next_seq_time = f.time
        me.has_seq = 1
    if not f.analysis & FOUND_ZERO_WINDOW_PROBE and (not me.has_contiguous or f.tcp_seq == me.contiguous):
        me.contiguous = me.next_seq
        me.has_contiguous = 1
    if f.tcp_flags & TCP_ACK:
        me.last_ack = f.tcp_ack
        me.has_ack = 1
        take_acknowledged(me, other, f)
    me.window = f.tcp_window
    me.last_ack_time = f.time
    me.right_edge = me.last_ack + (
        <uint32_t>f.tcp_window << (me.scale if v.scales >= 2 and not f.tcp_flags & TCP_SYN else 0)
    )
    me.analysis = f.analysis
    if f.tcp_flags & TCP_SYN:
        me.seen |= SEEN_SYN
    if f.tcp_flags & TCP_FIN:
        me.seen |= SEEN_FIN
    if f.tcp_flags & TCP_RST:
        me.seen |= SEEN_RST
    if f.payload:
        me.seen |= SEEN_DATA
