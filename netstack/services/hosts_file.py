"""A hosts file: addresses with their names, as in hosts(5)."""

from __future__ import annotations

import ipaddress

from netstack.wire.dns_name import name_from_text

__all__ = ["parse_hosts"]

MAX_FILE = 16 << 20  # bytes; block lists have a few


def parse_hosts(text: str) -> dict[str, list[str]]:
    """Name (lower case) to addresses, in the order of the file. Lines and names that cannot be used are skipped."""
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *listed = line.partition("#")[0].split() or [""]
        try:
            known = str(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            continue
        for name in listed:
            name = name.lower().rstrip(".")
            try:
                name_from_text(name)
            except ValueError:
                continue
            addresses = names.setdefault(name, [])
            if known not in addresses:
                addresses.append(known)
    return names
