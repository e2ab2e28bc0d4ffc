"""What a guest speaks: the bytes of real clients, cut anywhere, and bytes that nobody sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_proxy import hello

from netstack.proxy.sniff import HTTP, MORE, OPAQUE, TLS, protocol_of, server_name


def in_records(data: bytes, size: int) -> bytes:
    """A hello of one record as many smaller ones."""
    body = data[5:]
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_names() -> None:
    assert server_name(hello("www.example.com")) == (True, "www.example.com")
    assert server_name(hello(None)) == (True, None)


def test_every_cut_asks_for_more() -> None:
    data = hello("a.example")
    for end in range(len(data)):
        assert server_name(data[:end]) == (False, None), end
        assert protocol_of(data[:end]) == (MORE if end < 2 else TLS)
    assert server_name(data + b"more") == (True, "a.example")


@pytest.mark.parametrize("size", [1, 7, 100])
def test_fragmented_hello(size: int) -> None:
    assert server_name(in_records(hello("a.example"), size)) == (True, "a.example")


@pytest.mark.parametrize("name", [b"a b", b"a\r\nHost: x", b"", b"192.0.2.1:80", b"x" * 64, b"\xff.example"])
def test_names_that_are_none(name: bytes) -> None:
    good = b"www.example.com"
    data = hello(good.decode())
    at = (
        data.index(good) - 9
    )  # type, length of the extension, of the list, type of the name, length of the name
    n = len(name)
    entry = (
        b"\0\0"
        + (n + 5).to_bytes(2, "big")
        + (n + 3).to_bytes(2, "big")
        + b"\0"
        + n.to_bytes(2, "big")
        + name
    )
    body = bytearray(data[5:at] + entry + data[at + 9 + len(good) :])
    body[1:4] = (len(body) - 4).to_bytes(3, "big")
    at_extensions = body.index(entry) - 2
    # the extensions' length stands in front of the first one, wherever OpenSSL has put the name
    for i in range(at_extensions, 40, -1):
        if int.from_bytes(body[i : i + 2], "big") == len(data) - 5 - i - 2 + 0:
            body[i : i + 2] = (len(body) - i - 2).to_bytes(2, "big")
            break
    else:
        pytest.fail("the length of the extensions was not found")
    changed = data[:3] + len(body).to_bytes(2, "big") + bytes(body)
    assert server_name(changed) == (True, None)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_anything_is_survived(tail: bytes, at: int, value: int) -> None:
    data = bytearray(HELLO)
    data[at % len(data)] = value
    server_name(bytes(data) + tail)
    server_name(b"\x16\x03\x01" + tail)
    assert protocol_of(tail) in (HTTP, TLS, OPAQUE, MORE)


HELLO = hello("www.example.com")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", MORE),
        (b"G", MORE),
        (b"GET", MORE),
        (b"GET ", HTTP),
        (b"M-SEARCH * HTTP/1.1", HTTP),
        (b"VERSION-CONTROL /", HTTP),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", OPAQUE),
        (b"SSH-2.0-OpenSSH_9.2", OPAQUE),
        (b"get / HTTP/1.1", OPAQUE),
        (b"\x16\x03\x01", TLS),
        (b"\x16", MORE),
        (b"\x16\x02", OPAQUE),
        (b"\x00\x00", OPAQUE),
        (b"A" * 25, OPAQUE),
    ],
)
def test_protocols(data: bytes, kind: str) -> None:
    assert protocol_of(data) == kind
