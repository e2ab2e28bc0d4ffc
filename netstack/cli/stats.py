"""``netstack stats``: the counters of a running instance."""

from __future__ import annotations

import click

from netstack.cli.instance import as_json, instance_options, table

__all__ = ["command"]


@click.command("stats")
@click.option("--all", "everything", is_flag=True, help="Also those that are zero (JSON always has them).")
@instance_options
def stats(instance: str | None, in_json: bool, everything: bool) -> int:
    """Print the counters of an instance."""
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/stats")
    if in_json:
        as_json(answer)
    else:
        table(
            ("COUNTER", ">VALUE"),
            ((name, f"{value:,}") for name, value in sorted(answer.items()) if value or everything),
        )
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return stats
