"""A small language for conversations with one connection, on virtual time.

::

    t = Trace()                                    # the stack listens; Trace(active=True) opens
    guest = t.guest
    guest >> SYN(mss=1460)                         # the guest sends
    guest << SYN_ACK(ack=1)                        # what the stack must send next
    guest >> ACK()
    t.send(1000)                                   # the stack's user writes
    guest << DATA(1000, seq=1)
    guest << DATA(1000, seq=1).within(0.2, 1.3)    # nothing before, this between 0.2 and 1.3 s from now
    t.silence()                                    # nothing more is sent now; t.silence(5) for five seconds

Sequence numbers count from each side's SYN (0), so that the first byte is 1. What an expected segment leaves
out is not compared; a number of bytes may come in several segments. Payload is a ramp in each direction and
checked wherever it appears, so that a lost, doubled or displaced byte shows. Windows are given unscaled, as
bytes; ``win`` may be a predicate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netstack.tcp import Closed, Connected, Connection, DataReceived, EndOfStream, Event, Settings
from netstack.wire.tcp import ACK as F_ACK
from netstack.wire.tcp import CWR, ECE, PSH, URG, TCPHeader
from netstack.wire.tcp import FIN as F_FIN
from netstack.wire.tcp import RST as F_RST
from netstack.wire.tcp import SYN as F_SYN

STACK_ISS = 0xFFFFF000  # sequence numbers wrap within the first few kilobytes of every trace
GUEST_ISS = 0xFFFFFE00
LETTERS = {"F": F_FIN, "S": F_SYN, "R": F_RST, "P": PSH, "A": F_ACK, "U": URG, "E": ECE, "C": CWR}


def ramp(start: int, length: int) -> bytes:
    """The bytes [start, start + length) of every stream; byte 0 has sequence number 1."""
    i = np.arange(start, start + length, dtype=np.int64)
    return (i * 7 + (i >> 8) * 13 + (i >> 16)).astype(np.uint8).tobytes()


@dataclass(frozen=True)
class Segment:
    """A segment, or what is expected of one. None: the default, or not compared."""

    flags: str
    length: int = 0
    seq: int | None = None
    ack: int | None = None
    win: int | Callable[[int], bool] | None = None
    mss: int | None = None
    wscale: int | None = None
    sack_permitted: bool | None = None
    ts: tuple[int, int] | None = None  # (TSval, TSecr); False-like values are not special
    no_ts: bool = False
    sack: tuple[tuple[int, int], ...] | None = None
    urgent: int = 0
    ecn: int | None = None
    exact: bool = False  # one segment, all flags
    early: float | None = None
    late: float | None = None
    payload: bytes | None = None

    def within(self, early: float, late: float) -> Segment:
        """Expected between so many seconds from now, and nothing before."""
        return replace(self, early=early, late=late)


def _make(flags: str) -> Callable[..., Segment]:
    def make(**fields: Any) -> Segment:
        return Segment(flags, **fields)

    return make


SYN = _make("S")
SYN_ACK = _make("SA")
ACK = _make("A")
FIN = _make("F")
FIN_ACK = _make("FA")
RST = _make("R")
RST_ACK = _make("RA")


def DATA(length: int, flags: str = "A", **fields: Any) -> Segment:
    return Segment(flags, length=length, **fields)


class Guest:
    """The other side: keeps the numbers that a segment may leave out."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nxt = 0
        self.rcv = 0
        self.win = 65535
        self.scale = 0
        self.peer_scale = 0
        self.ts_recent = 0
        self.ts_on = False
        self.ts_base = 0x7FFF0000

    def __rshift__(self, s: Segment) -> Guest:
        self.trace.inject(s)
        return self

    def __lshift__(self, s: Segment) -> Guest:
        self.trace.expect(s)
        return self


