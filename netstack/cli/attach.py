"""``netstack attach``: a network for a namespace that exists."""

from __future__ import annotations

from typing import Any

import click

from netstack.cli.ending import hold_signals, wait_for_end
from netstack.cli.options import (
    add_guest,
    check_standard_output,
    control_api,
    guest_interface,
    network_config,
    network_options,
    print_summary,
    publishing,
    require_linux,
    tell_ready,
    to_write_to,
)

__all__ = ["command"]


@click.command(
    epilog="""\b
Examples:
  netstack attach --netns blue                    the namespace of `ip netns add blue`
  netstack attach --netns 4711 --ifname eth0      the namespace of process 4711
  netstack attach --netns /proc/4711/ns/net --no-configure""",
)
@click.option("--netns", required=True, metavar="NAME|PATH|PID", help="The network namespace.")
@click.option(
    "--ifname", default="tap0", show_default=True, metavar="NAME", help="Name of the interface inside."
)
@click.option(
    "--no-configure", is_flag=True, help="Set no address and no route: leave it to a DHCP client inside."
)
@click.option(
    "--ready-fd",
    type=int,
    callback=to_write_to,
    metavar="N",
    help="Write a line with 1 to this descriptor when the network is there, and close it.",
)
@network_options
def attach(
    netns: str,
    ifname: str,
    no_configure: bool,
    ready_fd: int | None,
    verbose: bool,
    api: str | None,
    publish_all: bool,
    **network: Any,
) -> int:
    """Give a network to a namespace that exists already.

    Makes a TAP in it, configures address and default route, and serves it until it is told to stop (SIGTERM,
    SIGINT), the interface is removed, or the namespace goes: its process has ended, or its name has been
    deleted. The name server for processes inside is the gateway, 192.168.65.1.
    """
    from netstack.link.spec import is_interface_name

    require_linux("attach")
    if not is_interface_name(ifname):
        raise click.BadParameter(f"{ifname!r} is not the name of an interface", param_hint="--ifname")
    config = network_config(**network)
    check_standard_output(config)
    from netstack.sandbox import Netns, open_tap_in, sock_diag_in

    hold_signals()
    interface = guest_interface(config, ifname, configured=not no_configure)
    namespace = Netns(netns)
    tap = open_tap_in(namespace, interface)  # forks, so before there are threads
    sockets = sock_diag_in(namespace) if publish_all else None  # the same

    from netstack.gateway import Gateway

    gateway = Gateway(config)
    add_guest(gateway, tap, interface, f"{tap.name} in {netns}")
    gateway.start()
    try:
        with control_api(gateway, api, "attach"), publishing(gateway, sockets):
            if ready_fd is not None:
                tell_ready(ready_fd)
            if verbose:
                click.echo(
                    f"netstack: {tap.name} in {netns} is served; its name server is {config.gateway}",
                    err=True,
                )
            wait_for_end(namespace.wait_gone, gateway.wait_links_gone)
        if verbose:
            print_summary(gateway)
    finally:
        gateway.stop()
        namespace.close()
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return attach
