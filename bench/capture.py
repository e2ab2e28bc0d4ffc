"""What recording costs: TCP bulk through a gateway that captures nothing, a part of each frame, everything.

    nothing     no capture
    headers     128 bytes of each frame, to a file in memory (a tmpfs, where there is one)
    wire        the same, super-frames cut to what the wire would carry
    all         every byte, to the same
    tcpdump     128 bytes by tcpdump on the guest's TAP, where it is installed: what people do otherwise

The cases take turns inside each repetition; medians count. Frames missing in a capture are shown: a figure with
losses is what traffic does when the writer does not keep up, which is to be that of the others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from netstack.testing.lab import HOST_ALIAS, TAP, Lab
from netstack.testing.namespace import unavailable

from .programs import DIRECTIONS, IPERF_PORT, iperf

SHM = Path("/dev/shm")
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "headers": {"snaplen": 128},
    "wire": {"snaplen": 128, "wire_frames": True},
    "all": {},
    "tcpdump": {},
}


@contextmanager
def tcpdump(lab: Lab) -> Iterator[dict[str, int]]:
    """tcpdump inside the guest."""
    lost = {"frames": 0, "lost": 0}
    process = lab.guest.spawn(
        "tcpdump", "-i", TAP, "-s", "128", "-B", "32768", "-w", str(lab.directory / "t.pcap")
    )
    process.wait_for("listening on")
    yield lost
    process.stop()
    for line in process.text.splitlines():
        number, _, what = line.partition(" ")
        if "captured" in what:
            lost["frames"] = int(number)
        elif "dropped by kernel" in what:
            lost["lost"] = int(number)


@contextmanager
def capturing(gateway: Any, path: Path, options: dict[str, Any]) -> Iterator[dict[str, int]]:
    """A capture of ours; what it came to is there afterwards."""
    ended: dict[str, int] = {}
    gateway.start_capture(str(path), **options)
    try:
        yield ended
    finally:
        ended.update(gateway.stop_capture())
        path.unlink()


def main(argv: list[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench capture", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=3, help="turns of each case; their median counts")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one transfer")
    options = parser.parse_args(argv)
    absent = None if shutil.which("iperf3") else "iperf3 is not installed"
    if reason := unavailable() or absent:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    cases = [case for case in CASES if case != "tcpdump" or shutil.which("tcpdump")]
    rates: dict[tuple[str, str], list[float]] = {}
    frames: dict[tuple[str, str], list[tuple[int, int]]] = {}
    folder = SHM if os.access(SHM, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=folder) as name, Lab() as lab, lab.gateway() as gateway:
        server = lab.host.spawn("iperf3", "-s", "-p", str(IPERF_PORT))
        server.wait_listening(IPERF_PORT)
        path = Path(name) / "all.pcapng"
        for _ in range(options.repeat):
            for case in cases:
                for direction, words in DIRECTIONS.items():
                    if case == "nothing":
                        recording: Any = nullcontext({})
                    elif case == "tcpdump":
                        recording = tcpdump(lab)
                    else:
                        recording = capturing(gateway, path, CASES[case])
                    with recording as ended:
                        report = iperf(lab, HOST_ALIAS, options.seconds, words)
                    rate = report["end"]["sum_received"]["bits_per_second"] / 1e9
                    rates.setdefault((case, direction), []).append(rate)
                    frames.setdefault((case, direction), []).append(
                        (ended.get("frames", 0), ended.get("lost", 0))
                    )
    print(f"{'Gbit/s':<12}" + "".join(f"{d:>10}{'share':>8}{'frames/s':>12}{'lost':>8}" for d in DIRECTIONS))
    for case in cases:
        line = f"{case:<12}"
        for direction in DIRECTIONS:
            rate = statistics.median(rates[case, direction])
            share = rate / statistics.median(rates["nothing", direction])
            taken, lost = (sum(x) for x in zip(*frames[case, direction], strict=True))
            seconds = options.seconds * options.repeat
            missing = f"{lost / (taken + lost):.1%}" if taken + lost else "-"
            line += f"{rate:>10.2f}{share:>8.2f}{taken / seconds:>12,.0f}{missing:>8}"
        print(line)
    return 0
