"""Whether a series of samples is flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LIMITS", "Limit", "Trend", "trend"]

PAIRS = 400  #: samples that a slope is made of, at most: it takes the square of that


@dataclass(frozen=True)
class Limit:
    """How much a series may grow over the whole time: a share of its level, or ``least`` if that is more."""

    share: float
    least: float


#: Memory of a process settles in ever smaller steps, as its allocator meets the largest demand of each kind.
LIMITS = {"resident": Limit(0.03, 2 * 2**20), "descriptors": Limit(0.10, 8), "flows": Limit(0.10, 20)}


@dataclass(frozen=True)
class Trend:
    """The line through a series: its ``level`` (the median), the ``slope`` an hour, and ``growth`` over the time."""

    level: float
    slope: float
    growth: float

    def flat(self, limit: Limit) -> bool:
        """Whether it grows no more than it may."""
        return self.growth <= max(limit.share * self.level, limit.least)


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """The line of Theil and Sen: the median of the slopes between all pairs, which bursts do not sway.

    Args:
        times: seconds, rising.
        values: at these times.

    Raises:
        ValueError: fewer than three samples.
    """
    if len(times) < 3:
        raise ValueError("a trend needs three samples")
    step = -(-len(times) // PAIRS)
    at, of = times[::step], values[::step]
    slopes = [(of[j] - of[i]) / (at[j] - at[i]) for i in range(len(at)) for j in range(i + 1, len(at))]
    slope = statistics.median(slopes)
    return Trend(statistics.median(values), slope * 3600, slope * (times[-1] - times[0]))
