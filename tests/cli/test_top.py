"""``netstack top`` and ``netstack flows --watch``: in a terminal of the test's own, and as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from instance import GUEST, GUEST_PORT, PATIENCE, Instance

from netstack.cli.rates import Guest, Look
from netstack.cli.top import drawer

Ask = Callable[..., Any]
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture(scope="module")
def stream(served: Instance) -> Iterator[socket.socket]:
    """A connection of the guest's through which something has gone."""
    from netstack.control.client import Client

    wanted = {"guest": GUEST, "port": GUEST_PORT}
    channel, fd = Client(str(served.socket)).descriptor("/v1/connect", wanted)
    with channel, socket.socket(fileno=fd) as sock:
        sock.settimeout(PATIENCE)
        yield sock


@pytest.fixture
def _echo(stream: socket.socket) -> None:
    stream.sendall(bytes(100_000))
    left = 100_000
    while left:
        left -= len(stream.recv(left))


class Terminal:
    """A command in a terminal of a given size."""

    def __init__(self, ask: Ask, *arguments: str) -> None:
        self.fd, self.end = pty.openpty()
        self.before = termios.tcgetattr(self.end)
        self.resize(100, 30)
        self.process = ask(
            *arguments, stdin=self.end, stdout=self.end, stderr=self.end, start_new_session=True
        )
        self.seen = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, pattern: bytes) -> bytes:
        """What has been written since the last time, without colours, as far as the pattern."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert select.select([self.fd], [], [], max(0, end - time.monotonic()))[0], self.seen[-2000:]
            self.seen = re.sub(rb"\x1b\[[0-9;]*m", b"", self.seen + os.read(self.fd, 65536))
        seen, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return seen


@contextmanager
def terminal(ask: Ask, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(ask, *arguments)
    try:
        yield made
        made.until(re.escape(LEAVE))
        assert made.process.wait(PATIENCE) == 0
        assert termios.tcgetattr(made.end) == made.before
    finally:
        made.process.kill()
        made.process.wait()
        os.close(made.fd)
        os.close(made.end)


@pytest.mark.usefixtures("_echo")
def test_top_until_q(ask: Ask) -> None:
    with terminal(ask, "top", "-i", "0.2") as screen:
        screen.until(re.escape(ENTER))
        screen.until(rb"netstack serve one .*GUEST.*192\.168\.65\.3:7777.*DNS.*COUNTERS THAT MOVE")
        assert b"UP RATE" in screen.until(rb"PEER.*DNS")
        os.write(screen.fd, b"xq")


@pytest.mark.usefixtures("_echo")
def test_top_follows_the_size(ask: Ask) -> None:
    with terminal(ask, "top", "-i", "3600") as screen:  # so that nothing but the size draws it again
        screen.until(rb"PROTOCOL[^\n]*GUEST[^\n]*DOWN RATE\s[^\n]*UP\s+DOWN")
        screen.until(rb"PROTOCOL[^\n]*GUEST[^\n]*DOWN RATE\s[^\n]*UP\s+DOWN")
        screen.resize(150, 20)
        screen.process.send_signal(signal.SIGWINCH)
        assert b"RETRANSMITS" in screen.until(rb"STATE.*COUNTERS THAT MOVE")
        screen.process.send_signal(signal.SIGTERM)


@pytest.mark.usefixtures("_echo")
def test_watched_flows_until_interrupted(ask: Ask) -> None:
    with terminal(ask, "flows", "--watch", "-i", "0.2") as screen:
        for _ in range(3):
            screen.until(rb"UP RATE.*192\.168\.65\.3:7777")
        screen.process.send_signal(signal.SIGINT)


@pytest.mark.usefixtures("_echo")
@pytest.mark.parametrize("command", [("top",), ("flows", "--watch")])
def test_json(ask: Ask, command: tuple[str, ...]) -> None:
    done = ask(*command, "--json", "-n", "2", "-i", "0.2")
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    looks = [json.loads(line) for line in out.splitlines()]
    assert len(looks) == 2
    for look in looks:
        assert look["interval"] > 0
        assert GUEST in [g["guest"] for g in look["guests"]]
        (flow,) = [f for f in look["flows"] if f["guest_port"] == GUEST_PORT and f["state"] == "ESTABLISHED"]
        assert flow["bytes_up"] >= 100_000
        assert flow["up_rate"] >= 0


@pytest.mark.parametrize("command", [("top",), ("flows", "--watch")])
def test_no_terminal(ask: Ask, command: tuple[str, ...]) -> None:
    done = ask(*command, stdin=subprocess.DEVNULL)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out, err.count(b"\n")) == (2, b"", 1)
    assert b"give --json" in err


def test_ticks_without_watching(ask: Ask) -> None:
    done = ask("flows", "-n", "3")
    assert b"go with --watch" in done.communicate(timeout=60)[1]
    assert done.returncode == 2


def test_the_instance_ends(ask: Ask, tmp_path: Any) -> None:
    one = Instance(tmp_path)
    try:
        done = ask("top", "--json", "-i", "0.1", "--instance", str(one.socket))
        done.stdout.readline()
        one.stop()
        _, err = done.communicate(timeout=60)
        assert done.returncode == 2
        assert b"does not answer" in err
    finally:
        one.close()


@pytest.mark.parametrize("size", [(200, 50), (120, 30), (80, 24), (60, 12), (20, 5)])
@pytest.mark.parametrize("many", [0, 3, 100])
def test_what_is_drawn_fits(size: tuple[int, int], many: int) -> None:
    """Whatever there is, nothing scrolls; and what guests call themselves cannot reach the terminal."""
    from rich.console import Console

    flow = {
        **dict.fromkeys(("bytes_up", "bytes_down", "retransmits", "guest_port", "peer_port"), 99999),
        **dict.fromkeys(("age", "rtt", "up_rate", "down_rate"), 1234.5),
        "protocol": "tcp",
        "state": "ESTABLISHED",
        "guest": "192.168.165.103",
        "peer": "192.168.165.104",
    }
    names = [f"dns_{n}" for n in range(many)] + [f"drop_{n}" for n in range(many)]
    look = Look(
        *(1e9, 1.0, 1e9, 1e9),
        [Guest("192.168.165.103", "\x1b[31m[red]evil", 1e9, 1e9, 7)] * many,
        [flow] * many,
        dict.fromkeys(names, 5),
        [name for name in names if name.startswith("drop")],
        dict.fromkeys(names, 10**12),
    )
    width, height = size
    info = {"command": "serve", "name": "one", "network": "192.168.65.0/24", "uptime": 5.0, "asked": 1e9}
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(drawer(info)(look, width, height))
    lines = capture.get().splitlines()
    assert all(len(line) <= width for line in lines)
    assert "\x1b" not in capture.get()
    if height >= 12:
        assert len(lines) <= height
        assert lines[0].startswith("netstack serve one")
        assert ("[red]evil" in capture.get()) == bool(many and width >= 60)
