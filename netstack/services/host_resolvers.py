"""What the host's resolver daemons say of name servers and the zones they know: systemd-resolved and macOS.

Both know more than a resolv.conf can hold: a VPN brings name servers for its own zones, and leaves those for everything
else as they were. The parsers take the text that ``resolvectl status`` and ``scutil --dns`` print.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from netstack.errors import ConfigError
from netstack.services.dns_servers import NameServer, Routes, zone_name

__all__ = ["HostResolvers", "parse_resolvectl", "parse_scutil"]

DNS_PORT = 53


@dataclass(frozen=True)
class HostResolvers:
    """Name servers by zone, and the domains in which the host completes short names."""

    routes: Routes = field(default_factory=dict)
    search: tuple[str, ...] = ()


def _server(text: str) -> NameServer | None:
    """resolved's notation: ADDRESS[:PORT][%INTERFACE][#NAME]; the name is for DNS over TLS, which resolved does itself
    where it is the one that is asked."""
    text = text.partition("#")[0]
    port = DNS_PORT
    if text.startswith("["):
        text, bracket, rest = text[1:].partition("]")
        if not bracket:
            return None
        scope, rest = (rest, "") if rest.startswith("%") else ("", rest)
        if rest.startswith(":"):
            number, percent, interface = rest[1:].partition("%")
            port = int(number) if number.isdecimal() else 0
            scope = percent + interface
        text += scope
    elif text.count(":") == 1:
        text, _, number = text.partition(":")
        number, percent, interface = number.partition("%")
        port = int(number) if number.isdecimal() else 0
        text += percent + interface
    address = text
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        address = text.partition("%")[0]  # a scope means nothing to an IPv4 address
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return None
    return NameServer(str(known), port) if 0 < port <= 65535 else None


def _add(routes: dict[str, list[NameServer]], zone: str, servers: list[NameServer]) -> None:
    known = routes.setdefault(zone, [])
    known += [server for server in servers if server not in known]


def _zone(text: str) -> str | None:
    try:
        return zone_name(text)
    except ConfigError:
        return None


def parse_resolvectl(text: str) -> HostResolvers:
    """Reads what ``resolvectl status`` prints (systemd 239 and later).

    A link's servers know its domains, search and routing ones (``~``) alike. They know everything else where ``~.`` is
    among its domains, or, where no link has that, where the link is a default route; with the global servers in front.
    Lines that cannot be used are skipped.
    """
    links: list[dict[str, list[str]]] = []
    key = ""
    for line in text.splitlines():
        if re.match(r"(Global|Link \d+)\b", line):
            links.append({})
            key = ""
            continue
        if not links or not line.strip():
            continue
        # some releases print the global lists (252: "DNS Servers 192.0.2.1") without the colon
        bare = re.fullmatch(r"\s*((?:Fallback )?DNS Servers|DNS Domain) +(.*)", line)
        if bare:
            key = bare[1]
            links[-1].setdefault(key, []).extend(bare[2].split())
            continue
        label, colon, value = line.partition(":")
        # a line that goes on with the list above has no label of words: its first colon is an address's
        if colon and re.fullmatch(r"\s*[A-Za-z][A-Za-z /.]*[A-Za-z]", label) and (value[:1] in ("", " ")):
            key = label.strip()
            links[-1].setdefault(key, []).extend(value.split())
        elif key:
            links[-1][key].extend(line.split())

    routes: dict[str, list[NameServer]] = {}
    everything: list[NameServer] = []
    spare: list[NameServer] = []
    search: list[str] = []
    for i, link in enumerate(links):
        servers = [s for s in map(_server, link.get("DNS Servers", [])) if s is not None]
        domains = link.get("DNS Domain", [])
        for domain in domains:
            zone = _zone(domain)
            if zone is None:
                continue
            if not domain.startswith("~") and zone and zone not in search:
                search.append(zone)
            if zone and servers:
                _add(routes, zone, servers)
            elif not zone:
                everything += servers
        default = "+DefaultRoute" in link.get("Protocols", []) or "yes" in link.get(
            "DefaultRoute setting", []
        )
        if i == 0 or default or "yes" in link.get("Default Route", []):
            spare += servers
    _add(routes, "", everything or spare)
    return HostResolvers({zone: tuple(servers) for zone, servers in routes.items() if servers}, tuple(search))


def parse_scutil(text: str) -> HostResolvers:
    """Reads what macOS prints for ``scutil --dns``.

    A resolver with a domain knows that one; those without know everything else, in their order. The part for scoped
    queries is about programs that have chosen an interface, and the resolvers for multicast names are no servers.
    """
    routes: dict[str, list[tuple[int, NameServer]]] = {}
    search: list[str] = []
    scoped = re.split(r"^DNS configuration \(for scoped queries\)", text, maxsplit=1, flags=re.MULTILINE)[0]
    for block in re.split(r"^resolver #\d+\s*$", scoped, flags=re.MULTILINE)[1:]:
        values: dict[str, list[str]] = {}
        for line in block.splitlines():
            match = re.match(r"\s+([a-z ]+?)(?:\[\d+\])?\s*:\s*(.+?)\s*$", line)
            if match:
                values.setdefault(match[1], []).append(match[2])
        if "mdns" in values.get("options", []):
            continue
        port = values.get("port", ["53"])[0]
        order = values.get("order", ["0"])[0]
        zone = _zone(values.get("domain", [""])[0])
        if zone is None or not port.isdecimal() or not 0 < int(port) <= 65535:
            continue
        for name in values.get("search domain", []):
            found = _zone(name)
            if found and found not in search:
                search.append(found)
        for address in values.get("nameserver", []):
            try:
                server = NameServer(str(ipaddress.ip_address(address)), int(port))
            except ValueError:
                continue
            ordered = routes.setdefault(zone, [])
            if all(server != known for _, known in ordered):
                ordered.append((int(order) if order.isdecimal() else 0, server))
    return HostResolvers(
        {
            zone: tuple(server for _, server in sorted(servers, key=lambda pair: pair[0]))
            for zone, servers in routes.items()
        },
        tuple(search),
    )
