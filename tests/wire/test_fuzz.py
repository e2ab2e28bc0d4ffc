"""Every parser against random and damaged bytes, in memory that ends where the data ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.errors import WireError
from netstack.wire.arp import ArpPacket
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.icmp4 import ICMPv4Message
from netstack.wire.icmp6 import ICMPv6Message, nd_options
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.ipv6 import IPv6Header
from netstack.wire.tcp import TCPHeader
from netstack.wire.udp import UDPHeader

PARSERS: dict[str, tuple[Callable[[Any], Any], bytes]] = {
    "ethernet": (EthernetHeader.parse, EthernetHeader(bytes(6), bytes(6), 0x0800).build(bytes(20))),
    "arp": (ArpPacket.parse, ArpPacket(1, bytes(6), "1.2.3.4", bytes(6), "5.6.7.8").build()),
    "ipv4": (
        lambda data: IPv4Header.parse(data, verify=True),
        IPv4Header("1.2.3.4", "5.6.7.8", 6, options=b"\x07\x07\x04" + bytes(5)).build(bytes(20)),
    ),
    "ipv6": (
        IPv6Header.parse,
        IPv6Header("fe80::1", "fe80::2", 0).build(
            b"\x3c\0\x05\x02\0\0\x01\0"
            + b"\x2b\0\x01\x04"
            + bytes(4)
            + b"\x2c"
            + bytes(7)
            + b"\x11"
            + bytes(15)
        ),
    ),
    "icmp4": (lambda data: ICMPv4Message.parse(data, verify=True), ICMPv4Message.echo(1, 2, b"body").build()),
    "icmp6": (
        lambda data: ICMPv6Message.parse(data, src="fe80::1", dst="fe80::2"),
        ICMPv6Message.echo(1, 2, b"body").build("fe80::1", "fe80::2"),
    ),
    "nd_options": (nd_options, b"\1\1\2\0\0\0\0\1" + b"\x18\2" + bytes(14)),
    "udp": (
        lambda data: UDPHeader.parse(data, src="1.2.3.4", dst="5.6.7.8"),
        UDPHeader(1, 2).build(b"body", src="1.2.3.4", dst="5.6.7.8"),
    ),
    "tcp": (
        lambda data: TCPHeader.parse(data, src="1.2.3.4", dst="5.6.7.8"),
        TCPHeader(1, 2, mss=3, wscale=4, sack_permitted=True, timestamps=(5, 6), sack=[(7, 8)]).build(
            b"body", src="1.2.3.4", dst="5.6.7.8"
        ),
    ),
}
parser = pytest.mark.parametrize("name", PARSERS)


def feed(name: str, data: memoryview) -> None:
    code = 0
    try:
        PARSERS[name][0](data)
    except WireError as error:
        code = error.code
    assert -9 <= code <= 0


@parser
def test_the_sample_itself_parses(name: str) -> None:
    parse, sample = PARSERS[name]
    parse(sample)


@parser
@given(data=st.binary(max_size=128))
def test_random_bytes(name: str, guarded: Callable[[bytes], memoryview], data: bytes) -> None:
    feed(name, guarded(data))


@parser
@given(
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 200),
)
def test_damaged_packets(
    name: str, guarded: Callable[[bytes], memoryview], changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(PARSERS[name][1])
    for at, value in changes:
        data[at % len(data)] = value
    feed(name, guarded(bytes(data[: max(cut, 1)])))


@parser
def test_every_value_of_every_byte(name: str, guarded: Callable[[bytes], memoryview]) -> None:
    sample = PARSERS[name][1]
    for at in range(len(sample)):
        for value in range(0, 256, 5):
            feed(name, guarded(sample[:at] + bytes([value]) + sample[at + 1 :]))
