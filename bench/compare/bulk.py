"""Bulk TCP with iperf3: up, down and both ways at once, by MTU, number of streams and round trip of the path.

Figures: ``gbit_s`` that arrived, of all streams and ways; ``cpu_s_per_gb``, the system's own processor seconds for
1e9 bytes; ``jain`` (several streams), the fairness among them, of the worse way; ``retransmits`` of the senders.

The full cross of MTUs and streams is measured on the shortest path. Longer round trips lie between the host and the
server, and are measured at an MTU of 1500: behind the host's socket there is no more difference.
"""

from __future__ import annotations

from functools import partial

from ..programs import DIRECTIONS, IPERF_PORT, bulk_of, iperf
from ..systems import System, Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

WAYS = {**DIRECTIONS, "both": ["--bidir"]}
LONG_PATH_MTU = 1500
QUICK = {(1500, 1, "up"), (1500, 1, "down"), (1500, 1, "both"), (1500, 16, "both"), (65520, 1, "up"),
         (65520, 1, "down")}  # fmt: skip


def case(mtu: int, way: str, streams: int = 1, rtt: int = 0) -> str:
    """The name of a case in a run."""
    return f"mtu={mtu} rtt={rtt} streams={streams} {way}"


def seconds_of(options: Options, rtt: int) -> float:
    """A stream over a long path must be past its slow start."""
    return max(options.seconds, min(5.0, 0.08 * rtt)) if rtt else options.seconds


def one(place: Place, seconds: float, way: str, streams: int) -> Values:
    """One run of iperf3."""
    words = [*WAYS[way], *(["-P", str(streams)] if streams > 1 else [])]
    before = place.running.cpu_seconds()
    bulk = bulk_of(iperf(place.lab, place.server, seconds, words))
    used = place.running.cpu_seconds() - before
    values: Values = {"gbit_s": bulk.gbit_s, "retransmits": bulk.retransmits}
    cpu(values, place.running, used, bulk.bytes / 1e9, "cpu_s_per_gb")
    if streams > 1:
        values["jain"] = bulk.fairness
    return values


def run(cells: list[tuple[str, int]], mtu: int, rtt: int, turn: Turn) -> None:
    seconds = seconds_of(turn.options, rtt)
    with place(turn.system, Wanted(mtu), rtt) as there:
        server = there.server_side.spawn("iperf3", "-s", "-p", str(IPERF_PORT))
        server.wait_listening(IPERF_PORT)
        for way, streams in cells:
            turn.measure(case(mtu, way, streams, rtt), lambda w=way, n=streams: one(there, seconds, w, n))


def fits(mtu: int, system: System) -> bool:
    return mtu <= system.largest_mtu


def groups(options: Options) -> list[Group]:
    found = []
    for mtu in options.mtus:
        for rtt in options.rtts:
            if rtt and mtu != LONG_PATH_MTU and len(options.mtus) > 1:
                continue
            cells = [
                (way, streams)
                for streams in options.streams
                for way in options.ways
                if not options.quick or (not rtt and (mtu, streams, way) in QUICK)
            ]
            if cells:
                names = tuple(case(mtu, way, streams, rtt) for way, streams in cells)
                found.append(Group(names, partial(run, cells, mtu, rtt), mtu, partial(fits, mtu)))
    return found


WORK = Work("bulk", "Bulk TCP", ("iperf3",), groups)
