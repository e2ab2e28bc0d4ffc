"""ICMPv4 messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP
from scapy.packet import Raw

from netstack.errors import WireError
from netstack.wire.checksum import checksum
from netstack.wire.icmp4 import ECHO, ECHO_REPLY, UNREACHABLE, ICMPv4Message

U16 = st.integers(0, 0xFFFF)
BODIES = st.binary(max_size=64)
MESSAGES = st.builds(
    ICMPv4Message,
    st.sampled_from([0, 3, 4, 5, 8, 11, 12]),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    BODIES,
)
GOLDEN = bytes.fromhex("0800 f7fb 0001 0002 0001")


def test_golden() -> None:
    message = ICMPv4Message.parse(GOLDEN, verify=True)
    assert message == ICMPv4Message.echo(1, 2, b"\0\1")
    assert (message.type, message.code, message.checksum, message.rest) == (ECHO, 0, 0xF7FB, 0x00010002)
    assert (message.identifier, message.sequence, message.body) == (1, 2, b"\0\1")
    assert message.build() == GOLDEN
    assert eval(repr(message)) == message
    assert hash(message) == hash(ICMPv4Message.parse(GOLDEN))
    assert message != ICMPv4Message.echo(1, 2, b"\0\1", reply=True)
    assert message != GOLDEN


def test_kinds() -> None:
    assert ICMPv4Message.echo(1, 2, reply=True).type == ECHO_REPLY
    assert ICMPv4Message(UNREACHABLE, 4, 1400).mtu == 1400


# Of other types scapy expects bodies of a certain length, and raises where it finds another.
@given(MESSAGES)
def test_scapy_reads_what_we_build(message: ICMPv4Message) -> None:
    data = message.build()
    theirs = ICMP(data)
    assert (theirs.type, theirs.code) == (message.type, message.code)
    assert checksum(data) == 0
    assert ICMPv4Message.parse(data, verify=True) == message
    if message.type in (0, 8):
        assert (theirs.id, theirs.seq) == (message.identifier, message.sequence)
        assert bytes(theirs.payload) == message.body


@given(st.sampled_from([0, 8]), U16, U16, BODIES)
def test_we_read_what_scapy_builds(kind: int, identifier: int, sequence: int, body: bytes) -> None:
    theirs = bytes(ICMP(type=kind, id=identifier, seq=sequence) / Raw(body))
    ours = ICMPv4Message.parse(theirs, verify=True)
    assert (ours.type, ours.identifier, ours.sequence, ours.body) == (kind, identifier, sequence, body)
    assert ours.build() == theirs


def test_every_prefix(guarded: Callable[[bytes], memoryview]) -> None:
    for length in range(8):
        with pytest.raises(WireError) as caught:
            ICMPv4Message.parse(guarded(GOLDEN[:length]))
        assert caught.value.code == -1
    assert ICMPv4Message.parse(guarded(GOLDEN[:8])).body == b""


@given(st.integers(0, 9), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    data = bytearray(GOLDEN)
    data[at] ^= change
    assert ICMPv4Message.parse(data).body == bytes(data[8:])
    with pytest.raises(WireError) as caught:
        ICMPv4Message.parse(data, verify=True)
    assert caught.value.code == -4


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    needs_its_room(ICMPv4Message.parse(GOLDEN).write, GOLDEN)
