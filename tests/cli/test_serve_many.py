"""64 guests on one ``netstack serve``: what they cost while they are idle, and that none is starved when all transfer.

Idle ones are Python, in this process. Those that transfer are the kernel's TCP on 64 TAPs, behind relays that do not
take Python's lock (``bench/many.py``): the shares are what the service makes of them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from far_guest import FarGuest, connect, mac_of

from bench.many import many
from netstack.storage.blocks import Blocks
from netstack.testing.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
GUESTS = 64
WARM_SECONDS, SECONDS = 0.3, 1.0
IDLE_KIB = 32  # the most that one idle guest may cost in memory; docs/guests.md has what was measured

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
    # A sanitizer has its own bytes beside every one, and takes rings from the allocator.
    assert not Blocks().usable or served.idle_bytes < IDLE_KIB * 1024


@pytest.mark.netns
def test_all_at_once(lab: Lab) -> None:
    """A stream of each guest to the host, and back; a busy machine may slow one, and starves none.

    ``python -m bench many`` says how evenly, in a longer run.
    """
    with many(lab, GUESTS) as service:
        for direction in ("up", "down"):
            shares = sorted(service.shares(direction, WARM_SECONDS, SECONDS))
            assert len(shares) == GUESTS
            assert shares[0] >= sum(shares) / GUESTS / 32, f"a guest was starved ({direction}): {shares}"
        assert service.process.running
