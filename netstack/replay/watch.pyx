"""What the stack is seen to do while a capture is fed: every frame towards the guest, every call on the host side.

Judged here is what needs no words: bytes against bytes, acknowledgements against what was sent, windows against
windows. The first difference of a conversation is kept; ``netstack.replay.verdict`` says it in words.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from netstack.host.message cimport udp_message
from netstack.host.posix cimport iovec
from netstack.host.scripted cimport scripted_calls, scripted_free, scripted_new
from netstack.link.link cimport LINK_OK, link_frame, link_t
from netstack.nat.flow cimport flow_key
from netstack.replay.flows cimport (
    DIFF_ACK_UNSENT, DIFF_BEYOND_WINDOW, DIFF_BYTES_DOWN, DIFF_BYTES_UP, DIFF_RESET,
    DIFF_SEQUENCE, DIFF_STATE, DIFF_TOO_MANY_UP, DIFF_WINDOW_SHRUNK, FACT_MIDDLE, FACT_OVERLAP, SAME, SEEN_ABORTED,
    SEEN_CLOSED, SEEN_CONNECT, SEEN_FIN, SEEN_RST, SEEN_SHUT, SEEN_SYN, SEEN_TIMED_OUT, flow_t, offset_of,
)
from netstack.replay.trace cimport (
    EXPECT_DOWN, EXPECT_ECHO, EXPECT_ERROR, EXPECT_REFUSAL, EXPECT_UP, KIND_ICMP, KIND_UDP, RESULT_ANSWERED,
    RESULT_DELIVERED, RESULT_SPOKE, RESULT_WRONG, frame_t,
)
from netstack.storage.frame cimport frame_meta
from netstack.storage.table cimport table_del, table_get, table_put
from netstack.wire.addr cimport addr_t, addr_v4
from netstack.wire.be cimport be16, be32
from netstack.wire.ethernet cimport ETHERTYPE_IPV4, eth_hdr, eth_parse
from netstack.wire.icmp4 cimport ICMP4_ECHO_REPLY, icmp4_hdr, icmp4_parse
from netstack.wire.ipv4 cimport IPPROTO_ICMP4, IPPROTO_TCP4, IPPROTO_UDP4, ipv4_hdr, ipv4_parse
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, tcp_hdr, tcp_parse
from netstack.wire.udp cimport udp_hdr, udp_parse

cdef uint64_t FAR = <uint64_t>1 << 31


cdef inline play_key name_of(uint32_t peer, uint16_t guest_port, uint16_t peer_port, uint8_t protocol) noexcept nogil:
    cdef play_key key
    key.peer = peer
    key.guest_port = guest_port
    key.peer_port = peer_port
    key.protocol = protocol
    key.zero = 0
    return key


cdef flow_t *watch_flow(play_t *p, uint32_t peer, uint16_t guest_port, uint16_t peer_port,
                        uint8_t protocol) noexcept nogil:
    cdef play_key key = name_of(peer, guest_port, peer_port, protocol)
    cdef size_t i = <size_t>table_get(p.by_key, &key)
    return &p.flows[i - 1] if i else NULL


cdef int watch_bears(play_t *p, flow_t *w) noexcept nogil:
    cdef play_key key = name_of(w.peer, w.guest_port, w.peer_port, w.protocol)
    table_del(p.by_key, &key)
    return table_put(p.by_key, &key, <void *><size_t>(w - p.flows + 1))


cdef void watch_differs(play_t *p, flow_t *w, uint8_t what, uint64_t a, uint64_t b) noexcept nogil:
    """Notes the first difference of a conversation."""
    if w.diff == SAME and p.judging:
        w.diff = what
        w.diff_cause = p.cause
        w.diff_a = a
        w.diff_b = b


# --- the link

cdef int link_recv(link_t *link, link_frame *out) noexcept nogil:
    cdef play_t *p = <play_t *>link.impl
    if p.pending == 0:
        return 0
    out.data = p.scratch
    out.length = p.pending
    out.meta = p.meta
    p.pending = 0
    return 1


cdef int link_send(link_t *link, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef play_t *p = <play_t *>link.impl
    cdef uint32_t length = 0
    cdef uint64_t room
    cdef uint8_t *at
    cdef void *memory
    cdef int i
    cdef bint keep
    for i in range(n):
        length += <uint32_t>iov[i].iov_len
    if p.arena_used + length > p.arena_room:
        room = p.arena_room * 2 if p.arena_room else 1 << 20
        while room < p.arena_used + length:
            room *= 2
        memory = realloc(p.arena, room)
        if memory == NULL:
            p.no_memory = 1
            return LINK_OK
        p.arena = <uint8_t *>memory
        p.arena_room = room
    at = p.arena + p.arena_used
    length = 0
    for i in range(n):
        memcpy(at + length, iov[i].iov_base, iov[i].iov_len)
        length += <uint32_t>iov[i].iov_len
    p.sent_frames += 1
    p.sent_bytes += length
    keep = not watch_frame(p, at, length)
    if not keep and not p.keep:
        return LINK_OK
    if p.n_outputs == p.outputs_room:
        room = p.outputs_room * 2 if p.outputs_room else 1024
        memory = realloc(p.outputs, room * sizeof(output_t))
        if memory == NULL:
            p.no_memory = 1
            return LINK_OK
        p.outputs = <output_t *>memory
        p.outputs_room = <uint32_t>room
    p.outputs[p.n_outputs].time_ns = p.now_ns
    p.outputs[p.n_outputs].at = p.arena_used
    p.outputs[p.n_outputs].length = length
    p.outputs[p.n_outputs].cause = p.cause
    p.n_outputs += 1
    p.arena_used += length
    return LINK_OK


cdef int link_room(link_t *link) noexcept nogil:
    return 1 << 20


cdef int link_flush(link_t *link) noexcept nogil:
    return LINK_OK


cdef void link_close(link_t *link) noexcept nogil:
    pass                                # it is part of the play_t


# --- frames to the guest

cdef bint watch_frame(play_t *p, const uint8_t *data, uint32_t length) noexcept nogil:
    """True where the frame has been judged."""
    cdef eth_hdr eth
    cdef ipv4_hdr ip
    cdef tcp_hdr tcp
    cdef udp_hdr udp
    cdef icmp4_hdr icmp
    cdef frame_t *f = NULL
    cdef flow_t *w
    cdef int n, h
    if p.cause != NO_FRAME:
        f = &p.frames[p.cause]
        f.result |= RESULT_SPOKE
    n = eth_parse(data, length, &eth)
    if n < 0 or eth.ethertype != ETHERTYPE_IPV4:
        return False
    h = ipv4_parse(data + n, length - n, &ip)
    if h < 0 or ip.more_fragments or ip.frag_offset:
        return False
    data += n + h
    length = ip.total_length - h
    if ip.protocol == IPPROTO_TCP4:
        h = tcp_parse(data, length, &tcp)
        w = watch_flow(p, ip.src, tcp.dport, tcp.sport, IPPROTO_TCP4) if h > 0 else NULL
        if w == NULL:
            return False
        watch_segment(p, w, f, &tcp, data + h, length - h)
        return True
    if f == NULL:
        return False
    if ip.protocol == IPPROTO_UDP4 and f.expect == EXPECT_DOWN and f.kind == KIND_UDP:
        if udp_parse(data, length, &udp) < 0:
            return False
        if (ip.src == f.src and ip.dst == p.guest and udp.sport == f.sport and udp.dport == f.dport
                and udp.length == f.payload_length + 8 and memcmp(data + 8, f.payload, f.payload_length) == 0):
            f.result |= RESULT_ANSWERED
        else:
            f.result |= RESULT_WRONG
        return True
    if ip.protocol == IPPROTO_ICMP4 and icmp4_parse(data, length, &icmp) >= 0:
        if f.expect == EXPECT_ERROR:
            if icmp.type == f.type and icmp.code == f.code:
                f.result |= RESULT_ANSWERED
            return False
        if (f.kind != KIND_ICMP or (f.expect != EXPECT_ECHO and f.expect != EXPECT_DOWN)
                or icmp.type != ICMP4_ECHO_REPLY):
            return False
        if (ip.src == (f.dst if f.expect == EXPECT_ECHO else f.src) and icmp.rest == f.rest
                and icmp.body_length == f.payload_length and memcmp(icmp.body, f.payload, f.payload_length) == 0):
            f.result |= RESULT_ANSWERED
        else:
            f.result |= RESULT_WRONG
        return True
    return False


cdef bint resets_are_due(const play_t *p, flow_t *w) noexcept nogil:
    """Somebody has reset the conversation, or it is over: then a late segment is answered by a reset. So is a guest
    that has been silent for too long."""
    if w.facts & FACT_MIDDLE or w.reset_passed:
        return True
    if p.cause == NO_FRAME and (w.guest_acked < w.sent_end or not w.sent_end):
        w.seen |= SEEN_TIMED_OUT
        return True
    return w.seen & SEEN_FIN and w.seen & SEEN_SHUT and w.guest_acked >= w.sent_end


cdef void watch_segment(play_t *p, flow_t *w, frame_t *f, const tcp_hdr *h, const uint8_t *payload,
                        uint32_t length) noexcept nogil:
    cdef uint64_t at, acked, edge
    cdef uint32_t shift
    w.outputs += 1
    if f != NULL and f.expect == EXPECT_REFUSAL:
        if h.flags & TCP_RST:
            f.result |= RESULT_ANSWERED
        else:
            f.result |= RESULT_WRONG
        return
    if h.flags & TCP_RST:
        w.seen |= SEEN_RST
        if not resets_are_due(p, w):
            watch_differs(p, w, DIFF_RESET, 0, 0)
        return
    if h.flags & TCP_SYN:
        if not w.know_down:
            w.iss_down, w.know_down = h.seq, 1
        elif h.seq != w.iss_down:
            watch_differs(p, w, DIFF_SEQUENCE, h.seq, w.iss_down)
        w.seen |= SEEN_SYN
        w.our_scale = <uint8_t>h.wscale if h.wscale >= 0 else 0
        w.scaled = h.wscale >= 0 and w.guest_scale != NO_STATE
        if h.flags & TCP_ACK:
            acked = offset_of(w.acked, w.iss_up + 1, h.ack)
            if acked > w.fed_end:
                watch_differs(p, w, DIFF_ACK_UNSENT, acked, w.fed_end)
            w.window_edge = acked + h.window
        return
    if not w.seen & SEEN_SYN:
        watch_differs(p, w, DIFF_SEQUENCE, h.seq, w.iss_down)
        return
    at = offset_of(w.sent_end, w.iss_down + 1, h.seq)
    if length:
        if at > w.down.length or at + length > w.down.length:
            watch_differs(p, w, DIFF_SEQUENCE, at, w.down.length)
            return
        if memcmp(w.down.data + at, payload, length) != 0:
            watch_differs(p, w, DIFF_BYTES_DOWN, at, length)
        if at + length > w.guest_edge and not (length == 1 and at == w.guest_edge):
            watch_differs(p, w, DIFF_BEYOND_WINDOW, at + length, w.guest_edge)
        if at + length > w.sent_end:
            w.sent_end = at + length
    if h.flags & TCP_FIN:
        w.seen |= SEEN_FIN
        if not w.down.ended or at + length != w.down.fin_at:
            watch_differs(p, w, DIFF_STATE, at + length, w.down.fin_at)
        elif at + length + 1 > w.sent_end:
            w.sent_end = at + length + 1
    if not h.flags & TCP_ACK:
        return
    acked = offset_of(w.acked, w.iss_up + 1, h.ack)
    if acked > w.acked + FAR:
        return                          # older than what was acknowledged already
    if acked > w.fed_end:
        watch_differs(p, w, DIFF_ACK_UNSENT, acked, w.fed_end)
    if acked > w.acked:
        w.acked = acked
    shift = w.our_scale if w.scaled else 0
    edge = acked + (<uint64_t>h.window << shift)
    # the edge is told in units of the scale: less than one of them is no shrinking (RFC 7323 2.4)
    if edge + ((<uint64_t>1 << shift) - 1) < w.window_edge and not w.up.ended:
        watch_differs(p, w, DIFF_WINDOW_SHRUNK, w.window_edge, edge)
    if edge > w.window_edge:
        w.window_edge = edge


cdef void watch_fed(play_t *p, flow_t *w, const frame_t *f) noexcept nogil:
    """What the guest has told the stack with a segment that is about to be fed."""
    cdef uint64_t at, acked, edge
    if f.tcp_flags & TCP_RST:
        return
    if f.tcp_flags & TCP_SYN:
        w.guest_scale = <uint8_t>(f.wscale if f.wscale <= 14 else 14) if f.wscale >= 0 else NO_STATE
        if not w.seen & SEEN_SYN and f.payload_length > w.fed_end:
            w.fed_end = f.payload_length
        if w.guest_edge == 0:
            w.guest_edge = f.window
        if w.open_down and w.guest_scale == NO_STATE:
            w.scaled = 0
    else:
        at = offset_of(w.fed_end, w.iss_up + 1, f.seq)
        if at <= w.fed_end + FAR:
            at += f.payload_length + (1 if f.tcp_flags & TCP_FIN else 0)
            if at > w.fed_end:
                w.fed_end = at
    if f.tcp_flags & TCP_ACK and w.know_down:
        acked = offset_of(w.guest_acked, w.iss_down + 1, f.ack)
        if acked > w.guest_acked + FAR:
            return
        if acked > w.guest_acked:
            w.guest_acked = acked
        edge = f.window
        if not f.tcp_flags & TCP_SYN and w.scaled:
            edge <<= w.guest_scale
        if acked + edge > w.guest_edge:
            w.guest_edge = acked + edge


# --- the host side

cdef flow_t *flow_of(play_t *p, uint32_t i) noexcept nogil:
    cdef int64_t user = p.script.sockets[i].user
    return &p.flows[user] if user >= 0 else NULL


cdef void adopt(play_t *p, uint32_t i, flow_t *w) noexcept nogil:
    w.socket = i
    w.generation = p.script.sockets[i].generation
    p.script.sockets[i].user = w - p.flows
    p.script.sockets[i].down = w.down.data


cdef void on_connect(void *context, uint32_t i, const uint8_t *addr, uint16_t port) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef flow_t *w
    if p.cause == NO_FRAME or p.frames[p.cause].flow < 0:
        return
    w = &p.flows[p.frames[p.cause].flow]
    w.seen |= SEEN_CONNECT
    adopt(p, i, w)


cdef void on_sent(void *context, uint32_t i, const uint8_t *data, size_t length) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef flow_t *w = flow_of(p, i)
    if w == NULL:
        return
    if w.handed + length > w.up.length:
        watch_differs(p, w, DIFF_TOO_MANY_UP, w.handed + length, w.up.length)
    elif not w.facts & FACT_OVERLAP and memcmp(w.up.data + w.handed, data, length) != 0:
        watch_differs(p, w, DIFF_BYTES_UP, w.handed, length)
    w.handed += length


cdef void on_shut(void *context, uint32_t i) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef flow_t *w = flow_of(p, i)
    if w == NULL:
        return
    w.seen |= SEEN_SHUT
    if not w.up.ended or w.handed != w.up.fin_at:
        watch_differs(p, w, DIFF_STATE, w.handed, w.up.fin_at)


cdef void on_closed(void *context, uint32_t i, bint abort) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef flow_t *w = flow_of(p, i)
    if w == NULL or w.socket != i:
        return
    w.seen |= SEEN_CLOSED
    if abort:
        w.seen |= SEEN_ABORTED
    elif w.up.ended and w.handed == w.up.fin_at:
        w.seen |= SEEN_SHUT             # closing says the end of the stream as well
    w.socket = -1


cdef void on_datagram(void *context, uint32_t i, const udp_message *m) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef frame_t *f
    cdef flow_t *w
    cdef addr_t to
    memcpy(&to, m.addr, 16)
    if addr_v4(&to) == UPSTREAM and m.port == DNS_PORT:
        forwarded(p, i, m)
        return
    if p.cause == NO_FRAME or p.frames[p.cause].flow < 0:
        return
    f = &p.frames[p.cause]
    w = &p.flows[f.flow]
    adopt(p, i, w)
    if (f.expect == EXPECT_UP and addr_v4(&to) == f.dst and m.port == f.dport and m.length == f.payload_length
            and memcmp(m.data, f.payload, m.length) == 0):
        f.result |= RESULT_DELIVERED
    else:
        f.result |= RESULT_WRONG


cdef void forwarded(play_t *p, uint32_t i, const udp_message *m) noexcept nogil:
    """A query of the gateway's resolver to its upstream: with another identifier, and else as the guest sent it."""
    cdef frame_t *f
    cdef query_t *q
    cdef uint32_t k
    if m.length < 12:
        return
    if p.cause != NO_FRAME:
        f = &p.frames[p.cause]
        if f.expect == EXPECT_UP and m.length == f.payload_length and memcmp(m.data + 2, f.payload + 2,
                                                                             m.length - 2) == 0:
            f.result |= RESULT_DELIVERED
        elif f.expect == EXPECT_UP:
            f.result |= RESULT_WRONG
    for k in range(p.n_queries):        # sent again: from another socket
        q = &p.queries[k]
        if q.length == m.length and memcmp(q.message + 2, m.data + 2, (m.length if m.length < 512 else 512) - 2) == 0:
            break
    else:
        if p.n_queries == MAX_QUERIES:
            p.n_queries = 0
        q = &p.queries[p.n_queries]
        p.n_queries += 1
    q.socket = i
    q.generation = p.script.sockets[i].generation
    q.ident = be16(m.data)
    q.length = m.length
    memcpy(q.message, m.data, m.length if m.length < 512 else 512)


