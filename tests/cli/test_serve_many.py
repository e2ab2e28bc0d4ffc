"""64 guests on one ``netstack serve``, all at once: none is starved.

The guests are Python, in this process; the service is a process of its own. 64 guests' threads take turns with one
interpreter lock, so that the shares are theirs as much as the service's: what is held to is that each gets a quarter of
the mean at least. How evenly the service alone divides, this does not tell.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from far_guest import FarGuest, connect, mac_of

ROOT = Path(__file__).resolve().parents[2]
GUESTS = 64
HOST = "192.168.65.2"
WARM_SECONDS, SECONDS = 1.0, 6.0
IDLE_KIB = 32  # the most that one idle guest may cost in memory; docs/guests.md has what was measured
BLOCK = bytes(1 << 16)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


class Served:
    """The service with its guests, each with its lease."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        reader, writer = os.pipe()
        place = folder / "q"
        self.process = stack.enter_context(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "netstack",
                    "serve",
                    "--listen",
                    f"qemu:{place}",
                    "--notify",
                    str(writer),
                ],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                pass_fds=[writer],
                stderr=subprocess.DEVNULL,
            )
        )
        stack.callback(self.process.terminate)
        os.close(writer)
        assert b"ready" in os.read(reader, 4096)
        stack.callback(os.close, reader)
        self.guests: list[FarGuest] = []
        self.came(place, stack)  # the first brings what all share
        before = self.memory()
        for _ in range(GUESTS - 1):
            self.came(place, stack)
        self.idle_bytes = (self.memory() - before) / (GUESTS - 1)

    def came(self, place: Path, stack: contextlib.ExitStack) -> None:
        sock = stack.enter_context(connect(place))
        guest = FarGuest(sock.fileno(), sock.fileno(), mac=mac_of(len(self.guests)))
        self.guests.append(stack.enter_context(guest))
        guest.dhcp()

    def memory(self) -> int:
        """Bytes that the service alone has in memory (Private_Clean and Private_Dirty)."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with contextlib.ExitStack() as stack:
        yield Served(tmp_path, stack)


def test_idle_guests_cost_little(served: Served) -> None:
    print(f"an idle guest: {served.idle_bytes / 1024:.1f} KiB")
    assert len({guest.address for guest in served.guests}) == GUESTS
    assert served.idle_bytes < IDLE_KIB * 1024


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["down", "up"])
def test_all_at_once(served: Served, direction: str) -> None:
    """A stream to or from the host for each guest, for some seconds; bytes are counted where they arrive."""
    counts = [0] * GUESTS
    over = threading.Event()

    def send(stream: object) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                stream.sendall(BLOCK)  # type: ignore[attr-defined]

    def receive(stream: object, number: int) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set() and (data := stream.recv(1 << 18)):  # type: ignore[attr-defined]
                counts[number] += len(data)

    threads = []
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=GUESTS) as listener:
        listener.settimeout(20)
        for number, guest in enumerate(served.guests):
            stream = guest.connect(HOST, listener.getsockname()[1])
            host = stack.enter_context(listener.accept()[0])
            host.settimeout(20)
            source, sink = (host, stream) if direction == "down" else (stream, host)
            threads.append(threading.Thread(target=send, args=(source,), daemon=True))
            threads.append(threading.Thread(target=receive, args=(sink, number), daemon=True))
            stack.callback(stream.reset)
        for thread in threads:
            thread.start()
        time.sleep(WARM_SECONDS)
        before = list(counts)
        time.sleep(SECONDS)
        moved = sorted(now - then for now, then in zip(counts, before, strict=True))
        over.set()
    for thread in threads:
        thread.join(20)
    assert served.process.poll() is None
    print(f"{direction}: {sum(moved) * 8e-6 / SECONDS:.0f} Mbit/s; each {moved[0]} to {moved[-1]} bytes")
    assert moved[0] > 0, "a guest was starved"
    assert moved[0] >= sum(moved) / GUESTS / 4, moved
