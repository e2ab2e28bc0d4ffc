"""``netstack list``: the instances that run."""

from __future__ import annotations

import contextlib

import click

from netstack.cli.instance import as_json, json_option, table

__all__ = ["command"]


@click.command("list")
@json_option
def list_instances(in_json: bool) -> int:
    """List this user's running instances that serve the control API."""
    from netstack.control.client import Client
    from netstack.control.instances import InstanceError, running

    found = []
    for path in running().values():
        with contextlib.suppress(InstanceError):  # it has ended in between
            found.append(Client(path).ask("GET", "/v1/info"))
    if in_json:
        as_json(found)
    else:
        table(
            ("NAME", "COMMAND", ">PID", "NETWORK", ">UPTIME", "LISTENS"),
            (
                (
                    i["name"],
                    i["command"],
                    i["pid"],
                    i["network"],
                    f"{i['uptime']:.0f}s",
                    " ".join(i["listen"]),
                )
                for i in found
            ),
        )
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return list_instances