cdef void on_echo(void *context, uint32_t i, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                  uint8_t ttl) noexcept nogil:
    cdef play_t *p = <play_t *>context
    cdef frame_t *f
    cdef addr_t to
    if p.cause == NO_FRAME or p.frames[p.cause].flow < 0:
        return
    f = &p.frames[p.cause]
    memcpy(&to, addr, 16)
    adopt(p, i, &p.flows[f.flow])
    if (f.expect == EXPECT_UP and addr_v4(&to) == f.dst and length == f.payload_length + 8
            and (be32(icmp + 4) & 0xffff) == (f.rest & 0xffff) and memcmp(icmp + 8, f.payload, length - 8) == 0):
        f.result |= RESULT_DELIVERED
    else:
        f.result |= RESULT_WRONG


cdef void sequence_of(void *context, const flow_key *key, uint32_t *iss, uint32_t *ts_offset,
                      uint64_t now_ns) noexcept nogil:
    """The peer's own numbers, so that what the guest acknowledges and echoes is what it got."""
    cdef play_t *p = <play_t *>context
    cdef flow_t *w = watch_flow(p, addr_v4(&key.peer), key.guest_port, key.peer_port, IPPROTO_TCP4)
    if w == NULL:
        return
    if w.know_down:
        iss[0] = w.iss_down
    if w.peer_has_tsval:
        ts_offset[0] = w.peer_tsval - <uint32_t>(w.peer_tsval_ns / 1000000)


