"""One frame after the other: what the guest's frames and the peers' make happen, and the time between them."""
from libc.errno cimport ECONNREFUSED, EHOSTUNREACH, ENETUNREACH
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from netstack.host.message cimport sock_error
from netstack.host.scripted cimport (
    scripted_close, scripted_connected, scripted_end, scripted_fail, scripted_give, scripted_refuse, scripted_reset,
    scripted_say, scripted_socket, scripted_stream,
)
from netstack.iface.neighbors cimport neighbor, neighbors_learn
from netstack.loop cimport engine_deadline, engine_look_at_links, engine_round
from netstack.nat.flow cimport ORIGIN_PUBLISHED, flow_key, tcp_flow
from netstack.nat.tcp_flow cimport tcp_flow_open_down
from netstack.replay.flows cimport (
    DIFF_NO_ANSWER, DIFF_NO_ERROR, DIFF_NO_RESET, DIFF_NOT_DELIVERED, DIFF_OTHER_ANSWER, DIFF_OTHER_DATAGRAM,
    DIFF_SPOKE, FACT_INBOUND, FACT_MIDDLE, FACT_REOPENED, FACT_RESET_DOWN, FACT_SYN_DOWN, SEEN_CONNECT, flow_t,
)
from netstack.replay.trace cimport (
    EXPECT_DOWN, EXPECT_ECHO, EXPECT_ERROR, EXPECT_REFUSAL, EXPECT_SILENCE, EXPECT_TCP, EXPECT_UP, FRAME_CUT,
    FRAME_OFFLOAD, FRAME_SUPER, FRAME_WHOLE, FRAME_WRONG_SUM, KIND_ICMP, KIND_TCP, KIND_UDP, RESULT_ANSWERED,
    RESULT_DELIVERED, RESULT_RESETS, RESULT_SPOKE, RESULT_WRONG, ROLE_NONE, ROLE_UP, frame_t,
)
from netstack.replay.watch cimport (
    DNS_PORT, FRAME_ROOM, NO_FRAME, NO_STATE, ROUNDS, UPSTREAM, play_t, query_t, watch_bears, watch_differs,
    watch_fed, watch_flow,
)
from netstack.storage.counters cimport UP_FRAMES
from netstack.storage.frame cimport CSUM_VALID, GSO_TCP4
from netstack.storage.table cimport table_get
from netstack.wire.addr cimport addr_from_v4, addr_t
from netstack.wire.be cimport be16, be32, put_be16
from netstack.wire.icmp4 cimport ICMP4_ECHO_REPLY, ICMP4_UNREACHABLE
from netstack.wire.ipv4 cimport IPPROTO_TCP4, IPPROTO_UDP4
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    SEGMENT = 1448              # bytes of each segment in a super-frame, where nothing tells
    ORIGIN_ICMP = 2

cdef uint64_t AFTERWARDS = 1000000000       # ns that the stack gets to finish what it owes


# --- what the peers do

cdef void advance(play_t *p, flow_t *w, uint64_t extent) noexcept nogil:
    """The peer has said this much of its stream."""
    if w.socket < 0:
        return
    scripted_say(p.script, <uint32_t>w.socket, extent)
    if w.fin_passed and w.down.ended and extent >= w.down.fin_at:
        scripted_end(p.script, <uint32_t>w.socket)


cdef void open_down(play_t *p, flow_t *w) noexcept nogil:
    """The peer connects to the guest."""
    cdef flow_key key
    cdef neighbor *guest
    cdef uint32_t i
    cdef int fd = scripted_stream(p.script)
    if fd < 0:
        return
    i = <uint32_t>fd & ((1 << 20) - 1)
    key.guest = addr_from_v4(p.guest)
    key.peer = addr_from_v4(w.peer)
    key.guest_port = w.guest_port
    key.peer_port = w.peer_port
    key.protocol = IPPROTO_TCP4
    guest = neighbors_learn(&p.engine.iface.neighbors, &key.guest, p.guest_mac, 1, p.now_ns)
    w.open_down = 1
    w.seen |= SEEN_CONNECT
    w.socket = i
    w.generation = p.script.sockets[i].generation
    p.script.sockets[i].user = w - p.flows
    p.script.sockets[i].down = w.down.data
    if guest == NULL or tcp_flow_open_down(p.engine.nat, &key, guest, fd, ORIGIN_PUBLISHED, p.now_ns) == NULL:
        w.socket = -1
        scripted_close(fd)


