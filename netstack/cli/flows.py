"""``netstack flows``: what a running instance translates at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from netstack.cli.instance import as_json, flow_rows, instance_options, table
from netstack.cli.live import tick_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from netstack.cli.rates import Look

__all__ = ["command"]


def draw(look: Look, width: int, height: int) -> RenderableType:
    """The flows that fit, those that carry most first."""
    from netstack.cli.top import flows_table

    return flows_table(look, width, height - 1)


@click.command("flows")
@click.option("--watch", "live", is_flag=True, help="Stay, with the rates of each; leave with q or Ctrl-C.")
@tick_options
@instance_options
@click.pass_context
def flows(
    ctx: click.Context, live: bool, interval: float, count: int | None, instance: str | None, in_json: bool
) -> int:
    """List the flows of an instance. Up is what the guest sends.

    With --watch, JSON is one object a tick, with rates in bytes a second.
    """
    from netstack.control.client import choose

    if not live and {ctx.get_parameter_source(name) for name in ("interval", "count")} != {
        ParameterSource.DEFAULT
    }:
        raise click.UsageError("--interval and --count go with --watch", ctx)
    client = choose(instance)
    if live:
        from netstack.cli.live import watch
        from netstack.cli.rates import Sampler

        return watch(
            Sampler(client),
            draw,
            interval=interval,
            count=count,
            in_json=in_json,
            command="netstack flows --watch",
        )
    answer = client.ask("GET", "/v1/flows")
    if in_json:
        as_json(answer)
        return 0
    table(*flow_rows(answer["flows"]))
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return flows
