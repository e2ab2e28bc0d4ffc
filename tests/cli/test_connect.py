"""``netstack connect``: a stream to a guest through standard input and output, handed over as a descriptor."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
from instance import GUEST, GUEST_PORT, Instance, eventually

from netstack.cli.connect import ConnectionLost, join

Ask = Callable[..., Any]
PLACE = f"{GUEST}:{GUEST_PORT}"


def descriptors(instance: Instance) -> int:
    return len(os.listdir(f"/proc/{instance.process.pid}/fd"))


def test_64_mib_both_ways(ask: Ask, served: Instance) -> None:
    before = descriptors(served)
    data = os.urandom(1 << 20) * 64
    done = ask("connect", PLACE)
    out, err = done.communicate(data, timeout=100)
    assert (done.returncode, err) == (0, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    eventually(lambda: descriptors(served) <= before)


def test_answers_come_while_the_input_is_open(ask: Ask) -> None:
    done = ask("connect", PLACE)
    for line in (b"one\n", b"two\n"):
        done.stdin.write(line)
        done.stdin.flush()
        assert done.stdout.readline() == line
    done.stdin.close()  # half-closed: the guest ends its side when it sees this
    assert done.stdout.read() == b""
    assert done.wait(60) == 0
    done.stdout.close()
    done.stderr.close()


def test_as_a_proxy_command(ask: Ask) -> None:
    """Over one socket for both directions, as ssh does it with ProxyUseFdpass=no: ends when the client has gone."""
    ours, theirs = socket.socketpair()
    done = ask("connect", PLACE, stdin=theirs, stdout=theirs)
    theirs.close()
    with ours:
        ours.settimeout(60)
        ours.sendall(b"SSH-2.0-test\r\n")
        assert ours.recv(100) == b"SSH-2.0-test\r\n"
    assert done.wait(60) in (0, 1)
    done.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([f"{GUEST}:9"], f"{GUEST}:9 refuses the connection: nothing listens there"),
        (["nobody:22"], "no guest has the name or address 'nobody'"),
        (["-w", "0.3", "ghost:22"], "192.168.65.99:22 does not answer"),
        (["web"], "'web' is not GUEST:PORT"),
        (["web:0"], "'web:0' is not GUEST:PORT"),
        (["web:ssh"], "'web:ssh' is not GUEST:PORT"),
    ],
)
def test_what_cannot_be(ask: Ask, arguments: list[str], words: str) -> None:
    done = ask("connect", *arguments, stdin=subprocess.DEVNULL)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out, err.count(b"\n")) == (2, b"", 1)
    assert words in err.decode()


class Ends:
    """`join` in a thread, between the test's ends of a pair of sockets and of two pipes."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        read_fd, self.input = os.pipe()
        self.output, write_fd = os.pipe()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._join, args=(theirs, read_fd, write_fd))
        self.thread.start()

    def _join(self, sock: socket.socket, read_fd: int, write_fd: int) -> None:
        try:
            join(sock, read_fd, write_fd)
        except BaseException as err:
            self.error = err
        sock.close()


def test_the_guest_ends_first() -> None:
    ends = Ends()
    ends.sock.sendall(b"bye")
    ends.sock.shutdown(socket.SHUT_WR)
    assert os.read(ends.output, 100) == b"bye"
    assert os.read(ends.output, 100) == b""  # our output has ended, and what we say still goes to the guest
    os.write(ends.input, b"still here")
    assert ends.sock.recv(100) == b"still here"
    os.close(ends.input)
    assert ends.sock.recv(100) == b""
    ends.thread.join(30)
    assert ends.error is None


def test_the_guest_takes_no_more() -> None:
    ends = Ends()
    ends.sock.close()
    assert os.read(ends.output, 100) == b""
    os.write(ends.input, b"too late")
    ends.thread.join(30)
    assert isinstance(ends.error, ConnectionLost)
    os.close(ends.input)


def test_nobody_reads_the_output() -> None:
    ends = Ends()
    os.close(ends.output)
    ends.sock.sendall(b"for nobody")
    ends.thread.join(30)
    assert isinstance(ends.error, BrokenPipeError)
    ends.sock.close()
    os.close(ends.input)
