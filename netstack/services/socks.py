"""What clients of the proxy into the virtual network say, and what they are told: SOCKS 5, SOCKS 4a, HTTP. Sans-IO.

All that is read of a client is its request, to the byte: what it sends behind that belongs to the connection that it
asks for. SOCKS says how many bytes come next (:attr:`SocksHandshake.need`); a request of HTTP ends with its first empty
line (:data:`END_OF_HEAD`).

Sources: RFC 1928; the SOCKS 4 and 4a memoranda; RFC 9110 section 9.3.6 (CONNECT), RFC 9112 section 3.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

__all__ = [
    "END_OF_HEAD",
    "MAX_HEAD",
    "Reason",
    "Refused",
    "Request",
    "SocksHandshake",
    "http_request",
    "is_http",
    "is_socks",
]

END_OF_HEAD = re.compile(rb"\n\r?\n")
MAX_HEAD = 32768  # bytes of an HTTP request up to its empty line
MAX_FIELD = 255  # bytes of SOCKS 4's user id, and of a name
NO_ADDRESS = ("0.0.0.0", 0)
NO_METHOD = b"\x05\xff"  # RFC 1928 section 3: none of the client's methods will do
CONNECT, ASSOCIATE = 1, 3


class Reason(Enum):
    """Why a client is refused."""

    FAILED = auto()
    NOT_ALLOWED = auto()
    UNREACHABLE = auto()
    NO_SUCH_NAME = auto()
    CONNECTION_REFUSED = auto()
    TIMED_OUT = auto()
    COMMAND = auto()
    ADDRESS_TYPE = auto()
    MALFORMED = auto()
    TOO_LONG = auto()

    @property
    def socks(self) -> int:
        """The reply of SOCKS 5 (RFC 1928 section 6)."""
        return _REPLIES[self][0]

    @property
    def status(self) -> HTTPStatus:
        """The status of HTTP."""
        return _REPLIES[self][1]


_REPLIES = {
    Reason.FAILED: (1, HTTPStatus.BAD_GATEWAY),
    Reason.NOT_ALLOWED: (2, HTTPStatus.FORBIDDEN),
    Reason.UNREACHABLE: (4, HTTPStatus.BAD_GATEWAY),
    Reason.NO_SUCH_NAME: (4, HTTPStatus.BAD_GATEWAY),
    Reason.CONNECTION_REFUSED: (5, HTTPStatus.BAD_GATEWAY),
    Reason.TIMED_OUT: (6, HTTPStatus.GATEWAY_TIMEOUT),
    Reason.COMMAND: (7, HTTPStatus.NOT_IMPLEMENTED),
    Reason.ADDRESS_TYPE: (8, HTTPStatus.NOT_IMPLEMENTED),
    Reason.MALFORMED: (1, HTTPStatus.BAD_REQUEST),
    Reason.TOO_LONG: (1, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
}


class Refused(Exception):
    """A request that cannot be understood, or not be granted. ``reply`` is what the client is sent before the end."""

    def __init__(self, reply: bytes, why: str) -> None:
        super().__init__(why)
        self.reply = reply


@dataclass(frozen=True)
class Request:
    """What a client wants.

    Attributes:
        dialect: "socks5", "socks4" or "http".
        host: a name, or an address as text.
        port: 1 to 65535; of an association that of the client's own socket, 0 = it does not say.
        associate: datagrams (RFC 1928 section 7) instead of a connection.
        to_guest: what the guest is to be sent before the client's own bytes.
        silent: the client expects no word before the guest's.
        bodiless: a refusal has no body (HEAD).
    """

    dialect: str
    host: str
    port: int
    associate: bool = False
    to_guest: bytes = b""
    silent: bool = False
    bodiless: bool = False

    def granted(self, address: tuple[str, int] = NO_ADDRESS) -> bytes:
        """The reply that says yes; ``address`` is where a client of an association sends its datagrams."""
        if self.dialect == "http":
            return b"" if self.silent else b"HTTP/1.1 200 Connection established\r\n\r\n"
        if self.dialect == "socks4":
            return b"\x00\x5a" + bytes(6)
        return socks5_reply(0, address)

    def refused(self, reason: Reason, why: str) -> Refused:
        """The exception that says no."""
        if self.dialect == "http":
            return http_refused(reason, why, self.bodiless)
        if self.dialect == "socks4":
            return Refused(b"\x00\x5b" + bytes(6), why)
        return Refused(socks5_reply(reason.socks), why)


# --- SOCKS


def socks5_reply(code: int, address: tuple[str, int] = NO_ADDRESS) -> bytes:
    """RFC 1928 section 6."""
    packed = ipaddress.ip_address(address[0]).packed
    kind = b"\x01" if len(packed) == 4 else b"\x04"
    return bytes((5, code, 0)) + kind + packed + address[1].to_bytes(2, "big")


def is_socks(first: int) -> bool:
    """Whether this is the first byte of a SOCKS client."""
    return first in (4, 5)


class SocksHandshake:
    """A client's side of the handshake taken in; to be fed with exactly ``need`` bytes each time.

    Attributes:
        need: bytes that come next; 0 when it is over.
        request: what the client wants, once it is over.
    """

    def __init__(self) -> None:
        self.request: Request | None = None
        self._out = b""
        self._steps = self._take()
        self.need = next(self._steps)

    def receive(self, data: bytes) -> bytes:
        """Takes the bytes and returns the answer, which may be empty.

        Raises:
            Refused: there is nothing to be had this way.
        """
        self._out = b""
        try:
            self.need = self._steps.send(data)
        except StopIteration:
            self.need = 0
        return self._out

    def _take(self) -> Generator[int, bytes, None]:
        version = (yield 1)[0]
        yield from self._socks5() if version == 5 else self._socks4()

    def _socks5(self) -> Generator[int, bytes, None]:
        count = (yield 1)[0]
        methods = (yield count) if count else b""
        if 0 not in methods:
            raise Refused(NO_METHOD, "the client wants to prove who it is, which is not asked of it")
        self._out = b"\x05\x00"
        version, command, _, kind = yield 4
        if version != 5:
            raise Refused(b"", "no SOCKS 5 behind its greeting")
        if kind not in (1, 3, 4):
            raise Refused(socks5_reply(Reason.ADDRESS_TYPE.socks), f"address type {kind}")
        if kind == 3:
            size = (yield 1)[0]
            if not size:
                raise Refused(socks5_reply(Reason.MALFORMED.socks), "an empty name")
            host = (yield size).decode("latin-1")
        else:
            address = ipaddress.ip_address((yield 4 if kind == 1 else 16))
            host = str(getattr(address, "ipv4_mapped", None) or address)
        port = int.from_bytes((yield 2), "big")
        request = Request("socks5", host, port, command == ASSOCIATE)
        if command not in (CONNECT, ASSOCIATE):
            raise request.refused(Reason.COMMAND, f"command {command} is neither CONNECT nor UDP ASSOCIATE")
        self.request = _with_port(request)

    def _socks4(self) -> Generator[int, bytes, None]:
        data = yield 7
        command, port, raw = data[0], int.from_bytes(data[1:3], "big"), data[3:]
        yield from self._text()
        host = str(ipaddress.IPv4Address(raw))
        if raw[:3] == bytes(3) and raw[3]:  # 4a: a name follows
            host = yield from self._text()
        request = Request("socks4", host, port)
        if command != CONNECT:
            raise request.refused(Reason.COMMAND, f"command {command} is not CONNECT")
        self.request = _with_port(request)

    def _text(self) -> Generator[int, bytes, str]:
        """Bytes up to a zero."""
        text = bytearray()
        while True:
            byte = yield 1
            if byte == b"\0":
                return text.decode("latin-1")
            text += byte
            if len(text) > MAX_FIELD:
                raise Refused(b"\x00\x5b" + bytes(6), f"a text of more than {MAX_FIELD} bytes")


def _with_port(request: Request) -> Request:
    if not request.port and not request.associate:
        raise request.refused(Reason.MALFORMED, "port 0")
    return request


# --- HTTP


def is_http(first: int) -> bool:
    """Whether a method of HTTP may begin with this byte."""
    return 65 <= first <= 90


def http_refused(reason: Reason, why: str, bodiless: bool = False) -> Refused:
    """A refusal with its reason as the text."""
    body = f"{why}\n".encode()
    head = (
        f"HTTP/1.1 {reason.status.value} {reason.status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return Refused(head.encode() + (b"" if bodiless else body), why)


def http_request(head: bytes) -> Request:
    """A request up to its empty line: CONNECT, or any other method with an absolute http:// URI.

    The head that such a request becomes for the guest says that the connection ends with the answer: what the client
    sends behind its body could be for another host.

    Raises:
        Refused: it is no request, or one that a proxy cannot grant.
    """
    import h11

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as err:
        reason = Reason.TOO_LONG if err.error_status_hint == 431 else Reason.MALFORMED
        raise http_refused(reason, f"this is no request: {err}") from None
    if not isinstance(event, h11.Request):
        raise http_refused(Reason.MALFORMED, "this is no request")
    method, target = event.method.decode("ascii"), event.target.decode("latin-1")
    bodiless = method == "HEAD"
    if method == "CONNECT":
        host, port = _authority(target, None)
        return Request("http", host, port)
    scheme, slashes, rest = target.partition("://")
    if not slashes:
        raise http_refused(
            Reason.MALFORMED,
            "this is a proxy into netstack's virtual network, not a server: ask it with CONNECT or an absolute "
            "http:// URI (curl --proxy)",
            bodiless,
        )
    if scheme.lower() != "http":
        raise http_refused(Reason.COMMAND, f"{scheme} is only carried by CONNECT", bodiless)
    match = re.match(r"([^/?#]*)([^#]*)", rest)
    assert match is not None
    authority = match[1].rpartition("@")[2]
    host, port = _authority(authority, 80)
    path = match[2] or ("*" if method == "OPTIONS" else "/")
    if not path.startswith(("/", "*")):
        path = f"/{path}"
    return Request("http", host, port, False, _head(event, path, authority), silent=True, bodiless=bodiless)


def _head(event: Any, path: str, authority: str) -> bytes:
    """The request as the guest gets it (RFC 9110 section 7.6)."""
    fields = [(name, value) for name, value in event.headers.raw_items()]
    hop = {
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"proxy-authorization",
        b"te",
        b"upgrade",
        b"host",
    }
    for name, value in fields:
        if name.lower() in (b"connection", b"proxy-connection"):
            hop |= {token.strip().lower() for token in value.split(b",")}
    hop -= {b"content-length", b"transfer-encoding"}  # the body follows as it is
    version = event.http_version
    lines = [
        b"%s %s HTTP/%s" % (event.method, path.encode("latin-1"), version),
        b"Host: " + authority.encode("latin-1"),
    ]
    lines += [name + b": " + value for name, value in fields if name.lower() not in hop]
    lines += [b"Via: " + version + b" netstack", b"Connection: close", b"", b""]
    return b"\r\n".join(lines)


def _authority(text: str, default: int | None) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text)
    port = int(match[2]) if match is not None and match[2] else default
    if match is None or port is None or not 1 <= port <= 65535:
        raise http_refused(Reason.MALFORMED, f"{text!r} is not HOST:PORT")
    return match[1].strip("[]"), port
