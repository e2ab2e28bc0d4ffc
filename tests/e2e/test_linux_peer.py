"""A Linux kernel as the peer over bad paths: goodput beside what Linux and Linux reach over the same box.

Every byte of every stream is compared with a ramp. The sample of the normal run asks for half of the figures,
because its runs are short; the long matrix (``--slow``) for all of them: 0.9 of Linux where up to one frame
in a hundred is lost, 0.75 where it is one in twenty. ``python -m bench.peer`` prints the same as a table.
"""

from __future__ import annotations

import itertools

import pytest

from bench.peer import CONTROLS, LOSSES, REORDERS, RTTS, Cell, Peers, far, measure

pytestmark = pytest.mark.netns

SAMPLE = [
    (Cell(1.0, 20, 0.0), "up", "cubic"),
    (Cell(1.0, 20, 1.0), "down", "cubic"),
    (Cell(5.0, 20), "up", "reno"),
]
WAYS = [*(("up", control) for control in CONTROLS), ("down", "cubic")]


@pytest.mark.parametrize(("cell", "direction", "control"), SAMPLE, ids=str)
def test_a_sample(cell: Cell, direction: str, control: str) -> None:
    with Peers(cell) as peers:
        figure = measure(peers, direction, control, seconds=1.5, rounds=1, streams=4)
    assert figure.ratio >= figure.wanted / 2, str(figure)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "cell",
    # Without delay the processor would be compared, and not TCP: there the path has 100 Mbit/s.
    [Cell(*c, rate=0 if c[1] else 100) for c in itertools.product(LOSSES, RTTS, REORDERS)],
    ids=str,
)
def test_every_cell(cell: Cell) -> None:
    with Peers(cell) as peers:
        figures = [measure(peers, way, control, seconds=3, rounds=5, streams=8) for way, control in WAYS]
    short = [str(f) for f in figures if f.ratio < f.wanted]
    assert not short, "\n".join(short)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_server_50_ms_behind_the_host(direction: str) -> None:
    figure = far(50, direction, seconds=4, rounds=3)
    assert figure.ratio >= 0.9, str(figure)
