"""A path between two TCP connections in virtual time: delay, rate, queue, loss, reordering, duplication,
corruption."""

from __future__ import annotations

import heapq
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from netstack.errors import WireError
from netstack.tcp import Closed, Connection, DataReceived, EndOfStream, Reset, Settings, TimedOut


@dataclass
class Path:
    """One direction. Times in seconds, rate in bytes per second (0 = without limit), probabilities 0..1."""

    delay: float = 0.01
    jitter: float = 0.0
    rate: float = 0.0
    queue: int = 1000  # packets that wait for the line
    loss: float = 0.0
    reorder: float = 0.0  # packets that take reorder_delay longer
    reorder_delay: float = 0.005
    duplicate: float = 0.0
    corrupt: float = 0.0
    blackhole_above: int = 0  # segments longer than this vanish, 0 = none do
    mark_above: int = 0  # ECN: packets of ECT are marked where so many wait, 0 = never
    free_at: float = 0.0
    waiting: list[float] = field(default_factory=list)
    sent: int = 0
    dropped: int = 0

    def forward(
        self, data: bytes, ecn: int, now: float, dice: random.Random
    ) -> list[tuple[float, bytes, int]]:
        """When, and as what, the packet arrives."""
        self.sent += 1
        if self.blackhole_above and len(data) > self.blackhole_above:
            self.dropped += 1
            return []
        at = now
        if self.rate:
            self.waiting = [t for t in self.waiting if t > now]
            if len(self.waiting) >= self.queue:
                self.dropped += 1
                return []
            if self.mark_above and len(self.waiting) >= self.mark_above and ecn in (1, 2):
                ecn = 3
            self.free_at = max(self.free_at, now) + (len(data) + 34) / self.rate
            self.waiting.append(self.free_at)
            at = self.free_at
        if dice.random() < self.loss:
            self.dropped += 1
            return []
        at += self.delay + self.jitter * dice.random()
        if dice.random() < self.reorder:
            at += self.reorder_delay
        if dice.random() < self.corrupt and data:
            bad = bytearray(data)
            bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
            data = bytes(bad)
        out = [(at, data, ecn)]
        if dice.random() < self.duplicate:
            out.append((at + 0.001 * dice.random(), data, ecn))
        return out


class Host:
    """One connection, what it is to send, and what it has got."""

    def __init__(self, connection: Connection, data: bytes = b"", *, close: bool = True) -> None:
        self.tcp = connection
        self.to_send = memoryview(data)
        self.close_when_sent = close
        self.received = bytearray()
        self.events: list[Any] = []
        self.ended = False
        self.reset = False
        self.timed_out = False
        self.closed = False
        self.done_at: float | None = None

    def write(self, now: float) -> None:
        if self.to_send and not self.closed:
            n = self.tcp.send(self.to_send[: 1 << 20], now)
            self.to_send = self.to_send[n:]
        if not self.to_send and self.close_when_sent and self.tcp.state not in ("CLOSED", "SYN-SENT"):
            self.close_when_sent = False
            self.note(self.tcp.close(now), now)

    def note(self, events: list[Any], now: float) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                self.received += event.data
                continue
            self.events.append(event)
            if isinstance(event, EndOfStream):
                self.ended = True
                self.done_at = now
            elif isinstance(event, Reset):
                self.reset = True
            elif isinstance(event, TimedOut):
                self.timed_out = True
            elif isinstance(event, Closed):
                self.closed = True


class Network:
    """Two hosts, ``up`` from a to b and ``down`` back."""

    def __init__(self, a: Host, b: Host, up: Path, down: Path, seed: int = 1) -> None:
        self.hosts = (a, b)
        self.paths = (up, down)
        self.dice = random.Random(seed)
        self.now = 0.0
        self.order = 0
        self.arrivals: list[tuple[float, int, int, bytes, int]] = []

    def pump(self) -> None:
        for side in (0, 1):
            host = self.hosts[side]
            host.write(self.now)
            for data, ecn in host.tcp.packets_to_send(self.now):
                for at, copy, mark in self.paths[side].forward(data, ecn, self.now, self.dice):
                    self.order += 1
                    heapq.heappush(self.arrivals, (at, self.order, 1 - side, copy, mark))

    def step(self) -> bool:
        """The next arrival or timer. False when nothing will ever happen again."""
        self.pump()
        timers = [(at, side) for side in (0, 1) if (at := self.hosts[side].tcp.next_timer()) is not None]
        next_timer = min(timers, default=None)
        if self.arrivals and (next_timer is None or self.arrivals[0][0] <= next_timer[0]):
            at, _, side, data, ecn = heapq.heappop(self.arrivals)
            self.now = max(self.now, at)
            host = self.hosts[side]
            with suppress(WireError):  # corrupted: the checksum tells
                host.note(host.tcp.receive_segment(data, self.now, ecn=ecn), self.now)
            return True
        if next_timer is None:
            return False
        self.now = max(self.now, next_timer[0])
        host = self.hosts[next_timer[1]]
        host.note(host.tcp.handle_timer(self.now), self.now)
        return True

    def run(self, until: float, stop: Any = None) -> None:
        while self.now < until and self.step():
            if stop is not None and stop():
                return


def ramp(n: int, start: int = 0) -> bytes:
    """n bytes in which a lost or doubled one shows."""
    block = b"".join(i.to_bytes(4, "big") for i in range(start, start + n // 4 + 1))
    return block[:n]


ADDRESSES = ("10.0.0.1", "10.0.0.2")


def pair(
    data_up: bytes,
    data_down: bytes,
    up: Path,
    down: Path,
    *,
    client: Settings | None = None,
    server: Settings | None = None,
    seed: int = 1,
) -> Network:
    """A client (active) and a server (passive) with what each sends; both close when they have."""
    a = Connection(40000, 80, iss=0xFFFF0000, ts_offset=5, settings=client, addresses=ADDRESSES)
    b = Connection(
        80, 40000, iss=0x7FFFFF00, ts_offset=0xFFFFFF00, settings=server, addresses=ADDRESSES[::-1]
    )
    b.listen()
    a.open(0.0)
    return Network(Host(a, data_up), Host(b, data_down), up, down, seed)
