"""The virtual network as a proxy must know it: which hosts are not of the world, and where they really are."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .patterns import host_key

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["EXPLICIT_PORTS", "Plan"]

#: Of the gateway: the explicit proxy's port, and the one where VPNKit has a second.
EXPLICIT_PORTS = (3128, 3129)

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Plan:
    """Who is who on the virtual network.

    Attributes:
        gateway: its address.
        alias: the address that stands for the host's loopback, None where the guests may not reach it.
        network: the guests'.
        gateway_names, host_names: names of these, in small letters.
        domain: of the guests' names.
        lookup: the address of a guest by its name (without the domain), None for nobody.
    """

    gateway: str
    alias: str | None
    network: ipaddress.IPv4Network
    gateway_names: tuple[str, ...]
    host_names: tuple[str, ...]
    domain: str
    lookup: Callable[[str], str | None] = lambda name: None

    @classmethod
    def of(cls, config: Config, lookup: Callable[[str], str | None]) -> Plan:
        """The plan of a configuration."""
        return cls(
            config.gateway,
            config.host_alias,
            ipaddress.IPv4Network(config.network),
            tuple(map(host_key, config.gateway_names)),
            tuple(map(host_key, config.host_names)),
            host_key(config.domain),
            lookup,
        )

    def local(self, host: str) -> str | None:
        """The address of a host of the virtual network, "" for one of its names that nobody has; None: not of ours."""
        key = host_key(host)
        if key in self.gateway_names:
            return self.gateway
        if key in self.host_names:
            return self.alias or ""
        if self.domain and key.endswith("." + self.domain):
            return self.lookup(key.removesuffix("." + self.domain)) or ""
        try:
            address = ipaddress.IPv4Address(key)
        except ValueError:
            return None
        return key if address in self.network else None

    def forbidden(self, host: str) -> bool:
        """Whether a host is a loopback or nobody: in a guest's mouth it would mean the host's own."""
        key = host_key(host)
        if key == "localhost" or key.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(key)
        except ValueError:
            # forms that a resolver takes for an address and ipaddress does not: 127.1, 0x7f000001, 2130706433
            return key.replace(".", "").isdigit() or key.startswith("0x")
        address = (address.version == 6 and address.ipv4_mapped) or address
        return address.is_loopback or address.is_unspecified or address.is_multicast

    def on_host(self, host: str) -> str:
        """A proxy's host as the host reaches it: its loopback for the names and the address that stand for it."""
        key = host_key(host)
        return LOOPBACK if key in self.host_names or key == self.alias else host

    def no_proxy(self) -> tuple[str, ...]:
        """What a guest's own clients should not ask a proxy for."""
        names = ["localhost", "127.0.0.0/8", "::1", str(self.network), self.gateway]
        if self.alias:
            names.append(self.alias)
        below = f".{self.domain}" if self.domain else ""
        names += [n for n in (*self.gateway_names, *self.host_names) if not below or not n.endswith(below)]
        return (*names, *([below] if below else []))
