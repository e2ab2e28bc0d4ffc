"""``netstack log-level``: how much a running instance logs."""

from __future__ import annotations

import click

from netstack.cli.instance import as_json, instance_options

__all__ = ["command"]

LEVELS = ("debug", "info", "warning", "error")


@click.command("log-level")
@click.argument("level", required=False, type=click.Choice(LEVELS))
@instance_options
def log_level(level: str | None, instance: str | None, in_json: bool) -> int:
    """Log from LEVEL on; without one, print the least that is logged."""
    from netstack.control.client import choose

    client = choose(instance)
    if level is None:
        answer = client.ask("GET", "/v1/log-level")
    else:
        answer = client.ask("PUT", "/v1/log-level", {"level": level})
    if in_json:
        as_json(answer)
    elif level is None:
        click.echo(answer["level"])
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return log_level
