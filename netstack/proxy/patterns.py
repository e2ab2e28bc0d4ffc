"""Lists of hosts: ``no_proxy``, and the hosts that guests may reach."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigError

__all__ = ["NOTHING", "Hosts", "UrlPrefix", "host_key", "parse_hosts", "parse_url_prefix", "split_authority"]

SHORT_V4 = re.compile(r"(\d{1,3}(?:\.\d{1,3}){0,3})/(\d{1,2})")
SIMPLE = "<local>"  # Windows' and macOS' word for names without a dot

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class _Item:
    """One entry of a list; exactly one of network, name and glob is set."""

    network: Network | None = None
    name: str = ""  #: matches itself, and what lies below it
    below: bool = False  #: ... only what lies below it
    glob: str = ""
    port: int = 0  #: 0 = any

    def matches(self, key: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        if self.network is not None:
            return address is not None and address in self.network
        if self.glob == SIMPLE:
            return address is None and "." not in key
        if self.glob:
            return fnmatch.fnmatchcase(key, self.glob)
        if address is not None:
            return False
        return key.endswith("." + self.name) or (not self.below and key == self.name)

    def __str__(self) -> str:
        if self.network is not None:
            text = str(self.network)
            if self.network.prefixlen == self.network.max_prefixlen:
                text = str(self.network.network_address)
            if self.port and self.network.version == 6:
                text = f"[{text}]"
        else:
            text = self.glob or ("." if self.below else "") + self.name
        return f"{text}:{self.port}" if self.port else text


@dataclass(frozen=True)
class Hosts:
    """A list of hosts, made by :func:`parse_hosts`."""

    items: tuple[_Item, ...] = ()

    def matches(self, host: str, port: int = 0) -> bool:
        """Whether a name or an address (perhaps in brackets) is on the list; ``port`` for entries that name one."""
        if not self.items:
            return False
        key = host_key(host)
        address = _address(key)
        return any(item.port in (0, port) and item.matches(key, address) for item in self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    def __str__(self) -> str:
        """The list as programs take it in ``no_proxy``: ``.local`` for ``*.local``, prefixes in full."""
        return ",".join(map(str, self.items))


#: The empty list.
NOTHING = Hosts()


def parse_hosts(text: str | Iterable[str]) -> Hosts:
    """Reads a list of hosts, separated by commas or white space, whatever their case.

    ``example.com`` is the name and all below it, ``.example.com`` or ``*.example.com`` only those below; ``*``
    everything; ``10.*`` and other shell patterns what they say; ``192.0.2.7``, ``10.0.0.0/8``, the short
    ``169.254/16`` and ``fd00::/8`` addresses; ``<local>`` names without a dot. Each may have a port: ``host:8080``,
    ``[::1]:80``.

    Raises:
        ConfigError: a port or a prefix cannot be one.
    """
    texts = [text] if isinstance(text, str) else text
    items = []
    for word in (word for part in texts for word in re.split(r"[\s,;]+", part) if word):
        items.append(_parse(word))
    return Hosts(tuple(dict.fromkeys(items)))


def _parse(word: str) -> _Item:
    network = _network(word, word)
    if network is not None:
        return _Item(network)
    rest, port = word, 0
    if re.fullmatch(r"\[[^\]]*\](:\d*)?", word):
        inside, _, digits = word[1:].partition("]")
        rest, port = inside, _port(word, digits[1:]) if digits else 0
    elif word.count(":") == 1:
        rest, _, digits = word.partition(":")
        port = _port(word, digits)
    network = _network(rest, word)
    if network is not None:
        return _Item(network, port=port)
    key = host_key(rest)
    if key == SIMPLE:
        return _Item(glob=SIMPLE, port=port)
    below = key.startswith((".", "*."))
    name = key.removeprefix("*").removeprefix(".") if below else key
    if not name or ":" in name or "/" in name or rest.endswith("*."):
        raise ConfigError(f"{word!r} in a list of hosts is no name, address or prefix")
    if "*" in name or "?" in name:
        return _Item(glob=key, port=port)
    return _Item(name=name, below=below, port=port)


def _port(word: str, digits: str) -> int:
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits[:6]) <= 65535:
        raise ConfigError(f"{word!r} in a list of hosts has the port {digits!r}: it may be 1 to 65535")
    return int(digits)


def _network(text: str, word: str) -> Network | None:
    short = SHORT_V4.fullmatch(text)
    if short:
        text = short[1] + ".0" * (3 - short[1].count(".")) + "/" + short[2]
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        if short or (text.count(":") > 1 and "/" in text):
            raise ConfigError(
                f"{word!r} in a list of hosts is no prefix like 10.0.0.0/8 or fd00::/8"
            ) from None
        return None


def host_key(host: str) -> str:
    """A host as it is compared: lower case, ASCII, without brackets, scope and the dot at the end."""
    key = host.strip().strip("[]").partition("%")[0].rstrip(".").lower()
    if not key.isascii():
        try:
            key = ".".join(label.encode("idna").decode() if label else "" for label in key.split("."))
        except UnicodeError:
            return key
    return key


def _address(key: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(key)
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address


def split_authority(text: str, default: int) -> tuple[str, int]:
    """(host without brackets, port) of ``host``, ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/?#@\s]+)(?::(\d*))?", text)
    if match is None:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    port = int(match[2]) if match[2] else default
    if not 1 <= port <= 65535:
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return match[1].strip("[]"), port


@dataclass(frozen=True)
class UrlPrefix:
    """URLs that begin like this one; of HTTPS only host and port can be seen."""

    scheme: str
    host: Hosts
    port: int
    path: str  #: with "*" for anything at the end; "/" for all

    def matches(self, scheme: str, host: str, port: int, path: str | None) -> bool:
        """``path`` None: it cannot be seen."""
        if scheme != self.scheme or port != self.port or not self.host.matches(host):
            return False
        if path is None or self.path in ("", "/"):
            return True
        # What lies below a path is at a segment's border: /a allows /a, /a?x and /a/b, and not /ab. Segments that
        # lead elsewhere ("..", also escaped) are in no prefix.
        if re.search(r"(^|/)(\.|%2[eE]){1,2}(/|\?|$)|\\|%5[cC]|%2[fF]", path):
            return False
        if self.path.endswith("*"):
            return path.startswith(self.path[:-1])
        stem = self.path.rstrip("/")
        return path == stem or path.startswith((stem + "/", stem + "?"))


def parse_url_prefix(text: str) -> UrlPrefix:
    """Reads ``http://host[:port][/path]`` or ``https://host[:port]``; the host may be ``*.example.com``.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"(https?)://([^/?#]+)(/[^?#]*)?", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"URL {text!r} is not like http://example.com/path or https://example.com")
    scheme = match[1].lower()
    try:
        host, port = split_authority(match[2], 443 if scheme == "https" else 80)
        exactly = parse_hosts(host if ":" not in host else f"[{host}]")
    except ValueError as err:
        raise ConfigError(f"URL {text!r} cannot be used: {err}") from None
    if scheme == "https" and match[3] not in (None, "/", "/*"):
        raise ConfigError(f"URL {text!r} names a path, which cannot be seen in HTTPS: leave it out")
    # the host of a URL is that host and nothing below it
    items = tuple(_Item(glob=item.name) if item.name and not item.below else item for item in exactly.items)
    return UrlPrefix(scheme, Hosts(items), port, match[3] or "/")
