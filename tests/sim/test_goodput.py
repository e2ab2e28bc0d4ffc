"""Goodput over simulated paths, kept as a table: a change of behaviour is a difference in ``goodput.txt``.

After a change that is meant, ``UPDATE_GOODPUT=1 pytest tests/sim/test_goodput.py`` writes the table anew.
"""

from __future__ import annotations

import os
from pathlib import Path as File

import pytest

from netstack.tcp import Settings
from tests.sim.network import Path, pair, ramp

TABLE = File(__file__).with_name("goodput.txt")
RATE = 12.5e6  # bytes per second: 100 Mbit/s
BYTES = 1_000_000
LOSSES = (0.0, 0.0001, 0.001, 0.01, 0.05)
RTTS = (0.0002, 0.02, 0.1)
REORDER = (0.0, 0.05)
VARIANTS = {
    "cubic": Settings(),
    "reno": Settings(congestion="reno"),
    "cubic, no SACK": Settings(sack=False),
    "cubic, no timestamps": Settings(timestamps=False),
    "cubic, 64 KiB segments": Settings(max_gso=65536),
    "cubic, queue of 50 known": Settings(burst_packets=50),
}


def goodput(settings: Settings, loss: float, rtt: float, reorder: float, seed: int) -> float:
    """Megabytes per second of one transfer; the stream is whole, or the test fails."""
    data = ramp(BYTES)
    late = max(0.25 * rtt, 0.0005)
    net = pair(
        data,
        b"",
        Path(delay=rtt / 2, rate=RATE, queue=200, loss=loss, reorder=reorder, reorder_delay=late),
        Path(delay=rtt / 2, loss=loss),
        client=settings,
        server=settings,
        seed=seed,
    )
    a, b = net.hosts
    net.run(1000.0, lambda: b.ended)
    assert bytes(b.received) == data
    assert not any((a.reset, b.reset, a.timed_out, b.timed_out))
    assert not a.tcp.info()["bad_transition"]
    assert not b.tcp.info()["bad_transition"]
    assert b.done_at is not None
    return BYTES / b.done_at / 1e6


def row(name: str, loss: float, rtt: float, reorder: float) -> str:
    seeds = (1, 2, 3)
    rates = sorted(goodput(VARIANTS[name], loss, rtt, reorder, seed) for seed in seeds)
    where = f"{loss * 100:>5.2f} % {rtt * 1000:>6.1f} ms {reorder * 100:>3.0f} %"
    return f"{name:<26} {where}  {rates[1]:>8.3f} MB/s"


CELLS = [
    (name, loss, rtt, reorder) for name in VARIANTS for rtt in RTTS for reorder in REORDER for loss in LOSSES
]


def key(line: str) -> str:
    return line.rsplit("%", 1)[0]


@pytest.mark.skipif("UPDATE_GOODPUT" not in os.environ, reason="set UPDATE_GOODPUT=1 to write the table anew")
def test_write_the_table() -> None:
    lines = [row(*cell) for cell in CELLS]
    head = "# variant, loss, RTT, reordering, goodput of 1 MB over 100 Mbit/s, queue 200 (median of three)\n"
    TABLE.write_text(head + "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", VARIANTS)
def test_goodput_is_what_the_table_says(name: str) -> None:
    kept = {key(line): line for line in TABLE.read_text().splitlines() if not line.startswith("#")}
    # a sample of the table in every run; the whole table in the long one
    for cell in [c for c in CELLS if c[0] == name][::3]:
        line = row(*cell)
        assert line == kept[key(line)]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_goodput_of_every_cell(cell: tuple[str, float, float, float]) -> None:
    kept = {key(line): line for line in TABLE.read_text().splitlines() if not line.startswith("#")}
    line = row(*cell)
    assert line == kept[key(line)]


@pytest.mark.parametrize("rtt", RTTS)
def test_a_clean_path_is_filled(rtt: float) -> None:
    """Four megabytes fill the path but for the round trips of slow start."""
    data = ramp(4_000_000)
    settings = Settings(congestion="cubic", max_gso=65536)
    queue = 2000
    net = pair(
        data,
        b"",
        Path(delay=rtt / 2, rate=RATE, queue=queue),
        Path(delay=rtt / 2),
        client=settings,
        server=settings,
    )
    b = net.hosts[1]
    net.run(1000.0, lambda: b.ended)
    assert bytes(b.received) == data
    assert b.done_at is not None
    assert b.done_at <= 4_000_000 / (0.9 * RATE) + 12 * rtt
    assert net.paths[0].dropped == 0


def test_burst_limit_keeps_the_queue_of_a_link() -> None:
    """A TAP whose queue holds 50 packets: with the limit nothing is dropped, without it much is."""
    dropped = {}
    for limit in (0, 40):
        settings = Settings(burst_packets=limit, send_buffer=1 << 20)
        net = pair(
            ramp(2_000_000), b"", Path(delay=0.0001, rate=RATE, queue=50), Path(delay=0.0001), client=settings
        )
        b = net.hosts[1]
        net.run(100.0, lambda b=b: b.ended)
        dropped[limit] = net.paths[0].dropped
        assert b.done_at is not None
        if limit:
            assert b.done_at < 2_000_000 / (0.9 * RATE)
    assert dropped[40] == 0
    assert dropped[0] > 0


def test_pacing_spreads_a_window_over_the_round_trip() -> None:
    """A long path behind a link with a short queue: no more than a burst leaves at once."""
    settings = Settings(burst_packets=20)
    net = pair(ramp(2_000_000), b"", Path(delay=0.05, rate=RATE, queue=30), Path(delay=0.05), client=settings)
    b = net.hosts[1]
    net.run(100.0, lambda: b.ended)
    assert bytes(b.received) == ramp(2_000_000)
    assert net.paths[0].dropped <= 100


def test_ecn_marks_instead_of_drops() -> None:
    settings = Settings(ecn=True)
    net = pair(
        ramp(2_000_000),
        b"",
        Path(delay=0.01, rate=RATE, queue=300, mark_above=40),
        Path(delay=0.01),
        client=settings,
        server=settings,
    )
    b = net.hosts[1]
    net.run(100.0, lambda: b.ended)
    assert bytes(b.received) == ramp(2_000_000)
    assert net.hosts[0].tcp.info()["ssthresh"] < 1 << 20


def test_black_hole_on_the_way() -> None:
    net = pair(ramp(200_000), b"", Path(delay=0.01, blackhole_above=1300), Path(delay=0.01))
    b = net.hosts[1]
    net.run(100.0, lambda: b.ended)
    assert bytes(b.received) == ramp(200_000)
    assert b.done_at is not None
    assert b.done_at < 10
