"""Throughput, processor time and start-up time of netstack beside its yardstick and its peers.

Each measurement has namespaces of its own, TCP congestion control cubic in all of them where the caller may
choose it, one iperf3 stream to a server on the host's loopback. The systems take turns inside each
repetition, so that a machine which gets slower or faster does so for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netstack.testing.lab import Lab, python_environment
from netstack.testing.namespace import ProgramError, unavailable

from .systems import SYSTEMS, System

IPERF_PORT = 5201
DIRECTIONS = {"up": [], "down": ["-R"]}  # up: from the guest
MTUS = (1500, 65520)
SHARE_OF_LIMIT = 0.7
TIMES_SLIRP4NETNS = 5.0
START_UP_BAR_MS = 150.0


@dataclass(frozen=True)
class Sample:
    """One run of iperf3."""

    system: str
    mtu: int
    direction: str
    gbit_s: float
    cpu_s_per_gb: float  #: processor seconds of the system itself for 1e9 bytes
    retransmits: int  #: by the guest's kernel (up)
    congestion: str


def iperf(lab: Lab, address: str, seconds: float, options: list[str]) -> dict[str, Any]:
    """One iperf3 run from the guest; its JSON report."""
    done = lab.guest.run(
        *("iperf3", "-J", "-c", address, "-p", str(IPERF_PORT), "-t", f"{seconds:g}", *options),
        timeout=seconds + 60,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ProgramError(f"iperf3 did not report: {done.stdout}{done.stderr}") from None
    if "error" in report:
        raise ProgramError(f"iperf3: {report['error']}")
    return report


def measure(system: System, mtu: int, seconds: float) -> list[Sample]:
    """Both directions of one system at one MTU."""
    samples = []
    with Lab() as lab:
        lab.world()
        running = system.start(lab, mtu)
        server = lab.host.spawn("iperf3", "-s", "-p", str(IPERF_PORT))
        server.wait_listening(IPERF_PORT)
        for direction, options in DIRECTIONS.items():
            before = running.cpu_seconds()
            report = iperf(lab, running.server, seconds, options)
            cpu = running.cpu_seconds() - before
            end = report["end"]
            received = end["sum_received"]
            samples.append(
                Sample(
                    system.name,
                    mtu,
                    direction,
                    received["bits_per_second"] / 1e9,
                    cpu / max(received["bytes"] / 1e9, 1e-9),
                    end["sum_sent"].get("retransmits", 0),
                    lab.host.congestion,
                )
            )
    return samples


def start_up_ms(runs: int) -> list[float]:
    """Wall time of ``netstack run -- true``, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "netstack", "run", "--", "true"],
            check=True,
            env=python_environment(),
            stdin=subprocess.DEVNULL,
        )
        times.append((time.perf_counter() - start) * 1000)
    return times


def medians(samples: list[Sample]) -> dict[tuple[str, int, str], tuple[float, float]]:
    """(Gbit/s, processor seconds per GB) for each system, MTU and direction."""
    groups: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.system, sample.mtu, sample.direction), []).append(sample)
    return {
        key: (
            statistics.median(s.gbit_s for s in group),
            statistics.median(s.cpu_s_per_gb for s in group),
        )
        for key, group in groups.items()
    }


def bars(table: dict[tuple[str, int, str], tuple[float, float]]) -> list[tuple[str, bool]]:
    """What is asked of netstack: each in words with its figures, and whether it is met."""
    verdicts = []

    def compare(mtu: int, direction: str, peer: str, factor: float) -> None:
        ours, theirs = table.get(("netstack", mtu, direction)), table.get((peer, mtu, direction))
        if ours is None or theirs is None or theirs[0] <= 0:
            return
        ratio = ours[0] / theirs[0]
        words = f"MTU {mtu} {direction}: {ratio:.2f} x {peer}, asked {factor:g}"
        verdicts.append((words, ratio >= factor))

    for mtu in MTUS:
        for direction in DIRECTIONS:
            compare(mtu, direction, "limit", SHARE_OF_LIMIT)
            if mtu == 1500:
                compare(mtu, direction, "slirp4netns", TIMES_SLIRP4NETNS)
            else:
                compare(mtu, direction, "pasta", 1.0)
    return verdicts


