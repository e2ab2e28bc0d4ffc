"""IPv6 headers and chains of extension headers."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.packet import Raw

from netstack.errors import WireError
from netstack.wire.ipv6 import IPv6Header

HOP, ROUTING, FRAGMENT, NONE, DESTINATION = 0, 43, 44, 59, 60
HEADERS = st.builds(
    IPv6Header,
    st.ip_addresses(v=6),
    st.ip_addresses(v=6),
    st.integers(0, 255),
    hop_limit=st.integers(0, 255),
    traffic_class=st.integers(0, 255),
    flow_label=st.integers(0, 0xFFFFF),
)
GOLDEN = bytes.fromhex(
    "6c512345 0004 11 ff fe800000000000000000000000000001 ff020000000000000000000000000002"
)


def options(next_header: int, words: int = 0, body: bytes = b"") -> bytes:
    """A hop-by-hop or destination header of 8 * (words + 1) bytes."""
    size = 8 * (words + 1) - 2
    if not body:
        body = bytes([1, size - 2]) + bytes(size - 2)
    return bytes([next_header, words]) + body.ljust(size, b"\0")


def fragment(next_header: int, offset: int, more: int, ident: int = 0x01020304) -> bytes:
    return bytes([next_header, 0]) + (offset | more).to_bytes(2, "big") + ident.to_bytes(4, "big")


def packet(first: int, *parts: bytes) -> bytes:
    return IPv6Header("fe80::1", "fe80::2", first).build(b"".join(parts))


def code_of(data: bytes | memoryview) -> int:
    with pytest.raises(WireError) as caught:
        IPv6Header.parse(data)
    return caught.value.code


def test_golden() -> None:
    header = IPv6Header.parse(GOLDEN + b"data")
    assert (header.src, header.dst) == (IPv6Address("fe80::1"), IPv6Address("ff02::2"))
    assert (header.traffic_class, header.flow_label, header.hop_limit) == (0xC5, 0x12345, 255)
    assert (header.next_header, header.protocol, header.payload_length) == (17, 17, 4)
    assert (header.l4_offset, header.l4_length) == (40, 4)
    assert header.build(b"data") == GOLDEN + b"data"
    assert eval(repr(header)) == header
    assert hash(header) == hash(IPv6Header.parse(GOLDEN + b"data"))
    assert header != IPv6Header("fe80::1", "ff02::2", 17)
    assert header != GOLDEN


@given(HEADERS, st.binary(max_size=64))
def test_scapy_reads_what_we_build(header: IPv6Header, payload: bytes) -> None:
    # scapy takes the payload apart as well, and fails on a routing or mobility header cut short
    assume(header.next_header not in (ROUTING, 135))
    theirs = IPv6(header.build(payload))
    assert (IPv6Address(theirs.src), IPv6Address(theirs.dst)) == (header.src, header.dst)
    assert (theirs.tc, theirs.fl, theirs.hlim) == (header.traffic_class, header.flow_label, header.hop_limit)
    assert (theirs.nh, theirs.plen) == (header.next_header, len(payload))


@given(HEADERS, st.sampled_from([6, 17, 50, 58, 59, 132, 253]), st.binary(max_size=64))
def test_we_read_what_scapy_builds(header: IPv6Header, protocol: int, payload: bytes) -> None:
    theirs = IPv6(
        src=str(header.src),
        dst=str(header.dst),
        tc=header.traffic_class,
        fl=header.flow_label,
        hlim=header.hop_limit,
        nh=protocol,
    ) / Raw(payload)
    ours = IPv6Header.parse(bytes(theirs))
    assert (ours.protocol, ours.l4_offset, ours.l4_length) == (protocol, 40, len(payload))
    assert ours.build(payload) == bytes(theirs)


@pytest.mark.parametrize("offset", [0, 8, 65528])
@pytest.mark.parametrize("more", [0, 1])
def test_a_chain_that_scapy_builds(offset: int, more: int) -> None:
    theirs = (
        IPv6(src="fe80::1", dst="fe80::2")
        / IPv6ExtHdrHopByHop(options=[RouterAlert()])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
        / IPv6ExtHdrRouting(addresses=["fe80::5"], segleft=0)
        / IPv6ExtHdrFragment(offset=offset // 8, m=more, id=0xCAFE, nh=17)
        / Raw(b"12345678")
    )
    ours = IPv6Header.parse(bytes(theirs))
    assert (ours.is_fragment, ours.frag_offset, ours.more_fragments) == (True, offset, bool(more))
    assert ours.frag_ident == 0xCAFE
    assert ours.protocol == (FRAGMENT if offset else 17)
    assert ours.l4_offset == len(bytes(theirs)) - 8
    assert ours.l4_length == 8
    assert f"frag_offset={offset}, more_fragments={bool(more)}, frag_ident=0x0000cafe" in repr(ours)


def test_a_chain_goes_on_behind_a_first_fragment_only() -> None:
    first = IPv6Header.parse(packet(FRAGMENT, fragment(DESTINATION, 0, 1), options(17), b"12345678"))
    assert (first.protocol, first.l4_offset) == (17, 56)
    later = IPv6Header.parse(packet(FRAGMENT, fragment(DESTINATION, 8, 0), b"\xff" * 8))
    assert (later.protocol, later.l4_offset, later.l4_length) == (FRAGMENT, 48, 8)


def test_no_next_header() -> None:
    header = IPv6Header.parse(packet(HOP, options(NONE), b"ignored"))
    assert (header.protocol, header.l4_offset, header.l4_length) == (NONE, 48, 7)


def test_at_most_eight_extension_headers() -> None:
    def chain(n: int) -> bytes:
        return packet(DESTINATION, options(DESTINATION) * (n - 1), options(6), b"x")

    assert IPv6Header.parse(chain(8)).l4_offset == 40 + 64
    assert code_of(chain(9)) == -9


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x45" + GOLDEN[1:] + b"data", -2),
        (GOLDEN + b"dat", -1),
        (packet(HOP), -1),
        (packet(HOP, b"1234567"), -1),
        (packet(HOP, options(6, 1)[:8]), -1),
        (packet(FRAGMENT, fragment(6, 0, 1)[:7]), -1),
        (packet(FRAGMENT, fragment(FRAGMENT, 0, 1), fragment(6, 0, 1)), -6),
        (packet(DESTINATION, options(HOP), options(6)), -6),
        (packet(ROUTING, bytes([6, 0, 0, 1, 0, 0, 0, 0])), -9),
        (packet(HOP, options(6, body=b"\xc2\x04\x00\x01\x00\x00")), -9),  # jumbo payload with a length
        (packet(HOP, options(6, body=b"\x41\x00")), -9),  # unknown: discard
        (packet(HOP, options(6, body=b"\x80\x00")), -9),  # unknown: discard and say so
        (packet(DESTINATION, options(6, body=b"\xc3\x04")), -9),
        (packet(HOP, options(6, body=b"\x01\x05")), -5),
        (packet(HOP, options(6, body=b"\x05\xff")), -5),
        (packet(HOP, options(6, body=b"\0\0\0\0\0\x01")), -5),
    ],
)
def test_every_fault(data: bytes, code: int) -> None:
    assert code_of(data) == code


def test_jumbograms_are_refused_by_name() -> None:
    data = bytearray(packet(HOP, options(6, body=b"\xc2\x04\x00\x01\x00\x00"), bytes(70)))
    data[4:6] = b"\0\0"
    assert code_of(data) == -9
    data[42] = 0x05  # with another option it is a header that does not fit a payload of 0 bytes
    assert code_of(data) == -1


def test_an_unknown_option_that_may_be_skipped() -> None:
    assert IPv6Header.parse(packet(HOP, options(6, body=b"\x1e\x04abcd"))).protocol == 6


def test_bytes_behind_the_payload_are_not_the_payload() -> None:
    header = IPv6Header.parse(GOLDEN + b"data" + b"padding")
    assert header.l4_length == 4


def test_every_prefix(guarded: Callable[[bytes], memoryview]) -> None:
    data = packet(
        HOP,
        options(DESTINATION),
        options(ROUTING, 2),
        bytes([FRAGMENT, 2]) + bytes(22),
        fragment(17, 0, 1),
        b"x" * 8,
    )
    for length in range(len(data)):
        assert code_of(guarded(data[:length])) == -1
    # The same with a payload length that agrees, so that the chain itself must be bounded.
    for length in range(40, len(data)):
        cut = data[:4] + (length - 40).to_bytes(2, "big") + data[6:length]
        if length < len(data) - 8:
            assert code_of(guarded(cut)) == -1
        else:
            assert IPv6Header.parse(guarded(cut)).l4_length == length - (len(data) - 8)


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    header = IPv6Header("fe80::1", "ff02::2", 17)
    needs_its_room(header.write, header.build())


def test_mapped_addresses_stay_ipv6() -> None:
    header = IPv6Header("::ffff:1.2.3.4", IPv6Address("::ffff:5.6.7.8"), 6)
    assert header.src == IPv6Address("::ffff:1.2.3.4")
    assert IPv6Header.parse(header.build()) == header


def test_what_cannot_be_built() -> None:
    header = IPv6Header("fe80::1", "ff02::2", 17)
    assert len(header.build(bytes(65535))) == 65575
    with pytest.raises(WireError) as caught:
        header.build(bytes(65536))
    assert caught.value.code == -3
    with pytest.raises(ValueError, match="20 bits"):
        IPv6Header("fe80::1", "ff02::2", 17, flow_label=1 << 20)
    for other in ("1.2.3.4", b"\1\2\3\4", 5):
        with pytest.raises(ValueError, match=r"not an IPv6 address|Address|4 octets|exactly|At least 3"):
            IPv6Header(other, "ff02::2", 17)  # type: ignore[arg-type]
