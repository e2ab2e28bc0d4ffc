"""A guest that speaks to a gateway in another process, over descriptors: sockets or pipes.

:class:`netstack.testing.guest.Guest` over a byte stream instead of a link in memory.
"""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from netstack.testing.guest import Guest

PIECE = 1 << 18  # bytes of one read


class StreamLink:
    """The part of a link that a guest uses. ``header``: "big" with 4 bytes (QEMU) or "little" with 2 (HyperKit)."""

    def __init__(self, reader: int, writer: int, framing: str) -> None:
        self.out_fd = reader
        self._writer = writer
        self._width, self._order = {"qemu": (4, "big"), "hyperkit": (2, "little")}[framing]
        self._pending = bytearray()
        for fd in (reader, writer):
            os.set_blocking(fd, False)

    def inject(self, frame: bytes) -> bool:
        """Sends a frame; waits while the other side takes nothing."""
        order: Any = self._order
        data = memoryview(len(frame).to_bytes(self._width, order) + frame)
        while data:
            try:
                data = data[os.write(self._writer, data) :]
            except BlockingIOError:
                select.select([], [self._writer], [])
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def drain(self) -> list[tuple[bytes, None]]:
        """The frames that have come."""
        try:
            self._pending += os.read(self.out_fd, PIECE)
        except (BlockingIOError, ConnectionResetError):
            return []
        order: Any = self._order
        frames: list[tuple[bytes, None]] = []
        at = 0
        while len(self._pending) - at >= self._width:
            end = at + self._width + int.from_bytes(self._pending[at : at + self._width], order)
            if end > len(self._pending):
                break
            frames.append((bytes(self._pending[at + self._width : end]), None))
            at = end
        del self._pending[:at]
        return frames

    def step(self) -> None:
        """Nothing is held back here."""

    def next_deadline(self) -> None:
        """Nothing falls due."""


class FarGuest(Guest):
    """A guest over two descriptors (or one twice), which stay the caller's."""

    def __init__(self, reader: int, writer: int, framing: str = "qemu", **options: Any) -> None:
        network: Any = SimpleNamespace(config=SimpleNamespace(mtu=1500), add_memory=lambda link: 0)
        super().__init__(network, **options)
        link: Any = StreamLink(reader, writer, framing)
        self.link = link


def mac_of(number: int) -> str:
    """An address for the n-th guest of a test."""
    return f"02:00:00:00:01:{number:02x}"


def connect(path: Path) -> socket.socket:
    """A connection to a Unix socket of netstack serve."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock
