"""Initial sequence numbers (RFC 6528), and who may not have a connection at all."""

from __future__ import annotations

import pytest
from stack import IP, MAC, TCP, Ether, GuestTcp, Stack

from netstack import Config, Gateway


def first_number(stack: Stack, sport: int) -> int:
    """The ISN that a connection gets; the connection is reset at once."""
    guest = GuestTcp(stack, sport=sport)
    answer = guest.open()
    stack.send(guest.segment("R"))
    return int(answer[TCP].seq)


def test_clock_and_keyed_hash(stack: Stack) -> None:
    first = first_number(stack, 40000)
    stack.run(1.0)
    again = first_number(stack, 40000)
    ticks = (again - first) % 2**32
    assert ticks == pytest.approx(1e9 / 4096, rel=0.01)  # one every 4.1 microseconds: the same hash
    others = {first_number(stack, sport) for sport in range(41000, 41016)}
    assert len(others) == 16
    steps = {abs(a - first) for a in others}
    assert min(steps) > 1 << 16  # another connection's hash has nothing to do with it


def test_another_key_gives_other_numbers() -> None:
    """Keys come from the system; only stepped engines, for repeatable tests, have a fixed one."""
    gateway = Gateway(Config(dns=()))
    assert gateway._settings(0)["seed"] is None
    gateway.stop()


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("192.168.65.3", "255.255.255.255"),
        ("192.168.65.3", "192.168.65.255"),
        ("192.168.65.3", "224.0.0.1"),
        ("127.0.0.1", "192.168.65.2"),
        ("224.0.0.1", "192.168.65.2"),
        ("255.255.255.255", "192.168.65.2"),
        ("0.0.0.0", "192.168.65.2"),
    ],
)
def test_no_connection_to_broadcast_or_multicast(stack: Stack, src: str, dst: str) -> None:
    GuestTcp(stack).open()
    flows = len(stack.gateway.flows())
    frame = Ether(src=MAC, dst="f6:16:36:bc:f9:c6") / IP(src=src, dst=dst) / TCP(sport=1, dport=80, flags="S")
    answers = stack.send(frame)
    assert not any(TCP in p and p[TCP].flags == "SA" for p in answers)
    assert len(stack.gateway.flows()) == flows
