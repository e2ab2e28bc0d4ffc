"""``netstack top``: a running instance, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netstack.cli.instance import amount, clean, flow_rows, instance_options
from netstack.cli.live import tick_options, watch
from netstack.cli.rates import Sampler, bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType
    from rich.table import Table

    from netstack.cli.rates import Look

__all__ = ["command", "drawer"]

MOST_GUESTS = 8  # rows
MOST_COUNTERS = 10  # rows
TITLE_ROWS = 2
#: From so many columns on, these headings stand at that place as well.
WIDER = (
    (100, 5, [">UP", ">DOWN"]),
    (110, 7, [">RTT"]),
    (140, 8, [">AGE", ">RETRANSMITS"]),
    (140, 1, ["STATE"]),
)


def drawer(info: dict[str, Any]) -> Callable[[Look, int, int], RenderableType]:
    """Draws a look at the instance that ``info`` is about."""

    def draw(look: Look, width: int, height: int) -> RenderableType:
        from rich.console import Group

        left = height - TITLE_ROWS
        guests = min(len(look.guests), MOST_GUESTS, max(1, left // 4))
        dns = [name for name in sorted(look.counters) if name.startswith("dns_") and look.counters[name]]
        other = [name for name in look.recent if not name.startswith("dns_")]
        counters = min(max(len(dns), len(other)), MOST_COUNTERS, max(0, left // 3))
        # A table is its heading and rows; between tables there is an empty line.
        flows = max(0, left - (guests + 2) - (counters + 2) - 1)
        return Group(
            title(info, look),
            guests_table(look, guests),
            "",
            flows_table(look, width, flows),
            *([""] * max(0, flows - len(look.flows))),
            "",
            counters_table(look, dns, other, counters),
        )

    return draw


def title(info: dict[str, Any], look: Look) -> RenderableType:
    """Who it is, and how much goes through in all."""
    from rich.text import Text

    hours, seconds = divmod(int(info["uptime"] + look.time - info["asked"]), 3600)
    up = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
    flows = f"{len(look.flows)} flow{'s' * (len(look.flows) != 1)}"
    what = f"netstack {info['command']} {info['name']}  {info['network']}  up {up}  {flows}  q: leave"
    rates = f"up {bits(look.up) or 0:>13}   down {bits(look.down) or 0:>13}"
    return Text(f"{clean(what)}\n{rates}", style="bold", overflow="crop", no_wrap=True)


def grid(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Rows of one line each under headings; > in front of a heading puts its column to the right."""
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, header_style="reverse", expand=True)
    for column in columns:
        out.add_column(
            column.lstrip(">"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        out.add_row(*(Text(clean(cell)) for cell in row))
    return out


def guests_table(look: Look, rows: int) -> Table:
    """The guests that carry most."""
    return grid(
        ("GUEST", "NAME", ">FLOWS", ">UP", ">DOWN"),
        ((g.address, g.name, g.flows, bits(g.up), bits(g.down)) for g in look.guests[:rows]),
    )


def flows_table(look: Look, width: int, rows: int) -> Table:
    """The flows that carry most, with as much about each as there is room for."""
    columns = ["PROTOCOL", "GUEST", "PEER", ">UP RATE", ">DOWN RATE"]
    for least, at, more in WIDER:
        if width >= least:
            columns[at:at] = more
    return grid(*flow_rows(look.flows[:rows], columns))


def counters_table(look: Look, dns: list[str], other: list[str], rows: int) -> Table:
    """On the left what DNS has done, on the right the other counters that have moved lately."""

    def cells(names: list[str], row: int) -> tuple[str, str, str]:
        if row >= len(names):
            return "", "", ""
        name = names[row]
        moved = look.moved.get(name, 0) / look.interval if look.interval else 0
        return name, f"{amount(moved)}/s" if moved else "", amount(look.counters[name])

    return grid(
        ("DNS", ">RATE", ">TOTAL", "COUNTERS THAT MOVE", ">RATE", ">TOTAL"),
        ((*cells(dns, row), *cells(other, row)) for row in range(rows)),
    )


@click.command(
    "top",
    epilog="""\b
Examples:
  netstack top
  netstack top --json -n 1       one look, for a program""",
)
@tick_options
@instance_options
def top(interval: float, count: int | None, instance: str | None, in_json: bool) -> int:
    """Watch an instance live.

    Shows the throughput of all and of each guest, the busiest flows, DNS, and counters that move. Up is what
    guests send. Leave with q or Ctrl-C. JSON is one object a tick, with rates in bytes a second and the counters
    that went up, by how much.
    """
    import time

    from netstack.control.client import choose

    client = choose(instance)
    info = client.ask("GET", "/v1/info") | {"asked": time.time()}
    return watch(
        Sampler(client),
        drawer(info),
        interval=interval,
        count=count,
        in_json=in_json,
        command="netstack top",
    )


def command() -> click.Command:
    """The command as click sees it."""
    return top
