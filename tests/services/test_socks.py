"""What clients of the proxy say, byte by byte, without a network. Real clients: tests/e2e/test_socks.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.services.socks import MAX_HEAD, Reason, Refused, Request, SocksHandshake, http_request


def shake(data: bytes) -> tuple[Request | None, bytes, bytes]:
    """(request, all answers, what was not taken)."""
    state, out = SocksHandshake(), b""
    while state.need and len(data) >= state.need:
        piece, data = data[: state.need], data[state.need :]
        out += state.receive(piece)
    return state.request, out, data


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        ("05 01 00 05 01 00 01 c0a84103 0050", Request("socks5", "192.168.65.3", 80)),
        ("05 02 02 00 05 01 00 03 03 776562 0050", Request("socks5", "web", 80)),
        ("05 01 00 05 01 00 04 00000000000000000000ffffc0a84103 0050", Request("socks5", "192.168.65.3", 80)),
        ("05 01 00 05 01 00 04 20010db8000000000000000000000001 0050", Request("socks5", "2001:db8::1", 80)),
        ("05 01 00 05 03 00 01 00000000 0000", Request("socks5", "0.0.0.0", 0, associate=True)),
        ("04 01 0050 c0a84103 726f6f74 00", Request("socks4", "192.168.65.3", 80)),
        ("04 01 0050 00000001 00 776562 00", Request("socks4", "web", 80)),
    ],
)
def test_requests(data: str, request_: Request) -> None:
    """Nothing behind the request is taken."""
    got, out, rest = shake(bytes.fromhex(data) + b"behind")
    assert (got, rest) == (request_, b"behind")
    assert out == (b"\x05\x00" if request_.dialect == "socks5" else b"")


def test_replies() -> None:
    five, four, web = Request("socks5", "web", 80), Request("socks4", "web", 80), Request("http", "web", 80)
    assert five.granted(("192.0.2.1", 258)) == bytes.fromhex("05 00 00 01 c0000201 0102")
    assert five.granted(("2001:db8::1", 258)) == bytes.fromhex(
        "05 00 00 04 20010db8000000000000000000000001 0102"
    )
    assert four.granted() == bytes.fromhex("00 5a 0000 00000000")
    assert web.granted() == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert Request("http", "web", 80, silent=True).granted() == b""
    assert five.refused(Reason.TIMED_OUT, "").reply == bytes.fromhex("05 06 00 01 00000000 0000")
    assert four.refused(Reason.TIMED_OUT, "").reply == bytes.fromhex("00 5b 0000 00000000")
    assert web.refused(Reason.TIMED_OUT, "it does not").reply == (
        b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\n"
        b"Connection: close\r\n\r\nit does not\n"
    )
    for reason in Reason:
        assert 1 <= reason.socks <= 8
        assert reason.status >= 400


@pytest.mark.parametrize(
    ("line", "host", "port", "path"),
    [
        (b"GET http://web/ HTTP/1.0", "web", 80, b"GET / HTTP/1.0"),
        (b"GET http://web:81 HTTP/1.0", "web", 81, b"GET / HTTP/1.0"),
        (b"GET HTTP://web?a HTTP/1.0", "web", 80, b"GET /?a HTTP/1.0"),
        (b"OPTIONS http://web HTTP/1.0", "web", 80, b"OPTIONS * HTTP/1.0"),
        (b"PURGE http://[::1]:8080/x#y HTTP/1.0", "::1", 8080, b"PURGE /x HTTP/1.0"),
    ],
)
def test_absolute_uris(line: bytes, host: str, port: int, path: bytes) -> None:
    request = http_request(
        line + b"\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n"
    )
    assert (request.host, request.port, request.silent) == (host, port, True)
    lines = request.to_guest.split(b"\r\n")
    assert lines[0] == path
    assert b"Transfer-Encoding: chunked" in lines  # the body is passed on as it is
    assert not any(text.startswith(b"TE") for text in lines)
    assert lines[-3:] == [b"Connection: close", b"", b""]


@pytest.mark.parametrize("target", [b"web", b"web:", b"web:0", b"web:65536", b"[::1:80", b":80", b"a:b:80"])
def test_no_authority(target: bytes) -> None:
    with pytest.raises(Refused) as caught:
        http_request(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert caught.value.reply.startswith(b"HTTP/1.1 400 ")


def test_a_refusal_of_head_has_no_body() -> None:
    request = http_request(b"HEAD http://web/ HTTP/1.0\r\n\r\n")
    assert request.refused(Reason.FAILED, "why").reply.endswith(b"\r\n\r\n")


@given(st.binary(max_size=600))
def test_any_socks(data: bytes) -> None:
    try:
        request, _, rest = shake(data)
    except Refused:
        return
    if request is not None:
        assert len(rest) < len(data)
        assert 0 < request.port <= 65535 or request.associate


@given(st.binary(max_size=200), st.sampled_from([b"", b"CONNECT ", b"GET http://"]))
def test_any_http(data: bytes, start: bytes) -> None:
    try:
        request = http_request(start + data + b"\r\n\r\n")
    except Refused:
        return
    assert 1 <= request.port <= 65535
    assert len(request.to_guest) <= MAX_HEAD
    assert b"\r\n\r\n" not in request.to_guest[:-4]
