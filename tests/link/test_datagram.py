"""Frames as messages: socket pairs, seqpackets, and sockets that learn who speaks to them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netstack.link.datagram import DatagramLink

OK, AGAIN, CLOSED, BAD, ABSENT = 0, -1, -2, -3, -4
HELLO = b"VFKT"


def frame(n: int, size: int = 60) -> bytes:
    return n.to_bytes(4, "big") + bytes(size - 4)


def pair(kind: int, name: str, mtu: int = 1500) -> tuple[DatagramLink, socket.socket]:
    other, ours = socket.socketpair(socket.AF_UNIX, kind)
    other.settimeout(5)
    return DatagramLink(ours.detach(), name, mtu), other


class Guest:
    """A machine with a Unix socket of its own, as vfkit and QEMU have."""

    def __init__(self, folder: Path, name: str, server: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(5)
        self.sock.bind(str(folder / name))
        self.server = str(server)

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, self.server)


@pytest.fixture
def server(tmp_path: Path) -> DatagramLink:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "server"))
    return DatagramLink(sock.detach(), "learn")


def received(link: DatagramLink) -> list[bytes]:
    out = []
    while (got := link.recv()) is not None:
        out.append(got[0])
    return out


@pytest.mark.parametrize(
    ("kind", "name"), [(socket.SOCK_DGRAM, "connected"), (socket.SOCK_SEQPACKET, "packets")]
)
def test_both_ways(kind: int, name: str) -> None:
    link, other = pair(kind, name)
    for n in range(5):
        other.send(frame(n))
    assert received(link) == [frame(n) for n in range(5)]
    for n in range(5):
        assert link.send([frame(n)[:14], frame(n)[14:]]) == OK
    assert link.flush() == OK
    assert [other.recv(2000) for _ in range(5)] == [frame(n) for n in range(5)]
    other.close()
    link.send([frame(1)])
    assert link.flush() == CLOSED
    link.close()


def test_packets_end_with_the_other_side() -> None:
    link, other = pair(socket.SOCK_SEQPACKET, "packets")
    other.send(frame(1))
    other.close()
    assert link.recv() is not None
    with pytest.raises(ConnectionError):
        link.recv()
    link.close()


def test_back_pressure_loses_nothing() -> None:
    link, other = pair(socket.SOCK_SEQPACKET, "packets")
    sent = 0
    while link.send([frame(sent, 1514)]) == OK:
        sent += 1
        assert sent < 100_000
    assert link.room() == 0
    assert link.flush() == AGAIN
    got = 0
    while got < sent:
        other.setblocking(False)
        try:
            data = other.recv(2000)
        except BlockingIOError:
            link.flush()
            continue
        assert data == frame(got, 1514)
        got += 1
    assert link.flush() == OK
    assert link.room() > 0
    link.close()
    other.close()


def test_too_long_for_the_link() -> None:
    link, other = pair(socket.SOCK_DGRAM, "connected")
    other.send(bytes(5000))
    other.send(frame(1))
    assert received(link) == [frame(1)]
    assert link.stats()["rx_bad"] == 1
    assert link.send([bytes(1515)]) == BAD
    link.close()
    other.close()


def test_nobody_is_there_yet(server: DatagramLink) -> None:
    assert server.send([frame(1)]) == ABSENT
    server.close()


def test_vfkit_says_hello(server: DatagramLink, tmp_path: Path) -> None:
    guest = Guest(tmp_path, "vfkit", tmp_path / "server")
    guest.send(HELLO)
    guest.send(frame(1))
    assert received(server) == [frame(1)]  # the hello is no frame
    assert server.send([frame(2)]) == OK
    assert server.flush() == OK
    assert guest.sock.recv(100) == frame(2)
    server.close()


def test_nobody_gets_in_between(server: DatagramLink, tmp_path: Path) -> None:
    guest, stranger = (Guest(tmp_path, name, tmp_path / "server") for name in ("guest", "stranger"))
    guest.send(frame(1))
    stranger.send(frame(2))
    assert received(server) == [frame(1)]
    assert server.stats()["rx_bad"] == 1
    server.send([frame(3)])
    server.flush()
    assert guest.sock.recv(100) == frame(3)
    server.close()


def test_a_machine_that_starts_anew(server: DatagramLink, tmp_path: Path) -> None:
    """With a hello at once; without one as soon as the system says that the first is gone."""
    first, second = (Guest(tmp_path, name, tmp_path / "server") for name in ("first", "second"))
    first.send(frame(1))
    assert received(server) == [frame(1)]
    second.send(HELLO)
    second.send(frame(2))
    assert received(server) == [frame(2)]
    second.sock.close()
    assert server.send([frame(3)]) == OK
    assert server.flush() == OK  # refused by the system: the frame is lost, the link is not
    assert server.stats()["tx_lost"] == 1
    assert server.send([frame(4)]) == ABSENT
    third = Guest(tmp_path, "third", tmp_path / "server")
    third.send(frame(5))
    assert received(server) == [frame(5)]
    server.close()


def test_udp() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    where = sock.getsockname()
    link = DatagramLink(sock.detach(), "learn", 65521)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(5)
        guest.sendto(frame(1), where)
        assert received(link) == [frame(1)]
        assert link.send([frame(2)]) == OK
        assert link.flush() == OK
        assert guest.recv(100) == frame(2)
    link.close()


def test_not_a_kind() -> None:
    with pytest.raises(ValueError, match="packets"):
        DatagramLink(0, "postcards")
