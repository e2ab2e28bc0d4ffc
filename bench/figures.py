"""The statistics of the benchmarks: medians, how far values lie apart, fairness, quantiles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "jain", "pointwise", "quantile", "ratio"]


@dataclass(frozen=True)
class Spread:
    """Values of one figure in all repetitions."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError: there are none."""
        if not values:
            raise ValueError("no values")
        return cls(statistics.median(values), min(values), max(values), len(values))


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index of some shares: 1 when all are equal, 1/n when one has everything (RFC 5166, 2.3).

    ValueError: there are none, or one is negative. Nothing at all for everybody counts as fair.
    """
    if not shares or min(shares) < 0:
        raise ValueError(f"not shares: {list(shares)}")
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def quantile(curve: Sequence[Sequence[float]], share: float) -> float:
    """The value below which ``share`` of all values lie, of (share, value) points in rising order.

    Between two points it is on the straight line between them.

    ValueError: the points do not reach so far.
    """
    before: Sequence[float] | None = None
    for point in curve:
        if point[0] == share:
            return point[1]
        if point[0] > share:
            if before is None:
                break
            part = (share - before[0]) / (point[0] - before[0])
            return before[1] + part * (point[1] - before[1])
        before = point
    raise ValueError(f"no value for {share:g} in the curve")


def pointwise(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """The median of curves that have the same shares, point by point."""
    return [(points[0][0], statistics.median(p[1] for p in points)) for points in zip(*curves, strict=True)]


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """ours / theirs, or None where there is no such ratio."""
    return None if ours is None or not theirs else ours / theirs
