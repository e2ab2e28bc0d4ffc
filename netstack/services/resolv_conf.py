"""The host's resolver configuration: ``resolv.conf`` read as the host's own programs read it, and watched.

This is the one module of the services that opens a file; it holds no descriptor between calls.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from netstack.errors import ConfigError

__all__ = [
    "ResolvConf",
    "ResolvConfWatcher",
    "Upstream",
    "parse_resolv_conf",
    "parse_upstream",
    "parse_upstreams",
]

Upstream = tuple[str, int]  # address (an IPv6 one may carry %SCOPE) and port

DNS_PORT = 53
MAX_FILE = 65536  # bytes read; a resolv.conf is a few lines
MAX_TIMEOUT = 30
MAX_ATTEMPTS = 5
MAX_NDOTS = 15


@dataclass(frozen=True)
class ResolvConf:
    """What a resolv.conf says. Limits and defaults are those of resolv.conf(5)."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    timeout: int = 5  #: seconds
    attempts: int = 2
    ndots: int = 1

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Where to ask, in order; the local machine where no name server is listed (resolv.conf(5))."""
        return tuple((address, DNS_PORT) for address in self.nameservers or ("127.0.0.1",))


def parse_resolv_conf(text: str) -> ResolvConf:
    """Reads the text of a resolv.conf. Lines that cannot be used are skipped, as the system does it."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    numbers = {"timeout": 5, "attempts": 2, "ndots": 1}
    limits = {"timeout": MAX_TIMEOUT, "attempts": MAX_ATTEMPTS, "ndots": MAX_NDOTS}
    for line in text.splitlines():
        if line[:1] in ("#", ";"):
            continue
        key, *values = re.split(r"\s[#;]", line, maxsplit=1)[0].split() or [""]
        if key == "nameserver" and values:
            address = _address(values[0])
            if address is not None and address not in nameservers:
                nameservers.append(address)
        elif key in ("search", "domain") and values:
            # The last line of the two kinds counts.
            names = values if key == "search" else values[:1]
            search = tuple(name.rstrip(".").lower() for name in names if name.strip("."))
        elif key == "options":
            for option in values:
                name, _, number = option.partition(":")
                if name in numbers and number.isascii() and number.isdigit():
                    numbers[name] = min(int(number[:9]), limits[name])
    return ResolvConf(
        tuple(nameservers), search, max(1, numbers["timeout"]), max(1, numbers["attempts"]), numbers["ndots"]
    )


def parse_upstream(text: str) -> Upstream:
    """The address and port in ``ADDR``, ``ADDR#PORT``, ``[V6]:PORT`` or ``V4:PORT``; without a port 53.

    Raises:
        ConfigError: no such address or port.
    """
    address, port = text, str(DNS_PORT)
    if "#" in text:
        address, _, port = text.partition("#")
    elif text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            address = ""
        elif rest:
            port = rest[1:]
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    known = _address(address)
    if known is None:
        raise ConfigError(f"DNS server {text!r} is not an address: use ADDR, ADDR#PORT or [V6]:PORT")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ConfigError(f"DNS server {text!r} has the port {port!r}: it may be 1 to 65535")
    return known, int(port)


def parse_upstreams(texts: Iterable[str]) -> tuple[Upstream, ...]:
    """Each of the texts by :func:`parse_upstream`, in order, without repetitions.

    Raises:
        ConfigError: one cannot be used, or there is none.
    """
    upstreams = tuple(dict.fromkeys(parse_upstream(text) for text in texts))
    if not upstreams:
        raise ConfigError("no DNS server is given: name one, or leave the setting out to follow the host's")
    return upstreams


class ResolvConfWatcher:
    """A resolv.conf that is read again when it has changed.

    What was read last stays in force while the file is away or cannot be read. Following a symbolic link, it
    notices that the link leads elsewhere as well as that the file behind it was replaced or written to.

    Attributes:
        path: the file.
        conf: what it said when it could last be read; the defaults before that.
    """

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self.path = path
        self.conf = ResolvConf()
        self._seen: tuple[int, ...] | None = None
        self.changed()

    def changed(self) -> bool:
        """Looks at the file, reads it where it is not the one of last time; True when ``conf`` is new."""
        try:
            status = os.stat(self.path)
        except OSError:
            self._seen = None
            return False
        if self._seen == _signature(status):
            return False
        try:
            with open(self.path, "rb") as file:
                # Of the file that is open, not of the path: between the two it may have been replaced.
                seen = _signature(os.fstat(file.fileno()))
                text = file.read(MAX_FILE).decode("utf-8", "replace")
        except OSError:
            self._seen = None
            return False
        self._seen = seen
        conf = parse_resolv_conf(text)
        different = conf != self.conf
        self.conf = conf
        return different


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _address(text: str) -> str | None:
    """The address in its usual notation with its scope, or None."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
