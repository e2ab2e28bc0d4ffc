"""A bad path that comes, changes and goes while frames are under way, on virtual time over a socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from stack import GATEWAY, GATEWAY_MAC, GUEST, MAC, SECOND

import netstack
from netstack.gateway import Gateway
from netstack.link.impair import Impairment
from netstack.testing.virtual import run_until

MILLISECOND = SECOND // 1000


class Wire:
    """A stepped gateway with one guest behind a datagram socket, whose link is the engine's own."""

    def __init__(self) -> None:
        self.now = SECOND
        self.gateway = Gateway(netstack.Config(dns=()), now_ns=self.now)
        self.guest, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.guest.setblocking(False)
        self.gateway._engine.add_datagram(theirs.detach(), "packets", 1500)
        self.send(Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=MAC, psrc=GUEST, pdst=GATEWAY))
        assert len(self.run()) == 1

    def send(self, frame: Ether) -> None:
        self.guest.send(bytes(frame))

    def ping(self, sequence: int) -> None:
        ip = IP(src=GUEST, dst=GATEWAY) / ICMP(id=1, seq=sequence) / Raw(b"x" * 32)
        self.send(Ether(src=MAC, dst=GATEWAY_MAC) / ip)

    def run(self, milliseconds: float = 0) -> list[int]:
        """Lets time pass; the sequence numbers of the echo replies that came (-1: another frame)."""
        self.now = run_until(self.gateway, self.now, self.now + int(milliseconds * MILLISECOND))
        out = []
        while True:
            try:
                frame = Ether(self.guest.recv(65536))
            except BlockingIOError:
                return out
            out.append(frame[ICMP].seq if ICMP in frame else -1)

    def impair(self, up: str | None, down: str = "") -> None:
        paths = (None, None) if up is None else (Impairment.parse(up), Impairment.parse(down))
        self.gateway._engine.set_impairment(*paths)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self.gateway.stop()
        self.guest.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


def test_comes_changes_and_goes(wire: Wire) -> None:
    wire.ping(1)
    assert wire.run() == [1]
    wire.impair("delay=20ms", "delay=30ms")
    wire.ping(2)
    assert wire.run(49.9) == []
    assert wire.run(0.2) == [2]
    wire.impair("delay=5ms", "delay=5ms")
    wire.ping(3)
    assert wire.run(9.9) == []
    assert wire.run(0.2) == [3]
    wire.impair(None)
    wire.ping(4)
    assert wire.run() == [4]


@pytest.mark.parametrize("then", [None, "delay=40ms"])
def test_what_is_under_way_arrives_in_its_order(wire: Wire, then: str | None) -> None:
    wire.impair("delay=1s", "delay=1s")
    for sequence in range(200):
        wire.ping(sequence)
        assert wire.run(1) == []
    wire.run(850)
    assert wire.run(0) == []  # some are on their way up, some on their way down
    wire.impair(then, then or "")
    first = wire.run()
    assert first == sorted(first)
    if then is None:
        assert first == list(range(200))
        wire.ping(200)
        assert wire.run() == [200]
    else:
        assert 0 < len(first) < 200
        assert first + wire.run(40) == list(range(200))


def test_loss_and_counters(wire: Wire) -> None:
    wire.impair("loss=100%")
    for sequence in range(10):
        wire.ping(sequence)
    assert wire.run(1000) == []
    assert wire.gateway.stats()["impair_lost"] == 10
    wire.impair("loss=100%", "loss=100%")
    wire.impair(None)
    wire.impair(None)
    wire.ping(11)
    assert wire.run() == [11]
    assert wire.gateway.stats()["impair_lost"] == 10


def test_links_to_come_have_it_too(wire: Wire) -> None:
    wire.impair("loss=100%")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        wire.gateway._engine.add_datagram(theirs.detach(), "packets", 1500)
        ours.send(bytes(Ether(src="02:00:00:00:00:09", dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=GATEWAY)))
        wire.run()
    assert wire.gateway.stats()["impair_lost"] == 1


def test_a_link_that_closes_with_frames_under_way(wire: Wire) -> None:
    wire.impair("delay=1s", "delay=1s")
    wire.ping(1)
    wire.run(10)
    wire.impair(None)
    wire.guest.close()
    wire.gateway.step(wire.now + 1)
    wire.gateway.step(wire.now + 2)
    wire.impair("delay=1s")  # of nothing
    wire.gateway.step(wire.now + 3)
    assert wire.gateway.wait_links_gone(0)


def test_a_full_link_is_tried_again(wire: Wire) -> None:
    """The guest does not read until the path has changed under what the socket refused."""
    wire.guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sent = 0
    for sequence in range(400):
        try:
            wire.ping(sequence)
        except BlockingIOError:
            break
        sent += 1
        wire.gateway.step(wire.now)
    assert sent > 50
    wire.impair("delay=10ms")
    wire.gateway.step(wire.now)
    first = wire.run()
    wire.ping(5000)
    assert wire.run(20)[-1:] == [5000]
    assert first == sorted(first)
