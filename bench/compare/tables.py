"""The tables of a run, as text: what the terminal and the page show."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from ..figures import Spread, ratio
from ..systems import SYSTEMS
from . import bulk
from .bars import LIMIT, OURS, verdicts
from .run import Run


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    joins: bool = False  #: whether it may become a column of the one before


@dataclass(frozen=True)
class Grid:
    """How a table is made of one figure: a row for each system, a column for each case."""

    work: str
    figure: str
    title: str
    cases: tuple[tuple[str, str], ...]  #: (case, heading)
    unit: float = 1.0  #: what the table counts in
    less: bool = False  #: whether less is better
    note: str = ""
    alone: bool = False  #: there is but one case: several such figures make one table

    def table(self, run: Run) -> Table | None:
        """None where nothing of it was measured."""
        cases = [(case, head) for case, head in self.cases if case in run.cases(self.work)]
        rows = []
        for system in run.systems():
            cells = [self.cell(run, case, system) for case, _ in cases]
            if any(cells):
                rows.append((label(system), *(cell or "–" for cell in cells)))
        if not rows:
            return None
        for title, rivals in ((f"{OURS} / {LIMIT}", (LIMIT,)), (f"{OURS} / best peer", ())):
            ratios = [self.ratio(run, case, rivals) for case, _ in cases]
            if any(ratios):
                rows.append((title, *(found or "–" for found in ratios)))
        return Table(self.title, ("", *(head for _, head in cases)), tuple(rows), self.note, self.alone)

    def cell(self, run: Run, case: str, system: str) -> str:
        spread = run.spread(self.work, case, system, self.figure)
        if spread is not None:
            return shown(spread, self.unit)
        return "failed" if system in run.failed.get(self.work, {}).get(case, {}) else ""

    def ratio(self, run: Run, case: str, rivals: tuple[str, ...]) -> str:
        best = run.best(self.work, case, self.figure, self.less, rivals)
        found = ratio(run.median(self.work, case, OURS, self.figure), best[1] if best else None)
        return "" if found is None else f"{found:.2f}"


def label(system: str) -> str:
    return SYSTEMS[system].label or system


def digits(value: float) -> str:
    """Three of them, with thousands apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) < 10 else 1}f}" if abs(value) >= 0.1 else f"{value:.3f}"


def shown(spread: Spread, unit: float = 1.0) -> str:
    """The median, and the least and most of several values behind it."""
    middle, least, most = (digits(v / unit) for v in (spread.median, spread.least, spread.most))
    return middle if spread.count == 1 else f"{middle} ({least}–{most})"


