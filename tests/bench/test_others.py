"""What others take of the machine while it measures."""

from __future__ import annotations

import os

from bench.compare.others import Others, busy_seconds

STAT = "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


def test_idle_and_waiting_are_not_busy_and_guests_are_not_counted_twice() -> None:
    assert busy_seconds(STAT) == (100 + 20 + 30 + 6 + 7 + 8) / os.sysconf("SC_CLK_TCK")
    assert busy_seconds("cpu  100 20 30 4000\n") == 150 / os.sysconf("SC_CLK_TCK")


def test_what_this_process_does_is_not_of_others() -> None:
    others = Others()
    others._begin -= 10  # ten seconds in which this process was busy for two, and somebody else for one
    others._own -= 2
    others._busy -= 3
    processors = os.cpu_count() or 1
    assert 0.5 / (10 * processors) < others.share() < 2 / (10 * processors)
    others._own -= 5  # more than there is: clocks have different steps
    assert others.share() == 0
