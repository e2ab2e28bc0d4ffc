"""``netstack dns``: the names that a running instance answers itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import click

from netstack.cli.instance import as_json, instance_options, table
from netstack.services.added_names import KINDS

__all__ = ["command"]


def _show(names: list[dict[str, Any]]) -> None:
    table(
        ("NAME", "TYPE", "VALUE", "ADDED"),
        ((n["name"], n["type"], n["value"], "yes" if n["added"] else "") for n in names),
    )


@click.group("dns")
def dns() -> None:
    """Add DNS records to a running instance, and remove them.

    A name that is added stands in place of what the instance would answer for it otherwise.
    """


@dns.command(
    "add",
    epilog="""\b
Examples:
  netstack dns add web.internal A 192.168.65.7
  netstack dns add '*.dev.internal' CNAME web.internal
  netstack dns add internal MX '10 mail.internal'
  netstack dns add _http._tcp.internal SRV '0 5 80 web.internal'""",
)
@click.argument("name")
@click.argument("kind", metavar="|".join(KINDS), type=click.Choice(KINDS, case_sensitive=False))
@click.argument("value")
@instance_options
def add(name: str, kind: str, value: str, instance: str | None, in_json: bool) -> int:
    """Add a record, of a type and with a value as in zone files."""
    from netstack.control.client import choose

    body = {"name": name, "type": kind.upper(), "value": value}
    answer = choose(instance).ask("POST", "/v1/names", body)
    if in_json:
        as_json(answer)
    return 0


@dns.command("rm")
@click.argument("name")
@click.argument("kind", metavar="[TYPE]", required=False, type=click.Choice(KINDS, case_sensitive=False))
@click.argument("value", metavar="[VALUE]", required=False)
@instance_options
def rm(name: str, kind: str | None, value: str | None, instance: str | None, in_json: bool) -> int:
    """Remove the records that were added by this NAME, or only those of a TYPE, or the one with a VALUE."""
    from netstack.control.client import choose

    wanted = {key: text for key, text in (("type", kind), ("value", value)) if text is not None}
    choose(instance).ask("DELETE", f"/v1/names/{quote(name, safe='')}?{urlencode(wanted)}")
    if in_json:
        as_json({"name": name} | wanted)
    return 0


@dns.command("list")
@instance_options
def list_names(instance: str | None, in_json: bool) -> int:
    """List the records that the instance answers itself."""
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/names")
    if in_json:
        as_json(answer)
    else:
        _show(answer["names"])
        if answer["zones"]:
            click.echo(f"\nZones: {' '.join(answer['zones'])}")
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return dns
