"""``python -m bench compare``: what is measured, in which order, and what becomes of it."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from netstack.errors import SandboxError
from netstack.testing.namespace import unavailable

from ..programs import raise_descriptor_limit
from ..systems import SYSTEMS
from . import against, bulk, connect, connections, dns, idle, latency, plots, ports, start, terminal, udp
from .bars import verdicts
from .others import NOTABLE, Others
from .page import page
from .run import Run, started
from .work import Group, Options, Turn, Values, Work

WIDTH = 120  #: of what goes to a file
WORKS: dict[str, Work] = {
    module.WORK.name: module.WORK
    for module in (bulk, latency, connect, udp, dns, ports, connections, idle, start)
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="Measures netstack beside its yardstick, its peers and the kernel, systems taking turns.",
        epilog=f"Work: {', '.join(f'{w.name} ({w.title})' for w in WORKS.values())}.",
    )
    parser.add_argument(
        "--only", action="append", choices=list(WORKS), metavar="WORK", help="can be repeated"
    )
    parser.add_argument(
        "--system",
        action="append",
        choices=list(SYSTEMS),
        metavar="NAME",
        help=f"can be repeated; default: all that are here of {', '.join(SYSTEMS)}",
    )
    parser.add_argument("--quick", action="store_true", help="few cases, once, 0.5 s each: under 3 minutes")
    parser.add_argument("--repeat", type=int, help="turns of each system; medians count (default: 3)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default: 2)")
    parser.add_argument("--mtu", type=int, action="append", help="of bulk; default: 1500, 9000 and 65520")
    parser.add_argument("--rtt", type=int, action="append", help="of bulk, ms; default: 0, 20 and 100")
    parser.add_argument("--streams", type=int, action="append", help="of bulk; default: 1, 4 and 16")
    parser.add_argument(
        "--way", action="append", choices=["up", "down", "both"], help="of bulk; default: all"
    )
    parser.add_argument(
        "--connections", type=int, action="append", help="idle ones; default: 10000 and 50000"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    parser.add_argument(
        "--add", action="store_true", help="what FILE has already stays there, unless it was measured again"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write pictures there (matplotlib)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="tell what has changed since that run")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: tell of that run")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a bar is missed")
    return parser


def main(argv: list[str]) -> int:
    """Runs it; 1 when nothing could be measured or ``--check`` finds a bar missed, 2 for usage, 130 after Ctrl-C."""
    parser = arguments()
    options = parser.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    before = kept = None
    try:
        if options.against:
            before = Run.load(options.against)
        if options.add and not options.json:
            raise ValueError("--add needs --json FILE, to which it adds")
        if options.add and options.json.exists():
            kept = Run.load(options.json)
        for name in ("repeat", "seconds", "mtu", "rtt", "streams", "connections"):
            given = getattr(options, name)
            least = 0 if name == "rtt" else 1 if name != "seconds" else 0.1
            for value in given if isinstance(given, list) else [] if given is None else [given]:
                if value < least:
                    raise ValueError(f"--{name} {value:g} is too small: at least {least:g}")
        if options.plots and (reason := plots.available()):
            raise ValueError(reason)
        run = Run.load(options.show) if options.show else None
    except ValueError as err:
        parser.error(str(err))
    interrupted = False
    if run is None:
        if reason := unavailable():
            print(f"bench: {reason}", file=sys.stderr)
            return 1
        run = prepared(options)
        try:
            measure(run, options, console)
        except KeyboardInterrupt:
            interrupted = True
            console.print("interrupted: this is what has been measured so far", style="bold red")
        if not run.works:
            print("bench: nothing could be measured", file=sys.stderr)
            for line in terminal.failures(run):
                print(f"bench: {line}", file=sys.stderr)
            return 130 if interrupted else 1
        if kept is not None:
            kept.take(run)
            run = kept
        if options.json:
            run.save(options.json)
    told(run, before, options, console)
    if interrupted:
        return 130
    return 1 if options.check and any(v.met is False for v in verdicts(run)) else 0


def prepared(options: argparse.Namespace) -> Run:
    """An empty run, which knows what is missing."""
    wanted = options.system or list(SYSTEMS)
    missing = {name: reason for name in wanted if (reason := SYSTEMS[name].missing())}
    repeat = options.repeat or (1 if options.quick else 3)
    seconds = options.seconds or (0.5 if options.quick else 2.0)
    return started(repeat, seconds, missing)


def settings(options: argparse.Namespace, seconds: float) -> Options:
    """What the kinds of work are told."""
    default = Options()

    def given(name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
        values = getattr(options, name)
        return tuple(values) if values else otherwise

    return Options(
        seconds,
        options.quick,
        given("mtu", default.mtus),
        given("rtt", default.rtts),
        given("streams", default.streams),
        tuple(options.way or default.ways),
        given("connections", default.connections),
    )


def measure(run: Run, options: argparse.Namespace, console: Console) -> None:
    """All turns: repetitions outside, then groups of cases, then systems."""
    raise_descriptor_limit()
    chosen = settings(options, run.seconds)
    works = [WORKS[name] for name in options.only or WORKS]
    names = [name for name in options.system or SYSTEMS if name not in run.missing]
    for name, reason in run.missing.items():
        console.print(f"{name}: missing: {reason}", style="yellow", highlight=False)
    for work in list(works):
        absent = [program for program in work.needs if shutil.which(program) is None]
        if absent:
            console.print(f"{work.name}: left out: {', '.join(absent)} not installed", style="yellow")
            works.remove(work)
    begin = time.monotonic()
    for repetition in range(run.repeat):
        for work, group, name in turns(works, chosen, names):
            head = f"{time.monotonic() - begin:5.0f} s  {repetition + 1}/{run.repeat}  {name:<12}"
            take_turn(run, work, group, name, chosen, console, head)


def turns(works: list[Work], chosen: Options, names: list[str]) -> Iterator[tuple[Work, Group, str]]:
    """Which system does what, in order."""
    for work in works:
        for group in work.groups(chosen):
            for name in names:
                system = SYSTEMS[name]
                if work.name in system.works and group.systems(system):
                    yield work, group, name


def take_turn(
    run: Run, work: Work, group: Group, name: str, chosen: Options, console: Console, head: str
) -> None:
    """One turn; what goes wrong with the system is told, and the run goes on."""

    def found(case: str, values: Values) -> None:
        run.found(work.name, case, name, values)
        figures = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, (int, float)))
        console.print(f"{head} {work.name}, {case}: {figures}", highlight=False, markup=False, soft_wrap=True)

    def failed(case: str, why: str) -> None:
        run.did_not(work.name, case, name, why)
        console.print(
            f"{head} {work.name}, {case}: {why}", style="red", highlight=False, markup=False, soft_wrap=True
        )

    others = Others()
    try:
        group.run(Turn(SYSTEMS[name], chosen, found, failed))
    except SandboxError as err:  # it did not even start
        for case in group.cases:
            failed(case, str(err).splitlines()[0])
    share = others.share()
    run.disturbed(work.name, share)
    if share >= NOTABLE:
        console.print(
            f"{head} others took {share:.0%} of the machine meanwhile", style="yellow", highlight=False
        )


def told(run: Run, before: Run | None, options: argparse.Namespace, console: Console) -> None:
    """The tables, and the files that were asked for."""
    console.print()
    terminal.print_run(console, run)
    if before is not None:
        console.print()
        console.print(terminal.rich_table(against.table(before, run)))
        for line in against.bars_changed(before, run):
            console.print(line, highlight=False, markup=False)
    if options.markdown:
        name = (options.json or options.show or Path("run.json")).name
        options.markdown.write_text(page(run, name))
    if options.plots:
        with contextlib.suppress(FileExistsError):
            options.plots.mkdir(parents=True)
        plots.write(run, options.plots)
