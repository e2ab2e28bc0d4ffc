"""Where the processor's time goes: netstack's functions on each main path, by perf.

    python -m bench profile [--path NAME] [--seconds S] [--top N]

The process is sampled while it works (``perf record``), and each function's share of its own time is told, those of the
kernel beside its own; a line for each kind of place says how much the kernel's part is in all. Needs perf, and a kernel
that lets it sample (root, or ``kernel.perf_event_paranoid`` of 1 or less and ``kernel.kptr_restrict`` of 0).
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netstack.testing.namespace import ProgramError, unavailable

from .compare import bulk, connect, dns, latency, ports, udp
from .compare.work import Place, place
from .programs import IPERF_PORT, load_server
from .systems import SYSTEMS, Wanted

FREQUENCY = 4999  #: samples a second
LINE = re.compile(r"^\s*(?P<share>[\d.]+)%\s+(?P<where>\S+)\s+\[(?P<ring>[.k])\]\s+(?P<function>\S.*?)\s*$")


@dataclass(frozen=True)
class Row:
    """One function's part."""

    share: float  #: per cent of the process's samples
    where: str  #: the kernel, or the library's file
    function: str
    kernel: bool


def read_report(text: str) -> list[Row]:
    """The functions in the output of ``perf report --stdio -F overhead,dso,symbol``, the largest share first."""
    rows = []
    for line in text.splitlines():
        if found := LINE.match(line):
            kernel = found["ring"] == "k"
            where = "kernel" if kernel else short(found["where"])
            rows.append(Row(float(found["share"]), where, plain(found["function"]), kernel))
    return sorted(rows, key=lambda row: -row.share)


def short(path: str) -> str:
    """A library's name without its folder and what Python puts behind it."""
    return Path(path).name.partition(".cpython")[0].partition(".so")[0]


def plain(function: str) -> str:
    """A function of Cython without the name of its module in front."""
    return (
        re.sub(r"^__pyx_f(use_\d+)?_(\d+\w+?_)*?(?=[a-z])", "", function)
        if "__pyx_f" in function
        else function
    )


def prepared(
    work: Callable[[Place, float], object], serve: Callable[[Place], object], wanted: Wanted
) -> Callable[[float], list[Row]]:
    """A function that does one kind of work in a place of its own while perf looks on."""

    def run(seconds: float) -> list[Row]:
        with place(SYSTEMS["netstack"], wanted) as there:
            serve(there)
            with recorded(there) as path:
                work(there, seconds)
            return read_report(report(path))

    return run


@contextlib.contextmanager
def recorded(there: Place) -> Iterator[Path]:
    """perf looks on meanwhile; the file of its samples."""
    path = there.lab.directory / "perf.data"
    pids = ",".join(map(str, there.running.pids()))
    argv = ["perf", "record", "-q", "-F", str(FREQUENCY), "-e", "cpu-clock", "-p", pids, "-o", str(path)]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield path
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    if not path.exists() or not path.stat().st_size:
        raise ProgramError(f"perf did not record: {errors.decode(errors='replace').strip()}")


def report(path: Path) -> str:
    done = subprocess.run(
        ["perf", "report", "-i", str(path), "--stdio", "--no-children", "-F", "overhead,dso,symbol"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ProgramError(f"perf report: {done.stderr.strip()}")
    return done.stdout


def iperf_server(there: Place) -> None:
    there.server_side.spawn("iperf3", "-s", "-p", str(IPERF_PORT)).wait_listening(IPERF_PORT)


def nothing(there: Place) -> None:
    pass


def bulk_path(mtu: int, way: str) -> Callable[[float], list[Row]]:
    return prepared(lambda there, seconds: bulk.one(there, seconds, way, 1), iperf_server, Wanted(mtu))


def udp_path(kind: str, way: str) -> Callable[[float], list[Row]]:
    return prepared(lambda there, seconds: udp.one(there, seconds, kind, way), nothing, Wanted())


PATHS: dict[str, Callable[[float], list[Row]]] = {
    "bulk-1500-up": bulk_path(1500, "up"),
    "bulk-1500-down": bulk_path(1500, "down"),
    "bulk-65520-up": bulk_path(65520, "up"),
    "bulk-65520-down": bulk_path(65520, "down"),
    "latency": prepared(
        latency.one,
        lambda there: load_server(there.lab, there.server_side, "serve", latency.PORT, port=latency.PORT),
        Wanted(),
    ),
    "connect": prepared(
        lambda there, seconds: connect.one(there, seconds, 32),
        lambda there: load_server(
            there.lab, there.server_side, "serve-once", connect.PORT, port=connect.PORT
        ),
        Wanted(),
    ),
    "udp-64-up": udp_path("64", "up"),
    "udp-64-down": udp_path("64", "down"),
    "udp-gso-up": udp_path("1400 GSO", "up"),
    "udp-gso-down": udp_path("1400 GSO", "down"),
    "dns-new": prepared(lambda there, seconds: dns.one(there, seconds, "new"), dns.serve, Wanted()),
    "dns-cached": prepared(lambda there, seconds: dns.one(there, seconds, "again"), dns.serve, Wanted()),
    "ports": prepared(
        lambda there, seconds: ports.one(there, seconds, "50 kept"),
        lambda there: ports.nginx(there.lab),
        Wanted(ports=(ports.HTTP_PORT,)),
    ),
}


def main(argv: list[str]) -> int:
    """Prints a table for each path."""
    parser = argparse.ArgumentParser(
        prog="python -m bench profile", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--path",
        action="append",
        choices=list(PATHS),
        metavar="NAME",
        help=f"can be repeated; default: all of {', '.join(PATHS)}",
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--top", type=int, default=12, help="functions told of each path")
    options = parser.parse_args(argv)
    if (reason := unavailable()) or (
        reason := None if shutil.which("perf") else "perf is not installed: install linux-perf"
    ):
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    status = 0
    for name in options.path or PATHS:
        try:
            rows = PATHS[name](options.seconds)
        except ProgramError as err:
            print(f"{name}: {err}", file=sys.stderr)
            status = 1
            continue
        kernel = sum(row.share for row in rows if row.kernel)
        print(
            f"\n{name}: {kernel:.0f} % in the kernel, {sum(r.share for r in rows) - kernel:.0f} % in the process"
        )
        for row in rows[: options.top]:
            print(f"{row.share:6.1f} %  {row.where:<14} {row.function}")
        ours = [row for row in rows if not row.kernel][: options.top // 2]
        print("  of the process: " + ", ".join(f"{row.function} {row.share:.1f}" for row in ours))
    return status