# --- life

cdef int watch_begin(play_t *p) noexcept nogil:
    cdef scripted_calls calls
    calls.connect = on_connect
    calls.sent = on_sent
    calls.shut = on_shut
    calls.closed = on_closed
    calls.datagram = on_datagram
    calls.echo = on_echo
    p.script = scripted_new(&calls, p)
    p.scratch = <uint8_t *>malloc(FRAME_ROOM)
    p.queries = <query_t *>calloc(MAX_QUERIES, sizeof(query_t))
    if p.script == NULL or p.scratch == NULL or p.queries == NULL:
        return -1
    p.link.fd = -1
    p.link.impl = p
    p.link.mtu = p.engine.iface.mtu
    p.link.recv = link_recv
    p.link.send = link_send
    p.link.room = link_room
    p.link.flush = link_flush
    p.link.close = link_close
    p.engine.poller.script = p.script
    p.engine.nat.options.script = p.script
    p.engine.nat.sequence = sequence_of
    p.engine.nat.sequence_context = p
    p.cause = NO_FRAME
    p.judging = 1
    return 0


cdef void watch_end(play_t *p) noexcept nogil:
    """Only when the engine has been closed."""
    scripted_free(p.script)
    free(p.scratch)
    free(p.queries)
    free(p.outputs)
    free(p.arena)
    p.script = NULL
    p.scratch = NULL
    p.queries = NULL
    p.outputs = NULL
    p.arena = NULL
