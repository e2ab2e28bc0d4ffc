"""What the commands that ask a running instance share: its choice, and how answers are printed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from netstack.cli.rates import bits

__all__ = [
    "Seconds",
    "amount",
    "as_json",
    "clean",
    "flow_rows",
    "instance_option",
    "instance_options",
    "table",
]

WIDE = 1000  # columns, where it is not a terminal that reads


class Seconds(click.FloatRange):
    """A time in a range. click's own takes "nan" as well, which is in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number of the text."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a time in seconds", param, ctx)
        return seconds


def instance_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--instance`` and ``--json``."""
    return json_option(instance_option(function))


def instance_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--instance`` alone."""
    return click.option(
        "--instance", metavar="NAME|PATH", help="Which one is asked, where several run (see netstack list)."
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json`` alone."""
    return click.option("--json", "in_json", is_flag=True, help="Print the answer as JSON.")(function)


def as_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def amount(count: float) -> str:
    """Bytes in a few characters."""
    for unit in ("", "k", "M", "G"):
        if count < 1000:
            return f"{count:.1f}{unit}" if unit and count < 10 else f"{count:.0f}{unit}"
        count /= 1000
    return f"{count:.1f}T"


def clean(cell: object) -> str:
    """A cell's text. Names come from guests: neither rich's markup nor a terminal's escapes may act."""
    return "".join(c if c.isprintable() else "?" for c in str(cell))


#: Columns of a table of flows: heading, and what stands below it.
FLOW: dict[str, Callable[[dict[str, Any]], object]] = {
    "PROTOCOL": lambda f: f["protocol"],
    "STATE": lambda f: f["state"],
    "GUEST": lambda f: f"{f['guest']}:{f['guest_port']}",
    "PEER": lambda f: f"{f['peer']}:{f['peer_port']}",
    ">UP RATE": lambda f: bits(f["up_rate"]),
    ">DOWN RATE": lambda f: bits(f["down_rate"]),
    ">UP": lambda f: amount(f["bytes_up"]),
    ">DOWN": lambda f: amount(f["bytes_down"]),
    ">AGE": lambda f: f"{f['age']:.1f}s",
    ">RTT": lambda f: f"{f['rtt'] * 1e3:.2f}ms" if f["rtt"] else "",
    ">RETRANSMITS": lambda f: f["retransmits"],
}
RATED = (">UP RATE", ">DOWN RATE")  # what only a flow that was seen twice has


def flow_rows(
    flows: Iterable[dict[str, Any]], columns: Iterable[str] | None = None
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Headings and rows of a table of flows; all columns but the rates where none are named."""
    heads = [head for head in FLOW if head not in RATED] if columns is None else list(columns)
    return heads, [tuple(FLOW[head](flow) for head in heads) for flow in flows]


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints rows under headings; a column whose heading begins with > is aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        out.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(Text(clean(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(out)
