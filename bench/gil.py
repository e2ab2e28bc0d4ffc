"""What Python does to the data path of a gateway in its process: nothing, if the engine never needs the GIL.

1. Transfers while a pure-Python thread spins in the gateway's process, beside the same while it spins in a
process
   of its own. Both take a processor away; only the first could also take the GIL away.
2. Echo times while the main thread sits in a C call that holds the GIL.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from netstack.testing.lab import HOST_ALIAS, Lab
from netstack.testing.namespace import unavailable

from .programs import DIRECTIONS, IPERF_PORT, iperf

SPIN = "while True: pass"


@contextmanager
def spinning_here(lab: Lab) -> Iterator[None]:
    """A thread of this process runs Python without a pause."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def spinning_elsewhere(lab: Lab) -> Iterator[None]:
    """Another process does."""
    process = lab.host.spawn(sys.executable, "-c", SPIN)
    try:
        yield
    finally:
        process.stop()


CASES: dict[str, Callable[[Lab], AbstractContextManager[None]]] = {
    "alone": lambda lab: nullcontext(),
    "elsewhere": spinning_elsewhere,
    "here": spinning_here,
}


def ping_times(text: str) -> list[float]:
    """Round-trip times in ms out of ping's report."""
    return [float(found) for found in re.findall(r"time=([\d.]+) ms", text)]


def blocked_ping(lab: Lab, seconds: float) -> tuple[list[float], list[float]]:
    """Echo times in ms (idle, with the GIL held by a C call in the main thread for ``seconds``)."""
    count = int(seconds * 50)  # one every 10 ms: done in half the time

    ping = ("ping", "-i", "0.01", "-c", str(count), HOST_ALIAS)
    idle = ping_times(lab.guest.run(*ping).stdout)
    process = lab.guest.spawn(*ping)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL: the GIL is kept
    process.wait(1.0 + seconds)
    return idle, ping_times(process.text)


def main(argv: list[str]) -> int:
    """Prints both; 1 when a spinning thread here costs more than ``--slack`` over one elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m bench gil", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of one transfer, and of the blocked call"
    )
    parser.add_argument("--slack", type=float, default=0.1, help="share of throughput that noise may take")
    options = parser.parse_args(argv)
    if reason := unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return 1

    rates: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab, lab.gateway():
        server = lab.host.spawn("iperf3", "-s", "-p", str(IPERF_PORT))
        server.wait_listening(IPERF_PORT)
        for _ in range(options.repeat):
            for case, spinning in CASES.items():
                for direction, words in DIRECTIONS.items():
                    with spinning(lab):
                        report = iperf(lab, HOST_ALIAS, options.seconds, words)
                    rate = report["end"]["sum_received"]["bits_per_second"] / 1e9
                    rates.setdefault((case, direction), []).append(rate)
        idle, blocked = blocked_ping(lab, options.seconds)

    worst = 1.0
    print(f"{'Gbit/s':<28}{'up':>8}{'down':>8}")
    medians = {key: statistics.median(values) for key, values in rates.items()}
    for case, words in (
        ("alone", "no spinning"),
        ("elsewhere", "spinning in another process"),
        ("here", "spinning here"),
    ):
        print(f"{words:<28}" + "".join(f"{medians[case, d]:8.2f}" for d in DIRECTIONS))
    for direction in DIRECTIONS:
        worst = min(worst, medians["here", direction] / medians["elsewhere", direction])
    print(f"here / elsewhere, worst direction: {worst:.2f}")
    print(f"echo, idle: median {statistics.median(idle):.3f} ms, longest {max(idle):.3f} ms")
    if not blocked:
        print("echo, main thread blocked with the GIL held: no reply at all")
        return 1
    print(
        f"echo, main thread blocked with the GIL held: median {statistics.median(blocked):.3f} ms, "
        f"longest {max(blocked):.3f} ms, {len(blocked)} of {len(idle)}"
    )
    return 0 if worst >= 1 - options.slack and len(blocked) == len(idle) else 1
