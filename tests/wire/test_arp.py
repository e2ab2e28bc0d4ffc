"""ARP packets."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP

from netstack.errors import WireError
from netstack.wire.arp import REPLY, REQUEST, ArpPacket

MACS = st.binary(min_size=6, max_size=6).map(lambda b: b.hex(":"))
PACKETS = st.builds(
    ArpPacket,
    st.integers(0, 0xFFFF),
    MACS,
    st.ip_addresses(v=4),
    MACS,
    st.ip_addresses(v=4),
)
GOLDEN = bytes.fromhex("0001 0800 06 04 0001 525400000001 c0a84103 000000000000 c0a84101")


def test_golden() -> None:
    packet = ArpPacket.parse(GOLDEN + bytes(18))
    assert packet.op == REQUEST
    assert (packet.sha, packet.spa) == ("52:54:00:00:00:01", IPv4Address("192.168.65.3"))
    assert (packet.tha, packet.tpa) == ("00:00:00:00:00:00", IPv4Address("192.168.65.1"))
    assert packet.build() == GOLDEN
    assert eval(repr(packet)) == packet
    assert hash(ArpPacket.parse(GOLDEN)) == hash(packet)
    assert packet != ArpPacket(REPLY, packet.sha, packet.spa, packet.tha, packet.tpa)
    assert packet != GOLDEN


@given(PACKETS)
def test_scapy_reads_what_we_build(packet: ArpPacket) -> None:
    theirs = ARP(packet.build())
    assert (theirs.hwtype, theirs.ptype, theirs.hwlen, theirs.plen) == (1, 0x0800, 6, 4)
    assert (theirs.op, theirs.hwsrc, theirs.hwdst) == (packet.op, packet.sha, packet.tha)
    assert (theirs.psrc, theirs.pdst) == (str(packet.spa), str(packet.tpa))


@given(PACKETS)
def test_we_read_what_scapy_builds(packet: ArpPacket) -> None:
    theirs = ARP(op=packet.op, hwsrc=packet.sha, psrc=str(packet.spa), hwdst=packet.tha, pdst=str(packet.tpa))
    assert ArpPacket.parse(bytes(theirs)) == packet


def test_every_prefix(guarded: Callable[[bytes], memoryview]) -> None:
    for length in range(28):
        with pytest.raises(WireError) as caught:
            ArpPacket.parse(guarded(GOLDEN[:length]))
        assert caught.value.code == -1
    assert ArpPacket.parse(guarded(GOLDEN)).op == REQUEST


@pytest.mark.parametrize(
    ("at", "value", "code"), [(1, 6, -2), (0, 1, -2), (2, 0x86, -2), (4, 8, -3), (4, 0, -3), (5, 16, -3)]
)
def test_other_hardware_and_protocols(at: int, value: int, code: int) -> None:
    data = bytearray(GOLDEN)
    data[at] = value
    with pytest.raises(WireError) as caught:
        ArpPacket.parse(data)
    assert caught.value.code == code


def test_write_needs_its_room(needs_its_room: Callable[..., None]) -> None:
    needs_its_room(ArpPacket.parse(GOLDEN).write, GOLDEN)


def test_addresses_must_be_ipv4() -> None:
    with pytest.raises(ValueError, match="not an IPv4 address"):
        ArpPacket(1, bytes(6), "::1", bytes(6), "1.2.3.4")  # type: ignore[arg-type]
