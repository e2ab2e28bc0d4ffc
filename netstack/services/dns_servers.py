"""Name servers as a user writes them, and which of them knows what.

A server is ``ADDRESS``, ``ADDRESS#PORT`` or ``tls://ADDRESS#NAME`` (DNS over TLS, RFC 7858; the certificate must be
NAME's), and in front of it may stand a zone: ``corp.example=10.8.0.1``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netstack.errors import ConfigError
from netstack.services.resolv_conf import parse_upstream
from netstack.wire.dns_name import name_from_text, name_to_text

__all__ = ["NameServer", "Routes", "merge_routes", "parse_name_server", "parse_routes", "zone_name"]

TLS_PORT = 853
MAX_SERVERS = 8  # of one zone; nat/dns_servers.pxd


@dataclass(frozen=True)
class NameServer:
    """Where to ask.

    Attributes:
        address: IPv4 or IPv6, which may have a scope.
        port: its port.
        tls_name: for DNS over TLS the name that its certificate must have; None for plain UDP and TCP.
    """

    address: str
    port: int = 53
    tls_name: str | None = None

    def __str__(self) -> str:
        if self.tls_name is not None:
            address = f"[{self.address}]" if ":" in self.address else self.address
            port = "" if self.port == TLS_PORT else f":{self.port}"
            return f"tls://{address}{port}#{self.tls_name}"
        return f"{self.address}#{self.port}"


#: A zone in lower case, "" for everything else, and who knows it, in order.
Routes = dict[str, tuple[NameServer, ...]]


def zone_name(text: str) -> str:
    """A zone in lower case without a dot at either end; "" for the root.

    Raises:
        ConfigError: it is no name.
    """
    stripped = text.lower().removeprefix("~").removeprefix("*.").strip(".")
    try:
        return name_to_text(name_from_text(stripped)) if stripped else ""
    except ValueError as err:
        raise ConfigError(f"{text!r} is not a DNS name: {err}") from None


def parse_name_server(text: str) -> NameServer:
    """A server from its text.

    Raises:
        ConfigError: it is none.
    """
    if not text.startswith("tls://"):
        address, port = parse_upstream(text)
        return NameServer(address, port)
    place, _, name = text.removeprefix("tls://").partition("#")
    if not place.startswith("[") and place.count(":") > 1:
        place = f"[{place}]"
    try:
        address, port = parse_upstream(place)
    except ConfigError:
        address, port = "", 0
    if not address or (name and not zone_name(name)):
        raise ConfigError(f"DNS server {text!r} is not tls://ADDRESS#NAME or tls://ADDRESS:PORT#NAME")
    explicit = place.rpartition("]")[2].count(":") == 1
    # without a name the certificate must be the address's own
    return NameServer(address, port if explicit else TLS_PORT, name or address)


def parse_routes(texts: Iterable[str]) -> Routes:
    """Who knows what, from texts such as ``10.0.0.53`` and ``corp.example=10.8.0.1``.

    Raises:
        ConfigError: one of them cannot be used, or a zone has too many servers.
    """
    routes: dict[str, list[NameServer]] = {}
    for text in texts:
        zone, equals, server = text.rpartition("=")
        if equals and not zone_name(zone):
            raise ConfigError(f"DNS server {text!r} has no zone in front of its =: write ZONE=ADDRESS")
        servers = routes.setdefault(zone_name(zone), [])
        parsed = parse_name_server(server)
        if parsed not in servers:
            servers.append(parsed)
        if len(servers) > MAX_SERVERS:
            raise ConfigError(f"more than {MAX_SERVERS} DNS servers for {zone or 'everything'}: name fewer")
    return {zone: tuple(servers) for zone, servers in routes.items()}


def merge_routes(*layers: Routes) -> Routes:
    """The routes of all; for a zone that several have, those of the first."""
    out: Routes = {}
    for layer in layers:
        for zone, servers in layer.items():
            out.setdefault(zone, servers)
    return out
