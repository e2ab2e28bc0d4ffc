"""The Internet checksum against its definition and against scapy."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from netstack.wire.checksum import checksum, pseudo_checksum, update_checksum


def by_definition(data: bytes, initial: int = 0) -> int:
    data += bytes(len(data) % 2)
    total = initial + sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_against_the_definition(data: bytes, initial: int) -> None:
    assert checksum(data, initial) == by_definition(data, initial)


@given(st.binary(max_size=70))
def test_against_scapy(data: bytes) -> None:
    assert checksum(data) == scapy_checksum(data)


@pytest.mark.parametrize("length", [*range(70), 127, 128, 129, 1447, 1448, 9001, 65535, 65536])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x01])
def test_every_length_at_every_alignment(
    length: int, fill: int, guarded: Callable[[bytes], memoryview]
) -> None:
    data = bytes([fill]) * length
    expected = by_definition(data)
    assert checksum(guarded(data)) == expected
    for offset in range(1, 9):
        assert checksum(memoryview(bytes(offset) + data)[offset:]) == expected


def test_large_data_does_not_lose_carries() -> None:
    assert checksum(b"\xff" * (1 << 24)) == 0
    assert checksum(b"\xff\xfe" * (1 << 20)) == by_definition(b"\xff\xfe" * (1 << 20))


@given(st.binary(min_size=2, max_size=100))
def test_data_with_its_checksum_sums_to_zero(data: bytes) -> None:
    data = data[: len(data) & ~1]
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_the_pseudo_header_of_ipv4(src: IPv4Address, dst: IPv4Address, protocol: int, length: int) -> None:
    header = src.packed + dst.packed + bytes([0, protocol]) + length.to_bytes(2, "big")
    assert pseudo_checksum(src, str(dst), protocol, length) ^ 0xFFFF == by_definition(header)


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_the_pseudo_header_of_ipv6(src: IPv6Address, dst: IPv6Address, protocol: int, length: int) -> None:
    if src.ipv4_mapped or dst.ipv4_mapped:
        return
    header = src.packed + dst.packed + length.to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    assert pseudo_checksum(src, str(dst), protocol, length) ^ 0xFFFF == by_definition(header)


def test_a_pseudo_header_of_two_families() -> None:
    with pytest.raises(ValueError, match="one address family"):
        pseudo_checksum("1.2.3.4", "::1", 6, 20)


@given(st.binary(min_size=20, max_size=40), st.integers(0, 9), st.integers(0, 0xFFFF))
def test_an_update_equals_a_new_sum(data: bytes, word: int, new: int) -> None:
    data = b"\x45" + data[1 : len(data) & ~1]  # never all zero, as no packet is: RFC 1624 section 3
    at = 2 * word
    old = int.from_bytes(data[at : at + 2], "big")
    changed = data[:at] + new.to_bytes(2, "big") + data[at + 2 :]
    if not any(changed):
        return
    assert update_checksum(checksum(data), old, new) == checksum(changed)


def test_the_example_of_rfc_1624() -> None:
    assert update_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000
