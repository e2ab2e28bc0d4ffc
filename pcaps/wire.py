"""A cable between two namespaces whose every frame is recorded, and that loses or delays what it is told to."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from netstack.capture.pcap import PcapWriter
from netstack.testing.namespace import Namespace

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

#: What becomes of a frame: (up from the guest?, frame) to the seconds after which each copy arrives; () loses it.
Rule = Callable[[bool, bytes], tuple[float, ...]]


def tap(namespace: Namespace, name: str) -> int:
    """A TAP device in a namespace, without offloads; its descriptor."""
    with namespace.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def is_tcp_data(frame: bytes) -> bool:
    """A TCP segment over IPv4 that carries data."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return False
    header = (frame[14] & 15) * 4
    return int.from_bytes(frame[16:18], "big") > header + (frame[14 + header + 12] >> 4) * 4


class Wire:
    """Joins ``eth0`` of a guest to ``eth0`` of a host. What is recorded is what the guest sends and gets."""

    def __init__(self, guest: Namespace, host: Namespace) -> None:
        self.up_fd, self.down_fd = tap(guest, "eth0"), tap(host, "eth0")
        self.rule: Rule = lambda up, frame: (0.0,)
        self.frames: list[tuple[int, bytes]] = []
        self.recording = True
        self._late: list[tuple[float, int, bool, bytes]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def inject(self, frame: bytes) -> None:
        """A frame as if the guest had sent it."""
        self._passes(True, frame)

    def _passes(self, up: bool, frame: bytes) -> None:
        with self._lock:
            if up:
                self._record(frame)
            for number, delay in enumerate(self.rule(up, frame)):
                heapq.heappush(
                    self._late, (time.monotonic() + delay, number + len(self.frames) * 4, up, frame)
                )

    def _record(self, frame: bytes) -> None:
        if self.recording:
            self.frames.append((time.time_ns(), frame))

    def _deliver(self) -> float:
        """What has arrived by now goes out; seconds until the next."""
        with self._lock:
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, up, frame = heapq.heappop(self._late)
                if not up:
                    self._record(frame)
                with contextlib.suppress(OSError):
                    os.write(self.down_fd if up else self.up_fd, frame)
            return max(0.0, self._late[0][0] - time.monotonic()) if self._late else 0.05

    def _run(self) -> None:
        while not self._ended.is_set():
            wait = self._deliver()
            for fd in select.select([self.up_fd, self.down_fd], [], [], wait)[0]:
                with contextlib.suppress(OSError):
                    self._passes(fd == self.up_fd, os.read(fd, 65536))

    def close(self) -> None:
        """Ends the cable."""
        self._ended.set()
        self._thread.join()
        os.close(self.up_fd)
        os.close(self.down_fd)

    def write(self, path: Path, snaplen: int = 0) -> None:
        """Writes what passed."""
        path.unlink(missing_ok=True)
        with PcapWriter(path, snaplen) as writer:
            for when, frame in self.frames:
                writer.write(when, frame)


@contextlib.contextmanager
def rule(wire: Wire, what: Rule) -> Iterator[None]:
    """The wire behaves like this for a while."""
    before, wire.rule = wire.rule, what
    try:
        yield
    finally:
        wire.rule = before


def every(nth: int, up: bool, outcome: tuple[float, ...]) -> Rule:
    """Every nth TCP segment with data in one direction meets an outcome; the rest passes at once."""
    count = 0

    def decide(is_up: bool, frame: bytes) -> tuple[float, ...]:
        nonlocal count
        if is_up != up or not is_tcp_data(frame):
            return (0.0,)
        count += 1
        return outcome if count % nth == 0 else (0.0,)

    return decide
