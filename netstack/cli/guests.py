"""``netstack guests``: who is on the network of a running instance."""

from __future__ import annotations

import click

from netstack.cli.instance import as_json, instance_options, table
from netstack.cli.leases import lease_table

__all__ = ["command"]


@click.command("guests")
@instance_options
def guests(instance: str | None, in_json: bool) -> int:
    """List the addresses that an instance has given out, and its links."""
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/guests")
    if in_json:
        as_json(answer)
        return 0
    lease_table(answer["guests"])
    click.echo()
    table((">PORT", "LINK"), ((x["port"], x["link"]) for x in answer["links"]))
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return guests
