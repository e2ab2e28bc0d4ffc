"""A guest behind ``netstack relay`` beside a guest on a TAP of the same machine, in one run.

    guest ── TAP ── netstack attach                                        the TAP's loop
    guest ── TAP ── netstack relay ── Unix socket ── netstack serve        the same, over a stream of frames

Each has a laboratory of its own; they take turns inside each repetition. One iperf3 stream of TCP each way, and
datagrams in frames of 64 bytes, counted where they arrive.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from netstack.testing.lab import GUEST, HOST_ALIAS, TAP, Lab, python_environment
from netstack.testing.namespace import Process, ProgramError, unavailable

from .programs import DIRECTIONS, IPERF_PORT, iperf
from .systems import cpu_of, session

MTUS = (1500, 65520)
FRAME = 64
UDP_PAYLOAD = FRAME - 14 - 20 - 8  #: bytes of a datagram in a frame of 64, the check sequence not counted
PLACES = ("hyperkit", "qemu")

TAP_GBIT_S = 15.0  #: what the TAP's loop must reach for the bars below to be asked as they stand
BARS = {1500: 2.0, 65520: 8.0}  #: Gbit/s behind the relay, each way
SHARE_OF_FRAMES = 0.6


@dataclass(frozen=True)
class Running:
    """Programs of ours between the guest and the host."""

    processes: tuple[Process, ...]

    def cpu_seconds(self) -> float:
        return sum(cpu_of(pid) for process in self.processes for pid in session(process.pid))


def attached(lab: Lab, mtu: int) -> Running:
    """The guest on a TAP that the stack itself reads."""
    return Running((lab.attach(mtu=mtu),))


def relayed(kind: str) -> Callable[[Lab, int], Running]:
    """The guest behind a relay."""

    def start(lab: Lab, mtu: int) -> Running:
        place = f"{kind}:{lab.directory}/{kind}.sock"
        server = spawn(
            lab,
            "host",
            *("serve", "--listen", place, "--mtu", str(mtu), "--source-check", "first", "--notify"),
        )
        named = ("--address", GUEST) if kind == "hyperkit" else ("--mtu", str(mtu))
        relay = spawn(lab, "guest", "relay", f"tap:{TAP}", "--connect", place, *named, "--ready-fd")
        lab.configure_guest()
        return Running((server, relay))

    return start


def spawn(lab: Lab, role: str, *words: str) -> Process:
    """A netstack command whose last option takes a descriptor that is written to when it is ready."""
    reader, writer = os.pipe()
    try:
        argv = [sys.executable, "-m", "netstack", *words, str(writer)]
        process: Process = getattr(lab, role).spawn(*argv, pass_fds=[writer], env=python_environment())
    finally:
        os.close(writer)
    with open(reader, "rb") as told:
        if not told.readline():
            raise ProgramError(f"{process!r} ended:\n{process.text}")
    return process


@contextlib.contextmanager
def served(start: Callable[[Lab, int], Running], mtu: int) -> Iterator[tuple[Lab, Running]]:
    """A laboratory with the guest attached, and an iperf3 server on the host's loopback."""
    with Lab() as lab:
        running = start(lab, mtu)
        lab.host.spawn("iperf3", "-s", "-p", str(IPERF_PORT)).wait_listening(IPERF_PORT)
        yield lab, running


def measure(start: Callable[[Lab, int], Running], mtu: int, seconds: float) -> dict[str, float]:
    """Gbit/s "up" and "down", and at MTU 1500 frames a second "up 64" and "down 64"; "cpu" of all is CPU s/GB."""
    figures = {}
    with served(start, mtu) as (lab, running):
        for direction, options in DIRECTIONS.items():
            before = running.cpu_seconds()
            received = iperf(lab, HOST_ALIAS, seconds, options)["end"]["sum_received"]
            figures[direction] = received["bits_per_second"] / 1e9
            figures[f"{direction} cpu"] = (running.cpu_seconds() - before) / max(
                received["bytes"] / 1e9, 1e-9
            )
            if mtu == 1500:
                small = ["-u", "-b", "0", "-l", str(UDP_PAYLOAD), *options]
                end = iperf(lab, HOST_ALIAS, seconds, small)["end"]
                total = end.get("sum_received", end["sum"])
                figures[f"{direction} 64"] = (total["packets"] - total["lost_packets"]) / max(
                    total["seconds"], 1e-9
                )
    return figures


