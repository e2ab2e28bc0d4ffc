"""docs/performance.md, made from a stored run: ``python -m bench page`` writes it, and a test compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .bars import verdicts
from .notes import NOTES
from .plots import NAMES, available, write
from .run import ROOT, Run, stored
from .tables import Table, bars_table, facts, failures, tables

PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "performance"
TITLES = {
    "throughput": "Throughput by MTU",
    "latency": "Share of round trips that take longer than so many µs",
    "connections": "Cost of idle connections",
}
HEAD = """# Performance

<!-- Made by `python -m bench page` from bench/results/{name}: change that, not this page. -->

What netstack reaches beside its yardstick, its peers and the kernel, on one machine, the systems taking turns.
[How the speed is got](how-fast.md) tells what bounds each. Make the same on your machine:

| command | what it does |
|---|---|
| `./dev bench` | all of it, about an hour |
| `./dev bench --quick` | few cases, once, under three minutes |
| `./dev bench --only udp --system netstack` | one kind of work, one system |
| `./dev bench --against bench/results/{name}` | and what has changed since this page |

Each guest is a namespace with the kernel's TCP, each server listens on the host's loopback. `limit` is a program that
forwards TCP between TAP and sockets with everything else left out (`bench/limit.c`): what system calls and the kernel's
two TCPs allow in one thread. `veth` is a cable of the kernel: no user space takes part. QEMU's user network is joined
to the same guest by a TAP. Numbers of one run compare with each other; numbers of two machines do not.
"""


def markdown(table: Table, heading: str = "###") -> str:
    """A table under a heading of its own."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    lines = [f"{heading} {table.title}", "", line(table.columns), rule, *map(line, table.rows)]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines)


def page(run: Run, name: str) -> str:
    """The page of a run that is stored under a name."""
    parts = [HEAD.format(name=name), "## This run", ""]
    parts += [f"- {key}: {value}" for key, value in facts(run)]
    bars = bars_table(run)
    rule = "|---|---|---|---|"
    parts += ["", "## Bars", "", "| work | asked | measured | |", rule]
    parts += [
        "| " + " | ".join((*row[:3], f"**{row[3]}**" if row[3] == "MISSED" else row[3])) + " |"
        for row in bars.rows
    ]
    missed = [v for v in verdicts(run) if v.met is False]
    if missed:
        parts += ["", "### What is missed, and what bounds it", ""]
        parts += [f"- {v.work}: {v.found}, asked {v.asked}. {NOTES.get(v.name, '')}".rstrip() for v in missed]
    parts += ["", "## Pictures", ""]
    parts += [f"![{TITLES[picture]}](performance/{picture}.svg)\n" for picture in NAMES]
    parts += ["## Tables", "", "Medians, with least and most of the repetitions behind them.", ""]
    parts += [markdown(table) + "\n" for table in tables(run)]
    if failed := failures(run):
        parts += ["### What failed", "", *(f"- {line}" for line in failed)]
    return "\n".join(parts).rstrip() + "\n"


def main(argv: list[str]) -> int:
    """Writes the page, and the pictures where matplotlib is installed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench page", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("run", nargs="?", type=Path, help="default: the newest in bench/results")
    options = parser.parse_args(argv)
    path = options.run or stored()
    try:
        run = Run.load(path)
    except ValueError as err:
        print(f"bench: {err}", file=sys.stderr)
        return 2
    PAGE.write_text(page(run, path.name))
    print(f"wrote {PAGE}")
    if reason := available():
        print(f"bench: no pictures: {reason}", file=sys.stderr)
        return 1
    for made in write(run, PICTURES):
        print(f"wrote {made}")
    return 0