cdef void peer_segment(play_t *p, flow_t *w, frame_t *f) noexcept nogil:
    if w.facts & FACT_MIDDLE or f.flags & FRAME_WRONG_SUM:
        return
    if f.tcp_flags & TCP_SYN and not f.tcp_flags & TCP_RST:
        w.accept_passed = 1
        if w.facts & FACT_INBOUND and not w.open_down:
            open_down(p, w)
        elif w.socket >= 0:
            scripted_connected(p.script, <uint32_t>w.socket)
    if f.result & RESULT_RESETS:
        w.reset_passed = 1
        if w.socket >= 0 and p.script.sockets[w.socket].connecting:
            scripted_refuse(p.script, <uint32_t>w.socket, ECONNREFUSED)
        elif w.socket >= 0:
            scripted_reset(p.script, <uint32_t>w.socket)
        return
    if f.tcp_flags & TCP_FIN:
        w.fin_passed = 1
    advance(p, w, f.extent)


cdef void peer_datagram(play_t *p, flow_t *w, frame_t *f) noexcept nogil:
    cdef addr_t src = addr_from_v4(f.src)
    cdef query_t *q
    cdef uint32_t i
    if w.ours and f.sport == DNS_PORT and f.kind == KIND_UDP:
        # the answer of the capture, from the scripted upstream: the newest query with the same question
        for i in range(p.n_queries, 0, -1):
            q = &p.queries[i - 1]
            if same_question(q, f) and p.script.sockets[q.socket].generation == q.generation:
                give_answer(p, q, f)
                return
        return
    if w.socket < 0 or p.script.sockets[w.socket].generation != w.generation:
        return
    scripted_give(p.script, <uint32_t>w.socket, <const uint8_t *>&src, f.sport, f.payload, f.payload_length, f.tos)


cdef bint same_question(const query_t *q, const frame_t *f) noexcept nogil:
    cdef uint32_t n = 12
    if f.payload_length < 12 or q.length < 12:
        return False
    while n < q.length and n < 512 and q.message[n]:
        n += q.message[n] + 1
    n += 5                              # the root, type and class
    if n > q.length or n > 512:
        return False
    if be16(f.payload + 4) == 0:        # a server that would not repeat the question
        return True
    return f.payload_length >= n and memcmp(f.payload + 12, q.message + 12, n - 12) == 0


cdef void give_answer(play_t *p, const query_t *q, const frame_t *f) noexcept nogil:
    cdef uint8_t[2] ident
    cdef addr_t upstream = addr_from_v4(UPSTREAM)
    cdef scripted_socket *k = &p.script.sockets[q.socket]
    if not scripted_give(p.script, q.socket, <const uint8_t *>&upstream, DNS_PORT, f.payload, f.payload_length, 0):
        return
    put_be16(ident, q.ident)
    memcpy(k.last.bytes, ident, 2)


cdef void peer_icmp(play_t *p, flow_t *w, frame_t *f) noexcept nogil:
    """An echo reply, or an error about something that the guest has sent."""
    cdef addr_t src = addr_from_v4(f.src)
    cdef sock_error e
    cdef addr_t to
    cdef scripted_socket *k
    cdef const uint8_t *quoted = f.payload
    cdef uint32_t ihl
    cdef int error
    if f.type == ICMP4_ECHO_REPLY:
        if w.socket >= 0 and p.script.sockets[w.socket].generation == w.generation:
            give_echo_reply(p, w, f, &src)
        return
    ihl = (quoted[0] & 15) * 4
    error = EHOSTUNREACH
    if f.type == ICMP4_UNREACHABLE and f.code == 0:
        error = ENETUNREACH
    elif f.type == ICMP4_UNREACHABLE and (f.code == 2 or f.code == 3):
        error = ECONNREFUSED
    if w.socket < 0 or p.script.sockets[w.socket].generation != w.generation:
        return
    k = &p.script.sockets[w.socket]
    if w.protocol == IPPROTO_TCP4:
        if k.connecting and f.type == ICMP4_UNREACHABLE and f.code != 4:
            w.reset_passed = 1
            w.facts |= FACT_RESET_DOWN
            scripted_refuse(p.script, <uint32_t>w.socket, error)
        return
    memset(&e, 0, sizeof(e))
    to = addr_from_v4(be32(quoted + 16))
    e.error = error
    e.origin = ORIGIN_ICMP
    e.type = f.type
    e.code = f.code
    e.info = f.rest & 0xffff
    memcpy(e.offender, &src, 16)
    memcpy(e.peer, &to, 16)
    e.peer_port = be16(quoted + ihl + 2) if w.protocol == IPPROTO_UDP4 else 0
    e.payload = <uint8_t *>quoted + ihl + (8 if w.protocol == IPPROTO_UDP4 else 0)
    e.payload_length = f.payload_length - ihl - (8 if w.protocol == IPPROTO_UDP4 else 0)
    scripted_fail(p.script, <uint32_t>w.socket, &e)