def print_table(names: list[str], mtus: list[int], samples: list[Sample]) -> None:
    table = medians(samples)
    columns = [(mtu, direction) for mtu in mtus for direction in DIRECTIONS]
    peers = [name for name in names if name not in ("limit", "netstack")]
    head = "".join(f"{f'{mtu} {direction}':>22}" for mtu, direction in columns)
    print(f"\n{'Gbit/s (CPU s/GB)':<20}{head}")
    for name in names:
        cells = ""
        for column in columns:
            found = table.get((name, *column))
            cells += f"{'failed' if found is None else f'{found[0]:.2f} ({found[1]:.2f})':>22}"
        print(f"{name:<20}{cells}")
    for title, rivals in (("netstack / limit", ["limit"]), ("netstack / best peer", peers)):
        cells = ""
        for column in columns:
            ours = table.get(("netstack", *column))
            theirs = [table[(name, *column)][0] for name in rivals if (name, *column) in table]
            cells += f"{f'{ours[0] / max(theirs):.2f}' if ours and theirs and max(theirs) > 0 else '-':>22}"
        print(f"{title:<20}{cells}")


def main(argv: list[str]) -> int:
    """Runs it all; 1 when ``--check`` is given and a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each measurement; their median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one iperf3 run")
    parser.add_argument("--mtu", type=int, action="append", help=f"default: {' and '.join(map(str, MTUS))}")
    parser.add_argument("--system", action="append", choices=list(SYSTEMS), help="default: all")
    parser.add_argument(
        "--start-up", type=int, default=10, metavar="N", help="runs of the start-up; 0 for none"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--check", action="store_true", help="fail when netstack misses what is asked of it")
    options = parser.parse_args(argv)
    if (reason := unavailable()) or (reason := None if shutil.which("iperf3") else "iperf3 is not installed"):
        print(f"bench: {reason}", file=sys.stderr)
        return 1

    mtus, names = options.mtu or list(MTUS), []
    for name in options.system or list(SYSTEMS):
        if missing := SYSTEMS[name].missing():
            print(f"{name}: left out: {missing}")
        else:
            names.append(name)
    samples: list[Sample] = []
    for repetition in range(options.repeat):
        for mtu in mtus:
            for name in names:
                label = f"{repetition + 1}/{options.repeat}  MTU {mtu:<6} {name:<12}"
                try:
                    taken = measure(SYSTEMS[name], mtu, options.seconds)
                except ProgramError as err:
                    print(f"{label} failed: {err}", flush=True)
                    continue
                samples += taken
                print(label + "".join(f"  {s.direction} {s.gbit_s:6.2f}" for s in taken), flush=True)
    if not samples:
        print("bench: nothing could be measured", file=sys.stderr)
        return 1

    print_table(names, mtus, samples)
    congestion = ", ".join(sorted({s.congestion for s in samples}))
    print(f"congestion control {congestion}; {os.cpu_count()} processors")
    verdicts = bars(medians(samples))
    start_up: list[float] = []
    if options.start_up and "netstack" in names:
        try:
            start_up = start_up_ms(options.start_up)
        except (OSError, subprocess.CalledProcessError) as err:
            verdicts.append((f"netstack run -- true: {err}", False))
        else:
            median = statistics.median(start_up)
            words = f"netstack run -- true: {median:.0f} ms, asked {START_UP_BAR_MS:g}"
            verdicts.append((words, median <= START_UP_BAR_MS))
    for words, met in verdicts:
        print(f"{'met   ' if met else 'MISSED'}  {words}")
    if options.json:
        report = {
            "samples": [asdict(s) for s in samples],
            "start_up_ms": start_up,
            "bars": [{"bar": words, "met": met} for words, met in verdicts],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if options.check and not all(met for _, met in verdicts) else 0