def _plain(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


def _streams(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"


def bulk_grids(run: Run) -> list[Grid]:
    """One for each MTU and each long path, of what was measured."""
    places: dict[tuple[int, int], list[tuple[str, int, str]]] = {}
    for case in run.cases("bulk"):
        words = case.split()
        mtu, rtt, streams = (int(word.partition("=")[2]) for word in words[:3])
        places.setdefault((mtu, rtt), []).append((words[3], streams, case))
    grids = []
    for (mtu, rtt), found in sorted(places.items(), key=lambda item: (item[0][1], item[0][0])):
        where = f"MTU {mtu:,}" + (f", {rtt} ms behind the host" if rtt else "")
        cases = tuple((case, f"{way}, {_streams(n)}") for way, n, case in found)
        grids.append(Grid("bulk", "gbit_s", f"Bulk TCP, {where}: Gbit/s", cases))
        several = tuple((case, f"{way}, {_streams(n)}") for way, n, case in found if n > 1)
        if several and not rtt:
            grids.append(Grid("bulk", "jain", f"Bulk TCP, {where}: fairness (Jain's index)", several))
    one = tuple(
        (bulk.case(mtu, way), f"MTU {mtu:,}, {way}")
        for mtu, rtt in sorted(places)
        if not rtt
        for way in ("up", "down")
    )
    note = "Of the system's own processes, for 1e9 bytes of one stream."
    grids.append(Grid("bulk", "cpu_s_per_gb", "Bulk TCP: CPU seconds per GB", one, less=True, note=note))
    return grids


def grids(run: Run) -> list[Grid]:
    """All tables there may be."""
    rate = Grid(
        "latency",
        "rate",
        "TCP request and response: round trips per second",
        _plain(("64 bytes",)),
        alone=True,
    )
    made = [*bulk_grids(run), rate]
    made += [
        Grid(
            "latency",
            figure,
            f"TCP request and response: {figure} in µs",
            _plain(("64 bytes",)),
            less=True,
            alone=True,
        )
        for figure in ("p50", "p99", "p99.9")
    ]
    at_once = tuple(run.cases("connect"))
    made += [
        Grid("connect", "rate", "Connect, request, response, close: connections per second", _plain(at_once)),
        Grid("connect", "p99", "Connect, request, response, close: p99 in µs", _plain(at_once), less=True),
        Grid(
            "udp",
            "rate",
            "Datagrams that arrived per second, in thousands",
            tuple((case, f"{case.replace(' ', ' bytes ', 1)}") for case in run.cases("udp")),
            1000,
        ),
        Grid(
            "udp",
            "cpu_us",
            "Datagrams: CPU µs for each that arrived",
            tuple((case, f"{case.replace(' ', ' bytes ', 1)}") for case in run.cases("udp")),
            less=True,
        ),
        Grid(
            "dns",
            "rate",
            "DNS queries per second",
            (("again", "1,000 names"), ("new", "new names")),
            note="New names all go to the host's name server, a dnsmasq.",
        ),
        Grid(
            "ports",
            "rate",
            "Published port: HTTP requests per second",
            (("10 kept", "10 connections"), ("50 kept", "50 connections"), ("one each", "one each")),
        ),
        Grid(
            "ports",
            "cpu_us",
            "Published port: CPU µs for each request",
            (("10 kept", "10 connections"), ("50 kept", "50 connections"), ("one each", "one each")),
            less=True,
        ),
    ]
    counts = tuple((case, f"{int(case):,}") for case in run.cases("connections"))
    made += [
        Grid(
            "connections",
            "process_bytes",
            "Idle connections: bytes of the process for each",
            counts,
            less=True,
        ),
        Grid(
            "connections",
            "kernel_bytes",
            "Idle connections: bytes of the kernel for each",
            counts,
            less=True,
            note="With the sockets of both ends, which veth has as well.",
        ),
        Grid("connections", "rate", "Idle connections: set up per second", counts),
        Grid(
            "idle",
            "wakeups",
            "No traffic: wake-ups per second",
            _plain(("no traffic",)),
            less=True,
            alone=True,
        ),
        Grid(
            "idle",
            "rss_mb",
            "No traffic: resident memory in MB",
            _plain(("no traffic",)),
            less=True,
            alone=True,
        ),
        Grid(
            "start",
            "ms",
            "A command in a network of its own: ms until it has ended",
            _plain(("true",)),
            less=True,
        ),
    ]
    return made


def merged(found: list[Table]) -> list[Table]:
    """Figures of the only case of a kind of work become columns of one table, where their rows are the same."""
    out: list[Table] = []
    for table in found:
        if not table.joins:
            out.append(table)
            continue
        kind, _, what = table.title.partition(": ")
        last = out[-1] if out else None
        if (
            last is not None
            and last.title == kind
            and [r[0] for r in last.rows] == [r[0] for r in table.rows]
        ):
            rows = tuple((*old, new[1]) for old, new in zip(last.rows, table.rows, strict=True))
            note = " ".join(dict.fromkeys(filter(None, (last.note, table.note))))
            out[-1] = Table(kind, (*last.columns, what), rows, note)
        else:
            out.append(Table(kind, ("", what), table.rows, table.note))
    return out


def tables(run: Run) -> list[Table]:
    """All tables of which something was measured."""
    return merged([table for grid in grids(run) if (table := grid.table(run)) is not None])


def bars_table(run: Run) -> Table:
    """What is asked, and what was found."""
    rows = tuple((v.work, v.asked, v.found or "–", v.mark) for v in verdicts(run))
    return Table("Bars", ("work", "asked", "measured", ""), rows)


def facts(run: Run) -> list[tuple[str, str]]:
    """Of the run: the machine, versions, and what was missing."""
    machine = dict(run.machine)
    count = machine.pop("processors", "?")
    virtual = " (virtual)" if machine.pop("virtual", "no") == "yes" else ""
    name = machine.pop("processor", "?")
    memory = machine.pop("memory", "?")
    kernel = machine.pop("kernel", "?")
    lines = [
        ("date", run.date),
        ("commit", run.commit),
        ("machine", f"{count} × {name}{virtual}, {memory}"),
        ("kernel", kernel),
        *machine.items(),
        ("versions", ", ".join(f"{label(k) if k in SYSTEMS else k} {v}" for k, v in run.versions.items())),
        ("repetitions", f"{run.repeat} or more, up to {run.seconds:g} s each; median (least–most)"),
    ]
    taken = [share for shares in run.others.values() for share in shares]
    if taken:
        lines.append(
            ("taken by others", f"{statistics.median(taken):.0%} of the machine (up to {max(taken):.0%})")
        )
    if run.missing:
        lines.append(("missing", "; ".join(f"{label(k)}: {v}" for k, v in run.missing.items())))
    return lines


def failures(run: Run) -> list[str]:
    """Each measurement that failed, with the reason."""
    return [
        f"{work}, {case}: {label(system)}: {why}"
        for work, cases in run.failed.items()
        for case, systems in cases.items()
        for system, why in systems.items()
    ]
