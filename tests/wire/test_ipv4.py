"""IPv4 headers."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.packet import Raw

from netstack.errors import WireError
from netstack.wire.checksum import checksum
from netstack.wire.ipv4 import IPv4Header

HEADERS = st.builds(
    IPv4Header,
    st.ip_addresses(v=4),
    st.ip_addresses(v=4),
    st.integers(0, 255),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    ident=st.integers(0, 0xFFFF),
    frag_offset=st.integers(0, 0x1FFF).map(lambda n: 8 * n),
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    options=st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
)
# The example packet of many textbooks, checksum 0xb861.
GOLDEN = bytes.fromhex("4500 0073 0000 4000 40 11 b861 c0a80001 c0a800c7") + bytes(95)


def test_golden() -> None:
    header = IPv4Header.parse(GOLDEN, verify=True)
    assert header == IPv4Header("192.168.0.1", "192.168.0.199", 17, dont_fragment=True)
    assert (header.src, header.dst) == (IPv4Address("192.168.0.1"), IPv4Address("192.168.0.199"))
    assert (header.protocol, header.ttl, header.tos, header.ident) == (17, 64, 0, 0)
    assert (header.header_length, header.total_length, header.options) == (20, 115, b"")
    assert (header.dont_fragment, header.more_fragments, header.frag_offset) == (True, False, 0)
    assert header.build(bytes(95)) == GOLDEN
    assert eval(repr(header)) == header
    assert hash(header) == hash(IPv4Header.parse(GOLDEN))
    assert header != IPv4Header("192.168.0.1", "192.168.0.199", 17)
    assert header != GOLDEN


@given(HEADERS, st.binary(max_size=64))
def test_scapy_reads_what_we_build(header: IPv4Header, payload: bytes) -> None:
    data = header.build(payload)
    theirs = IP(data)
    assert (theirs.src, theirs.dst, theirs.proto) == (str(header.src), str(header.dst), header.protocol)
    assert (theirs.ttl, theirs.tos, theirs.id, theirs.frag * 8) == (
        header.ttl,
        header.tos,
        header.ident,
        header.frag_offset,
    )
    assert bool(theirs.flags & 2) == header.dont_fragment
    assert bool(theirs.flags & 1) == header.more_fragments
    assert (theirs.ihl * 4, theirs.len) == (header.header_length, len(data))
    assert checksum(data[: header.header_length]) == 0
    assert data[20 : header.header_length] == header.options
    again = IPv4Header.parse(data, verify=True)
    assert again == header
    assert again.total_length == len(data)


@given(HEADERS, st.binary(max_size=64))
def test_we_read_what_scapy_builds(header: IPv4Header, payload: bytes) -> None:
    theirs = IP(
        src=str(header.src),
        dst=str(header.dst),
        proto=header.protocol,
        ttl=header.ttl,
        tos=header.tos,
        id=header.ident,
        frag=header.frag_offset // 8,
        flags=2 * header.dont_fragment + header.more_fragments,
    ) / Raw(payload)
    ours = IPv4Header.parse(bytes(theirs), verify=True)
    assert (ours.options, ours.total_length) == (b"", 20 + len(payload))
    assert ours.build(payload) == bytes(theirs)


@pytest.mark.parametrize("words", range(11))
def test_every_prefix(words: int, guarded: Callable[[bytes], memoryview]) -> None:
    packet = IPv4Header("1.2.3.4", "5.6.7.8", 6, options=b"\x01" * 4 * words).build(b"payload")
    for length in range(len(packet)):
        with pytest.raises(WireError) as caught:
            IPv4Header.parse(guarded(packet[:length]), verify=True)
        assert caught.value.code == -1
    header = IPv4Header.parse(guarded(packet), verify=True)
    assert header.options == b"\x01" * 4 * words


def broken(**bytes_at: int) -> bytes:
    data = bytearray(GOLDEN)
    for at, value in bytes_at.items():
        data[int(at[1:])] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (broken(b0=0x65), -2),
        (broken(b0=0x05), -2),
        (broken(b0=0x44), -3),
        (broken(b0=0x40), -3),
        (broken(b2=0, b3=19), -3),
        (broken(b2=0, b3=0), -3),  # what a super-frame of more than 65535 bytes says
        (broken(b0=0x46, b2=0, b3=20), -3),
        (broken(b3=0x74), -1),
        (broken(b2=0xFF), -1),
        (broken(b0=0x4F, b2=0, b3=0xFF), -1),
        (broken(b10=0), -4),
        (broken(b8=63), -4),
    ],
)
def test_every_fault(data: bytes, code: int) -> None:
    with pytest.raises(WireError) as caught:
        IPv4Header.parse(data, verify=True)
    assert caught.value.code == code


def test_the_checksum_is_verified_only_on_request() -> None:
    assert IPv4Header.parse(broken(b10=0)).ttl == 64
    long = bytearray(IPv4Header("1.2.3.4", "5.6.7.8", 6, options=b"\x01\x01\x01\x00").build())
    long[20] = 2
    assert IPv4Header.parse(long).header_length == 24
    with pytest.raises(WireError):
        IPv4Header.parse(long, verify=True)


@pytest.mark.parametrize("length", range(41))
def test_options_are_padded(length: int) -> None:
    header = IPv4Header("1.2.3.4", "5.6.7.8", 6, options=b"\x01" * length)
    padded = (length + 3) // 4 * 4
    assert header.options == (b"\x01" * length).ljust(padded, b"\0")
    assert header.header_length == 20 + padded
    assert IPv4Header.parse(header.build(b"x"), verify=True) == header


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    header = IPv4Header("1.2.3.4", "5.6.7.8", 6, options=b"\x01" * 5)
    needs_its_room(header.write, header.build())
    assert header.write(bytearray(100)) == 28


def test_what_cannot_be_built() -> None:
    header = IPv4Header("1.2.3.4", "5.6.7.8", 6)
    assert len(header.build(bytes(65515))) == 65535
    with pytest.raises(WireError) as caught:
        header.build(bytes(65516))
    assert caught.value.code == -3
    with pytest.raises(ValueError, match="at most 40"):
        IPv4Header("1.2.3.4", "5.6.7.8", 6, options=bytes(41))
    with pytest.raises(ValueError, match="multiple of 8"):
        IPv4Header("1.2.3.4", "5.6.7.8", 6, frag_offset=12)
    with pytest.raises(ValueError, match="not an IPv4 address"):
        IPv4Header("::1", "5.6.7.8", 6)
    with pytest.raises(OverflowError):
        IPv4Header("1.2.3.4", "5.6.7.8", 256)
    with pytest.raises(TypeError):
        IPv4Header("1.2.3.4", "5.6.7.8", 6).build(None)  # type: ignore[arg-type]
