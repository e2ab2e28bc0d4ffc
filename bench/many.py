"""Many guests on one ``netstack serve``, all transferring at once: how evenly it serves them.

    TCP of the kernel ── TAP ── a relay's pump ── Unix socket ──┐
    TCP of the kernel ── TAP ── a relay's pump ── Unix socket ──┼── netstack serve ── loopback of the host
    ...                                                         ┘

The guests' TAPs lie in one namespace, where a socket is bound to its device. Their pumps are threads that never take
Python's lock, and one thread keeps all connections full, or empty, by turns: what is uneven, the service or the kernel
made so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netstack.host import namespace
from netstack.link.pump import Pump
from netstack.testing.lab import GATEWAY, HOST_ALIAS, PREFIX_LENGTH, Lab
from netstack.testing.namespace import Process, in_thread, unavailable

from .relay import spawn

GUESTS = 64
FIRST = 10  #: the last byte of the first guest's address
PIECE = 1 << 18


@dataclass(frozen=True)
class Guest:
    """One of them: its device and address in the guests' namespace."""

    device: str
    address: str


class Many:
    """A service and its guests; see :func:`many`."""

    def __init__(self, lab: Lab, process: Process, guests: list[Guest]) -> None:
        self.lab = lab
        self.process = process
        self.guests = guests

    def connections(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A connection of each guest to the host: (the guest's end, the host's)."""
        with self.lab.host.listen() as listener:
            listener.settimeout(20)
            for guest in self.guests:
                near = self.lab.guest.socket()
                near.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, guest.device.encode())
                near.bind((guest.address, 0))
                near.settimeout(20)
                near.connect((HOST_ALIAS, listener.getsockname()[1]))
                far, _ = listener.accept()
                yield near, far

    def shares(self, direction: str, warm: float, seconds: float) -> list[int]:
        """Bytes that arrived of each guest ("up"), or at it ("down"), in some seconds after some to warm up."""
        with contextlib.ExitStack() as stack:
            ends = [(stack.enter_context(near), stack.enter_context(far)) for near, far in self.connections()]
            pairs = [(near, far) if direction == "up" else (far, near) for near, far in ends]
            transfer(pairs, warm)
            return transfer(pairs, seconds)


def transfer(pairs: list[tuple[socket.socket, socket.socket]], seconds: float) -> list[int]:
    """Keeps every first socket full and every second one empty; the bytes that came out of each."""
    poller = select.epoll()
    counts = [0] * len(pairs)
    places: dict[int, tuple[int, socket.socket]] = {}
    data, room = memoryview(bytes(PIECE)), bytearray(PIECE)
    with poller:
        for number, (source, sink) in enumerate(pairs):
            for sock, events in ((source, select.EPOLLOUT), (sink, select.EPOLLIN)):
                sock.setblocking(False)
                poller.register(sock.fileno(), events)
                places[sock.fileno()] = (number, sock)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for fd, events in poller.poll(0.1):
                number, sock = places[fd]
                with contextlib.suppress(BlockingIOError):
                    if events & select.EPOLLIN:
                        counts[number] += sock.recv_into(room)
                    elif events & select.EPOLLOUT:
                        sock.send(data)
                    else:
                        raise ConnectionError(f"the connection of guest {number} broke")
    return counts


@contextlib.contextmanager
def many(lab: Lab, guests: int = GUESTS, kind: str = "qemu", mtu: int = 1500) -> Iterator[Many]:
    """A ``netstack serve`` in the laboratory's host, and guests behind relays in its guest namespace."""
    place = lab.directory / f"{kind}.sock"
    process = spawn(
        lab,
        "host",
        *("serve", "--listen", f"{kind}:{place}", "--mtu", str(mtu), "--source-check", "first", "--notify"),
    )
    for key, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0")):
        for where in ("all", "default"):  # the devices are of one network, and each answers for itself
            lab.guest.sysctl(f"net.ipv4.conf.{where}.{key}", value)
    with contextlib.suppress(OSError):
        lab.guest.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
    made = []
    stop, stopper = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, stop)
        for number in range(guests):
            guest = Guest(f"tap{number}", f"{GATEWAY.rpartition('.')[0]}.{FIRST + number}")
            pump = attach(lab, guest, place, kind, mtu, stop)
            wait = in_thread(pump.run, guest.device)
            stack.callback(wait, 20)
            made.append(guest)
        stack.callback(os.close, stopper)
        yield Many(lab, process, made)


def attach(lab: Lab, guest: Guest, place: Path, kind: str, mtu: int, stop: int) -> Pump:
    """A new TAP of the guests' namespace, joined to the service."""
    with lab.guest.entered():
        fd, name, granted = namespace.open_tap(guest.device)
        namespace.set_interface(name, mtu=mtu, up=True)
        namespace.add_address(name, guest.address, PREFIX_LENGTH)
    pump = Pump(fd, granted, mtu, stop)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(place))
        sock.setblocking(False)
        out = os.dup(sock.fileno())
    pump.attach_stream(out, out, kind)
    return pump


def main(argv: list[str]) -> int:
    """Measures both ways; 1 when ``--check`` is given and some guest has more than twice what another has."""
    parser = argparse.ArgumentParser(
        prog="python -m bench many", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--guests", type=int, default=GUESTS)
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before counting")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    if reason := unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    worst = 0.0
    with Lab() as lab, many(lab, options.guests, mtu=options.mtu) as served:
        print(f"{len(served.guests)} guests, {options.seconds:g} s each way; shares in Mbit/s")
        for direction in ("up", "down"):
            got = sorted(
                n * 8e-6 / options.seconds for n in served.shares(direction, options.warm, options.seconds)
            )
            spread = got[-1] / max(got[0], 1e-9)
            worst = max(worst, spread)
            print(
                f"{direction:<5} {sum(got):6.0f} in all; least {got[0]:.1f}, median {statistics.median(got):.1f}, "
                f"most {got[-1]:.1f}: {spread:.2f} between them"
            )
    return 1 if options.check and worst > 2 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
