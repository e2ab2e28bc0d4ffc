"""Addresses between Python and C."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire.addr import parse_address, parse_mac


@given(st.ip_addresses())
def test_every_form_gives_the_same_address(address: IPv4Address | IPv6Address) -> None:
    expected = getattr(address, "ipv4_mapped", None) or address
    assert parse_address(address) == expected
    assert parse_address(str(address)) == expected
    assert parse_address(address.packed) == expected
    assert parse_address(bytearray(address.packed)) == expected
    assert parse_address(memoryview(address.packed)) == expected


@given(st.integers(0, 2**32 - 1))
def test_an_int_is_ipv4(number: int) -> None:
    assert parse_address(number) == IPv4Address(number)


def test_a_mapped_address_is_its_ipv4_address() -> None:
    assert parse_address("::ffff:192.0.2.1") == IPv4Address("192.0.2.1")
    assert parse_address("::fffe:c000:201") == ip_address("::fffe:c000:201")
    assert parse_address("0:0:0:1::ffff:1.2.3.4") == ip_address("0:0:0:1::ffff:102:304")


def test_a_scope_is_dropped() -> None:
    assert parse_address("fe80::1%eth0") == IPv6Address("fe80::1")


@pytest.mark.parametrize("value", ["", "1.2.3", "1.2.3.4.5", "1.2.3.400", ":::", b"abc", b"", -1, 2**32])
def test_what_is_no_address(value: object) -> None:
    with pytest.raises(ValueError, match=r"address|IPv4"):
        parse_address(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1.5, True, ["1.2.3.4"]])
def test_other_types(value: object) -> None:
    with pytest.raises(TypeError):
        parse_address(value)  # type: ignore[arg-type]


@given(st.binary(min_size=6, max_size=6))
def test_ethernet_addresses(mac: bytes) -> None:
    text = mac.hex(":")
    assert parse_mac(mac) == parse_mac(text) == parse_mac(text.upper()) == parse_mac(mac.hex("-")) == text


@pytest.mark.parametrize(
    "value", ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:100", "a:b:c:d:e:g", b"12345"]
)
def test_what_is_no_ethernet_address(value: str | bytes) -> None:
    with pytest.raises(ValueError, match="Ethernet address"):
        parse_mac(value)


def test_an_ethernet_address_of_another_type() -> None:
    with pytest.raises(TypeError):
        parse_mac(5)  # type: ignore[arg-type]
