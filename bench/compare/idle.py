"""What a system does and holds when its guest is silent.

Figures: ``wakeups``, context switches a second of all its threads; ``rss_mb``, its resident memory in 1e6 bytes.
"""

from __future__ import annotations

import time

from ..programs import resident, switches
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, place

CASE = "no traffic"
SETTLE = 2.0  #: seconds after the start


def one(place: Place, seconds: float) -> Values:
    time.sleep(SETTLE)
    pids = place.running.pids()
    before, begin = switches(pids), time.monotonic()
    time.sleep(seconds)
    woken = switches(pids) - before
    return {"wakeups": woken / (time.monotonic() - begin), "rss_mb": resident(pids) / 1e6}


def run(turn: Turn) -> None:
    with place(turn.system, Wanted()) as there:
        turn.measure(CASE, lambda: one(there, max(1.0, turn.options.seconds)))


def groups(options: Options) -> list[Group]:
    return [Group((CASE,), run)]


WORK = Work("idle", "Idle", (), groups)
