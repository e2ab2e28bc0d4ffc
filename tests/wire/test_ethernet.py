"""Ethernet headers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from netstack.errors import WireError
from netstack.wire.ethernet import EthernetHeader

MACS = st.binary(min_size=6, max_size=6).map(lambda b: b.hex(":"))
TAGS = (0x8100, 0x88A8)
TYPES = st.integers(0, 0xFFFF).filter(lambda t: t not in TAGS)


def test_golden() -> None:
    data = bytes.fromhex("020000000001 5254000a0b0c 0800 4500")
    header = EthernetHeader.parse(data)
    assert header == EthernetHeader("02:00:00:00:00:01", "52:54:00:0a:0b:0c", 0x0800)
    assert (header.dst, header.src) == ("02:00:00:00:00:01", "52:54:00:0a:0b:0c")
    assert (header.vlan_tags, header.vlan_tci, header.header_length) == (0, 0, 14)
    assert header.build(b"\x45\x00") == data
    expected = "EthernetHeader(dst='02:00:00:00:00:01', src='52:54:00:0a:0b:0c', ethertype=0x0800)"
    assert repr(header) == expected
    assert eval(expected) == header


@given(MACS, MACS, TYPES, st.binary(max_size=50))
def test_scapy_reads_what_we_build(dst: str, src: str, ethertype: int, payload: bytes) -> None:
    theirs = Ether(EthernetHeader(dst, src, ethertype).build(payload))
    assert (theirs.dst, theirs.src) == (dst, src)
    assert bytes(theirs)[12:] == ethertype.to_bytes(2, "big") + payload


@given(MACS, MACS, TYPES, st.lists(st.tuples(st.booleans(), st.integers(0, 0xFFFF)), max_size=2))
def test_we_read_what_scapy_builds(dst: str, src: str, ethertype: int, tags: list[tuple[bool, int]]) -> None:
    frame = Ether(dst=dst, src=src, type=ethertype)
    for i, (provider, tci) in enumerate(tags):
        if i == 0:
            frame.type = TAGS[provider]
        else:
            frame.lastlayer().type = TAGS[provider]
        layer = Dot1AD if provider else Dot1Q
        frame /= layer(prio=tci >> 13, dei=tci >> 12 & 1, vlan=tci & 0xFFF, type=ethertype)
    ours = EthernetHeader.parse(bytes(frame))
    assert (ours.dst, ours.src, ours.ethertype) == (dst, src, ethertype)
    assert ours.vlan_tags == len(tags)
    assert ours.vlan_tci == (tags[0][1] if tags else 0)
    assert ours.header_length == 14 + 4 * len(tags)


def test_a_third_tag_stays_in_the_payload() -> None:
    header = EthernetHeader.parse(bytes(12) + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x81\x00\x00\x07\x08\x00")
    assert (header.vlan_tags, header.vlan_tci, header.ethertype, header.header_length) == (2, 5, 0x8100, 22)
    assert "vlan_tags=2, vlan_tci=0x0005" in repr(header)


@pytest.mark.parametrize("tags", [0, 1, 2])
def test_every_prefix(tags: int, guarded: Callable[[bytes], memoryview]) -> None:
    frame = bytes(12) + b"\x81\x00\x00\x05" * tags + b"\x08\x00"
    for length in range(len(frame)):
        with pytest.raises(WireError) as caught:
            EthernetHeader.parse(guarded(frame[:length]))
        assert caught.value.code == -1
    assert EthernetHeader.parse(guarded(frame)).vlan_tags == tags


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    header = EthernetHeader("02:00:00:00:00:01", "02:00:00:00:00:02", 0x86DD)
    needs_its_room(header.write, header.build())
    with pytest.raises(BufferError):
        header.write(b"read-only bytes")  # type: ignore[arg-type]


def test_equality() -> None:
    header = EthernetHeader(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 0x0800)
    assert header == EthernetHeader("02:00:00:00:00:01", "02-00-00-00-00-02", 0x0800)
    assert hash(header) == hash(EthernetHeader.parse(header.build()))
    assert header != EthernetHeader(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 0x0806)
    assert header != "header"


def test_values_that_do_not_fit() -> None:
    with pytest.raises(OverflowError):
        EthernetHeader(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 0x10000)
    with pytest.raises(TypeError):
        EthernetHeader.parse("text")  # type: ignore[arg-type]
