"""Requests a second through a published port: wrk on the host asks an nginx in the guest for 512 bytes.

Over 10 and 50 connections that stay open, and with a connection for each request. Figures: ``rate``, ``cpu_us`` of
the system for a request. pasta splices connections from the host's loopback to the guest's without a TAP in between.
"""

from __future__ import annotations

from functools import partial

from ..ports import HTTP_PORT, nginx
from ..programs import wrk
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "10 kept": (10, ()),
    "50 kept": (50, ()),
    "one each": (10, ("-H", "Connection: close")),
}


def one(place: Place, seconds: float, kind: str) -> Values:
    connections, options = CASES[kind]
    url = f"http://{place.running.published}:{HTTP_PORT}/page"
    before = place.running.cpu_seconds()
    rate = wrk(place.lab.host, url, seconds, connections, *options)
    used = place.running.cpu_seconds() - before
    values: Values = {"rate": rate}
    cpu(values, place.running, used * 1e6, rate * max(1, round(seconds)), "cpu_us")
    return values


def run(turn: Turn) -> None:
    with place(turn.system, Wanted(ports=(HTTP_PORT,))) as there:
        nginx(there.lab)
        for kind in CASES:
            turn.measure(kind, partial(one, there, turn.options.seconds, kind))


def groups(options: Options) -> list[Group]:
    return [Group(tuple(CASES), run)]


WORK = Work("ports", "Published port", ("nginx", "wrk"), groups)
