"""A run on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from .bars import OURS
from .run import Run
from .tables import Table, bars_table, facts, failures, tables

MARKS = {"met": "green", "MISSED": "bold red"}


def rich_table(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold", caption=table.note or None,
                      caption_justify="left")  # fmt: skip
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in table.rows:
        style = "bold" if row[0] == OURS else "cyan" if row[0].startswith(f"{OURS} /") else ""
        shown.add_row(*row, style=style)
    return shown


def print_bars(console: Console, run: Run) -> None:
    table = bars_table(run)
    shown = RichTable(title=table.title, title_justify="left", title_style="bold")
    for column in table.columns:
        shown.add_column(column)
    judged = [row for row in table.rows if row[-1] in MARKS]
    for *cells, mark in judged:
        shown.add_row(*cells, f"[{MARKS[mark]}]{mark}[/]")
    if judged:
        console.print(shown)
    if unknown := len(table.rows) - len(judged):
        console.print(f"{unknown} of {len(table.rows)} bars were not measured", style="dim", highlight=False)


def print_run(console: Console, run: Run) -> None:
    """All of it: tables, facts, failures, bars."""
    for table in tables(run):
        console.print(rich_table(table))
        console.print()
    for name, value in facts(run):
        console.print(f"{name}: {value}", style="dim", highlight=False, markup=False)
    for line in failures(run):
        console.print(f"failed: {line}", style="red", highlight=False, markup=False)
    console.print()
    print_bars(console, run)
