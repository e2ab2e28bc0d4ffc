"""The judgement of ./dev soak: it sees what grows, and nothing else."""

from __future__ import annotations

import random

import pytest

from bench.soak.server import ORDER, order
from bench.soak.verdict import LIMITS, Limit, trend

HOUR = [5.0 * i for i in range(720)]


def noisy(level: float, an_hour: float) -> list[float]:
    """A series with noise and bursts about a line."""
    rng = random.Random(1)
    return [level + an_hour * t / 3600 + rng.uniform(-5, 5) + 300 * (rng.random() < 0.05) for t in HOUR]


def test_noise_and_bursts_are_flat() -> None:
    found = trend(HOUR, noisy(100, 0))
    assert abs(found.growth) < 1
    assert 95 < found.level < 105
    assert all(found.flat(limit) for limit in LIMITS.values())


def test_a_leak_is_seen() -> None:
    found = trend(HOUR, noisy(100, 40))
    assert found.slope == pytest.approx(40, abs=2)
    assert found.growth == pytest.approx(40, abs=2)
    assert not found.flat(Limit(0.1, 20))
    assert trend(HOUR, noisy(100, -40)).flat(Limit(0.0, 0.0)), "what shrinks is no leak"


def test_a_trend_needs_samples() -> None:
    with pytest.raises(ValueError, match="three samples"):
        trend([1.0, 2.0], [1.0, 2.0])


def test_an_order() -> None:
    assert ORDER.unpack(order(b"S", 5)) == (b"S", 5)
