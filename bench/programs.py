"""The programs that make the load: how they are run, and what their reports say.

Reports are read by functions of their own (``read_*``), which raise :class:`ProgramError` where a report is not what
the program prints when all went well: a figure that was not measured must not look like one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from netstack.testing.lab import Lab, python_environment
from netstack.testing.namespace import Namespace, Process, ProgramError

from .figures import jain

IPERF_PORT = 5201
DIRECTIONS: dict[str, list[str]] = {"up": [], "down": ["-R"]}  #: up: from the guest

GRACE = 60.0  #: seconds a program may take beyond the time it was told to measure


# --- C programs beside this file


def compiled(name: str, directory: Path) -> Path:
    """Compiles bench/NAME.c; the program."""
    source, program = Path(__file__).with_name(f"{name}.c"), directory / name
    if not program.exists():
        # Headers lie at any alignment in a frame and are read through pointers.
        flags = ["-O3", "-march=native", "-fno-strict-aliasing", "-Wno-address-of-packed-member"]
        subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True)
    return program


def load(lab: Lab, where: Namespace, *arguments: object, timeout: float = GRACE) -> dict[str, Any]:
    """Runs bench/load.c in a namespace; its report."""
    program = compiled("load", lab.directory)
    done = where.run(str(program), *map(str, arguments), timeout=timeout)
    return read_load(done.stdout)


def load_server(lab: Lab, where: Namespace, *arguments: object, port: int) -> Process:
    """A server of bench/load.c."""
    process = where.spawn(str(compiled("load", lab.directory)), *map(str, arguments))
    process.wait_listening(port)
    return process


def read_load(text: str) -> dict[str, Any]:
    """The report in the output of bench/load.c: its last line."""
    try:
        report = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise ProgramError(f"load did not report: {text!r}") from None
    if not isinstance(report, dict):
        raise ProgramError(f"load did not report: {text!r}")
    return report


# --- iperf3


@dataclass(frozen=True)
class Bulk:
    """What one run of iperf3 over TCP reached."""

    gbit_s: float  #: what arrived, of all streams and both ways
    bytes: int  #: what arrived
    retransmits: int  #: of the sender
    fairness: float  #: Jain's index of the streams; both ways: the lower of the two


def iperf(
    lab: Lab, address: str, seconds: float, options: list[str], port: int = IPERF_PORT
) -> dict[str, Any]:
    """One iperf3 run from the guest; its JSON report."""
    done = lab.guest.run(
        *("iperf3", "-J", "-c", address, "-p", str(port), "-t", whole(seconds), *options),
        timeout=seconds + GRACE,
        check=False,
    )
    return read_iperf(done.stdout, done.stderr)


def whole(seconds: float) -> str:
    """For programs that count in whole seconds, some of which take 0 for ever."""
    return str(max(1, round(seconds)))


def read_iperf(text: str, errors: str = "") -> dict[str, Any]:
    """The report in the output of ``iperf3 -J``."""
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ProgramError(f"iperf3 did not report: {text}{errors}") from None
    if "error" in report:
        raise ProgramError(f"iperf3: {report['error']}")
    return report


def bulk_of(report: dict[str, Any]) -> Bulk:
    """The figures in a report of iperf3 over TCP: one way, or both (``--bidir``)."""
    try:
        end = report["end"]
        received = [end["sum_received"]]
        ways: dict[bool, list[float]] = {}
        for stream in end["streams"]:
            there = stream["receiver"]
            ways.setdefault(bool(there.get("sender")), []).append(there["bytes"])
        if "sum_received_bidir_reverse" in end:
            received.append(end["sum_received_bidir_reverse"])
        sent = [end["sum_sent"], *([end["sum_sent_bidir_reverse"]] if len(received) > 1 else [])]
        return Bulk(
            sum(part["bits_per_second"] for part in received) / 1e9,
            sum(part["bytes"] for part in received),
            sum(part.get("retransmits", 0) for part in sent),
            min(jain(shares) for shares in ways.values()),
        )
    except KeyError as err:
        raise ProgramError(f"iperf3 reported without {err}") from None
    except (AttributeError, TypeError, ValueError) as err:
        raise ProgramError(f"iperf3 reported something else than expected: {err}") from None


# --- wrk


def wrk(where: Namespace, url: str, seconds: float, connections: int, *options: str) -> float:
    """Requests per second."""
    done = where.run(
        *("wrk", "-t", "1", "-c", str(connections), "-d", f"{whole(seconds)}s", *options, url),
        timeout=seconds + GRACE,
    )
    return read_wrk(done.stdout + done.stderr)


def read_wrk(text: str) -> float:
    """Requests per second in the output of wrk, all of which were answered as they should be."""
    found = re.search(r"^Requests/sec:\s*([\d.]+)", text, re.MULTILINE)
    if found is None:
        raise ProgramError(f"wrk did not report: {text}")
    if (failed := re.search(r"Non-2xx or 3xx responses: (\d+)", text)) is not None:
        raise ProgramError(f"wrk: {failed[1]} answers were errors")
    rate = float(found[1])
    if rate <= 0:
        raise ProgramError(f"wrk: no request was answered: {text}")
    return rate


# --- dnsperf


def dnsperf(where: Namespace, server: str, questions: Path, seconds: float, clients: int = 4) -> float:
    """Queries per second."""
    done = where.run(
        *("dnsperf", "-s", server, "-d", str(questions), "-l", whole(seconds)),
        *("-c", str(clients), "-q", "100", "-O", "suppress=timeout"),
        timeout=seconds + GRACE,
    )
    return read_dnsperf(done.stdout + done.stderr)


def read_dnsperf(text: str) -> float:
    """Queries per second in the output of dnsperf, of which 999 in 1000 were answered, all of them with NOERROR."""
    rate = re.search(r"Queries per second:\s+([\d.]+)", text)
    complete = re.search(r"Queries completed:\s+\d+ \(([\d.]+)%\)", text)
    codes = re.search(r"Response codes:\s+(.*)", text)
    if rate is None or complete is None or codes is None:
        raise ProgramError(f"dnsperf did not report: {text}")
    if float(complete[1]) < 99.9 or re.fullmatch(r"NOERROR \d+ \(100\.00%\)\s*", codes[1]) is None:
        raise ProgramError(f"dnsperf did not get its answers: {complete[1]} % of them, {codes[1].strip()}")
    return float(rate[1])


# --- versions


@cache
def version_of(program: str) -> str | None:
    """What a program says of its version, in a few words; None where it is not installed."""
    if program == "pasta":  # its releases are dates, which only some builds know
        told = _said("dpkg-query", "-W", "-f", "${Version}", "passt")
        if told:
            return told
    for option in ("--version", "-v"):
        text = _said(program, option)
        if text is None:
            return None
        found = re.search(r"\d+(?:\.\d+)+\S*|\d{4}_\d\d_\d\d\S*", text)
        if found:
            return found[0].strip("(),;:")
    return "unknown version"


def _said(*argv: str) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """For a netstack whose start is timed: compiled modules are kept, as they are everywhere else."""
    return {k: v for k, v in python_environment().items() if k != "PYTHONDONTWRITEBYTECODE"}


def raise_descriptor_limit(count: int = 1 << 18) -> None:
    """For this process and its children, as far as it may: 50,000 connections need two descriptors each."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    except (OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sum_of_fields(pids: list[int], file: str, pattern: str) -> int:
    """The numbers after a word in /proc/PID/FILE of some processes, added up."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/{file}").read_text()
        except OSError:
            continue
        total += sum(int(found) for found in re.findall(pattern, text, re.MULTILINE))
    return total


def switches(pids: list[int]) -> int:
    """Context switches so far of all threads of some processes: each return from sleep makes one."""
    total = 0
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            total += sum_of_fields([pid], f"task/{thread}/status", r"voluntary_ctxt_switches:\s+(\d+)")
    return total


def resident(pids: list[int]) -> int:
    """Resident bytes of some processes, pages they share counted once for each."""
    return sum_of_fields(pids, "status", r"^VmRSS:\s+(\d+)") * 1024


def kernel_memory() -> int:
    """Bytes that the kernel holds for itself: slabs (sockets are among them) and network buffers."""
    text = Path("/proc/meminfo").read_text()
    total = 0
    for name in ("Slab", "KernelStack", "Percpu"):
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total
