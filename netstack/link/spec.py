"""Where links come from, as text: ``hyperkit:/run/eth.sock``, ``qemu+tcp:127.0.0.1:4444``, ``fd:bess:3``."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

from netstack.errors import ConfigError

__all__ = ["FORMS", "KINDS", "TARGETS", "LinkSpec", "is_interface_name", "parse_link", "parse_target"]

#: What a guest speaks: "stream" and "packet" kinds are accepted connections, "message" kinds one socket for one guest.
KINDS = {"hyperkit": "stream", "qemu": "stream", "bess": "packet", "unixgram": "message", "udp": "message"}

FORMS = (
    "hyperkit:PATH, qemu:PATH, qemu+tcp:HOST:PORT, hyperkit+vsock:PORT, unixgram:PATH, udp:HOST:PORT, bess:PATH, "
    "stdio:KIND, fd:KIND:N or tap:NAME"
)
TARGETS = "hyperkit:PATH, qemu:PATH, qemu+tcp:HOST:PORT, vsock:CID:PORT, bess:PATH or stdio"


@dataclass(frozen=True)
class LinkSpec:
    """One place.

    Attributes:
        kind: hyperkit, qemu, bess, unixgram, udp or tap.
        family: unix, tcp, udp, vsock, fd, stdio or tap.
        path: of a Unix socket, or the name of a TAP.
        host: of an Internet address; the CID (or "") of a vsock.
        port: of either; the number of a descriptor.
    """

    kind: str
    family: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.family in ("unix", "tap"):
            return f"{self.kind}:{self.path}"
        if self.family == "tcp":
            return f"{self.kind}+tcp:{self.host}:{self.port}"
        if self.family == "udp":
            return f"udp:{self.host}:{self.port}"
        if self.family == "vsock":
            return f"{self.kind}+vsock:{self.host + ':' if self.host else ''}{self.port}"
        return f"stdio:{self.kind}" if self.family == "stdio" else f"fd:{self.kind}:{self.port}"


def is_interface_name(text: str) -> bool:
    """Whether Linux lets an interface be called that (its dev_valid_name)."""
    if text in (".", "..") or any(c in "/:" or c.isspace() for c in text):
        return False
    return 1 <= len(os.fsencode(text)) <= 15


def _kind(text: str, name: str) -> str:
    if name in KINDS:
        return name
    near = difflib.get_close_matches(name, KINDS, 1)
    hint = f": did you mean {near[0]}?" if near else f": it may be {', '.join(KINDS)}"
    raise ConfigError(f"{text!r}: {name!r} is no kind of link{hint}")


def _number(text: str, digits: str, most: int) -> int:
    if not digits.isascii() or not digits.isdecimal() or int(digits) > most:
        raise ConfigError(f"{text!r}: {digits!r} is not a number from 0 to {most}")
    return int(digits)


def _host_port(text: str, rest: str) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host:
        raise ConfigError(f"{text!r} needs HOST:PORT")
    try:
        host.encode("idna")  # as the resolver will
    except UnicodeError:
        raise ConfigError(f"{text!r}: {host!r} is no name of a host") from None
    return host, _number(text, port, 65535)


def parse_link(text: str) -> LinkSpec:
    """A place to listen at, or to take a link from.

    Raises:
        ConfigError: it cannot be understood; the message says what may stand there.
    """
    head, colon, rest = text.partition(":")
    if not colon or not rest:
        raise ConfigError(f"{text!r} is not a link: use {FORMS}")
    if head == "tap":
        if not is_interface_name(rest):
            raise ConfigError(f"{text!r}: {rest!r} is not the name of an interface")
        return LinkSpec("tap", "tap", path=rest)
    if head == "fd":
        name, colon, number = rest.partition(":")
        if not colon:
            raise ConfigError(f"{text!r} needs fd:KIND:N")
        return LinkSpec(_kind(text, name), "fd", port=_number(text, number, 1 << 20))
    if head == "stdio":
        kind = _kind(text, rest)
        if KINDS[kind] != "stream":
            raise ConfigError(f"{text!r}: standard input and output carry hyperkit or qemu")
        return LinkSpec(kind, "stdio")
    name, plus, carrier = head.partition("+")
    kind = _kind(text, name)
    if plus and carrier not in ("tcp", "vsock", "unix"):
        raise ConfigError(f"{text!r}: {carrier!r} is unknown: after + may stand tcp, vsock or unix")
    if kind == "udp":
        if plus:
            raise ConfigError(f"{text!r}: udp carries frames by itself")
        host, port = _host_port(text, rest)
        return LinkSpec("udp", "udp", host=host, port=port)
    if carrier in ("tcp", "vsock") and KINDS[kind] != "stream":
        raise ConfigError(f"{text!r}: {kind} needs the path of a Unix socket")
    if carrier == "tcp":
        host, port = _host_port(text, rest)
        return LinkSpec(kind, "tcp", host=host, port=port)
    if carrier == "vsock":
        cid, _, port_text = rest.rpartition(":")
        if cid:
            _number(text, cid, 0xFFFFFFFF)
        return LinkSpec(kind, "vsock", host=cid, port=_number(text, port_text, 0xFFFFFFFF))
    if len(rest.encode()) > 107:
        raise ConfigError(f"{text!r}: the path of a Unix socket may have 107 bytes")
    return LinkSpec(kind, "unix", path=rest)


def parse_target(text: str) -> LinkSpec:
    """A place to connect to: as :func:`parse_link`, and ``vsock:CID:PORT`` and ``stdio`` in short for HyperKit's.

    Raises:
        ConfigError: it cannot be understood, or cannot be connected to.
    """
    if text == "stdio":
        text = "stdio:hyperkit"
    if text.startswith("vsock:"):
        text = f"hyperkit+{text}"
    spec = parse_link(text)
    if spec.family == "vsock" and not spec.host:
        raise ConfigError(f"{text!r} needs CID:PORT; CID 2 is the host")
    if spec.family in ("tap", "fd") or KINDS[spec.kind] == "message":
        raise ConfigError(f"{text!r} cannot be connected to: use {TARGETS}")
    return spec
