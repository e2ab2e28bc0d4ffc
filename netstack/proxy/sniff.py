"""What a guest speaks, by its first bytes: HTTP, TLS (and the name in its ClientHello), or something else. Pure."""

from __future__ import annotations

import re

__all__ = ["HTTP", "MORE", "OPAQUE", "TLS", "alert", "protocol_of", "server_name"]

HTTP, TLS, OPAQUE, MORE = "http", "tls", "opaque", "more"

MAX_METHOD = 24  # letters; the longest registered method has 17
METHOD = re.compile(rb"[A-Z][A-Z-]{0,%d} " % (MAX_METHOD - 1))
METHOD_BEGINS = re.compile(rb"[A-Z][A-Z-]{0,%d}\Z" % (MAX_METHOD - 1))

HANDSHAKE, CLIENT_HELLO = 22, 1  # RFC 8446 5.1, 4
EXTENSION_SERVER_NAME, NAME_HOST = 0, 0  # RFC 6066 3
MAX_HELLO = 1 << 16  # bytes; larger ones are not looked into

ACCESS_DENIED = 49  # RFC 8446 6
FATAL = 2


def protocol_of(data: bytes) -> str:
    """HTTP, TLS, OPAQUE, or MORE where the bytes could become any of them."""
    if data[:1] == b"\x16":
        return TLS if data[1:2] == b"\x03" else MORE if len(data) < 2 else OPAQUE
    if data.startswith(b"PRI "):  # HTTP/2 without TLS (RFC 9113 3.4) is not for us to rewrite
        return OPAQUE
    if METHOD.match(data):
        return HTTP
    return MORE if not data or METHOD_BEGINS.fullmatch(data) else OPAQUE


def server_name(data: bytes) -> tuple[bool, str | None]:
    """(whether that is all there is to know, the name) of a stream of TLS records that begins with a ClientHello.

    (False, None) asks for more bytes. A hello without a name, or one that cannot be read, is (True, None).
    """
    hello = b""
    at = 0
    while True:
        if len(data) - at < 5:
            return len(data) > MAX_HELLO, None
        kind, length = data[at], int.from_bytes(data[at + 3 : at + 5], "big")
        if kind != HANDSHAKE or data[at + 1] != 3 or not 0 < length <= (1 << 14) + 256:
            return True, None
        hello += data[at + 5 : at + 5 + length]
        if hello and hello[0] != CLIENT_HELLO:
            return True, None
        if len(hello) >= 4 and len(hello) >= 4 + int.from_bytes(hello[1:4], "big"):
            return True, _name_in(hello[4 : 4 + int.from_bytes(hello[1:4], "big")])
        if len(data) > MAX_HELLO:
            return True, None
        if len(data) < at + 5 + length:
            return False, None
        at += 5 + length


class _Short(Exception):
    pass


class _Reader:
    """Fields of bytes whose lengths are compared with what is there."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        if len(self.data) - self.at < n:
            raise _Short
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n: int) -> int:
        return int.from_bytes(self.take(n), "big")

    def vector(self, n: int) -> bytes:
        return self.take(self.number(n))


def _name_in(hello: bytes) -> str | None:
    """The host name of a ClientHello's body (RFC 8446 4.1.2), None without one."""
    try:
        r = _Reader(hello)
        r.take(2 + 32)  # version, random
        r.vector(1)  # session
        r.vector(2)  # cipher suites
        r.vector(1)  # compression
        extensions = _Reader(r.vector(2))
        while extensions.at < len(extensions.data):
            kind = extensions.number(2)
            body = extensions.vector(2)
            if kind != EXTENSION_SERVER_NAME:
                continue
            names = _Reader(_Reader(body).vector(2))
            while names.at < len(names.data):
                of = names.number(1)
                name = names.vector(2)
                if of == NAME_HOST:
                    return _checked(name)
    except _Short:
        return None
    return None


def _checked(name: bytes) -> str | None:
    """A host name as text; None where it could be anything else in a request line."""
    if re.fullmatch(rb"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", name) and len(name) <= 255:
        return name.decode().rstrip(".")
    return None


def alert(description: int = ACCESS_DENIED) -> bytes:
    """A record with a fatal alert."""
    return bytes((21, 3, 3, 0, 2, FATAL, description))
