"""A TCP connection as a Python object without I/O.

Segments and the time go in, segments, events and the time of the next timer come out. Times are seconds on
any clock that does not go backwards.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.storage.ring cimport ring_span
from netstack.tcp.events import (
    Closed,
    Connected,
    DataReceived,
    EndOfStream,
    FinAcknowledged,
    Reset,
    SpaceAvailable,
    TimedOut,
    UrgentData,
)
from netstack.tcp.settings import Settings
from netstack.tcp.tcb cimport (
    TCP_CC_CUBIC,
    TCP_CC_NONE,
    TCP_CC_RENO,
    TCP_CLOSED,
    TCP_EV_ACKED_FIN,
    TCP_EV_CLOSED,
    TCP_EV_CONNECTED,
    TCP_EV_DATA,
    TCP_EV_FIN,
    TCP_EV_RESET,
    TCP_EV_SPACE,
    TCP_EV_TIMEOUT,
    TCP_EV_URGENT,
    tcb_free,
    tcb_init,
    tcb_t,
    tcp_abort,
    tcp_accept,
    tcp_close,
    tcp_config,
    tcp_consumed,
    tcp_deadline,
    tcp_delivery,
    tcp_established_ok,
    tcp_icmp_error,
    tcp_may_reopen,
    tcp_memory,
    tcp_next_segment,
    tcp_open,
    tcp_read_spans,
    tcp_readable,
    tcp_reset_for,
    tcp_segment,
    tcp_segment_arrives,
    tcp_stop_reading,
    tcp_take,
    tcp_timeout,
    tcp_unacked,
    tcp_urgent,
    tcp_wants_output,
    tcp_write_spans,
    tcp_wrote,
)
from netstack.tcp.states import STATES
from netstack.wire.addr cimport addr_from_object, addr_t
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_pseudo, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, raise_wire
from netstack.wire.tcp cimport (
    TCP_ACK,
    TCP_CWR,
    TCP_FIN,
    TCP_PSH,
    TCP_RST,
    TCP_SYN,
    tcp_hdr,
    tcp_parse,
    tcp_write,
)

cdef uint64_t EPOCH = 1000000000        # nanoseconds added to the user's clock, so that no instant is 0
cdef enum:
    PROTOCOL = 6
    MAX_HDR_LEN = 60


cdef uint64_t to_ns(double seconds) except? 0:
    if not 0 <= seconds < 1e9:
        raise ValueError(f"a time is 0 to 1e9 seconds, not {seconds}")
    return <uint64_t>(seconds * 1e9 + 0.5) + EPOCH


cdef uint64_t span_ns(double seconds) except? 0:
    if not 0 <= seconds < 1e9:
        raise ValueError(f"a time span is 0 to 1e9 seconds, not {seconds}")
    return <uint64_t>(seconds * 1e9 + 0.5)


cdef class Connection:
    """One connection. Make it, then ``open`` or ``listen``; feed it; ask it what to send after every call.

    Args:
        local_port, remote_port: 0..65535.
        iss: initial send sequence number; draw it from a secret (RFC 9293 section 3.4.1).
        ts_offset: random number added to the timestamp clock (RFC 7323 section 5.4).
        settings: defaults of :class:`~netstack.tcp.Settings`.
        addresses: (local, remote) IP addresses. With them checksums are written and verified; without, they are 0.
        autoread: True reports received bytes as ``DataReceived``; False keeps them for ``read``, and the window
            shrinks.
        memory_limit: bytes of buffers beyond which windows shrink; 0 = no limit.
    """

    cdef tcb_t tcb
    cdef tcp_config config
    cdef tcp_memory memory
    cdef addr_t local, remote
    cdef bint checksums, listening, confirm, born
    cdef public bint autoread
    cdef readonly object settings
    cdef list states
    cdef list stateless

    def __cinit__(self, uint16_t local_port, uint16_t remote_port, *, uint32_t iss, uint32_t ts_offset=0,
                  settings=None,
                  addresses=None, bint autoread=True, uint64_t memory_limit=0):
        cdef tcp_config *c = &self.config
        s = Settings() if settings is None else settings
        self.settings = s
        self.autoread = autoread
        self.stateless = []
        memset(c, 0, sizeof(tcp_config))
        c.mss = s.mss
        c.ip_header = 40 if s.ipv6 else 20
        c.max_gso = s.max_gso or s.mss
        c.rcv_buf_initial = s.receive_buffer
        c.rcv_buf_max = max(s.receive_buffer_max, s.receive_buffer)
        c.snd_buf_initial = s.send_buffer
        c.snd_buf_max = max(s.send_buffer_max, s.send_buffer)
        if s.congestion not in ("cubic", "reno", "none"):
            raise ValueError(f"congestion {s.congestion!r} is unknown: use cubic, reno or none")
        c.congestion = {"cubic": TCP_CC_CUBIC, "reno": TCP_CC_RENO, "none": TCP_CC_NONE}[s.congestion]
        c.timestamps = s.timestamps
        c.sack = s.sack
        c.ecn = s.ecn
        c.nagle = s.nagle
        c.delayed_ack_ns = span_ns(s.delayed_ack)
        c.rto_initial_ns = span_ns(s.rto_initial)
        c.rto_min_ns = span_ns(s.rto_min)
        c.rto_max_ns = span_ns(s.rto_max)
        c.keepalive_idle_ns = span_ns(s.keepalive_idle)
        c.keepalive_interval_ns = span_ns(s.keepalive_interval)
        c.keepalive_probes = s.keepalive_probes
        c.user_timeout_ns = span_ns(s.user_timeout)
        c.syn_timeout_ns = span_ns(s.syn_timeout)
        c.time_wait_ns = span_ns(s.time_wait)
        c.fin_wait_2_ns = span_ns(s.fin_wait_2)
        c.burst_packets = s.burst_packets
        c.challenge_interval_ns = span_ns(s.challenge_interval)
        if memory_limit:
            self.memory.used = 0
            self.memory.limit = memory_limit
            self.memory.blocks = NULL
            c.memory = &self.memory
        if addresses is not None:
            self.local = addr_from_object(addresses[0])
            self.remote = addr_from_object(addresses[1])
            self.checksums = True
        tcb_init(&self.tcb, c, local_port, remote_port, iss, ts_offset)
        self.born = True
        self.states = ["CLOSED"]

    def __dealloc__(self):
        if self.born:
            tcb_free(&self.tcb)

    # --- life

    def open(self, double now) -> None:
        """Active open: a SYN is to be sent."""
        tcp_open(&self.tcb, to_ns(now))
        self.note_state()

    def listen(self, *, bint confirm=True) -> None:
        """Passive open: the first SYN that arrives is taken.

        Args:
            confirm: answer it at once; False leaves that to ``confirm_open`` (or ``abort``, which refuses).
        """
        self.listening = True
        self.confirm = confirm

    def confirm_open(self, double now) -> None:
        """Answer the SYN that has arrived."""
        tcp_established_ok(&self.tcb, to_ns(now))
        self.note_state()

    def close(self, double now) -> list:
        """No more ``send``: a FIN follows what is queued. Events."""
        return self.events_of(tcp_close(&self.tcb, to_ns(now)))

    def stop_reading(self, double now) -> list:
        """No more reading: data that arrive from now on, or wait unread, are answered by RST. Events."""
        return self.events_of(tcp_stop_reading(&self.tcb, to_ns(now)))

    def abort(self, double now) -> list:
        """RST, and CLOSED. Events."""
        return self.events_of(tcp_abort(&self.tcb, to_ns(now)))

    # --- bytes

    def send(self, data, double now) -> int:
        """Queue bytes; the number taken. Less than given: ``SpaceAvailable`` tells when to go on."""
        cdef const uint8_t[::1] view = data
        cdef ring_span spans[2]
        cdef uint32_t total = <uint32_t>view.shape[0], done = 0, n
        cdef int i, count
        while done < total:
            count = tcp_write_spans(&self.tcb, total - done, spans)
            if count == 0:
                break
            n = 0
            for i in range(count):
                memcpy(spans[i].data, &view[done + n], spans[i].length)
                n += spans[i].length
            tcp_wrote(&self.tcb, n, to_ns(now))
            done += n
        return done

    def mark_urgent(self) -> None:
        """What has been sent so far is urgent."""
        tcp_urgent(&self.tcb)

    def read(self, uint32_t limit, double now) -> bytes:
        """At most limit bytes of those that wait (only without ``autoread``)."""
        cdef ring_span spans[2]
        cdef int i, count = tcp_read_spans(&self.tcb, spans)
        cdef uint32_t n
        parts = []
        for i in range(count):
            n = spans[i].length if spans[i].length < limit else limit
            parts.append(<bytes>spans[i].data[:n])
            limit -= n
        data = b"".join(parts)
        if data:
            tcp_consumed(&self.tcb, <uint32_t>len(data), to_ns(now))
        return data

    # --- segments

    def receive_segment(self, data, double now, *, uint8_t ecn=0) -> list:
        """A TCP segment (header and payload) has arrived. Events.

        Args:
            ecn: the two ECN bits of its IP header.

        Raises:
            WireError: it cannot be parsed, or its checksum is wrong.
        """
        cdef const uint8_t[::1] view = data
        cdef tcp_hdr hdr
        cdef tcp_delivery delivery
        cdef tcp_segment reply
        cdef const uint8_t *p = &view[0] if view.shape[0] else NULL
        cdef uint32_t length = <uint32_t>view.shape[0], events
        cdef int offset = raise_wire(tcp_parse(p, length, &hdr))
        cdef uint64_t at = to_ns(now)
        if (self.checksums
                and not csum_ok(p, length, csum_pseudo(&self.remote, &self.local, PROTOCOL, length))):
            raise_wire(WIRE_BAD_CHECKSUM)
        length -= offset
        if self.tcb.state == TCP_CLOSED:
            if not self.listening or hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) != TCP_SYN:
                # LISTEN drops what is neither ACK nor SYN; a closed port answers all but RST
                if (not self.listening or hdr.flags & TCP_ACK) and tcp_reset_for(&hdr, length, &reply):
                    self.stateless.append(self.serialize(&reply, 0, 0))
                return []
            self.listening = False
            tcp_accept(&self.tcb, &hdr, ecn, at)
            self.note_state()
            if self.confirm:
                tcp_established_ok(&self.tcb, at)
                self.note_state()
            return []
        events = tcp_segment_arrives(&self.tcb, &hdr, p + offset, length, ecn, at, &delivery)
        return self.deliver(events, &delivery, at)

    cdef list deliver(self, uint32_t events, const tcp_delivery *delivery, uint64_t at):
        cdef ring_span spans[2]
        cdef int i, count
        out = []
        if delivery.length:
            if self.autoread:
                out.append(DataReceived(<bytes>delivery.data[:delivery.length]))
                tcp_take(&self.tcb, delivery, delivery.length, at)
            else:
                tcp_take(&self.tcb, delivery, 0, at)
        if self.autoread and events & TCP_EV_DATA:
            count = tcp_read_spans(&self.tcb, spans)
            for i in range(count):
                out.append(DataReceived(<bytes>spans[i].data[:spans[i].length]))
            if count:
                tcp_consumed(&self.tcb, tcp_readable(&self.tcb), at)
        return self.events_of(events, out)

    cdef list events_of(self, uint32_t events, list data=None):
        self.note_state()
        out = []
        if events & TCP_EV_CONNECTED:
            out.append(Connected())
        if events & TCP_EV_URGENT:
            out.append(UrgentData())
        if data is not None:
            out.extend(data)
        if events & TCP_EV_FIN:
            out.append(EndOfStream())
        if events & TCP_EV_SPACE:
            out.append(SpaceAvailable())
        if events & TCP_EV_ACKED_FIN:
            out.append(FinAcknowledged())
        if events & TCP_EV_RESET:
            out.append(Reset())
        if events & TCP_EV_TIMEOUT:
            out.append(TimedOut())
        if events & TCP_EV_CLOSED:
            out.append(Closed())
        return out

    cdef void note_state(self):
        state = STATES[self.tcb.state]
        if self.states[len(self.states) - 1] != state:
            self.states.append(state)

    cdef bytes serialize(self, const tcp_segment *s, uint32_t skip, uint32_t length):
        """Header and payload bytes [skip, skip + length) of a segment, with the header of that packet."""
        cdef tcp_hdr hdr = s.hdr
        cdef uint8_t head[MAX_HDR_LEN]
        cdef uint8_t *p
        cdef int n, i
        cdef uint32_t part, left = length
        hdr.seq += skip
        # as a link cuts a super-segment: FIN and PSH go with the last packet
        if skip + length < s.length:
            hdr.flags &= ~(TCP_FIN | TCP_PSH)
        if skip:
            hdr.flags &= ~TCP_CWR
        n = raise_wire(tcp_write(head, sizeof(head), &hdr))
        out = PyBytes_FromStringAndSize(NULL, n + length)
        p = <uint8_t *>PyBytes_AsString(out)
        memcpy(p, head, n)
        p += n
        for i in range(s.n_spans):
            if skip >= s.span[i].length:
                skip -= s.span[i].length
                continue
            part = s.span[i].length - skip
            if part > left:
                part = left
            memcpy(p, s.span[i].data + skip, part)
            p += part
            left -= part
            skip = 0
        if self.checksums:
            p = <uint8_t *>PyBytes_AsString(out)
            csum_store(p + 16, csum_finish(csum_add(p, n + length, csum_pseudo(
                &self.local, &self.remote, PROTOCOL, <uint32_t>(n + length)))))
        return out

    def segments_to_send(self, double now) -> list:
        """Everything that may be sent now: TCP segments (header and payload), none larger than a packet."""
        return [data for data, _ecn in self.packets_to_send(now)]

    def packets_to_send(self, double now) -> list:
        """As ``segments_to_send``, each with the ECN bits for its IP header: (bytes, ecn)."""
        cdef tcp_segment s
        cdef uint64_t at = to_ns(now)
        cdef uint32_t skip, n
        out = [(data, 0) for data in self.stateless]
        self.stateless.clear()
        while tcp_next_segment(&self.tcb, at, &s):
            skip = 0
            while True:
                n = s.length - skip
                if s.gso_size and n > s.gso_size:
                    n = s.gso_size
                out.append((self.serialize(&s, skip, n), s.ecn))
                skip += n
                if skip >= s.length:
                    break
        return out

    @property
    def wants_output(self) -> bool:
        """``segments_to_send`` has something."""
        return bool(self.stateless) or bool(tcp_wants_output(&self.tcb))

    # --- time and the path

    def next_timer(self):
        """The instant at which ``handle_timer`` is to be called, or None."""
        cdef uint64_t at = tcp_deadline(&self.tcb)
        return None if at == UINT64_MAX else (<double>at - <double>EPOCH) / 1e9 if at > EPOCH else 0.0

    def handle_timer(self, double now) -> list:
        """Time has passed. Events."""
        return self.events_of(tcp_timeout(&self.tcb, to_ns(now)))

    def icmp_error(self, uint32_t quoted_seq, double now, *, bint hard=False, uint32_t mtu=0) -> list:
        """An ICMP error that quotes a segment of ours. Events.

        Args:
            quoted_seq: its sequence number.
            hard: port, protocol or host unreachable for good.
            mtu: of the next hop, for "too big".
        """
        return self.events_of(tcp_icmp_error(&self.tcb, quoted_seq, hard, mtu, to_ns(now)))

    def may_reopen(self, data, double now) -> bool:
        """In TIME-WAIT: may this SYN begin a new connection on the same ports (RFC 6191)?"""
        cdef const uint8_t[::1] view = data
        cdef tcp_hdr hdr
        raise_wire(tcp_parse(&view[0] if view.shape[0] else NULL, <size_t>view.shape[0], &hdr))
        return bool(tcp_may_reopen(&self.tcb, &hdr, to_ns(now)))

    # --- what it knows

    @property
    def state(self) -> str:
        """The state's name, as in ``netstack.tcp.states.STATES``."""
        return STATES[self.tcb.state]

    @property
    def history(self) -> tuple:
        """The states seen after each call, without repetition."""
        return tuple(self.states)

    @property
    def readable(self) -> int:
        """Bytes that wait for ``read``."""
        return tcp_readable(&self.tcb)

    @property
    def unacked(self) -> int:
        """Bytes sent or queued and not acknowledged."""
        return tcp_unacked(&self.tcb)

    @property
    def memory_used(self) -> int:
        """Bytes of buffers and records held (with a ``memory_limit``)."""
        return self.memory.used

    def info(self) -> dict:
        """Numbers for diagnosis: sequence numbers, windows and buffers in bytes, times in seconds."""
        cdef tcb_t *t = &self.tcb
        return {
            "state": STATES[t.state],
            "snd_una": t.snd_una,
            "snd_nxt": t.snd_nxt,
            "snd_wnd": t.snd_wnd,
            "rcv_nxt": t.rcv_nxt,
            "rcv_wnd": t.rcv_adv - t.rcv_nxt,
            "cwnd": t.cwnd,
            "ssthresh": t.ssthresh,
            "mss": t.snd_mss,
            "srtt": t.srtt_ns / 1e9,
            "rto": t.rto_ns / 1e9,
            "min_rtt": None if t.min_rtt_ns == UINT64_MAX else t.min_rtt_ns / 1e9,
            "backoff": t.backoff,
            "recovery": ("open", "cwr", "recovery", "loss")[t.recovery],
            "sacked": t.tx.sacked,
            "lost": t.tx.lost,
            "records": t.tx.n,
            "send_buffer": t.snd_limit,
            "receive_buffer": t.rcv_buf,
            "reordering_seen": bool(t.reordering_seen),
            "reordering_multiple": t.reo_mult,
            "timestamps": bool(t.ts_on),
            "sack": bool(t.sack_on),
            "ecn": bool(t.ecn_on),
            "bad_transition": bool(t.bad_transition),
            "control_block_bytes": sizeof(tcb_t),
        }
