"""Clocks and random numbers agree with Python's own."""

import time

from netstack.host import clock


def test_clocks():
    before = time.monotonic_ns()
    now = clock.now_ns()
    assert before <= now <= time.monotonic_ns()
    assert abs(clock.realtime_ns() - time.time_ns()) < 10**9


def test_random():
    assert clock.random_bytes(0) == b""
    assert len(clock.random_bytes(1000)) == 1000
    assert clock.random_bytes(16) != clock.random_bytes(16)