def columns(mtus: list[int]) -> list[tuple[int, str]]:
    """What is measured, in order."""
    return [
        (mtu, name) for mtu in mtus for name in ("up", "down", *(("up 64", "down 64") if mtu == 1500 else ()))
    ]


def print_table(
    systems: list[str], found: dict[tuple[str, int, str], float], wanted: list[tuple[int, str]]
) -> None:
    print("\n" + " " * 14 + "".join(f"{f'{mtu} {name}':>16}" for mtu, name in wanted))
    for system in systems:
        cells = ""
        for mtu, name in wanted:
            value = found.get((system, mtu, name))
            if value is None:
                cells += f"{'failed':>16}"
            elif name.endswith("64"):
                cells += f"{f'{value / 1e3:.0f} k/s':>16}"
            else:
                cpu = found[system, mtu, f"{name} cpu"]
                cells += f"{f'{value:.2f} ({cpu:.2f})':>16}"
        print(f"{system:<14}{cells}")
    for system in systems[1:]:
        cells = ""
        for mtu, name in wanted:
            ours, tap = found.get((system, mtu, name)), found.get((systems[0], mtu, name))
            cells += f"{f'{ours / tap:.2f}' if ours is not None and tap else '-':>16}"
        print(f"{f'{system} / tap':<14}{cells}")
    print(
        f"TCP in Gbit/s (CPU s/GB of ours), frames of {FRAME} bytes in thousands a second; {os.cpu_count()} processors"
    )


def bars(found: dict[tuple[str, int, str], float]) -> list[tuple[str, bool]]:
    """What is asked of the HyperKit socket, in words with the figures, and whether it is met."""
    verdicts = []
    for (system, mtu, name), value in found.items():
        tap = found.get(("tap", mtu, name))
        if system != "hyperkit" or not tap or name.endswith("cpu"):
            continue
        if name.endswith("64"):
            words = f"frames {name}: {value / tap:.2f} x tap, asked {SHARE_OF_FRAMES:g}"
            verdicts.append((words, value / tap >= SHARE_OF_FRAMES))
        elif mtu in BARS:
            asked = BARS[mtu] * min(1.0, tap / TAP_GBIT_S)
            words = f"MTU {mtu} {name}: {value:.2f} Gbit/s, {value / tap:.2f} x tap, asked {asked:.2f}"
            verdicts.append((words, value >= asked))
    return verdicts


def main(argv: list[str]) -> int:
    """Measures, prints the table; 1 when ``--check`` is given and a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.relay", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each measurement; their median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one iperf3 run")
    parser.add_argument("--mtu", type=int, action="append", help=f"default: {' and '.join(map(str, MTUS))}")
    parser.add_argument("--link", action="append", choices=PLACES, help="beside the TAP; default: hyperkit")
    parser.add_argument("--no-tap", action="store_true", help="leave the TAP's loop out")
    parser.add_argument("--check", action="store_true", help="fail when a bar is missed")
    options = parser.parse_args(argv)
    if (reason := unavailable()) or (reason := None if shutil.which("iperf3") else "iperf3 is not installed"):
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    mtus = options.mtu or list(MTUS)
    links = options.link or ["hyperkit"]
    systems: dict[str, Callable[[Lab, int], Running]] = {} if options.no_tap else {"tap": attached}
    systems |= {kind: relayed(kind) for kind in links}
    samples: dict[tuple[str, int, str], list[float]] = {}
    for repetition in range(options.repeat):
        for mtu in mtus:
            for system, start in systems.items():
                label = f"{repetition + 1}/{options.repeat}  MTU {mtu:<6} {system:<9}"
                try:
                    figures = measure(start, mtu, options.seconds)
                except ProgramError as err:
                    print(f"{label} failed: {err}", flush=True)
                    continue
                for name, value in figures.items():
                    samples.setdefault((system, mtu, name), []).append(value)
                print(label + "".join(f"  {k} {v:.4g}" for k, v in figures.items()), flush=True)
    found = {key: statistics.median(values) for key, values in samples.items()}
    print_table(list(systems), found, columns(mtus))
    verdicts = bars(found)
    for words, met in verdicts:
        print(f"{'met   ' if met else 'MISSED'}  {words}")
    return 1 if options.check and not (verdicts and all(met for _, met in verdicts)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
