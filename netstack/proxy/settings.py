"""What is to go through which proxy: typed, immutable, without I/O."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from ..errors import ConfigError
from .patterns import NOTHING, Hosts, UrlPrefix, split_authority

__all__ = ["Allowed", "ProxySettings", "Upstream", "parse_upstream"]

DEFAULT_PORTS = {"http": 80}


@dataclass(frozen=True)
class Upstream:
    """A proxy of the host's network, spoken to in plain HTTP."""

    host: str
    port: int
    username: str | None = None
    password: str = field(default="", repr=False)

    @property
    def authorization(self) -> bytes | None:
        """The value of ``Proxy-Authorization`` (RFC 7617), None without credentials."""
        if self.username is None:
            return None
        return b"Basic " + base64.b64encode(f"{self.username}:{self.password}".encode())

    def __str__(self) -> str:
        """Without credentials: for logs and error pages."""
        return f"{self.host}:{self.port}" if ":" not in self.host else f"[{self.host}]:{self.port}"


def parse_upstream(text: str, what: str = "proxy") -> Upstream | None:
    """The proxy in ``http://[user:password@]host[:port]`` or ``host:port``; None for an empty text.

    Percent-escapes in the credentials are undone. Without a port it is 80, as a URL says.

    Raises:
        ConfigError: it is none, or one of a kind that cannot be used (HTTPS to the proxy, SOCKS).
    """
    text = text.strip()
    if not text:
        return None
    scheme, rest = "http", text
    if "://" in text:
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
    rest = re.split(r"[/?#]", rest, maxsplit=1)[0]
    credentials, at, authority = rest.rpartition("@")
    shown = f"{scheme}://{'***@' if at else ''}{authority}"
    if scheme != "http":
        kind = {"https": "TLS to the proxy"}.get(scheme, scheme.upper())
        raise ConfigError(
            f"{what} {shown!r} cannot be used: {kind} is not supported here, only proxies like http://host:port"
        )
    try:
        host, port = split_authority(authority, DEFAULT_PORTS["http"])
    except ValueError:
        raise ConfigError(f"{what} {shown!r} is not http://[USER:PASSWORD@]HOST:PORT") from None
    if not at:
        return Upstream(host, port)
    username, _, password = credentials.partition(":")
    return Upstream(host, port, unquote(username), unquote(password))


@dataclass(frozen=True)
class Allowed:
    """What guests may reach by HTTP and HTTPS; everything else is answered 403."""

    hosts: Hosts = NOTHING
    urls: tuple[UrlPrefix, ...] = ()
    message: str = ""  #: of the page, with %s for the host; "" is our own

    def matches(self, scheme: str, host: str, port: int, path: str | None) -> bool:
        """``path`` None where it cannot be seen (HTTPS)."""
        return self.hosts.matches(host, port) or any(u.matches(scheme, host, port, path) for u in self.urls)


@dataclass(frozen=True)
class ProxySettings:
    """The proxies in force at one moment.

    Attributes:
        http: for ``http://``; None goes straight to the origin.
        https: for ``https://`` and everything else that is tunnelled.
        no_proxy: goes straight to the origin all the same.
        http_ports, https_ports: the guests' connections to these ports are taken, where there is something to do.
        allowed: None allows everything.
        source: where this was found, for the log.
        pac: the URL of an automatic configuration, which is not followed.
        problems: one sentence each for what was found and cannot be used.
        offered: the explicit proxy is there even if there is nothing to do.
    """

    http: Upstream | None = None
    https: Upstream | None = None
    no_proxy: Hosts = NOTHING
    http_ports: tuple[int, ...] = (80,)
    https_ports: tuple[int, ...] = (443,)
    allowed: Allowed | None = None
    source: str = ""
    pac: str = ""
    problems: tuple[str, ...] = ()
    offered: bool = False

    @property
    def active(self) -> bool:
        """Whether anything differs from no proxy at all."""
        return self.http is not None or self.https is not None or self.allowed is not None

    def diverted(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ports of guests' connections that are taken: (HTTP, HTTPS)."""
        return (
            self.http_ports if self.http or self.allowed is not None else (),
            self.https_ports if self.https or self.allowed is not None else (),
        )

    def route(self, scheme: str, host: str, port: int, address: str | None = None) -> Upstream | None:
        """The proxy for a host, None for straight.

        Args:
            scheme: "http", or "https" for tunnels.
            host: name or address, as the guest has said it.
            port: of the origin.
            address: that the guest has dialled, where it is known: an exception may name it.
        """
        upstream = self.http if scheme == "http" else self.https
        if upstream is None or self.no_proxy.matches(host, port):
            return None
        if address is not None and self.no_proxy.matches(address, port):
            return None
        return upstream

    def permits(self, scheme: str, host: str, port: int, path: str | None) -> bool:
        """Whether a guest may have this; ``path`` None where it cannot be seen."""
        return self.allowed is None or self.allowed.matches(scheme, host, port, path)
