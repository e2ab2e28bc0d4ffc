"""The header of datagrams in a SOCKS association."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.errors import WireError
from netstack.wire.socks import SocksUDPHeader

GOLDEN = {  # written down from RFC 1928 section 7
    ("192.168.65.3", 80): "0000 00 01 c0a84103 0050",
    ("web.internal", 53): "0000 00 03 0c 7765622e696e7465726e616c 0035",
    ("2001:db8::1", 443): "0000 00 04 20010db8000000000000000000000001 01bb",
}


@pytest.mark.parametrize(("address", "port"), GOLDEN)
def test_golden(address: str, port: int) -> None:
    data = bytes.fromhex(GOLDEN[address, port])
    header = SocksUDPHeader.parse(data + b"payload")
    assert (header.address, header.port, header.fragment, header.length) == (address, port, 0, len(data))
    assert header.build() == SocksUDPHeader(address, port).build() == data
    assert eval(repr(header)) == header
    assert hash(header) == hash(SocksUDPHeader(address, port))
    assert header != SocksUDPHeader(address, port, 1)
    assert header != data
    for n in range(len(data)):
        with pytest.raises(WireError, match="truncated"):
            SocksUDPHeader.parse(data[:n])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("0001 00 01 c0a84103 0050", "bad value"),
        ("0000 00 02 c0a84103 0050", "bad value"),
        ("0000 00 03 00 0050", "bad length"),
    ],
)
def test_nonsense(data: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        SocksUDPHeader.parse(bytes.fromhex(data))


def test_names_have_their_length() -> None:
    for name in ("", "a" * 256):
        with pytest.raises(WireError, match="bad length"):
            SocksUDPHeader(name, 1)
    assert SocksUDPHeader("a" * 255, 1).length == 262


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        header = SocksUDPHeader.parse(data)
    except WireError:
        return
    assert header.length <= len(data)
    if data[3] != 3:
        assert header.build() == data[: header.length]
