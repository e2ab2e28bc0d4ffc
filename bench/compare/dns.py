"""Queries a second with dnsperf through each system's name server, which asks a dnsmasq on the host's loopback.

``again``: 1,000 names, asked over and over: a cache may answer. ``new``: names that nobody has asked before.
Figures: ``rate`` of answers a second, ``cpu_us`` of the system for each. (``python -m bench dns`` tells the gateway's
share of asking that dnsmasq directly.)
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

from netstack.testing.namespace import ProgramError

from ..programs import dnsperf
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

NAMES = 1000
FRESH_PER_SECOND = 150_000  #: more names than are asked in a second
CASES = ("again", "new")
_round = itertools.count()


def questions(place: Place, kind: str, seconds: float) -> Path:
    path = place.lab.directory / f"questions-{kind}"
    count = NAMES if kind == "again" else int(FRESH_PER_SECOND * max(1, round(seconds)))
    label = f"r{next(_round)}"
    path.write_text("".join(f"n{i}.{label}.bench A\n" for i in range(count)))
    return path


def one(place: Place, seconds: float, kind: str) -> Values:
    if place.running.dns is None:
        raise ProgramError("it has no name server")
    asked = questions(place, kind, seconds)
    before = place.running.cpu_seconds()
    rate = dnsperf(place.lab.guest, place.running.dns, asked, seconds)
    used = place.running.cpu_seconds() - before
    values: Values = {"rate": rate}
    cpu(values, place.running, used * 1e6, rate * max(1, round(seconds)), "cpu_us")
    return values


def serve(place: Place) -> None:
    """The host's name server."""
    server = place.lab.host.spawn(
        *("dnsmasq", "-d", "-C", "/dev/null", "--no-resolv", "--no-hosts"),
        *("--address=/bench/192.0.2.1", "--local-ttl=600", "--cache-size=0"),
    )
    server.wait_listening(53)


def run(turn: Turn) -> None:
    with place(turn.system, Wanted()) as there:
        serve(there)
        for kind in CASES:
            turn.measure(kind, partial(one, there, turn.options.seconds, kind))


def groups(options: Options) -> list[Group]:
    return [Group(CASES, run)]


WORK = Work("dns", "DNS", ("dnsmasq", "dnsperf"), groups)
