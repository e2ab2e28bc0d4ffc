"""``netstack serve`` as a service manager, a script or a guest's owner meets it: a process, over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from far_guest import FarGuest, connect, mac_of

from netstack.link.hyperkit import ClientHandshake

ROOT = Path(__file__).resolve().parents[2]
SERVE = [sys.executable, "-m", "netstack", "serve"]
GATEWAY = "192.168.65.1"
SECONDS = 20.0

#: Puts descriptors where sd_listen_fds(3) has them, as a service manager does, and becomes the command.
AS_SYSTEMD = """
import fcntl, os, sys
numbers, names, pid, *argv = sys.argv[1:]
high = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 100) for n in numbers.split(",")]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
os.environ |= {"LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names, "LISTEN_PID": pid or str(os.getpid())}
os.execv(argv[0], argv)
"""


@contextlib.contextmanager
def running(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the project's folder that is killed if the test leaves it behind."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    with subprocess.Popen(
        argv, env=environment, stderr=subprocess.PIPE, **{"stdin": subprocess.DEVNULL, **options}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its status and the rest of its standard error, once it has ended."""
    assert process.stderr is not None
    status = process.wait(SECONDS)
    return status, process.stderr.read().decode()


def stopped(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The same after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    return ended(process)


def until_ready(process: subprocess.Popen[bytes]) -> str:
    """Reads the log up to the line that says so; what was read."""
    assert process.stderr is not None
    text = ""
    while not re.search(r"\bready\b", text):
        line = process.stderr.readline().decode()
        assert line, f"it ended and had said: {text}"
        text += line
    return text


def refused(*arguments: str, **options: Any) -> str:
    """The one line that it ends with, at once, where the user has said something wrong."""
    with running([*SERVE, *arguments], **options) as process:
        status, text = ended(process)
    assert status == 2, text
    assert text.count("\n") == 1, text
    assert text.startswith("netstack: ")
    return text


def lines_of(fd: int, count: int) -> list[dict[str, Any]]:
    """So many lines of JSON from a pipe or a stream socket."""
    data = b""
    while data.count(b"\n") < count:
        assert select.select([fd], [], [], SECONDS)[0], f"only {data!r} came"
        piece = os.read(fd, 4096)
        assert piece, f"only {data!r} came"
        data += piece
    return [json.loads(line) for line in data.splitlines()]


def come_and_go(path: Path) -> None:
    """A guest that gets its lease and leaves."""
    with connect(path) as sock, FarGuest(sock.fileno(), sock.fileno(), mac=mac_of(1)) as guest:
        guest.dhcp()


# --- the log


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    place = f"qemu:{tmp_path}/q"
    with running([*SERVE, "--listen", place, "--log-format", "json"]) as process:
        text = until_ready(process)
        come_and_go(tmp_path / "q")
        assert process.stderr is not None
        while '"link_closed"' not in text:
            text += process.stderr.readline().decode()
        status, rest = stopped(process)
    assert status == 0
    records = [json.loads(line) for line in (text + rest).splitlines()]
    for record in records:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        assert record["level"] in ("info", "warning")
        assert record["message"]
    events = [record for record in records if "event" in record]
    assert [e["event"] for e in events] == ["ready", "link_opened", "link_closed", "stopping"]
    assert {e["link"] for e in events[1:3]} == {place}
    assert events[1]["port"] == events[2]["port"]


def test_the_level_of_the_log(tmp_path: Path) -> None:
    events = tmp_path / "events"
    quiet = ["--api", "off", "--log-level", "warning"]  # the API warns where what it needs is missing
    argv = [*SERVE, "--listen", f"qemu:{tmp_path}/q", *quiet, "--notify", str(events)]
    with running(argv) as process:
        end = time.monotonic() + SECONDS
        while not (tmp_path / "q").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        come_and_go(tmp_path / "q")
        assert stopped(process) == (0, ""), "what is only information was logged"


# --- --notify


def notified(tmp_path: Path, read: Any, target: str, **options: Any) -> None:
    """The four events of one guest's visit, in what ``read(n)`` gives of the target."""
    place = f"qemu:{tmp_path}/q"
    with running([*SERVE, "--listen", place, "--notify", target], **options) as process:
        (ready,) = read(1)
        assert ready == {"event": "ready", "listen": [place]}
        come_and_go(tmp_path / "q")
        opened, closed = read(2)
        assert opened == {"event": "link_opened", "link": place, "port": opened["port"]}
        assert closed == {"event": "link_closed", "link": place, "port": opened["port"]}
        assert stopped(process)[0] == 0
        assert read(1) == [{"event": "stopping"}]
    assert not (tmp_path / "q").exists(), "the socket's file was left behind"


def test_notify_a_descriptor(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        notified(tmp_path, lambda n: lines_of(reader, n), str(writer), pass_fds=[writer])
    finally:
        os.close(reader)
        os.close(writer)


def test_notify_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events"
    seen = 0

    def read(n: int) -> list[dict[str, Any]]:
        nonlocal seen
        end = time.monotonic() + SECONDS
        while True:
            lines = path.read_text().splitlines()[seen:] if path.exists() else []
            if len(lines) >= n:
                seen += n
                return [json.loads(line) for line in lines]
            assert time.monotonic() < end, lines
            time.sleep(0.02)

    notified(tmp_path, read, str(path))


def test_notify_a_stream_socket(tmp_path: Path) -> None:
    accepted: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "n"))
        listener.listen()
        listener.settimeout(SECONDS)

        def read(n: int) -> list[dict[str, Any]]:
            if not accepted:
                accepted.append(listener.accept()[0])
            return lines_of(accepted[0].fileno(), n)

        notified(tmp_path, read, str(tmp_path / "n"))
        accepted[0].close()


def test_notify_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.settimeout(SECONDS)
        notified(tmp_path, lambda n: [json.loads(sock.recv(4096)) for _ in range(n)], str(tmp_path / "n"))


def test_a_reader_of_events_that_goes_is_no_reason_to_stop(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    argv = [*SERVE, "--listen", f"qemu:{tmp_path}/q", "--notify", str(writer)]
    with running(argv, pass_fds=[writer]) as process:
        os.close(writer)
        lines_of(reader, 1)
        os.close(reader)
        come_and_go(tmp_path / "q")
        come_and_go(tmp_path / "q")
        assert stopped(process)[0] == 0


@pytest.mark.parametrize("target", ["{folder}/no/such/file", "1000000"])
def test_notify_where_nothing_can_be_written(tmp_path: Path, target: str) -> None:
    target = target.format(folder=tmp_path)
    assert target in refused("--listen", f"qemu:{tmp_path}/q", "--notify", target)


# --- a service manager


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness(tmp_path: Path, abstract: bool) -> None:
    if abstract and sys.platform != "linux":
        pytest.skip("abstract addresses are Linux's")
    name = f"{tmp_path}/manager"
    place = f"qemu:{tmp_path}/q"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(SECONDS)
        environment = {"NOTIFY_SOCKET": "@" + name if abstract else name}
        with running([*SERVE, "--listen", place], env=environment) as process:
            assert manager.recv(4096).decode() == f"READY=1\nSTATUS=guests come in at {place}"
            connect(tmp_path / "q").close()  # it is: somebody who was told can come in at once
            assert stopped(process)[0] == 0
        assert manager.recv(4096) == b"STOPPING=1"


def as_systemd(socks: list[socket.socket], names: str, pid: str = "") -> tuple[list[str], dict[str, Any]]:
    numbers = ",".join(str(sock.fileno()) for sock in socks)
    argv = [sys.executable, "-c", AS_SYSTEMD, numbers, names, pid, *SERVE]
    return argv, {"pass_fds": [sock.fileno() for sock in socks]}


def test_sockets_are_passed_on(tmp_path: Path) -> None:
    """One that listens, whose client waits since before there was a service, and one that is connected."""
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener, ours:
        listener.bind(str(tmp_path / "q"))
        listener.listen()
        argv, options = as_systemd([listener, theirs], "qemu-builds:qemu")
        with connect(tmp_path / "q") as early, running(argv, **options) as process:
            theirs.close()
            for number, sock in enumerate((early, ours)):
                with FarGuest(sock.fileno(), sock.fileno(), mac=mac_of(number)) as guest:
                    assert guest.dhcp()["address"] == f"192.168.65.{3 + number}"
                    guest.ping(GATEWAY)
            status, text = stopped(process)
            assert status == 0, text
            assert "guests come in at fd:qemu:3\n" in text
            assert "guests come in at fd:qemu:4\n" in text
        assert (tmp_path / "q").exists(), "the file is the manager's, not ours"


@pytest.mark.parametrize(
    ("names", "pid", "words"),
    [
        ("web", "", "FileDescriptorName="),
        ("", "", "FileDescriptorName="),
        ("qemu", "1", "nobody could come in"),
    ],
    ids=["another name", "no name", "meant for another process"],
)
def test_sockets_that_are_not_for_it(tmp_path: Path, names: str, pid: str, words: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "q"))
        listener.listen()
        argv, options = as_systemd([listener], names, pid)
        with running(argv, **options) as process:
            status, text = ended(process)
    assert (status, text.count("\n")) == (2, 1), text
    assert words in text


# --- standard input and output


@pytest.mark.parametrize("framing", ["qemu", "hyperkit"])
def test_stdio(framing: str) -> None:
    """A guest over two pipes; when it closes them the service has nobody left, and ends."""
    argv = [*SERVE, "--listen", f"stdio:{framing}"]
    with running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        mac = mac_of(1)
        if framing == "hyperkit":
            state = ClientHandshake()
            process.stdin.write(state.begin())
            while state.need:
                data = b""
                while len(data) < state.need:
                    piece = process.stdout.read(state.need - len(data))
                    assert piece, ended(process)
                    data += piece
                process.stdin.write(state.receive(data))
            assert state.vif is not None
            mac = state.vif.mac.hex(":")
        with FarGuest(process.stdout.fileno(), process.stdin.fileno(), framing, mac=mac) as guest:
            assert guest.dhcp()["address"] == "192.168.65.3"
            guest.ping(GATEWAY, size=1400)
        assert process.poll() is None
        process.stdin.close()
        assert ended(process)[0] == 0


# --- static leases


def test_static_leases(tmp_path: Path) -> None:
    fixed = ["--guest", f"{mac_of(7)}=192.168.65.7,web", "--guest", f"{mac_of(8)}=192.168.65.3"]
    with running([*SERVE, "--listen", f"qemu:{tmp_path}/q", *fixed]) as process:
        until_ready(process)
        with contextlib.ExitStack() as stack:
            guests = []
            for number in (1, 7, 8):
                sock = stack.enter_context(connect(tmp_path / "q"))
                guests.append(stack.enter_context(FarGuest(sock.fileno(), sock.fileno(), mac=mac_of(number))))
            addresses = [guest.dhcp()["address"] for guest in guests]
            assert addresses == ["192.168.65.4", "192.168.65.7", "192.168.65.3"]
            assert guests[0].resolve("web.internal") == "192.168.65.7"
            guests[0].ping(guests[0].resolve("web.internal"))
        assert stopped(process)[0] == 0


def test_another_may_not_use_a_static_address(tmp_path: Path) -> None:
    with running(
        [*SERVE, "--listen", f"qemu:{tmp_path}/q", "--guest", f"{mac_of(7)}=192.168.65.7"]
    ) as process:
        until_ready(process)
        for number, heard in ((1, False), (7, True)):
            with (
                connect(tmp_path / "q") as sock,
                FarGuest(sock.fileno(), sock.fileno(), mac=mac_of(number), timeout=1.5) as guest,
            ):
                guest.configure("192.168.65.7", router=GATEWAY)
                with contextlib.nullcontext() if heard else pytest.raises(TimeoutError):
                    guest.ping(GATEWAY)
        assert stopped(process)[0] == 0


@pytest.mark.parametrize(
    "guests",
    [
        ["02:00:00:00:00:07"],
        ["02:00:00:00:00=192.168.65.7"],
        ["02:00:00:00:00:07=192.168.65.777"],
        ["02:00:00:00:00:07=10.0.0.1"],
        ["02:00:00:00:00:07=192.168.65.1"],
        ["02:00:00:00:00:07=192.168.65.7", "02:00:00:00:00:08=192.168.65.7"],
    ],
)
def test_leases_that_cannot_be(tmp_path: Path, guests: list[str]) -> None:
    options = [word for guest in guests for word in ("--guest", guest)]
    refused("--listen", f"qemu:{tmp_path}/q", *options)
    assert not (tmp_path / "q").exists()
