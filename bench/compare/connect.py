"""Connections made for one request each: connect, 64 bytes, 64 bytes back, closed by the server first (bench/load.c).

One at a time, and 32 at a time. Figures: ``rate`` of connections a second, ``curve`` of the quantiles of the time that
each took from first to last in us, ``cpu_us`` of the system for each, ``errors`` (connections that broke).
"""

from __future__ import annotations

from ..programs import load, load_server
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

PORT, SIZE = 7002, 64
AT_ONCE = (1, 32)


def case(at_once: int) -> str:
    return f"{at_once} at a time"


def one(place: Place, seconds: float, at_once: int) -> Values:
    before = place.running.cpu_seconds()
    report = load(place.lab, place.lab.guest, "crr", place.server, PORT, SIZE, seconds, at_once)
    used = place.running.cpu_seconds() - before
    values: Values = {
        "rate": report["count"] / report["seconds"],
        "curve": report["quantiles"],
        "errors": report["errors"],
    }
    cpu(values, place.running, used * 1e6, report["count"], "cpu_us")
    return values


def run(turn: Turn) -> None:
    with place(turn.system, Wanted()) as there:
        load_server(there.lab, there.server_side, "serve-once", PORT, port=PORT)
        for at_once in AT_ONCE:
            turn.measure(case(at_once), lambda n=at_once: one(there, turn.options.seconds, n))


def groups(options: Options) -> list[Group]:
    return [Group(tuple(map(case, AT_ONCE)), run)]


WORK = Work("connect", "Connect, request, response, close", ("gcc",), groups)
