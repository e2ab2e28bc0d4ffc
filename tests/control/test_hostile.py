"""What clients of the API may cost, and who cannot be one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import ROOT, Instance, environment, eventually, guest_of, inside

from netstack.control import guard
from netstack.control.api import MAX_BODY

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("hostile"))
    yield one
    one.close()


def connected(instance: Instance) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(instance.socket))
    return sock


POST = b"POST /v1/ports HTTP/1.1\r\nHost: x\r\n"
ZONE = b"POST /services/dns/add HTTP/1.1\r\nHost: x\r\n"
CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"4"),
        (b"nonsense\r\n\r\n", b"400"),
        (POST + b"Content-Length: 99999999\r\n\r\n" + b" " * (MAX_BODY + 1), b"413"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 3, b"413"),
        (POST + b"Content-Length: x\r\n\r\n", b"400"),
        (POST + b"Content-Length: 20000\r\n\r\n" + b"[" * 20000, b"400"),
        (ZONE + b"Content-Length: 20000\r\n\r\n" + b"[" * 20000, b"400"),
    ],
    ids=["header", "path", "nonsense", "body", "chunks", "length", "depth", "depth of any JSON"],
)
def test_too_much_at_once(instance: Instance, data: bytes, status: bytes) -> None:
    with connected(instance) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.")
    assert answer.split()[1].startswith(status)
    assert instance.ask("GET", "/v1/info")[0] == 200


def test_many_connections(instance: Instance) -> None:
    with contextlib.ExitStack() as all_of_them:
        socks = [all_of_them.enter_context(connected(instance)) for _ in range(guard.CONNECTIONS + 20)]

        def closed(sock: socket.socket) -> bool:
            sock.setblocking(False)
            try:
                return sock.recv(1) == b""
            except BlockingIOError:
                return False

        eventually(lambda: sum(map(closed, socks)) >= 20)
        assert sum(map(closed, socks)) == 20
    eventually(lambda: asks(instance))


def asks(instance: Instance) -> bool:
    try:
        return instance.ask("GET", "/v1/info")[0] == 200
    except (OSError, Exception):
        return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(guard, "ANSWER_SECONDS", 0.6)
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "how", ["silent", "drips its head", "drips its body", "asks again and again", "does not read"]
)
def test_slow_clients(tmp_path: Path, how: str) -> None:
    """In this process, where the clock of patience can be set; the server is the same."""
    import netstack
    from netstack.control import api

    with netstack.start(netstack.Config(dns=())) as gateway:
        if how == "drips its body":
            api_seconds, api.BODY_SECONDS = api.BODY_SECONDS, 0.3
        if how == "does not read":
            gateway.add_names(*((f"n{i}.x", "TXT", "x" * 900) for i in range(4000)))
        with (
            api.ApiServer(gateway, f"{tmp_path}/s", "serve", lambda: None),
            socket.socket(socket.AF_UNIX) as sock,
        ):
            sock.settimeout(30)
            sock.connect(f"{tmp_path}/s")
            began = time.monotonic()
            alive = b""
            if how == "silent":
                alive = sock.recv(1)
            elif how == "asks again and again":
                for _ in range(8):
                    sock.sendall(b"GET /v1/log-level HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert sock.recv(4096).startswith(b"HTTP/1.1 200")
                    time.sleep(0.1)
                assert time.monotonic() - began > guard.IDLE_SECONDS  # whoever asks is not idle
                alive = sock.recv(1)
            elif how == "does not read":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.sendall(b"GET /v1/names HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(2)
                got = 0
                with contextlib.suppress(ConnectionError):
                    while data := sock.recv(1 << 16):
                        got += len(data)
                assert got < 2_000_000  # of 4 MB
            else:
                head = b"POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
                if how == "drips its body":
                    sock.sendall(head + b"\r\n")
                    head = b" " * 5000
                answer = b""
                with contextlib.suppress(ConnectionError):
                    for byte in head:
                        sock.sendall(bytes([byte]))
                        time.sleep(0.02)
                        if how == "drips its body":
                            sock.setblocking(False)
                            with contextlib.suppress(BlockingIOError):
                                answer += sock.recv(4096)
                            sock.setblocking(True)
                            if answer:
                                break
                if how == "drips its body":
                    assert answer.startswith(b"HTTP/1.1 408")
                    api.BODY_SECONDS = api_seconds
                else:
                    assert time.monotonic() - began < 5
            assert alive == b""


def test_nothing_of_it_listens_in_a_network(instance: Instance) -> None:
    """No TCP or UDP socket of the instance waits for anybody, so that no guest can come to the API either."""
    inodes = set()
    for name in os.listdir(f"/proc/{instance.process.pid}/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f"/proc/{instance.process.pid}/fd/{name}"))
    ours = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{instance.process.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    ours.append((table, fields[1], fields[3]))
    assert ours == []
    assert any(name.startswith("socket:") for name in inodes)  # the check can fail


@pytest.mark.usefixtures("_namespaces")
def test_a_guest_reaches_no_api(instance: Instance) -> None:
    """gvproxy answers its API to guests at the gateway's port 80; here that port is refused, and so are its like."""
    code = """
import errno, socket
for host in ("192.168.65.1", "192.168.65.2"):
    for port in (22, 80, 443, 1024, 1080, 2375, 3128, 7777, 8080, 8081, 9090, 62372, 62373):
        with socket.socket() as s:
            s.settimeout(5)
            print(errno.errorcode.get(s.connect_ex((host, port))))
"""
    with guest_of(instance) as guest, contextlib.ExitStack() as taken:
        # what somebody happens to serve on this host's loopback is the host alias's business
        for port in (80, 8080):
            with contextlib.suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", port))).close()
        answers = inside(guest, sys.executable, "-c", code).split()
    assert len(answers) == 26
    assert set(answers[:13]) == {"ECONNREFUSED"}


