"""Names as a user writes them, and how the names of several sources become one table."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from netstack.errors import ConfigError
from netstack.wire.dns_data import rdata_words, type_number
from netstack.wire.dns_name import name_from_text

__all__ = ["merge_names", "parse_name", "reverse_zones", "search_option"]

CNAME = 5
MAX_REVERSE_ZONES = 128

#: What a name stands for, each as `DnsTable` takes it: (type, value).
Records = list[tuple[str, Any]]


def parse_name(text: str) -> tuple[str, Records]:
    """A name with what it stands for, from ``web.corp=10.0.0.5`` (addresses, with commas between) or, for other
    types, ``corp=MX 10 mail.corp``, ``_ldap._tcp.corp=SRV 0 5 389 dc.corp``, ``corp=TXT "two words"``.

    Raises:
        ConfigError: it cannot be understood.
    """
    name, equals, rest = text.partition("=")
    name, rest = name.strip(), rest.strip()
    if not equals or not name or not rest:
        raise ConfigError(f"name {text!r} is not NAME=ADDRESS or NAME=TYPE VALUE")
    try:
        addresses = [ipaddress.ip_address(word.strip()) for word in rest.split(",")]
        return name, [("A" if a.version == 4 else "AAAA", str(a)) for a in addresses]
    except ValueError:
        pass
    import shlex  # costs start-up time

    try:
        kind, *words = shlex.split(rest)
        kind = kind.upper()
        type_number(kind)
    except ValueError:
        raise ConfigError(f"name {text!r}: what follows the = is neither an address nor TYPE VALUE") from None
    try:
        return name, [(kind, rdata_words(kind, words))]
    except ValueError as err:
        raise ConfigError(f"name {text!r}: no value of type {kind}: {err}") from None


def merge_names(*layers: Mapping[str, Iterable[tuple[str, Any]]]) -> dict[str, Records]:
    """One table of several: an earlier one has the word. A later one adds to its names only types that it lacks; and
    nothing where an alias stands, or by an alias."""
    out: dict[str, Records] = {}
    for layer in layers:
        for name, values in layer.items():
            key = name.lower().rstrip(".") or "."
            listed = list(values)
            had = out.get(key)
            if had is None:
                out[key] = listed
                continue
            kinds = {type_number(kind) for kind, _ in had}
            if CNAME not in kinds:
                had += [(kind, value) for kind, value in listed if type_number(kind) not in kinds | {CNAME}]
    return out


def reverse_zones(network: str) -> list[str]:
    """The zones of the reverse names of an IPv4 network (RFC 1035 section 3.5): they are nobody else's business
    (RFC 6303)."""
    net = ipaddress.IPv4Network(network)
    whole = max(8, -(-net.prefixlen // 8) * 8)
    if whole - net.prefixlen > MAX_REVERSE_ZONES.bit_length() - 1:
        return []
    octets = whole // 8
    return [
        ".".join(reversed(str(part.network_address).split(".")[:octets])) + ".in-addr.arpa"
        for part in net.subnets(new_prefix=whole)
    ]


def search_option(domains: Iterable[str]) -> bytes:
    """The data of DHCP option 119 (RFC 3397): names one behind the other, as far as 255 bytes go."""
    out = b""
    for domain in domains:
        name = name_from_text(domain)
        if len(out) + len(name) > 255:
            break
        out += name
    return out
