"""Medians, fairness and quantiles."""

from __future__ import annotations

import pytest

from bench.figures import Spread, jain, pointwise, quantile, ratio


def test_jain_is_one_for_equal_shares_and_one_nth_for_one_that_has_all() -> None:
    assert jain([5, 5, 5, 5]) == 1
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([1, 3]) == pytest.approx(16 / 20)
    assert jain([0, 0]) == 1


@pytest.mark.parametrize("shares", [[], [1, -1]])
def test_jain_refuses_what_are_no_shares(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="not shares"):
        jain(shares)


def test_a_spread_is_of_the_middle_and_both_ends() -> None:
    assert Spread.of([9, 1, 4, 2]) == Spread(3, 1, 9, 4)
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


CURVE = [(0, 10), (0.5, 20), (0.9, 60), (1, 100)]


@pytest.mark.parametrize(
    ("share", "value"), [(0, 10), (0.25, 15), (0.5, 20), (0.7, 40), (0.95, 80), (1, 100)]
)
def test_quantiles_lie_on_the_lines_between_points(share: float, value: float) -> None:
    assert quantile(CURVE, share) == pytest.approx(value)


@pytest.mark.parametrize("curve", [[], [(0.5, 1)], [(0, 1), (0.2, 2)]])
def test_a_curve_that_does_not_reach_a_quantile(curve: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"no value for 0\.3"):
        quantile(curve, 0.3)


def test_curves_have_a_median_point_by_point() -> None:
    assert pointwise([CURVE, [(s, v * 3) for s, v in CURVE], [(s, v * 2) for s, v in CURVE]])[1] == (0.5, 40)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        pointwise([CURVE, CURVE[:2]])


def test_no_ratio_to_nothing() -> None:
    assert ratio(6, 3) == 2
    assert ratio(None, 3) is None
    assert ratio(6, 0) is None
    assert ratio(6, None) is None
