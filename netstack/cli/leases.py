"""``netstack leases``: the addresses that a running instance has given out."""

from __future__ import annotations

import time
from typing import Any

import click

from netstack.cli.instance import as_json, instance_options, table

__all__ = ["command", "lease_table"]


def lease_table(leases: list[dict[str, Any]]) -> None:
    """Prints leases."""
    now = time.time()
    ids = any(lease["client_id"] for lease in leases)
    table(
        ("ADDRESS", "MAC", "NAME", "STATE", ">EXPIRES", *(("CLIENT ID",) if ids else ())),
        (
            (
                lease["address"],
                lease["mac"],
                lease["name"],
                lease["state"],
                "never" if lease["expires"] is None else f"{max(0, lease['expires'] - now):.0f}s",
                *((lease["client_id"],) if ids else ()),
            )
            for lease in leases
        ),
    )


@click.group("leases", invoke_without_command=True)
@instance_options
@click.pass_context
def leases(ctx: click.Context, instance: str | None, in_json: bool) -> int:
    """List the addresses that an instance has given out; reserve and release them."""
    if ctx.invoked_subcommand is not None:
        if instance is not None or in_json:
            raise click.UsageError(f"give --instance and --json behind {ctx.invoked_subcommand}")
        return 0
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/leases")
    if in_json:
        as_json(answer)
    else:
        lease_table(answer["leases"])
    return 0


@leases.command(
    "reserve",
    epilog="""\b
Examples:
  netstack leases reserve 02:00:00:00:00:07 192.168.65.7 web
  netstack leases reserve id:ff:56:50:4d:98:00:02 192.168.65.8 db""",
)
@click.argument("who")
@click.argument("address", required=False)
@click.argument("name", required=False, default="")
@instance_options
def reserve(who: str, address: str | None, name: str, instance: str | None, in_json: bool) -> int:
    """Tie an address to a client for good: ADDRESS, or the one it has, or a free one. NAME becomes resolvable.

    WHO is a MAC, id:CLIENT-ID or MAC,id:CLIENT-ID.
    """
    from netstack.control.client import choose

    answer = choose(instance).ask("POST", "/v1/leases", {**_client(who), "address": address, "name": name})
    if in_json:
        as_json(answer)
    else:
        lease_table([answer])
    return 0


def _client(who: str) -> dict[str, str]:
    if who.startswith("id:"):
        return {"client_id": who.removeprefix("id:")}
    mac, _, client_id = who.partition(",id:")
    return {"mac": mac, "client_id": client_id}


@leases.command("release")
@click.argument("address")
@instance_options
def release(address: str, instance: str | None, in_json: bool) -> int:
    """Free an address, leased or reserved. Its guest learns of it when it renews."""
    from urllib.parse import quote

    from netstack.control.client import choose

    choose(instance).ask("DELETE", f"/v1/leases/{quote(address, safe='')}")
    if in_json:
        as_json({"address": address})
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return leases
