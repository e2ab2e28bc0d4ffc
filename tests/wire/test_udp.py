"""UDP headers."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from netstack.errors import WireError
from netstack.wire.udp import UDPHeader

PORTS = st.integers(0, 0xFFFF)
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(*[st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None)] * 2),
)
SRC, DST = "192.0.2.1", "192.0.2.2"
GOLDEN = bytes.fromhex("0035 d431 000a 3f06 6869")


def test_golden() -> None:
    header = UDPHeader.parse(GOLDEN, src=SRC, dst=DST)
    assert (header.sport, header.dport, header.length, header.checksum) == (53, 54321, 10, 0x3F06)
    assert UDPHeader(53, 54321).build(b"hi", src=SRC, dst=DST) == GOLDEN
    assert header.build(b"hi") == GOLDEN
    assert eval(repr(header)) == header
    assert hash(header) == hash(UDPHeader(53, 54321))
    assert header != UDPHeader(54321, 53)
    assert header != GOLDEN


@given(PORTS, PORTS, PAIRS, st.binary(max_size=64))
def test_both_ways_with_scapy(
    sport: int,
    dport: int,
    pair: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
    payload: bytes,
) -> None:
    src, dst = pair
    ip = IP if src.version == 4 else IPv6
    theirs = bytes(ip(src=str(src), dst=str(dst)) / UDP(sport=sport, dport=dport) / Raw(payload))
    theirs = theirs[20 if src.version == 4 else 40 :]
    ours = UDPHeader(sport, dport).build(payload, src=src, dst=dst)
    assert ours == theirs
    read = UDPHeader.parse(theirs, src=src, dst=dst)
    assert (read.sport, read.dport, read.length) == (sport, dport, 8 + len(payload))
    scapy_read = UDP(ours)
    assert (scapy_read.sport, scapy_read.dport, scapy_read.len) == (sport, dport, 8 + len(payload))


def test_a_sum_of_zero_is_sent_as_ffff() -> None:
    plain = UDPHeader(0, 0).build(bytes(2), src=SRC, dst=DST)
    complement = plain[6:8]  # as payload it brings the sum to 0xffff, whose complement is 0
    data = UDPHeader(0, 0).build(complement, src=SRC, dst=DST)
    assert data[6:8] == b"\xff\xff"
    assert UDPHeader.parse(data, src=SRC, dst=DST).checksum == 0xFFFF


def test_no_checksum_is_for_ipv4_only() -> None:
    data = UDPHeader(1, 2).build(b"x")
    assert UDPHeader.parse(data, src=SRC, dst=DST).checksum == 0
    with pytest.raises(WireError) as caught:
        UDPHeader.parse(data, src="fe80::1", dst="fe80::2")
    assert caught.value.code == -4


@pytest.mark.parametrize(("length", "code"), [(0, -3), (7, -3), (11, -1), (0xFFFF, -1)])
def test_lying_lengths(length: int, code: int, guarded: Callable[[bytes], memoryview]) -> None:
    data = GOLDEN[:4] + length.to_bytes(2, "big") + GOLDEN[6:]
    with pytest.raises(WireError) as caught:
        UDPHeader.parse(guarded(data), src=SRC, dst=DST)
    assert caught.value.code == code


def test_bytes_behind_the_datagram_are_not_summed() -> None:
    assert UDPHeader.parse(GOLDEN + b"padding", src=SRC, dst=DST).length == 10


def test_a_changed_byte_is_noticed() -> None:
    for at in (0, 2, 6, 8, 9):
        data = bytearray(GOLDEN)
        data[at] ^= 0x10
        with pytest.raises(WireError) as caught:
            UDPHeader.parse(data, src=SRC, dst=DST)
        assert caught.value.code == -4


def test_every_prefix(guarded: Callable[[bytes], memoryview]) -> None:
    for length in range(len(GOLDEN)):
        with pytest.raises(WireError) as caught:
            UDPHeader.parse(guarded(GOLDEN[:length]))
        assert caught.value.code == -1
    assert UDPHeader.parse(guarded(GOLDEN), src=SRC, dst=DST).sport == 53


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    needs_its_room(UDPHeader(1, 2, 0xABCD).write, bytes.fromhex("0001 0002 0008 abcd"))


def test_the_largest_datagram() -> None:
    assert len(UDPHeader(1, 2).build(bytes(65527))) == 65535
    with pytest.raises(WireError) as caught:
        UDPHeader(1, 2).build(bytes(65528))
    assert caught.value.code == -3
