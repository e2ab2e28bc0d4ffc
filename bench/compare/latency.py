"""Request and response over one TCP connection, 64 bytes each way, one at a time (bench/load.c).

Figures: ``rate`` of round trips a second; ``curve``, quantiles of their times in us, of which p50, p99 and p99.9 are
told; ``cpu_us``, the system's processor time for a round trip. The server is on the host's loopback: over a longer path
the path would be all that is measured.
"""

from __future__ import annotations

from ..programs import load, load_server
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

PORT, SIZE = 7001, 64
CASE = "64 bytes"


def one(place: Place, seconds: float) -> Values:
    before = place.running.cpu_seconds()
    report = load(place.lab, place.lab.guest, "rr", place.server, PORT, SIZE, seconds)
    used = place.running.cpu_seconds() - before
    values: Values = {"rate": report["count"] / report["seconds"], "curve": report["quantiles"]}
    cpu(values, place.running, used * 1e6, report["count"], "cpu_us")
    return values


def run(turn: Turn) -> None:
    with place(turn.system, Wanted()) as there:
        load_server(there.lab, there.server_side, "serve", PORT, port=PORT)
        turn.measure(CASE, lambda: one(there, turn.options.seconds))


def groups(options: Options) -> list[Group]:
    return [Group((CASE,), run)]


WORK = Work("latency", "TCP request and response", ("gcc",), groups)