cdef void give_echo_reply(play_t *p, flow_t *w, const frame_t *f, const addr_t *src) noexcept nogil:
    """With the identifier of the stack's own ping socket. The bytes lie behind the frame's ICMP header."""
    cdef uint8_t[4] rest
    cdef scripted_socket *k = &p.script.sockets[w.socket]
    if not scripted_give(p.script, <uint32_t>w.socket, <const uint8_t *>src, 0, f.payload - 8, f.payload_length + 8,
                         f.tos):
        return
    put_be16(rest, <uint16_t>(w.socket + 1))
    put_be16(rest + 2, <uint16_t>f.rest)
    memcpy(k.last.bytes + 4, rest, 4)


# --- what the guest does

cdef void strip_option(uint8_t *tcp, uint32_t length, uint8_t kind) noexcept nogil:
    """Puts no-operations in an option's place."""
    cdef uint32_t i = 20, k
    while i < length and tcp[i] != 0:
        if tcp[i] == 1:
            i += 1
            continue
        if i + 1 >= length or tcp[i + 1] < 2 or i + tcp[i + 1] > length:
            return
        k = tcp[i + 1]
        if tcp[i] == kind:
            memset(tcp + i, 1, k)
        i += k


cdef void load(play_t *p, flow_t *w, const frame_t *f) noexcept nogil:
    """Lays the guest's frame ready for the link: towards the gateway's MAC, and as a card without offload shows it."""
    cdef uint8_t *tcp
    cdef uint32_t ihl, length
    cdef bint no_scale, no_stamps, no_sack
    if f.length > FRAME_ROOM:
        return
    memcpy(p.scratch, f.data, f.length)
    memset(&p.meta, 0, sizeof(p.meta))
    if f.length >= 14:
        if not p.scratch[0] & 1:
            memcpy(p.scratch, p.gateway_mac, 6)
        if memcmp(p.scratch + 6, p.station, 6) == 0 or memcmp(p.scratch + 6, p.gateway_mac, 6) == 0:
            memcpy(p.scratch + 6, p.guest_mac, 6)
    if f.flags & (FRAME_OFFLOAD | FRAME_CUT):
        p.meta.csum = CSUM_VALID
    if f.flags & FRAME_SUPER:
        ihl = (f.data[14] & 15) * 4
        p.meta.csum = CSUM_VALID
        p.meta.gso_type = GSO_TCP4
        p.meta.gso_size = SEGMENT
        p.meta.hdr_len = <uint16_t>(f.payload - f.data)
    p.pending = f.length
    if w == NULL or f.kind != KIND_TCP or f.tcp_flags & (TCP_SYN | TCP_ACK) != TCP_SYN or f.flags & FRAME_WHOLE:
        return
    # What the peer of the capture did not agree to, the guest did not use afterwards: it is not offered either.
    no_scale = w.facts & FACT_SYN_DOWN and not w.peer_wscale_on
    no_sack = w.facts & FACT_SYN_DOWN and not w.peer_sack_on
    no_stamps = not w.peer_ts_on if w.facts & FACT_SYN_DOWN else not w.later_ts
    ihl = (f.data[14] & 15) * 4
    tcp = p.scratch + 14 + ihl
    length = (tcp[12] >> 4) * 4
    if no_scale:
        strip_option(tcp, length, 3)
        w.guest_scale = NO_STATE
    if no_sack:
        strip_option(tcp, length, 4)
    if no_stamps:
        strip_option(tcp, length, 8)
    p.meta.csum = CSUM_VALID if not f.flags & FRAME_WRONG_SUM else p.meta.csum


# --- time

cdef bint mail_waits(play_t *p) noexcept nogil:
    return p.engine.nat.mailbox.head != p.engine.nat.mailbox.tail


cdef void rest(play_t *p) noexcept nogil:
    """Rounds of the engine until it has nothing to do at this moment."""
    cdef uint32_t rounds = 0
    engine_look_at_links(p.engine)
    while engine_round(p.engine, 0, p.now_ns) or p.script.ready_n:
        rounds += 1
        if rounds == ROUNDS:
            p.restless = 1
            return


cdef void pass_time(play_t *p, uint64_t until) noexcept nogil:
    """Does what is due on the way to a moment, each thing at its time."""
    cdef uint64_t deadline = engine_deadline(p.engine)
    cdef uint32_t times = 0
    p.cause = NO_FRAME
    while deadline <= until and not p.restless:
        p.now_ns = deadline if deadline > p.now_ns else p.now_ns + 1
        rest(p)
        deadline = engine_deadline(p.engine)
        times += 1
        if times > ROUNDS * 10:
            p.restless = 1
    if until > p.now_ns:
        p.now_ns = until