class Trace:
    """One connection of ours and a scripted guest."""

    def __init__(
        self, *, active: bool = False, confirm: bool = True, autoread: bool = True, **settings: Any
    ) -> None:
        settings.setdefault("timestamps", False)
        settings.setdefault("delayed_ack", 0.04)
        self.settings = Settings(**settings)
        self.stack = Connection(
            80, 40000, iss=STACK_ISS, ts_offset=0xFFFFFF00, settings=self.settings, autoread=autoread
        )
        self.active = active
        self.now = 0.0
        self.guest = Guest(self)
        self.out: list[tuple[float, TCPHeader, bytes, int]] = []
        self.events: list[Event] = []
        self.received = bytearray()
        self.read_bytes = 0
        self.written = 0
        if active:
            self.stack.open(self.now)
            self.guest.rcv = 0
        else:
            self.stack.listen(confirm=confirm)
        self.collect()

    # --- time

    def collect(self) -> None:
        for data, ecn in self.stack.packets_to_send(self.now):
            header = TCPHeader.parse(data)
            payload = data[header.data_offset :]
            seq = self.stack_seq(header.seq)
            if payload:
                assert payload == ramp(seq - 1, len(payload)), f"wrong bytes at {seq}"
            if header.timestamps:
                self.guest.ts_recent = header.timestamps[0]
            end = seq + len(payload) + bool(header.flags & F_SYN) + bool(header.flags & F_FIN)
            if not header.flags & F_RST:
                self.guest.rcv = max(self.guest.rcv, end)
            if header.flags & F_SYN:
                self.guest.peer_scale = header.wscale or 0
            self.out.append((self.now, header, payload, ecn))
        assert not self.stack.info()["bad_transition"], self.stack.history

    def at(self, when: float) -> Trace:
        """Let time pass until then; timers fire on the way."""
        while (timer := self.stack.next_timer()) is not None and timer <= when:
            self.now = max(self.now, timer)
            self.note(self.stack.handle_timer(self.now))
            self.collect()
        self.now = max(self.now, when)
        return self

    def after(self, seconds: float) -> Trace:
        return self.at(self.now + seconds)

    def silence(self, seconds: float = 0.0) -> Trace:
        """Nothing is sent, now or for so long."""
        if seconds:
            self.after(seconds)
        assert not self.out, f"unexpected: {self.describe(*self.out[0])}"
        return self

    # --- the user

    def note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                assert event.data == ramp(len(self.received), len(event.data)), "wrong bytes received"
                self.received += event.data
            else:
                self.events.append(event)

    def send(self, n: int) -> int:
        """The user writes the next n bytes of the ramp."""
        taken = self.stack.send(ramp(self.written, n), self.now)
        self.written += taken
        self.collect()
        return taken

    def read(self, n: int = 1 << 30) -> int:
        data = self.stack.read(n, self.now)
        assert data == ramp(self.read_bytes, len(data))
        self.read_bytes += len(data)
        self.collect()
        return len(data)

    def close(self) -> Trace:
        self.note(self.stack.close(self.now))
        self.collect()
        return self

    def abort(self) -> Trace:
        self.note(self.stack.abort(self.now))
        self.collect()
        return self

    def stop_reading(self) -> Trace:
        self.note(self.stack.stop_reading(self.now))
        self.collect()
        return self

    def confirm(self) -> Trace:
        self.stack.confirm_open(self.now)
        self.collect()
        return self

    def icmp(self, seq: int, **what: Any) -> Trace:
        """An ICMP error that quotes our segment with relative sequence number seq."""
        self.note(self.stack.icmp_error((STACK_ISS + seq) & 0xFFFFFFFF, self.now, **what))
        self.collect()
        return self

    def saw(self, kind: type[Event]) -> bool:
        return any(isinstance(e, kind) for e in self.events)

    @property
    def state(self) -> str:
        return self.stack.state

    @property
    def info(self) -> dict[str, Any]:
        return self.stack.info()

    # --- the wire

    def stack_seq(self, seq: int) -> int:
        """Relative to our SYN, near what has been sent."""
        near = self.guest.rcv
        return near + ((seq - STACK_ISS - near + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)

    def guest_seq(self, seq: int) -> int:
        near = self.guest.nxt
        return near + ((seq - GUEST_ISS - near + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)

    def build(self, s: Segment) -> bytes:
        g = self.guest
        flags = 0
        for letter in s.flags:
            flags |= LETTERS[letter]
        seq = g.nxt if s.seq is None else s.seq
        ack = 0
        if flags & F_ACK:
            ack = (STACK_ISS + (g.rcv if s.ack is None else s.ack)) & 0xFFFFFFFF
        win = g.win if s.win is None else s.win
        assert isinstance(win, int)
        if not flags & F_SYN:
            win >>= g.scale
        ts = s.ts
        if ts is None and not s.no_ts and g.ts_on:
            ts = (g.ts_base + int(self.now * 1000), g.ts_recent if flags & F_ACK else 0)
        if flags & F_SYN:
            g.scale = s.wscale if s.wscale is not None else 0
            if s.wscale is None:
                g.peer_scale = 0
            g.ts_on = ts is not None
        header = TCPHeader(
            40000,
            80,
            seq=(GUEST_ISS + seq) & 0xFFFFFFFF,
            ack=ack,
            flags=flags,
            window=min(win, 65535),
            urgent=s.urgent,
            mss=s.mss,
            wscale=s.wscale,
            sack_permitted=bool(s.sack_permitted),
            timestamps=None if ts is None else (ts[0] & 0xFFFFFFFF, ts[1] & 0xFFFFFFFF),
            sack=tuple(((STACK_ISS + a) & 0xFFFFFFFF, (STACK_ISS + b) & 0xFFFFFFFF) for a, b in s.sack or ()),
        )
        if seq <= g.nxt and not flags & F_RST:  # what leaves a gap does not move the guest on
            g.nxt = max(g.nxt, seq + s.length + bool(flags & F_SYN) + bool(flags & F_FIN))
        return header.build(ramp(seq - 1, s.length) if s.payload is None else s.payload)

    def inject(self, s: Segment) -> None:
        self.note(self.stack.receive_segment(self.build(s), self.now, ecn=s.ecn or 0))
        self.collect()

    def expect(self, s: Segment) -> None:
        if s.late is not None and s.early is not None:
            start = self.now
            assert not self.out, f"too early: {self.describe(*self.out[0])}"
            while not self.out:
                timer = self.stack.next_timer()
                assert timer is not None, "nothing will ever be sent"
                assert timer <= start + s.late, f"nothing within {s.late} s; timer at {timer}"
                self.at(timer)
            elapsed = self.out[0][0] - start
            assert s.early <= elapsed <= s.late, f"after {elapsed} s, not {s.early}..{s.late}"
        assert self.out, f"expected {s}, but nothing is sent"
        at, header, payload, ecn = self.out.pop(0)
        seen = self.describe(at, header, payload, ecn)
        length = len(payload)
        flags = header.flags
        while (
            not s.exact
            and s.length > length
            and self.out
            and self.stack_seq(header.seq) + length == self.stack_seq(self.out[0][1].seq)
        ):
            _, more, rest, _ = self.out.pop(0)
            length += len(rest)
            flags |= more.flags
        want = 0
        for letter in s.flags:
            want |= LETTERS[letter]
        ignored = 0 if s.exact else (PSH | ECE | CWR | URG) & ~want
        assert flags & ~ignored == want, f"flags of {seen}, expected {s}"
        assert length == s.length, f"{length} bytes in {seen}, expected {s.length}"
        if s.seq is not None:
            assert self.stack_seq(header.seq) == s.seq, f"{seen}, expected seq {s.seq}"
        if s.ack is not None:
            assert flags & F_ACK, seen
            assert self.guest_seq(header.ack) == s.ack, f"{seen}, expected ack {s.ack}"
        if s.win is not None:
            window = header.window << (0 if flags & F_SYN else self.guest.peer_scale)
            assert s.win(window) if callable(s.win) else window == s.win, f"window {window} in {seen}"
        for name in ("mss", "wscale", "sack_permitted"):
            expected = getattr(s, name)
            if expected is not None:
                assert getattr(header, name) == expected, f"{name} {getattr(header, name)} in {seen}"
        if s.sack is not None:
            blocks = tuple((self.guest_seq(a), self.guest_seq(b)) for a, b in header.sack)
            assert blocks == s.sack, f"SACK {blocks}, expected {s.sack}"
        if s.ts is not None:
            assert header.timestamps is not None, seen
            assert header.timestamps[1] == s.ts[1] & 0xFFFFFFFF, f"TSecr of {seen}, expected {s.ts[1]}"
        if s.no_ts:
            assert header.timestamps is None, seen
        if s.ecn is not None:
            assert ecn == s.ecn, f"ECN {ecn} in {seen}"
        if s.urgent:
            assert header.urgent == s.urgent, seen

    def describe(self, at: float, header: TCPHeader, payload: bytes, ecn: int) -> str:
        letters = "".join(k for k, v in LETTERS.items() if header.flags & v)
        sack = [(self.guest_seq(a), self.guest_seq(b)) for a, b in header.sack]
        return (
            f"[{at:.3f} {letters} seq {self.stack_seq(header.seq)} len {len(payload)} "
            f"ack {self.guest_seq(header.ack) if header.flags & F_ACK else '-'} win {header.window} "
            f"sack {sack} ts {header.timestamps}]"
        )

    # --- short cuts

    def connect(
        self,
        *,
        mss: int = 1460,
        sack: bool = True,
        ts: bool | None = None,
        wscale: int | None = None,
        win: int = 65535,
    ) -> Guest:
        """The handshake, passive or active. Returns the guest."""
        g = self.guest
        g.win = win
        ts = self.settings.timestamps if ts is None else ts
        options: dict[str, Any] = {"mss": mss, "sack_permitted": sack, "wscale": wscale}
        if self.active:
            g << SYN(seq=0)
            options["ts"] = (g.ts_base, g.ts_recent) if ts else None
            g >> SYN_ACK(ack=1, win=min(win, 65535), **options)
            g << ACK(seq=1, ack=1)
        else:
            options["ts"] = (g.ts_base, 0) if ts else None
            g >> SYN(win=min(win, 65535), **options)
            g << SYN_ACK(seq=0, ack=1)
            g >> ACK()
        assert self.state == "ESTABLISHED"
        assert self.saw(Connected)
        self.silence()
        return g


def reach(state: str, **settings: Any) -> Trace:
    """A trace whose connection is in the given state, nothing outstanding but what the state implies."""
    t = Trace(active=state == "SYN-SENT", confirm=state != "LISTEN", **settings)
    g = t.guest
    if state == "CLOSED":
        t.connect()
        g >> RST(seq=1)
        return t
    if state == "LISTEN":
        g >> SYN(mss=1460)
        return t
    if state == "SYN-SENT":
        g << SYN(seq=0)
        return t
    if state == "SYN-RECEIVED":
        g >> SYN(mss=1460, sack_permitted=True)
        g << SYN_ACK(ack=1)
        return t
    t.connect()
    if state in ("CLOSE-WAIT", "LAST-ACK"):
        g >> FIN_ACK()
        g << ACK(ack=2)
        assert t.saw(EndOfStream)
    if state in ("FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "TIME-WAIT", "LAST-ACK"):
        t.close()
        g << FIN_ACK(seq=1)
    if state in ("FIN-WAIT-2", "TIME-WAIT"):
        g >> ACK(ack=2)
    if state == "CLOSING":
        g >> FIN_ACK(ack=1)
        g << ACK(ack=2)
    if state == "TIME-WAIT":
        g >> FIN_ACK(ack=2)
        g << ACK(ack=2)
    assert t.state == state, t.stack.history
    assert not t.saw(Closed)
    return t.silence()
