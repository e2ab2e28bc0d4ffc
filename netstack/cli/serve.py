"""``netstack serve`` and ``netstack config``: one network for any number of guests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from netstack.cli.ending import hold_signals, wait_for_end
from netstack.cli.options import (
    NETWORK_OPTIONS,
    check_standard_output,
    control_api,
    network_changes,
    network_options,
    print_summary,
)
from netstack.config import SOURCE_RULES
from netstack.config_file import LOG_FORMATS, LOG_LEVELS, ServiceConfig, load, parse_guest, to_toml
from netstack.errors import ConfigError
from netstack.link.spec import FORMS

if TYPE_CHECKING:
    from netstack.gateway import Gateway

__all__ = ["command"]

log = logging.getLogger("netstack")
STRICT = "held"  # the check of sources where several guests meet

PLACES = f"Where guests come in (can be repeated): {FORMS}."
GUEST = (
    "A static lease for a MAC, for id:CLIENT-ID (bytes such as ff:00:01, or text), or for MAC,id:CLIENT-ID "
    "(can be repeated)."
)
SOURCES = "Addresses a guest may speak from: those given to it, those no other has, or any."
EVENTS = "Write a line of JSON for each event to a descriptor, file or Unix socket."

_OPTIONS = (
    click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Settings as TOML; options here come on top.",
    ),
    click.option("--listen", multiple=True, metavar="PLACE", help=PLACES),
    click.option("--tap", multiple=True, metavar="NAME", help="Open this TAP here (can be repeated)."),
    click.option("--guest", multiple=True, metavar="WHO=IP[,NAME]", help=GUEST),
    click.option(
        "--expose",
        multiple=True,
        metavar="PORT[/udp]",
        help="A port that -P publishes for each guest (can be repeated; a range is PORT-PORT).",
    ),
    click.option("--isolate", is_flag=True, help="Guests see the gateway and not each other."),
    click.option(
        "--source-check",
        type=click.Choice(tuple(SOURCE_RULES)),
        default=STRICT,
        show_default=True,
        help=SOURCES,
    ),
    click.option(
        "--port-9p",
        "port_9p",
        metavar="PATH",
        help="Serve VPNKit's control of ports over 9P at this Unix socket.",
    ),
    click.option("--notify", metavar="FD|PATH", help=EVENTS),
    click.option(
        "--log-format",
        type=click.Choice(LOG_FORMATS),
        default="text",
        show_default=True,
        help="Of the log on standard error.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LOG_LEVELS),
        default="info",
        show_default=True,
        help="The least that is logged.",
    ),
)


def service_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the service, and those of a network."""
    function = network_options(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def effective(ctx: click.Context, given: dict[str, Any]) -> ServiceConfig:
    """The file's settings with what stands on the command line on top.

    Raises:
        ConfigError: something cannot be used.
    """
    path = given["config_path"]
    base = load(path) if path else ServiceConfig()
    said = {
        name for name in given if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }  # fmt: skip
    changes = network_changes(**{name: given[name] for name in NETWORK_OPTIONS if name in said})
    if "isolate" in said:
        changes["isolation"] = given["isolate"]
    if "source_check" in said or not path:
        changes["source_check"] = given["source_check"]
    if given["guest"]:
        changes["leases"] = (*base.network.leases, *map(parse_guest, given["guest"]))
    service: dict[str, Any] = {"network": base.network.replace(**changes)}
    for key in ("api", "port_9p", "notify", "log_format", "log_level", "publish_all"):
        if key in said:
            service[key] = given[key]
    places = (*given["listen"], *(f"tap:{name}" for name in given["tap"]))
    if places:
        service["listen"] = (*base.listen, *places)
    if given["expose"]:
        service["expose"] = (*base.expose, *given["expose"])
    return replace(base, **service)


def set_up_log(config: ServiceConfig) -> None:
    """The package's log goes to standard error."""
    from netstack.control.notify import EventStream, JsonFormatter, set_log_level

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if config.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    log.addHandler(handler)
    if config.notify:
        log.addHandler(EventStream(config.notify))
    set_log_level(config.log_level)
    log.propagate = False


def run(config: ServiceConfig, verbose: bool) -> int:
    """Serves until it is told to stop, or the last of links that cannot come again has gone."""
    from netstack.control.notify import inherited_links, sd_notify
    from netstack.link.spec import parse_link

    places = [*config.listen, *map(str, inherited_links())]
    if not places:
        raise ConfigError(
            "nobody could come in: give --listen PLACE or --tap NAME, or listen = [...] in the file"
        )
    check_standard_output(config.network)
    if config.network.pcap == "-" and any(place.startswith("stdio:") for place in places):
        raise ConfigError("standard output is a guest's link already: give --pcap FILE instead of -")
    set_up_log(config)
    hold_signals()
    from netstack.gateway import Gateway

    once = all(parse_link(place).family in ("stdio", "tap") for place in places)
    gateway = Gateway(config.network)
    gateway.start()
    try:
        heard: list[str] = []
        with (
            port_9p(gateway, config.port_9p),
            api(gateway, config.api, heard),
            exposing(gateway, config),
        ):
            heard += gateway.listen_for_guests(*places)  # last: whoever hears of a guest can ask about it
            for place in heard:
                log.info("guests come in at %s", place)
            log.info("ready", extra={"event": "ready", "listen": heard})
            sd_notify(f"READY=1\nSTATUS=guests come in at {', '.join(heard)}")
            wait_for_end(*([gateway.wait_links_gone] if once else []))
            log.info("stopping", extra={"event": "stopping"})
            sd_notify("STOPPING=1")
        if verbose:
            print_summary(gateway)
    finally:
        gateway.stop()
    return 0


def port_9p(gateway: Gateway, path: str) -> AbstractContextManager[object]:
    """VPNKit's control of ports, where it is asked for."""
    if not path:
        return nullcontext()
    from netstack.control.port9p import Port9pServer

    return Port9pServer(gateway, path)


def api(gateway: Gateway, where: str, heard: list[str]) -> AbstractContextManager[object]:
    """The control API; with "auto" the network is served without it where it cannot be had."""
    from netstack.control.instances import InstanceError

    if where != "auto":
        return control_api(gateway, where, "serve", heard)
    try:
        return control_api(gateway, "on", "serve", heard)
    except InstanceError as err:
        log.warning("%s", err)
        return control_api(gateway, None, "serve")


def exposing(gateway: Gateway, config: ServiceConfig) -> AbstractContextManager[object]:
    """Publishes the exposed ports of the guests while the context lasts, where that is wanted."""
    if not config.publish_all:
        return nullcontext()
    from netstack.publish_all import ExposedPorts, PublishAll, parse_exposed

    exposed = [parse_exposed(text) for text in config.expose]
    return PublishAll(gateway, ExposedPorts(gateway.guest_addresses, exposed), log.info)


def command() -> click.Command:
    """``serve`` as click sees it."""

    @click.command(
        "serve",
        epilog="""\b
Examples:
  netstack serve --listen qemu:/tmp/q.sock
      qemu-system-x86_64 ... -device virtio-net,netdev=n \\
          -netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/q.sock
  netstack serve --listen hyperkit:/tmp/eth.sock --guest 02:00:00:00:00:07=192.168.65.7,web
  netstack serve --config netstack.toml""",
    )
    @service_options
    @click.pass_context
    def serve(ctx: click.Context, /, verbose: bool, **given: Any) -> int:
        """Run one virtual network for any number of guests.

        Virtual machines, and namespaces behind netstack relay, connect to the places given; they get addresses
        by DHCP, reach what this host reaches, and reach each other. Ends with SIGTERM or SIGINT.
        """
        return run(effective(ctx, given), verbose)

    return serve


def config_command() -> click.Command:
    """``config`` as click sees it."""

    @click.command("config")
    @service_options
    @click.pass_context
    def config(ctx: click.Context, /, verbose: bool, **given: Any) -> int:
        """Print the settings that serve would have with the same options, as TOML with every key."""
        click.echo(to_toml(effective(ctx, given)), nl=False)
        return 0

    return config
