"""``-P``: what a command listens at, and what a guest of ``serve`` is said to, on ports of this host."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from instance import GUEST, GUEST_PORT, ROOT, Instance, address_of, environment, eventually, guest_of

SERVER = """
import socket, sys
for line in sys.stdin:
    kind, address, port = line.split()
    if kind == "close":
        sock.close()
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, int(port)))
        if kind == "tcp":
            sock.listen()
            peer = sock.accept()[0]
            peer.sendall(peer.recv(100).upper())
            peer.close()
        else:
            data, peer = sock.recvfrom(100)
            sock.sendto(data.upper(), peer)
"""


class Run:
    """``netstack run -P`` with a command that listens as it is told to."""

    def __init__(self, folder: Path, *options: str) -> None:
        argv = (sys.executable, "-m", "netstack", "run", "-P", *options, "--", sys.executable, "-c", SERVER)
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(
            argv, cwd=ROOT, env=environment(folder), text=True, bufsize=1, **pipes
        )

    def tell(self, text: str) -> None:
        self.process.stdin.write(text + "\n")

    def said(self, pattern: str) -> list[tuple[str, int]]:
        """The host's places in the next line of its log."""
        line = self.process.stderr.readline()
        assert re.fullmatch(f"netstack: {pattern}\n", line), line
        return [address_of(place) for place in re.findall(r"\S+:\d+", line.partition(" at ")[2])]


@contextmanager
def run(folder: Path, *options: str) -> Iterator[Run]:
    one = Run(folder, *options)
    try:
        yield one
        assert one.process.communicate(timeout=60)[1] == ""
        assert one.process.returncode == 0
    finally:
        one.process.kill()
        one.process.wait()


def asked(kind: int, address: tuple[str, int], text: bytes) -> bytes:
    family = socket.AF_INET6 if "[" in address[0] else socket.AF_INET
    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family, kind) as sock:
        sock.settimeout(30)
        sock.connect((loopback, address[1]))
        sock.sendall(text)
        return sock.recv(100)


@pytest.mark.usefixtures("_sandboxes")
def test_run_publishes_what_its_command_listens_at(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.tell("tcp 0.0.0.0 80")
        first, second = one.said("TCP port 80 of the guest is published at .*")
        assert asked(socket.SOCK_STREAM, first, b"over ipv4") == b"OVER IPV4"
        one.tell("close - -")
        one.said("TCP port 80 of the guest is closed, and not published any more")
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", first[1])) != 0
        one.tell("tcp :: 80")  # it comes back, for both families, where it was
        assert one.said("TCP port 80 of the guest is published at .*") == [first, second]
        assert asked(socket.SOCK_STREAM, second, b"over ipv6") == b"OVER IPV6"
        one.tell("close - -")
        one.said("TCP port 80 of the guest is closed.*")
        one.tell("udp 0.0.0.0 53")
        (place, _) = one.said("UDP port 53 of the guest is published at .*")
        assert asked(socket.SOCK_DGRAM, place, b"datagram") == b"DATAGRAM"
        one.process.stdin.close()
        one.process.stdin = None


@pytest.mark.usefixtures("_sandboxes")
def test_serve_publishes_what_it_is_said_to_for_each_guest(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    lease = ("--guest", "02:00:00:00:00:07=192.168.65.7,web")
    one = Instance(tmp_path, "-P", "--expose", str(GUEST_PORT), "--expose", "53/udp", *lease)
    try:
        with guest_of(one):
            eventually(lambda: len(one.ask("GET", "/v1/ports")[1]["ports"]) == 4)
            ports = [p for p in one.ask("GET", "/v1/ports")[1]["ports"] if p["guest"] == GUEST]
            (tcp,) = [p for p in ports if p["protocol"] == "tcp"]
            assert asked(socket.SOCK_STREAM, address_of(tcp["addresses"][0]), b"echo") == b"echo"
            everybody = {(p["guest"], p["guest_port"]) for p in one.ask("GET", "/v1/ports")[1]["ports"]}
            assert everybody == {(g, p) for g in (GUEST, "192.168.65.7") for p in (GUEST_PORT, 53)}
    finally:
        one.close()


def test_serve_needs_to_be_told_which() -> None:
    argv = (sys.executable, "-m", "netstack", "serve", "-P", "--listen", "stdio:qemu")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "name them with expose" in done.stderr