def test_stale_sockets_go_with_list(tmp_path: Path) -> None:
    one = Instance(tmp_path)
    one.stop(signal.SIGKILL)
    one.close()
    assert one.socket.exists()
    argv = [sys.executable, "-m", "netstack", "list", "--json"]
    done = subprocess.run(
        argv, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert not one.socket.exists()


def test_requests_side_by_side(instance: Instance) -> None:
    """A hundred ports published and released by eight clients at a time: none is left, each answer is its own."""
    failures: list[Any] = []

    def publish() -> None:
        try:
            for _ in range(12):
                status, port = instance.ask("POST", "/v1/ports", {"spec": "127.0.0.1:0:80"})
                assert status == 201
                assert port in instance.ask("GET", "/v1/ports")[1]["ports"]
                assert instance.ask("DELETE", f"/v1/ports/{port['id']}")[0] == 204
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert instance.ask("GET", "/v1/ports")[1]["ports"] == []


def test_guard_alone() -> None:
    async def run() -> None:
        made: list[str] = []

        class Inner(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append("in")

        class Pipe(asyncio.Transport):
            closed = False

            def close(self) -> None:
                self.closed = True

        one = guard.Guard()
        pipes = [Pipe() for _ in range(guard.CONNECTIONS + 1)]
        protocols = [one.wrap(Inner()) for _ in pipes]
        for protocol, pipe in zip(protocols, pipes, strict=True):
            protocol.connection_made(pipe)
        assert [pipe.closed for pipe in pipes] == [False] * guard.CONNECTIONS + [True]
        assert len(made) == guard.CONNECTIONS
        protocols[-1].data_received(b"x")
        protocols[-1].connection_lost(None)
        protocols[0].connection_lost(None)
        last = Pipe()
        one.wrap(Inner()).connection_made(last)
        assert not last.closed

    asyncio.run(run())
