"""Goodput against a Linux kernel over bad paths, beside what Linux and Linux reach over the same ones.

    guest ── TAP ── box ── TAP ── bridge ─┬─ TAP ── netstack in host
                                          └─ veth ── a Linux kernel

One box breaks the path of both, in the same run and with the same fate of frames: the guest's kernel talks
through it to netstack (and the host's loopback behind it), and to another kernel. ``far`` puts a second
box between the host and a server: there the guest's goodput through netstack stands beside the host's own.

Every byte is compared with a ramp, so that a lost, doubled or changed one ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from netstack.testing.lab import HOST_ALIAS, Lab
from netstack.testing.namespace import Namespace, in_thread

from .far import FAR_SERVER, far_server

__all__ = [
    "LOSSES",
    "REORDERS",
    "RTTS",
    "Cell",
    "Figure",
    "Peers",
    "Ramp",
    "far",
    "main",
    "measure",
]

LOSSES = (0.01, 0.1, 1.0, 5.0)  #: per cent of the frames of each direction
RTTS = (0, 20, 100)  #: ms
REORDERS = (0.0, 1.0)  #: per cent
CONTROLS = ("cubic", "reno", "bbr")

LINUX = "192.168.65.10"

CHUNK = 1 << 18


class Ramp:
    """A stream whose every eight bytes tell where they stand."""

    PERIOD = 1 << 21
    data = b"".join(
        i.to_bytes(4, "big") + (i * 2654435761 % 2**32).to_bytes(4, "big") for i in range(1 << 18)
    )
    twice = data + data[:CHUNK]

    @classmethod
    def at(cls, offset: int) -> memoryview:
        """Up to CHUNK bytes of the stream at offset."""
        begin = offset % cls.PERIOD
        return memoryview(cls.twice)[begin : begin + CHUNK]

    @classmethod
    def check(cls, offset: int, got: bytes) -> None:
        """AssertionError: these are not the bytes that belong at offset."""
        assert cls.twice.startswith(got, offset % cls.PERIOD), f"the stream is wrong near byte {offset}"


@dataclass(frozen=True)
class Cell:
    """One bad path: loss and reordering in per cent, round trip in ms, rate in Mbit/s (0: unlimited)."""

    loss: float
    rtt: int = 0
    reorder: float = 0.0
    rate: float = 0.0

    def impairment(self, seed: int = 1) -> dict[str, float]:
        """What :class:`netstack.link.impair.Impairment` takes, for one way."""
        out = {"loss": self.loss, "delay": self.rtt / 2, "reorder": self.reorder, "seed": seed}
        return {**out, "rate": self.rate, "queue": 200} if self.rate else out

    @property
    def seconds(self) -> float:
        """How long a stream runs by default: its slow start and enough losses must have happened."""
        return max(2.0, 0.08 * self.rtt)

    @property
    def slow(self) -> bool:
        """True where the path, and not the processor, is what limits: many streams fit beside each other."""
        return self.loss >= 5 or (self.rtt >= 20 and self.loss >= 0.1)

    def __str__(self) -> str:
        return f"loss {self.loss:g} %, {self.rtt} ms, reordering {self.reorder:g} %"


@dataclass
class Figure:
    """What one combination reached: bit/s of every stream of both sides."""

    cell: Cell
    direction: str  #: "up" from the guest, "down" to it
    control: str  #: congestion control of the sending kernel
    netstack: list[float] = field(default_factory=list)
    linux: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.netstack) / max(statistics.median(self.linux), 1.0)

    @property
    def wanted(self) -> float:
        """The least ratio: 0.9, or 0.75 where one frame in twenty is lost."""
        return 0.9 if self.cell.loss <= 1 else 0.75

    def __str__(self) -> str:
        ours, theirs = statistics.median(self.netstack) / 1e6, statistics.median(self.linux) / 1e6
        mark = "" if self.ratio >= self.wanted else "  SHORT"
        return (
            f"{self.cell.loss:5g} {self.cell.rtt:4d} {self.cell.reorder:3g}  {self.direction:4} "
            f"{self.control:5} {ours:9.2f} {theirs:9.2f} {self.ratio:6.2f}{mark}"
        )


HEADING = " loss  RTT  re  way  ctrl   netstack     Linux  ratio   (Mbit/s, medians)"


def _control(s: socket.socket, name: str) -> None:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def _reset(s: socket.socket) -> None:
    with contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def stream(source: socket.socket, sink: socket.socket, seconds: float) -> float:
    """Sends the ramp from source to sink for some seconds, checks it, closes both: bit/s that arrived.

    AssertionError: what arrived was not the ramp. ConnectionError: the connection broke.
    """
    end = time.monotonic() + seconds
    stop = threading.Event()

    def send() -> None:
        offset = 0
        source.settimeout(0.25)
        while not stop.is_set():
            try:
                offset += source.send(Ramp.at(offset))
            except TimeoutError:
                continue
            except OSError:
                if stop.is_set():
                    return
                raise

    sender = in_thread(send, "sender")
    got = 0
    begin = time.monotonic()
    last = begin
    try:
        while (now := time.monotonic()) < end:
            sink.settimeout(max(end - now, 0.001))
            try:
                data = sink.recv(CHUNK)
            except TimeoutError:
                break
            if not data:
                raise ConnectionError("the stream ended early")
            Ramp.check(got, data)
            got += len(data)
        last = time.monotonic()
    finally:
        stop.set()
        sender(10)
        _reset(source)
        _reset(sink)
    return got * 8 / (last - begin)


class Peers:
    """The topology of the module's head for one cell; a context manager."""

    def __init__(self, cell: Cell, seed: int = 1, options: Sequence[str] = ()) -> None:
        self.cell = cell
        self._seed = seed
        self._options = options
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Peers:
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self.lab = self._stack.enter_context(Lab())
            self.process = self.lab.attach(*self._options, impairment=self.cell.impairment(self._seed))
            self.linux = self.lab.namespace("linux")
            assert self.lab.between is not None
            self.lab.veth((self.lab.between, "linux0", ""), (self.linux, "eth0", f"{LINUX}/24"))
            self.lab.between.ip("link", "set", "linux0", "master", "br0")
            for ns in (self.lab.guest, self.linux, self.lab.host):
                ns.sysctl("net.ipv4.tcp_no_metrics_save", "1")
            undo.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def pair(self, peer: str, control: str) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A connection: (the guest's end, the far end); peer is "netstack" or "linux"."""
        where = self.lab.host if peer == "netstack" else self.linux
        with where.listen("127.0.0.1" if peer == "netstack" else LINUX) as listener:
            listener.settimeout(30)
            if peer == "linux":
                _control(listener, control)
            guest = self.lab.guest.socket()
            with guest:
                guest.settimeout(30)
                _control(guest, control)
                guest.connect((HOST_ALIAS if peer == "netstack" else LINUX, listener.getsockname()[1]))
                far, _ = listener.accept()
                with far:
                    yield guest, far

    def goodput(self, peer: str, direction: str, control: str, seconds: float) -> float:
        """bit/s of one stream."""
        with self.pair(peer, control) as (guest, far):
            return stream(guest, far, seconds) if direction == "up" else stream(far, guest, seconds)


def measure(
    peers: Peers, direction: str, control: str, seconds: float, rounds: int, streams: int = 1
) -> Figure:
    """Both peers in turn, ``rounds`` times; where the path is what limits, ``streams`` at once of either."""
    figure = Figure(peers.cell, direction, control)

    def one(peer: str, out: list[float]) -> Callable[[float], None]:
        return in_thread(lambda: out.append(peers.goodput(peer, direction, control, seconds)), peer)

    for _ in range(rounds):
        sides = (("netstack", figure.netstack), ("linux", figure.linux))
        if peers.cell.slow and control != "bbr":  # which fills any path, lossy or not
            waiting = [one(peer, out) for _ in range(streams) for peer, out in sides]
            for wait in waiting:
                wait(seconds + 60)
        else:
            for peer, out in sides:
                one(peer, out)(seconds + 60)
    return figure


# --- a second box, between the host and a server


def far(rtt: float, direction: str, seconds: float, rounds: int, rate: float = 0.0) -> Figure:
    """The guest's goodput through netstack to a server ``rtt`` ms behind the host; ``linux`` is the host's."""
    figure = Figure(Cell(0.0, int(rtt)), direction, "cubic")
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        server = far_server(lab, stack, {"delay": rtt / 2, "rate": rate} if rate else {"delay": rtt / 2})
        for ns in (lab.host, server):
            ns.sysctl("net.ipv4.tcp_no_metrics_save", "1")
        lab.attach()
        for _ in range(rounds):
            for source, out in ((lab.guest, figure.netstack), (lab.host, figure.linux)):
                out.append(_far_stream(source, server, direction, seconds))
    return figure


def _far_stream(source: Namespace, server: Namespace, direction: str, seconds: float) -> float:
    with server.listen(FAR_SERVER) as listener:
        listener.settimeout(30)
        near = source.connect(FAR_SERVER, listener.getsockname()[1], 30)
        end, _ = listener.accept()
        with near, end:
            return stream(near, end, seconds) if direction == "up" else stream(end, near, seconds)


def main(argv: list[str]) -> int:
    """``python -m bench.peer``: the table; 1 when a cell falls short."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer", description=__doc__.splitlines()[0])
    parser.add_argument("--loss", type=float, nargs="*", default=LOSSES, help="per cent")
    parser.add_argument("--rtt", type=int, nargs="*", default=RTTS, help="ms")
    parser.add_argument("--reorder", type=float, nargs="*", default=REORDERS, help="per cent")
    parser.add_argument("--direction", nargs="*", default=["up", "down"], choices=["up", "down"])
    parser.add_argument("--control", nargs="*", default=CONTROLS, help="the guest's, for what it sends")
    parser.add_argument("--rate", type=float, default=0.0, help="Mbit/s of the path, 0: unlimited")
    parser.add_argument(
        "--seconds", type=float, help="of one stream; 2, or 80 round trips where that is more"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=6, help="at once, where the path is what limits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--far", type=float, nargs="*", default=[50.0], help="ms between host and server")
    options = parser.parse_args(argv)
    print(HEADING, flush=True)
    short = 0
    for loss, rtt, reorder in itertools.product(options.loss, options.rtt, options.reorder):
        with Peers(Cell(loss, rtt, reorder, options.rate), options.seed) as peers:
            for direction in options.direction:
                for control in options.control if direction == "up" else ("cubic",):
                    seconds = options.seconds or peers.cell.seconds
                    figure = measure(peers, direction, control, seconds, options.rounds, options.streams)
                    short += figure.ratio < figure.wanted
                    print(figure, flush=True)
    for rtt in options.far:
        for direction in options.direction:
            seconds = options.seconds or Cell(0.0, int(rtt)).seconds
            figure = far(rtt, direction, seconds, options.rounds, options.rate)
            short += figure.ratio < figure.wanted
            print(figure, " (server behind the host)", flush=True)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
