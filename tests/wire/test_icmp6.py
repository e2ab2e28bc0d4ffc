"""ICMPv6 messages and neighbour-discovery options."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)

from netstack.errors import WireError
from netstack.wire.icmp6 import (
    ECHO,
    ECHO_REPLY,
    NEIGHBOR_SOLICIT,
    TOO_BIG,
    ICMPv6Message,
    nd_options,
)

ADDRESSES = st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None)
SRC, DST = "fe80::1", "fe80::2"


def test_golden() -> None:
    message = ICMPv6Message.echo(1, 2, b"\0\1")
    data = message.build(SRC, DST)
    # fe80 + 1 + fe80 + 2 + 10 + 58 + 8000 + 1 + 2 + 1 = 27d4b; with the carries 7d4d
    assert data == bytes.fromhex("8000 82b2 0001 0002 0001")
    parsed = ICMPv6Message.parse(data, src=SRC, dst=DST)
    assert parsed == message
    assert (parsed.type, parsed.code, parsed.checksum, parsed.rest) == (ECHO, 0, 0x82B2, 0x00010002)
    assert (parsed.identifier, parsed.sequence, parsed.body) == (1, 2, b"\0\1")
    assert eval(repr(parsed)) == parsed
    assert hash(parsed) == hash(message)
    assert parsed != ICMPv6Message.echo(1, 2, b"\0\1", reply=True)
    assert parsed != data
    assert ICMPv6Message.echo(1, 2, reply=True).type == ECHO_REPLY
    assert ICMPv6Message(TOO_BIG, rest=1280).mtu == 1280


@given(
    st.booleans(),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=64),
    ADDRESSES,
    ADDRESSES,
)
def test_both_ways_with_scapy(
    reply: bool, identifier: int, sequence: int, body: bytes, src: IPv6Address, dst: IPv6Address
) -> None:
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    theirs = bytes(IPv6(src=str(src), dst=str(dst)) / kind(id=identifier, seq=sequence, data=body))[40:]
    message = ICMPv6Message.echo(identifier, sequence, body, reply=reply)
    assert message.build(src, dst) == theirs
    assert ICMPv6Message.parse(theirs, src=src, dst=dst) == message
    read = kind(message.build(src, dst))
    assert (read.id, read.seq, read.data) == (identifier, sequence, body)


def test_neighbor_solicitation_of_scapy() -> None:
    theirs = (
        IPv6(src=SRC, dst="ff02::1:ff00:2")
        / ICMPv6ND_NS(tgt=DST)
        / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
        / ICMPv6NDOptMTU(mtu=1500)
    )
    ours = ICMPv6Message.parse(bytes(theirs)[40:], src=SRC, dst="ff02::1:ff00:2")
    assert ours.type == NEIGHBOR_SOLICIT
    assert IPv6Address(ours.body[:16]) == IPv6Address(DST)
    assert nd_options(ours.body[16:]) == [(1, b"\2\0\0\0\0\1"), (5, b"\0\0\0\0\5\xdc")]


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\1", -1), (b"\1\0" + bytes(6), -5), (b"\1\2" + bytes(13), -5), (b"\1\1" + bytes(7), -1)],
)
def test_faulty_option_lists(data: bytes, code: int, guarded: Callable[[bytes], memoryview]) -> None:
    with pytest.raises(WireError) as caught:
        nd_options(guarded(data))
    assert caught.value.code == code


def test_an_empty_option_list() -> None:
    assert nd_options(b"") == []


def test_every_prefix(guarded: Callable[[bytes], memoryview]) -> None:
    data = ICMPv6Message.echo(1, 2, b"body").build(SRC, DST)
    for length in range(8):
        with pytest.raises(WireError) as caught:
            ICMPv6Message.parse(guarded(data[:length]))
        assert caught.value.code == -1
    for length in range(8, len(data)):
        with pytest.raises(WireError) as caught:
            ICMPv6Message.parse(guarded(data[:length]), src=SRC, dst=DST)
        assert caught.value.code == -4
    assert ICMPv6Message.parse(guarded(data), src=SRC, dst=DST).body == b"body"


def test_the_checksum_covers_the_addresses() -> None:
    data = ICMPv6Message.echo(1, 2).build(SRC, DST)
    assert ICMPv6Message.parse(data).sequence == 2
    with pytest.raises(WireError) as caught:
        ICMPv6Message.parse(data, src=SRC, dst="fe80::3")
    assert caught.value.code == -4


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    message = ICMPv6Message.echo(1, 2, b"xyz")
    needs_its_room(lambda out: message.write(out, SRC, DST), message.build(SRC, DST))
