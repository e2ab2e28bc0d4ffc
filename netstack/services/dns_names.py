"""Names as a user writes them, and how the names of several sources become one table."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from netstack.errors import ConfigError
from netstack.wire.dns import type_number
from netstack.wire.dns_name import name_from_text

__all__ = ["merge_names", "parse_name", "reverse_zones", "search_option"]

CNAME = 5
_ONE_NAME = frozenset(("CNAME", "PTR", "NS", "DNAME"))
_NUMBERS = {"MX": 1, "SRV": 3}  # numbers that stand in front of the name
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
    return name, [(kind, _value(text, kind, words))]


def _value(text: str, kind: str, words: list[str]) -> Any:
    numbers = _NUMBERS.get(kind)
    if kind in ("TXT", "SPF") and words:
        return tuple(words)
    if kind in _ONE_NAME and len(words) == 1:
        return words[0]
    if kind in ("A", "AAAA") and len(words) == 1:
        return words[0]
    if numbers is not None and len(words) == numbers + 1 and all(w.isdecimal() for w in words[:numbers]):
        return (*map(int, words[:numbers]), words[-1])
    if numbers is None and kind not in ("TXT", "SPF", "A", "AAAA") and kind not in _ONE_NAME and words:
        try:
            return bytes.fromhex("".join(words))
        except ValueError:
            raise ConfigError(f"name {text!r}: the data of {kind} are given as hexadecimal digits") from None
    form = {"MX": "NUMBER NAME", "SRV": "PRIORITY WEIGHT PORT NAME", "TXT": "TEXT", "SPF": "TEXT"}
    raise ConfigError(f"name {text!r}: {kind} is written {kind} {form.get(kind, 'VALUE')}")


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
