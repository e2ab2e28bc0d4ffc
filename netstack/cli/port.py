"""``netstack port``: published ports of a running instance."""

from __future__ import annotations

from typing import Any

import click

from netstack.cli.instance import as_json, instance_options, table

__all__ = ["command"]


def _show(ports: list[dict[str, Any]]) -> None:
    table(
        (">ID", "SPEC", "PROTOCOL", "HOST", "GUEST"),
        (
            (p["id"], p["spec"], p["protocol"], " ".join(p["addresses"]), f"{p['guest']}:{p['guest_port']}")
            for p in ports
        ),
    )


@click.group("port")
def port() -> None:
    """Publish ports of a running instance, and release them."""


@port.command("add", epilog="Example: netstack port add 127.0.0.1:8080:80")
@click.argument("spec")
@instance_options
def add(spec: str, instance: str | None, in_json: bool) -> int:
    """Lead a port of this host inside: SPEC is [ADDRESS:][PORT:][GUEST:]INSIDE[/udp]."""
    from netstack.control.client import choose

    answer = choose(instance).ask("POST", "/v1/ports", {"spec": spec})
    if in_json:
        as_json(answer)
    else:
        _show([answer])
    return 0


@port.command("rm")
@click.argument("which", metavar="ID|SPEC")
@instance_options
def rm(which: str, instance: str | None, in_json: bool) -> int:
    """Release a port, by its number in the list or by what it was published as.

    Connections that are open go on.
    """
    from netstack.control.client import choose
    from netstack.control.instances import InstanceError

    client = choose(instance)
    ports = client.ask("GET", "/v1/ports")["ports"]
    # A bare number is an ID: as a SPEC it would be a port of the guest, which need not be the only one.
    key = "id" if which.isdecimal() else "spec"
    found = [p for p in ports if str(p[key]) == which]
    if not found:
        raise InstanceError(f"no port is published as {which}: see netstack port list")
    client.ask("DELETE", f"/v1/ports/{found[0]['id']}")
    if in_json:
        as_json(found[0])
    return 0


@port.command("list")
@instance_options
def list_ports(instance: str | None, in_json: bool) -> int:
    """List the published ports."""
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/ports")
    if in_json:
        as_json(answer)
    else:
        _show(answer["ports"])
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return port