cdef void play_frame(play_t *p, frame_t *f) noexcept nogil:
    cdef flow_t *w = &p.flows[f.flow] if f.flow >= 0 else NULL
    if w != NULL and w.protocol == IPPROTO_TCP4 and f.number - 1 == w.first_frame and w.facts & FACT_REOPENED:
        watch_bears(p, w)
    if f.expect == EXPECT_SILENCE:
        memcpy(p.counters, p.engine.counters, sizeof(uint64_t) * UP_FRAMES)
    if f.role == ROLE_UP:
        if w != NULL and f.kind == KIND_TCP and f.expect == EXPECT_TCP:
            if w.socket >= 0 and f.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_ACK and p.script.sockets[w.socket].connecting:
                # the peer's SYN-ACK is not in the capture, but the guest has got it
                scripted_connected(p.script, <uint32_t>w.socket)
                rest(p)
            if w.socket >= 0 and f.extent > p.script.sockets[w.socket].given:
                advance(p, w, f.extent)
                rest(p)
            if not f.flags & FRAME_WRONG_SUM:
                watch_fed(p, w, f)
            if f.result & RESULT_RESETS:
                w.reset_passed = 1
        load(p, w, f)
    elif w != NULL and f.kind == KIND_TCP:
        peer_segment(p, w, f)
    elif w != NULL and f.kind == KIND_UDP and not f.flags & FRAME_WRONG_SUM:
        peer_datagram(p, w, f)
    elif w != NULL and f.kind == KIND_ICMP and not f.flags & FRAME_WRONG_SUM:
        peer_icmp(p, w, f)
    rest(p)
    if w != NULL and w.accept_passed and w.socket >= 0 and p.script.sockets[w.socket].connecting:
        scripted_connected(p.script, <uint32_t>w.socket)        # the SYN-ACK stands before the SYN
        rest(p)


cdef void evaluate(play_t *p) noexcept nogil:
    """What came of the frame, against what was due; then the next one's turn."""
    cdef frame_t *f = &p.frames[p.next]
    cdef flow_t *w = &p.flows[f.flow] if f.flow >= 0 else NULL
    cdef uint32_t i
    p.next += 1
    if f.expect == EXPECT_SILENCE:
        for i in range(UP_FRAMES):
            if p.engine.counters[i] != p.counters[i]:
                f.dropped = <uint8_t>(i + 1)
                break
        if w != NULL:
            w.silent += 1
            if f.result & RESULT_SPOKE and f.kind != KIND_TCP:
                watch_differs(p, w, DIFF_SPOKE, 0, 0)
        return
    if w == NULL:
        return
    if f.expect == EXPECT_UP:
        w.expected_up += 1
        if f.result & (RESULT_DELIVERED | RESULT_WRONG) == RESULT_DELIVERED:
            w.delivered += 1
        else:
            watch_differs(p, w, DIFF_OTHER_DATAGRAM if f.result & RESULT_WRONG else DIFF_NOT_DELIVERED, 0, 0)
    elif f.expect == EXPECT_DOWN or f.expect == EXPECT_ECHO or f.expect == EXPECT_ERROR:
        w.expected_down += 1
        if f.result & (RESULT_ANSWERED | RESULT_WRONG) == RESULT_ANSWERED:
            w.answered += 1
        elif f.expect == EXPECT_ERROR:
            watch_differs(p, w, DIFF_NO_ERROR, 0, 0)
        else:
            watch_differs(p, w, DIFF_OTHER_ANSWER if f.result & RESULT_WRONG else DIFF_NO_ANSWER, 0, 0)
    elif f.expect == EXPECT_REFUSAL:
        if not f.result & RESULT_ANSWERED or f.result & RESULT_WRONG:
            watch_differs(p, w, DIFF_NO_RESET, 0, 0)


cdef int play_some(play_t *p) noexcept nogil:
    cdef frame_t *f
    while p.next < p.n and not p.restless and not p.no_memory:
        f = &p.frames[p.next]
        if f.role == ROLE_NONE:
            p.next += 1
            continue
        pass_time(p, f.time_ns)
        p.cause = p.next
        play_frame(p, f)
        if mail_waits(p):
            return PLAY_MAIL
        evaluate(p)
    pass_time(p, p.now_ns + AFTERWARDS)
    take_states(p)
    return PLAY_DONE


cdef void take_states(play_t *p) noexcept nogil:
    cdef flow_key key
    cdef tcp_flow *t
    cdef flow_t *w
    cdef uint32_t i
    for i in range(p.n_flows):
        w = &p.flows[i]
        w.state_at_end = NO_STATE
        if w.protocol != IPPROTO_TCP4 or watch_flow(p, w.peer, w.guest_port, w.peer_port, w.protocol) != w:
            continue
        key.guest = addr_from_v4(p.guest)
        key.peer = addr_from_v4(w.peer)
        key.guest_port = w.guest_port
        key.peer_port = w.peer_port
        key.protocol = w.protocol
        t = <tcp_flow *>table_get(p.engine.nat.tcp_table, &key)
        if t != NULL:
            w.state_at_end = t.tcb.state
