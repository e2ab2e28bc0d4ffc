"""What the commands that ask a running instance share: its choice, and how answers are printed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["amount", "as_json", "instance_option", "instance_options", "table"]

WIDE = 1000  # columns, where it is not a terminal that reads


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
        # Names come from guests: neither rich's markup nor a terminal's escapes may act.
        cells = ("".join(c if c.isprintable() else "?" for c in str(cell)) for cell in row)
        out.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(out)
