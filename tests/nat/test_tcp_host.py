"""A flow's descriptor exchanged for another one while the connection goes on: not a byte is lost or out of place."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from stack import TCP, GuestTcp, Stack, data_of


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The new host side: (the test's end, the engine's)."""
    ours, engines = socket.socketpair()
    ours.settimeout(5)
    engines.setblocking(False)
    yield ours, engines
    ours.close()
    engines.close()


def flow_of(stack: Stack) -> int:
    (flow,) = stack.gateway.flows()
    return int(flow["id"])


def opened(stack: Stack) -> tuple[GuestTcp, socket.socket]:
    guest = GuestTcp(stack)
    guest.open()
    return guest, stack.peers[-1]


def replace(stack: Stack, new: socket.socket) -> bool:
    done = stack.gateway._engine.replace(flow_of(stack), new.fileno())
    if done:
        new.detach()
    return done


def received(guest: GuestTcp, stack: Stack) -> bytes:
    packets = stack.run(0.05)
    before, out = guest.ack, b""
    for p in packets:
        if TCP in p and p[TCP].seq == before + len(out):
            out += data_of(p)
    guest.take(packets)
    stack.send(guest.segment("A"))
    return out


def test_bytes_of_both_directions_keep_their_order(
    stack: Stack, pair: tuple[socket.socket, socket.socket]
) -> None:
    guest, old = opened(stack)
    new, engines = pair
    guest.send(b"on its way to the old one;")
    old.sendall(b"answer of the old one;")
    assert replace(stack, engines)
    assert received(guest, stack) == b"answer of the old one;"
    guest.send(b"for the new one")  # kept: neither descriptor gets it yet
    new.sendall(b"answer of the new one")
    assert received(guest, stack) == b""
    assert old.recv(100) == b"on its way to the old one;"
    assert old.recv(100) == b""
    new.setblocking(False)
    with pytest.raises(BlockingIOError):
        new.recv(100)
    new.settimeout(5)
    old.sendall(b"last words;")
    old.close()
    assert received(guest, stack) == b"last words;answer of the new one"
    assert new.recv(100) == b"for the new one"
    guest.send(b"and on")
    assert new.recv(100) == b"and on"


def test_end_of_file_is_passed_on_to_the_new_one(
    stack: Stack, pair: tuple[socket.socket, socket.socket]
) -> None:
    guest, old = opened(stack)
    new, engines = pair
    guest.send(b"request", "FPA")
    assert old.recv(100) == b"request"
    assert old.recv(100) == b""
    assert replace(stack, engines)
    old.close()
    stack.run(0.05)
    assert new.recv(100) == b""
    new.sendall(b"answer")
    new.close()
    assert received(guest, stack) == b"answer"
    stack.run(0.05)
    assert stack.gateway.flows() == []
    assert stack.gateway.stats()["tcp_closed_normally"] == 1


def test_the_guests_reset_reaches_both(stack: Stack, pair: tuple[socket.socket, socket.socket]) -> None:
    guest, old = opened(stack)
    new, engines = pair
    assert replace(stack, engines)
    stack.send(guest.segment("R"))
    assert stack.gateway.flows() == []
    assert old.recv(100) == b""
    assert new.recv(100) == b""


def test_error_resets_the_guest(stack: Stack) -> None:
    _, old = opened(stack)
    assert stack.gateway._engine.replace(flow_of(stack), -errno.ECONNREFUSED)
    assert any("R" in p[TCP].flags for p in stack.run(0.05))
    assert stack.gateway.flows() == []
    assert old.recv(100) == b""


def test_what_cannot_be_exchanged(stack: Stack, pair: tuple[socket.socket, socket.socket]) -> None:
    _, engines = pair
    assert not stack.gateway._engine.replace(12345, engines.fileno())
    _, old = opened(stack)
    assert replace(stack, engines)
    other, others = socket.socketpair()
    with other, others:
        assert not replace(stack, others)  # it is being exchanged already
    old.close()


def test_udp_that_would_go_past_is_refused(stack: Stack) -> None:
    from stack import ICMP, UDP, Raw

    stack.gateway._engine.set_prefixes([("0.0.0.0", 0, 443, 17)])
    (answer,) = stack.send(stack.ip(UDP(sport=5000, dport=443) / Raw(b"QUIC"), dst="198.51.100.7"))
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    assert stack.drops() == {"udp_no_port": 1}
