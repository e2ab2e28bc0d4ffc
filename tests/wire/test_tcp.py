"""TCP headers and options."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from netstack.errors import WireError
from netstack.wire.tcp import ACK, FIN, PSH, SYN, TCPHeader

PORTS = st.integers(0, 0xFFFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 2**32 - 1)
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(*[st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None)] * 2),
)
FIXED = {
    "seq": U32,
    "ack": U32,
    "flags": st.integers(0, 255),
    "window": U16,
    "urgent": U16,
}
HEADERS = st.builds(
    TCPHeader,
    PORTS,
    PORTS,
    **FIXED,
    mss=st.none() | st.integers(1, 0xFFFF),
    wscale=st.none() | st.integers(0, 127),
    sack_permitted=st.booleans(),
    timestamps=st.none() | st.tuples(U32, U32),
    sack=st.lists(st.tuples(U32, U32), max_size=2),  # more do not fit beside everything else
)
SRC, DST = "192.0.2.1", "192.0.2.2"
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a 00000001 00000000 01 030307")
GOLDEN_SYN = bytes.fromhex("9c40 0050 00000001 00000000 a002 faf0 0000 0000") + SYN_OPTIONS


def segment(options: bytes, flags: int = ACK) -> bytes:
    """A segment with these option bytes, as they are; their number is a multiple of 4."""
    offset = 20 + len(options)
    return bytes.fromhex("0001 0002 00000003 00000004") + bytes([offset << 2, flags]) + bytes(6) + options


def facts(header: TCPHeader) -> dict[str, Any]:
    """The options that a header holds."""
    names = ("mss", "wscale", "sack_permitted", "timestamps", "sack")
    return {name: value for name in names if (value := getattr(header, name)) not in (None, False, ())}


def test_golden_syn() -> None:
    header = TCPHeader(
        40000, 80, seq=1, flags=SYN, window=64240, mss=1460, sack_permitted=True, timestamps=(1, 0), wscale=7
    )
    assert header.build() == GOLDEN_SYN
    parsed = TCPHeader.parse(GOLDEN_SYN)
    assert parsed == header
    assert (parsed.sport, parsed.dport, parsed.seq, parsed.ack) == (40000, 80, 1, 0)
    assert (parsed.flags, parsed.window, parsed.urgent, parsed.data_offset) == (SYN, 64240, 0, 40)
    assert header.data_offset == 40
    assert facts(parsed) == {"mss": 1460, "wscale": 7, "sack_permitted": True, "timestamps": (1, 0)}
    assert eval(repr(parsed)) == parsed
    assert hash(parsed) == hash(header)
    assert parsed != TCPHeader(40000, 80, seq=1, flags=SYN)
    assert parsed != GOLDEN_SYN


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"mss": 1460}, "020405b4"),
        ({"mss": 1460, "wscale": 0}, "020405b4 01030300"),
        ({"mss": 1460, "sack_permitted": True}, "020405b4 0402 0000"),
        ({"mss": 1460, "sack_permitted": True, "wscale": 7}, "020405b4 0402 01030307 0000"),
        ({"mss": 1460, "timestamps": (1, 2)}, "020405b4 0101080a0000000100000002"),
        ({"timestamps": (1, 2)}, "0101080a0000000100000002"),
        ({"sack": [(1, 2)]}, "0101050a0000000100000002"),
        ({"timestamps": (5, 6), "sack": [(1, 2)]}, "0101080a0000000500000006 0101050a0000000100000002"),
    ],
)
def test_golden_options(options: dict[str, Any], expected: str) -> None:
    assert TCPHeader(1, 2, **options).build()[20:] == bytes.fromhex(expected)


@given(HEADERS, st.binary(max_size=64), PAIRS)
def test_scapy_reads_what_we_build(
    header: TCPHeader, payload: bytes, pair: tuple[IPv4Address, IPv4Address]
) -> None:
    src, dst = pair
    data = header.build(payload, src=src, dst=dst)
    theirs = TCP(data)
    assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (
        header.sport,
        header.dport,
        header.seq,
        header.ack,
    )
    assert (int(theirs.flags), theirs.window, theirs.urgptr) == (header.flags, header.window, header.urgent)
    assert theirs.dataofs * 4 == header.data_offset
    options = {name: value for name, value in theirs.options if name not in ("NOP", "EOL")}
    assert options.pop("MSS", None) == header.mss
    assert options.pop("WScale", None) == header.wscale
    assert ("SAckOK" in options) == header.sack_permitted
    options.pop("SAckOK", None)
    assert options.pop("Timestamp", None) == header.timestamps
    edges = options.pop("SAck", ())
    assert tuple(zip(edges[::2], edges[1::2], strict=True)) == header.sack
    assert options == {}
    again = TCPHeader.parse(data, src=src, dst=dst)
    assert again == header
    assert again.data_offset == header.data_offset


OPTION = st.one_of(
    st.tuples(st.just("MSS"), st.integers(1, 0xFFFF)),
    st.tuples(st.just("WScale"), st.integers(0, 127)),
    st.just(("SAckOK", b"")),
    st.tuples(st.just("Timestamp"), st.tuples(U32, U32)),
    st.tuples(st.just("SAck"), st.tuples(U32, U32)),
    st.just(("NOP", None)),
    st.just((253, b"\x12\x34xyz")),
)


@given(
    st.lists(OPTION, max_size=5, unique_by=lambda option: option[0]),
    PAIRS,
    st.binary(max_size=20),
    st.integers(0, 255),
)
def test_we_read_what_scapy_builds(
    options: list[tuple[Any, Any]],
    pair: tuple[IPv6Address, IPv6Address],
    payload: bytes,
    flags: int,
) -> None:
    src, dst = pair
    ip = IP if src.version == 4 else IPv6
    theirs = ip(src=str(src), dst=str(dst)) / TCP(
        sport=1, dport=2, seq=3, ack=4, window=5, urgptr=6, flags=flags, options=options
    )
    data = bytes(theirs / Raw(payload))[20 if src.version == 4 else 40 :]
    ours = TCPHeader.parse(data, src=src, dst=dst)
    assert (ours.sport, ours.dport, ours.seq, ours.ack, ours.window, ours.urgent) == (1, 2, 3, 4, 5, 6)
    assert ours.flags == flags
    assert data[ours.data_offset :] == payload
    given_options = dict(options)
    assert ours.mss == given_options.get("MSS")
    assert ours.wscale == given_options.get("WScale")
    assert ours.sack_permitted == ("SAckOK" in given_options)
    assert ours.timestamps == given_options.get("Timestamp")
    assert ours.sack == ((given_options["SAck"],) if "SAck" in given_options else ())


@pytest.mark.parametrize("blocks", range(5))
@pytest.mark.parametrize("timestamps", [None, (7, 8)])
def test_as_many_sack_blocks_as_fit(blocks: int, timestamps: tuple[int, int] | None) -> None:
    sack = tuple((10 * n, 10 * n + 5) for n in range(blocks))
    data = TCPHeader(1, 2, flags=ACK, timestamps=timestamps, sack=sack).build(b"payload")
    parsed = TCPHeader.parse(data)
    fit = min(blocks, 3 if timestamps else 4)
    assert parsed.sack == sack[:fit]
    assert parsed.timestamps == timestamps
    assert parsed.data_offset == 20 + (12 if timestamps else 0) + (4 + 8 * fit if fit else 0)
    assert data[parsed.data_offset :] == b"payload"


def test_everything_at_once_stays_within_60_bytes() -> None:
    header = TCPHeader(
        1,
        2,
        mss=1,
        wscale=2,
        sack_permitted=True,
        timestamps=(3, 4),
        sack=[(5, 6), (7, 8), (9, 10), (11, 12)],
    )
    parsed = TCPHeader.parse(header.build())
    assert parsed.data_offset <= 60
    assert parsed.sack == ((5, 6), (7, 8))
    assert (parsed.mss, parsed.wscale, parsed.sack_permitted, parsed.timestamps) == (1, 2, True, (3, 4))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("0101080a0000000100000002", {"timestamps": (1, 2)}),  # the usual layout
        ("080a00000001000000020101", {"timestamps": (1, 2)}),
        ("0101080a00000001000000020204ffff", {"timestamps": (1, 2), "mss": 65535}),
        ("0101080a000000010000000200000000", {"timestamps": (1, 2)}),
        ("01010101", {}),
        ("00ffffff", {}),  # nothing counts behind the end of the list
        ("020405b4 00 0204", {"mss": 1460}),
        ("02040000", {}),  # an MSS of 0 counts as absent
        ("020400010204 0002", {"mss": 2}),  # of two the last counts
        ("03030e00", {"wscale": 14}),
        ("03030f00", {"wscale": 15}),
        ("03037f00", {"wscale": 127}),
        ("0303ff00", {"wscale": 127}),
        ("fd0400ff 020405b4", {"mss": 1460}),  # unknown: skipped by its length
        ("fd020101", {}),
        ("0205000100000000", {}),  # known kinds of another length than their own are skipped
        ("0203010103030700", {"wscale": 7}),
        ("0403010103030700", {"wscale": 7}),
        ("080900000000000000000000", {}),
        ("0502 0101", {}),
        ("0509 00000000000000 000000", {}),
        ("050b00000001000000020000", {}),
    ],
)
def test_option_lists(options: str, expected: dict[str, Any], guarded: Callable[[bytes], memoryview]) -> None:
    data = bytes.fromhex(options)
    data += bytes(-len(data) % 4)
    assert facts(TCPHeader.parse(guarded(segment(data)))) == expected


@pytest.mark.parametrize(
    "options",
    [
        "02000000",
        "02010000",
        "01010102",
        "0101fd05",
        "020405b4fdff0000",
        "05220000",
        "080a000000000000",
        "010101fd",
    ],
)
def test_faulty_option_lists(options: str, guarded: Callable[[bytes], memoryview]) -> None:
    with pytest.raises(WireError) as caught:
        TCPHeader.parse(guarded(segment(bytes.fromhex(options))))
    assert caught.value.code == -5


@given(st.binary(max_size=40).map(lambda b: b[: len(b) & ~3]), st.integers(0, 255))
def test_any_option_bytes(guarded: Callable[[bytes], memoryview], options: bytes, flags: int) -> None:
    header = None
    code = 0
    try:
        header = TCPHeader.parse(guarded(segment(options, flags)))
    except WireError as error:
        code = error.code
    assert code in (0, -5)
    if header is not None:
        assert len(header.sack) <= 4
        assert header.data_offset == 20 + len(options)


@pytest.mark.parametrize("words", range(5))
def test_a_short_data_offset(words: int) -> None:
    data = bytearray(segment(b""))
    data[12] = words << 4
    with pytest.raises(WireError) as caught:
        TCPHeader.parse(data)
    assert caught.value.code == -3


@pytest.mark.parametrize(
    "options", ["", "0101080a0000000100000002", "020405b40402080a00000001000000000103030700000000"]
)
def test_every_prefix(options: str, guarded: Callable[[bytes], memoryview]) -> None:
    data = segment(bytes.fromhex(options))
    for length in range(len(data)):
        with pytest.raises(WireError) as caught:
            TCPHeader.parse(guarded(data[:length]), src=SRC, dst=DST)
        assert caught.value.code == -1
    assert TCPHeader.parse(guarded(data)).data_offset == len(data)


def test_the_checksum() -> None:
    header = TCPHeader(1, 2, flags=FIN | ACK | PSH, checksum=0xABCD)
    assert TCPHeader.parse(header.build(b"x")).checksum == 0xABCD
    data = bytearray(header.build(b"payload", src=SRC, dst=DST))
    assert TCPHeader.parse(data, src=SRC, dst=DST).checksum == int.from_bytes(data[16:18], "big")
    data[-1] ^= 1
    assert TCPHeader.parse(data).sport == 1
    with pytest.raises(WireError) as caught:
        TCPHeader.parse(data, src=SRC, dst=DST)
    assert caught.value.code == -4


@given(HEADERS)
def test_write_needs_its_room(room: Callable[[int], memoryview], header: TCPHeader) -> None:
    expected = header.build()
    for n in (0, 19, 20, 31, 32, len(expected) - 1):
        if n < len(expected):
            with pytest.raises(WireError) as caught:
                header.write(room(n))
            assert caught.value.code == -7
    for n in (len(expected), 59, 60, 61):
        if n >= len(expected):
            buffer = room(n)
            assert header.write(buffer) == len(expected)
            assert bytes(buffer[: len(expected)]) == expected


def test_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        TCPHeader(1, 2, sack=[(1, 2)] * 5)
    with pytest.raises(ValueError, match="window scale"):
        TCPHeader(1, 2, wscale=128)
    with pytest.raises(OverflowError):
        TCPHeader(1, 2, mss=65536)
    with pytest.raises(OverflowError):
        TCPHeader(65536, 2)
    with pytest.raises(ValueError, match="unpack"):
        TCPHeader(1, 2, timestamps=(1,))  # type: ignore[arg-type]
