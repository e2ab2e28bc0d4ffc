"""A guest's part of a capture, fed to a gateway that is stepped on the capture's own time."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from netstack.engine cimport Engine
from netstack.loop cimport CALL_ADD_PORT, engine_call, new_port
from netstack.nat.divert cimport divert_add, diversion
from netstack.replay.feed cimport PLAY_DONE, evaluate, play_some
from netstack.replay.flows cimport (
    FACT_HOLE_DOWN, FACT_INBOUND, FACT_MIDDLE, FACT_REOPENED, FACT_RESET_DOWN, FACT_RESET_UP, FACT_SYN_DOWN,
    FACT_SYN_UP, flow_segment, flow_t, stream_free,
)
from netstack.replay.trace cimport (
    EXPECT_DOWN, EXPECT_ECHO, EXPECT_ERROR, EXPECT_NOTHING, EXPECT_OURS, EXPECT_REFUSAL, EXPECT_SILENCE, EXPECT_TCP,
    EXPECT_UP, FRAME_CUT, FRAME_WHOLE, FRAME_WRONG_SUM, KIND_ARP, KIND_BAD, KIND_FRAGMENT, KIND_ICMP, KIND_IP, KIND_TCP,
    KIND_UDP, ROLE_DOWN, ROLE_NONE, ROLE_UP, Trace, frame_t,
)
from netstack.replay.watch cimport (
    DNS_PORT, NO_FRAME, NO_STATE, output_t, play_key, play_t, watch_bears, watch_begin, watch_end,
    watch_flow,
)
from netstack.storage.counters import NAMES
from netstack.storage.table cimport table_free, table_new
from netstack.wire.addr cimport addr_from_v4
from netstack.wire.be cimport be16, be32
from netstack.wire.icmp4 cimport ICMP4_ECHO, ICMP4_ECHO_REPLY, ICMP4_PARAMETER, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE
from netstack.wire.ipv4 cimport IPPROTO_ICMP4, IPPROTO_TCP4, IPPROTO_UDP4
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    MAX_FLOWS = 1 << 22
    DHCP_SERVER = 67
    LOOK_AHEAD = 8              # frames in which a SYN may come behind its SYN-ACK


@cython.auto_pickle(False)
cdef class Player:
    """Feeds one guest's frames of a capture to a gateway, and notes what becomes of each.

    Args:
        trace: the capture.
        gateway: a :class:`netstack.Gateway` that nobody has started, made at the time ``1_000_000_000``.
        guest: its IPv4 address as an integer, 0 where only its MAC is known.
        station: its MAC in the capture; ``mac`` the one that it has in the replay, and ``gateway_mac`` the gateway's.
        network: (address, mask, gateway) of the gateway's plan, as integers.
        keep: every frame that the stack sends is kept (for :meth:`write`).

    ``play`` feeds, ``close`` stops the gateway; the other methods say what was seen, and work until ``close``.
    """

    cdef play_t *p
    cdef readonly Trace trace
    cdef object gateway
    cdef Engine engine
    cdef uint32_t network, netmask
    cdef set owned
    cdef readonly bint ended

    def __cinit__(self, Trace trace not None, gateway, uint32_t guest, bytes station, bytes mac, bytes gateway_mac,
                  network, bint keep=False):
        cdef new_port new
        cdef play_t *p = <play_t *>calloc(1, sizeof(play_t))
        if p == NULL:
            raise MemoryError
        self.p = p
        self.trace = trace
        self.gateway = gateway
        self.engine = gateway._engine
        self.network, self.netmask, p.gateway = network
        self.owned = {p.gateway}
        p.frames = trace.frames
        p.n = trace.n
        p.guest = guest
        p.keep = keep
        memcpy(p.station, <const uint8_t *>station, 6)
        memcpy(p.guest_mac, <const uint8_t *>mac, 6)
        memcpy(p.gateway_mac, <const uint8_t *>gateway_mac, 6)
        p.engine = self.engine.e
        p.now_ns = p.engine.now_ns
        p.by_key = table_new(sizeof(play_key), 64, MAX_FLOWS, 3, 4)
        if p.by_key == NULL or watch_begin(p) < 0:
            raise MemoryError("sixteen replays at a time is as many as a process can have")
        new.link, new.fd, new.name = &p.link, -1, b"capture"
        if engine_call(p.engine, CALL_ADD_PORT, &new, 0) < 0:
            raise OSError("the link cannot be attached")
        self.find_flows()
        self.divert_neighbors()
        self.expect_all()

    def __dealloc__(self):
        cdef play_t *p = self.p
        cdef uint32_t i
        if p == NULL:
            return
        if not self.ended and p.script != NULL:
            self.engine.close()
            watch_end(p)
        for i in range(p.n_flows):
            stream_free(&p.flows[i].up)
            stream_free(&p.flows[i].down)
        free(p.flows)
        table_free(p.by_key)
        free(p)

    def close(self) -> None:
        """Stops the gateway; what it sends while it does is not looked at."""
        if not self.ended:
            self.p.judging = 0
            self.p.keep = 0
            self.ended = True
            self.gateway.stop()
            watch_end(self.p)

    # --- before

    cdef int role_of(self, frame_t *f) noexcept:
        cdef play_t *p = self.p
        cdef bint from_mac = f.length >= 14 and memcmp(f.data + 6, p.station, 6) == 0
        cdef bint to_mac = f.length >= 14 and memcmp(f.data, p.station, 6) == 0
        if p.guest and (f.kind >= KIND_ARP or (f.kind == KIND_BAD and f.src)):
            if f.src == p.guest:
                return ROLE_UP
            if f.dst == p.guest or (f.kind == KIND_UDP and f.sport == DHCP_SERVER and (to_mac or f.dst == 0xffffffff)):
                return ROLE_DOWN
            return ROLE_UP if f.src == 0 and from_mac else ROLE_NONE
        if from_mac:
            return ROLE_UP
        return ROLE_DOWN if to_mac else ROLE_NONE

    cdef flow_t *new_flow(self, frame_t *f, uint8_t protocol, uint32_t peer, uint16_t guest_port,
                          uint16_t peer_port) except NULL:
        cdef play_t *p = self.p
        cdef void *memory
        cdef uint32_t room
        cdef flow_t *w
        if p.n_flows == p.flows_room:
            room = p.flows_room * 2 if p.flows_room else 16
            memory = realloc(p.flows, room * sizeof(flow_t))
            if memory == NULL:
                raise MemoryError
            p.flows = <flow_t *>memory
            p.flows_room = room
        w = &p.flows[p.n_flows]
        memset(w, 0, sizeof(flow_t))
        w.guest, w.peer = p.guest, peer
        w.guest_port, w.peer_port = guest_port, peer_port
        w.protocol = protocol
        w.first_frame = f.number - 1
        w.socket = -1
        w.guest_scale = NO_STATE
        if watch_flow(p, peer, guest_port, peer_port, protocol) != NULL:
            w.facts |= FACT_REOPENED
        if watch_bears(p, w) < 0:
            raise MemoryError("the capture has too many conversations")
        p.n_flows += 1
        return w

    cdef int find_flows(self) except -1:
        cdef play_t *p = self.p
        cdef frame_t *f
        cdef flow_t *w
        cdef uint32_t i
        for i in range(p.n):
            f = &p.frames[i]
            f.role = self.role_of(f)
            f.flow = -1
            f.result = f.expect = f.dropped = 0
            f.extent = 0
            if f.role == ROLE_NONE or p.guest == 0:
                continue
            if f.kind == KIND_TCP:
                w = self.tcp_of(f)
            elif f.kind == KIND_UDP and f.src and not (f.sport in (67, 68) and f.dport in (67, 68)):
                w = self.datagrams_of(f, IPPROTO_UDP4)
            elif f.kind == KIND_ICMP:
                w = self.icmp_of(f)
            else:
                w = NULL
            if w == NULL:
                continue
            f.flow = <int>(w - p.flows)
            if f.role == ROLE_UP:
                w.frames_up += 1
                w.bytes_up += f.payload_length
            else:
                w.frames_down += 1
                w.bytes_down += f.payload_length
            if f.kind == KIND_TCP and flow_segment(w, f, f.role == ROLE_UP) < 0:
                raise MemoryError
        # a name that was used again belongs to its first bearer at the start
        for i in range(p.n_flows, 0, -1):
            w = &p.flows[i - 1]
            if w.down.missing:
                w.facts |= FACT_HOLE_DOWN
            watch_bears(p, w)
        return 0

    cdef flow_t *datagrams_of(self, frame_t *f, uint8_t protocol) except? NULL:
        cdef bint up = f.role == ROLE_UP
        cdef uint32_t peer = f.dst if up else f.src
        cdef uint16_t gport = f.sport if up else f.dport, pport = f.dport if up else f.sport
        cdef flow_t *w = watch_flow(self.p, peer, gport, pport, protocol)
        return w if w != NULL else self.new_flow(f, protocol, peer, gport, pport)

    cdef flow_t *icmp_of(self, frame_t *f) except? NULL:
        cdef const uint8_t *q = f.payload
        cdef uint32_t ihl
        if f.type == ICMP4_ECHO or f.type == ICMP4_ECHO_REPLY:
            # the peer's pings of the guest are no answer to anything
            if (f.type == ICMP4_ECHO) == (f.role == ROLE_UP):
                return self.datagrams_of(f, IPPROTO_ICMP4)
            return watch_flow(self.p, f.dst if f.role == ROLE_UP else f.src, f.sport, f.sport, IPPROTO_ICMP4)
        if f.role != ROLE_DOWN or f.payload_length < 28:
            return NULL
        if f.type not in (ICMP4_UNREACHABLE, ICMP4_TIME_EXCEEDED, ICMP4_PARAMETER):
            return NULL
        ihl = (q[0] & 15) * 4
        if q[0] >> 4 != 4 or ihl < 20 or f.payload_length < ihl + 8 or be32(q + 12) != self.p.guest:
            return NULL
        if q[9] == IPPROTO_ICMP4:
            return watch_flow(self.p, be32(q + 16), be16(q + ihl + 4), be16(q + ihl + 4), IPPROTO_ICMP4)
        return watch_flow(self.p, be32(q + 16), be16(q + ihl), be16(q + ihl + 2), q[9])

    cdef flow_t *tcp_of(self, frame_t *f) except? NULL:
        cdef bint up = f.role == ROLE_UP
        cdef bint syn = f.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN
        cdef uint32_t peer = f.dst if up else f.src
        cdef uint16_t gport = f.sport if up else f.dport, pport = f.dport if up else f.sport
        cdef flow_t *w = watch_flow(self.p, peer, gport, pport, IPPROTO_TCP4)
        if w != NULL and syn:
            if f.flags & FRAME_WRONG_SUM:
                return w
            if w.facts & FACT_MIDDLE:
                w = NULL
            elif up and w.facts & FACT_SYN_UP and f.seq != w.iss_up and not w.facts & FACT_INBOUND:
                w = NULL
            elif not up and w.facts & FACT_SYN_DOWN and f.seq != w.iss_down and w.facts & FACT_INBOUND:
                w = NULL
            elif up and w.facts & FACT_INBOUND and w.facts & (FACT_RESET_DOWN | FACT_RESET_UP):
                w = NULL
        if w == NULL:
            w = self.new_flow(f, IPPROTO_TCP4, peer, gport, pport)
            if not syn and not self.syn_follows(f, peer, gport, pport):
                w.facts |= FACT_MIDDLE
            elif syn and not up:
                w.facts |= FACT_INBOUND
        return w

    cdef bint syn_follows(self, frame_t *f, uint32_t peer, uint16_t gport, uint16_t pport) noexcept:
        """The guest's SYN stands a few frames behind the peer's SYN-ACK: the capture has mixed them up."""
        cdef uint32_t i
        cdef frame_t *g
        if f.role != ROLE_DOWN or f.tcp_flags & (TCP_SYN | TCP_ACK) != (TCP_SYN | TCP_ACK):
            return False
        for i in range(f.number, min(f.number + LOOK_AHEAD, self.p.n)):
            g = &self.p.frames[i]
            if (g.kind == KIND_TCP and g.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN and g.src == self.p.guest
                    and g.dst == peer and g.sport == gport and g.dport == pport and g.seq + 1 == f.ack):
                return True
        return False

    cdef int divert_neighbors(self) except -1:
        """What the guest speaks to inside the network stands there as well."""
        cdef play_t *p = self.p
        cdef diversion d
        cdef flow_t *w
        cdef uint32_t i
        for i in range(p.n_flows):
            w = &p.flows[i]
            w.ours = w.peer == p.gateway
            if w.peer & self.netmask != self.network or w.protocol == IPPROTO_ICMP4:
                continue
            if w.protocol == IPPROTO_UDP4 and w.peer == p.gateway and w.peer_port in (DNS_PORT, DHCP_SERVER):
                continue
            memset(&d, 0, sizeof(d))
            d.addr = w.peer
            d.port = w.peer_port
            d.protocol = w.protocol
            d.target = addr_from_v4(w.peer)
            d.target_port = w.peer_port
            if divert_add(p.engine.nat, &d) == 0:
                self.owned.add(w.peer)
        return 0

    cdef int expect_all(self) except -1:
        cdef play_t *p = self.p
        cdef frame_t *f
        cdef uint32_t i
        for i in range(p.n):
            f = &p.frames[i]
            if f.role == ROLE_UP and (f.flow >= 0 or f.kind not in (KIND_TCP, KIND_UDP)):
                f.expect = self.expect_up(f)
            elif f.role == ROLE_UP:
                if f.kind == KIND_UDP and f.dport == DHCP_SERVER:
                    f.expect = EXPECT_OURS
                elif f.src >> 24 in (0, 127) or f.src >> 28 >= 14:
                    f.expect = EXPECT_SILENCE
            elif f.role == ROLE_DOWN:
                f.expect = self.expect_down(f)
        return 0

    cdef uint8_t expect_up(self, frame_t *f) except 255:
        cdef play_t *p = self.p
        cdef bint wide = f.dst == 0xffffffff or f.dst == (self.network | ~self.netmask) or f.dst == self.network
        if f.kind < KIND_ARP or f.kind == KIND_FRAGMENT or f.flags & FRAME_WRONG_SUM:
            return EXPECT_SILENCE
        if f.data[6] & 1 and memcmp(f.data + 6, p.station, 6) != 0:
            return EXPECT_SILENCE               # no station sends from a group's address
        if f.kind == KIND_ARP:
            return EXPECT_OURS
        if f.kind == KIND_UDP and f.dport == DHCP_SERVER and (f.dst == p.gateway or wide):
            return EXPECT_OURS
        if f.src == 0 or f.src >> 24 in (0, 127) or f.src >> 28 >= 14 or f.ttl == 0:
            return EXPECT_SILENCE
        if f.dst >> 28 >= 14 or f.dst >> 24 in (0, 127) or wide or f.data[0] & 1 or source_routed(f):
            return EXPECT_SILENCE
        if f.kind == KIND_IP:
            return EXPECT_OURS
        if f.kind == KIND_TCP:
            if f.sport == 0 or f.dport == 0:
                return EXPECT_SILENCE if f.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN else EXPECT_NOTHING
            if p.flows[f.flow].facts & FACT_MIDDLE:
                return EXPECT_SILENCE if f.tcp_flags & TCP_RST else EXPECT_REFUSAL
            return EXPECT_TCP
        if f.kind == KIND_UDP:
            if f.dport == 0 or (f.ttl <= 1 and f.dst not in self.owned):
                return EXPECT_OURS
            return EXPECT_UP
        if f.type != ICMP4_ECHO:
            return EXPECT_SILENCE
        if f.dst in self.owned:
            return EXPECT_ECHO if not f.flags & FRAME_WHOLE else EXPECT_OURS
        if f.ttl <= 1 or f.dst & self.netmask == self.network:
            return EXPECT_OURS
        return EXPECT_UP

    cdef uint8_t expect_down(self, frame_t *f) except 255:
        cdef flow_t *w
        if f.flow < 0 or f.flags & (FRAME_WRONG_SUM | FRAME_CUT):
            return EXPECT_NOTHING
        w = &self.p.flows[f.flow]
        if f.kind == KIND_TCP:
            return EXPECT_TCP
        if w.frames_up == 0 or w.first_frame > f.number:
            return EXPECT_NOTHING               # nobody asked: it would not come in
        if not self.asked_before(w, f):
            return EXPECT_NOTHING
        if f.kind == KIND_UDP:
            return EXPECT_OURS if f.payload_length + 28 > self.p.engine.iface.mtu else EXPECT_DOWN
        if f.type == ICMP4_ECHO_REPLY:
            if w.ours or w.peer in self.owned:
                return EXPECT_NOTHING           # the gateway has answered itself
            return EXPECT_OURS if f.payload_length + 28 > self.p.engine.iface.mtu else EXPECT_DOWN
        if w.protocol == IPPROTO_TCP4 or w.peer in self.owned:
            return EXPECT_NOTHING
        return EXPECT_ERROR

    cdef bint asked_before(self, flow_t *w, frame_t *f) noexcept:
        """The guest has sent something that went out, before this."""
        cdef uint32_t i
        for i in range(w.first_frame, f.number):
            if self.p.frames[i].flow == w - self.p.flows and self.p.frames[i].role == ROLE_UP:
                return self.p.frames[i].expect == EXPECT_UP
        return False

    # --- feeding

    def play(self) -> None:
        """Feeds everything; then the stack has one second for what it still owes."""
        cdef play_t *p = self.p
        cdef int code
        if self.ended:
            raise ValueError("this replay has been closed")
        while True:
            with nogil:
                code = play_some(p)
            if p.no_memory:
                raise MemoryError
            if code == PLAY_DONE:
                return
            self.gateway.step(p.now_ns)
            evaluate(p)

    # --- afterwards

    @property
    def restless(self) -> bool:
        """The stack did not come to rest at some moment."""
        return self.p.restless

    @property
    def sent(self) -> tuple:
        """(frames, bytes) that the stack has sent to the guest."""
        return self.p.sent_frames, self.p.sent_bytes

    def roles(self) -> tuple:
        """How many frames are from the guest, and to it."""
        cdef uint32_t i, up = 0, down = 0
        for i in range(self.p.n):
            up += self.p.frames[i].role == ROLE_UP
            down += self.p.frames[i].role == ROLE_DOWN
        return up, down

    def flows(self):
        """A dict for each conversation, in the order in which they began."""
        cdef flow_t *w
        cdef uint32_t i
        for i in range(self.p.n_flows):
            w = &self.p.flows[i]
            yield {
                "protocol": w.protocol, "peer": w.peer, "guest_port": w.guest_port, "peer_port": w.peer_port,
                "facts": w.facts, "seen": w.seen, "first": w.first_frame, "frames_up": w.frames_up,
                "frames_down": w.frames_down, "bytes_up": w.bytes_up, "bytes_down": w.bytes_down,
                "stream_up": w.up.length, "stream_down": w.down.length, "due": w.up_due, "handed": w.handed,
                "acked": w.acked, "fed_end": w.fed_end, "sent_end": w.sent_end, "guest_acked": w.guest_acked,
                "fin_up": bool(w.up.ended), "fin_down": bool(w.down.ended), "missing": w.down.missing,
                "state": w.state_at_end, "expected_up": w.expected_up, "delivered": w.delivered,
                "expected_down": w.expected_down, "answered": w.answered, "silent": w.silent,
                "diff": w.diff, "cause": w.diff_cause, "a": w.diff_a, "b": w.diff_b, "outputs": w.outputs,
                "reset_passed": bool(w.reset_passed), "open_down": bool(w.open_down), "ours": bool(w.ours),
                "guest_edge": w.guest_edge,
            }

    def exchanges(self, int expect) -> list:
        """(index, result, counter that moved or "") of each frame of the guest's with this expectation."""
        cdef frame_t *f
        cdef uint32_t i
        out = []
        for i in range(self.p.n):
            f = &self.p.frames[i]
            if f.role != ROLE_NONE and f.expect == expect:
                out.append((i, f.result, NAMES[f.dropped - 1] if f.dropped else ""))
        return out

    def outputs(self) -> list:
        """(time in ns, index of the frame that caused it or None, bytes) of the frames that were kept."""
        cdef output_t *o
        cdef uint32_t i
        out = []
        for i in range(self.p.n_outputs):
            o = &self.p.outputs[i]
            out.append((o.time_ns, None if o.cause == NO_FRAME else o.cause,
                        <bytes>self.p.arena[o.at:o.at + o.length]))
        return out

    def owns(self) -> set:
        """The addresses, as integers, that the gateway stands for."""
        return set(self.owned)

    def counters(self) -> dict:
        """What the gateway has counted."""
        return self.gateway.stats()

    def write(self, writer, object start_ns) -> None:
        """Writes what the guest sent and what the stack sent, in the order of time, to a PcapWriter."""
        cdef uint32_t i = 0, k = 0
        cdef frame_t *f
        cdef output_t *o
        while i < self.p.n or k < self.p.n_outputs:
            if i < self.p.n and self.p.frames[i].role != ROLE_UP:
                i += 1
                continue
            f = &self.p.frames[i]
            o = &self.p.outputs[k]
            if k == self.p.n_outputs or (i < self.p.n and f.time_ns <= o.time_ns):
                writer.write(start_ns + f.time_ns, <bytes>f.data[:f.length])
                i += 1
            else:
                writer.write(start_ns + o.time_ns, <bytes>self.p.arena[o.at:o.at + o.length])
                k += 1


cdef bint source_routed(const frame_t *f) noexcept:
    """RFC 1122 3.2.1.8: a loose or strict source route, which the interface refuses."""
    cdef const uint8_t *ip = f.data + 14
    cdef uint32_t n = (ip[0] & 15) * 4, i = 20
    while i < n and ip[i] != 0:
        if ip[i] == 1:
            i += 1
        elif ip[i] == 131 or ip[i] == 137:
            return True
        elif i + 1 >= n or ip[i + 1] < 2:
            return False
        else:
            i += ip[i + 1]
    return False
