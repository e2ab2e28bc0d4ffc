"""What the commands share: the options of a network, and the summary at its end."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netstack.config import Config
from netstack.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from netstack.gateway import Gateway

__all__ = ["network_config", "network_options", "print_summary", "require_linux"]

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_TAP_MTU = 65521  # netstack.sandbox.MAX_MTU, which is not imported for --help

_OPTIONS = (
    click.option("--mtu", type=click.IntRange(576, MAX_TAP_MTU), default=1500, show_default=True,
                 metavar="BYTES", help="MTU of the interface inside."),
    click.option("--network", metavar="CIDR", default=None,
                 help="Instead of 192.168.65.0/24. The gateway is its first address, the host its second."),
    click.option("--dns", multiple=True, metavar="ADDRESS",
                 help="Ask this name server instead of the host's (can be repeated; ADDRESS#PORT)."),
    click.option("--no-host-loopback", is_flag=True, help="Leave out 192.168.65.2, the host's loopback."),
    click.option("--pcap", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
                 help="Write every frame to FILE (tcpdump and Wireshark read it)."),
    click.option("-v", "--verbose", is_flag=True, help="Print flows and counters at the end."),
)  # fmt: skip


def network_options(function: Function) -> Function:
    """Gives a command the options that `network_config` takes, and ``--verbose``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def network_config(
    *, mtu: int, network: str | None, dns: tuple[str, ...], no_host_loopback: bool, pcap: str | None
) -> Config:
    """The settings that the options stand for.

    Raises:
        ConfigError: a value cannot be used.
    """
    changes: dict[str, Any] = {"mtu": mtu, "pcap": pcap, "dns": dns or None}
    if network is not None:
        try:
            net = ipaddress.IPv4Network(network)
        except ValueError as err:
            raise ConfigError(f"network {network!r} cannot be used: {err}") from None
        if net.prefixlen > 29:
            raise ConfigError(f"network {network} is too small: its prefix may be /29 at most")
        changes |= {
            "network": network,
            "gateway": str(net[1]),
            "host_alias": str(net[2]),
            "first_guest": str(net[3]),
            "last_guest": str(net[-2]),
        }
    if no_host_loopback:
        changes["host_alias"] = None
    return Config(**changes)


def require_linux(command: str) -> None:
    """Namespaces and TAP devices are Linux's.

    Raises:
        SandboxError: this is another system.
    """
    if sys.platform != "linux":
        raise SandboxError(
            f"netstack {command} needs Linux namespaces: on this system only netstack demo works"
        )


def print_summary(gateway: Gateway) -> None:
    """Flows and counters that are not zero, to standard error."""
    flows = gateway.flows()
    click.echo(f"netstack: {len(flows)} flows at the end", err=True)
    for flow in flows:
        click.echo("  " + " ".join(f"{key}={value}" for key, value in flow.items()), err=True)
    for name, value in sorted(gateway.stats().items()):
        if value:
            click.echo(f"  {name:<32} {value:>15,}", err=True)
