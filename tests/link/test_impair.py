"""The bad path on virtual time, against its own arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.link.impair import ImpairedQueue, Impairment

MS = 1_000_000


def drain(queue, now=2**63):
    out = []
    while (frame := queue.pop(now)) is not None:
        out.append(frame)
    return out


def numbered(n):
    return [i.to_bytes(4, "big").ljust(60, b".") for i in range(n)]


def test_good_path():
    queue = ImpairedQueue(Impairment())
    frames = numbered(100)
    for frame in frames:
        assert queue.push(frame, 5)
    assert queue.next_deadline() == 5
    assert queue.pop(4) is None
    assert drain(queue, 5) == frames
    assert queue.next_deadline() is None


def test_delay():
    queue = ImpairedQueue(Impairment(delay=10))
    queue.push(b"x" * 60, 1000)
    assert queue.next_deadline() == 1000 + 10 * MS
    assert queue.pop(999 + 10 * MS) is None
    assert queue.pop(1000 + 10 * MS) == b"x" * 60


def test_rate_spaces_frames():
    queue = ImpairedQueue(Impairment(rate=10))
    for frame in numbered(5):
        queue.push(frame, 0)
    each = (60 + 24) * 8 * 1000 // 10  # ns at 10 Mbit/s
    for i in range(1, 6):
        assert queue.next_deadline() == i * each
        assert queue.pop(i * each) is not None


def test_queue_in_front_of_the_rate_overflows():
    queue = ImpairedQueue(Impairment(rate=1, queue=10))
    taken = [queue.push(bytes(1514), 0) for _ in range(30)]
    assert taken.count(True) == 10 or taken.count(True) == 11
    assert queue.stats()["full"] == taken.count(False)


@given(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 5, 50, 100]))
def test_same_seed_same_fate(seed, percent):
    settings = Impairment(
        loss=percent, reorder=percent, duplicate=percent, corrupt=percent, delay=3, jitter=2, seed=seed
    )
    results = []
    for _ in range(2):
        queue = ImpairedQueue(settings)
        results.append(
            ([queue.push(f, i * MS) for i, f in enumerate(numbered(50))], drain(queue), queue.stats())
        )
    assert results[0] == results[1]
    stats = results[0][2]
    assert stats["pushed"] == 50
    assert stats["popped"] == 50 - stats["lost"] - stats["full"] + stats["duplicated"]


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_loss_is_what_was_asked_for(percent):
    queue = ImpairedQueue(Impairment(loss=percent, seed=3))
    for _ in range(20000):
        queue.push(b"x" * 60, 0)
    assert abs(queue.stats()["lost"] / 200 - percent) < 1.5


def test_reordered_frames_overtake():
    queue = ImpairedQueue(Impairment(reorder=10, delay=10, seed=2))
    frames = numbered(500)
    for i, frame in enumerate(frames):
        queue.push(frame, i * 100_000)
    got = drain(queue)
    assert sorted(got) == frames
    assert got != frames
    assert 20 < queue.stats()["reordered"] < 90


def test_reordered_frames_fall_behind_without_delay():
    queue = ImpairedQueue(Impairment(reorder=10, seed=2))
    frames = numbered(500)
    for i, frame in enumerate(frames):
        queue.push(frame, i * 100_000)
    got = drain(queue)
    assert sorted(got) == frames
    assert got != frames


def test_ordered_jitter_keeps_the_order():
    frames = numbered(500)
    for ordered in (False, True):
        queue = ImpairedQueue(Impairment(delay=5, jitter=5, ordered=ordered))
        for i, frame in enumerate(frames):
            queue.push(frame, i * 100_000)
        got = drain(queue)
        assert sorted(got) == frames
        assert (got == frames) is ordered


def test_corruption_flips_one_bit_behind_the_ethernet_header():
    queue = ImpairedQueue(Impairment(corrupt=100))
    for _ in range(200):
        queue.push(bytes(60), 0)
    places = set()
    for frame in drain(queue):
        bits = [i for i in range(480) if frame[i // 8] >> (i % 8) & 1]
        assert len(bits) == 1
        assert bits[0] >= 14 * 8
        places.add(bits[0])
    assert len(places) > 50


def test_duplicates():
    queue = ImpairedQueue(Impairment(duplicate=100))
    for frame in numbered(3):
        queue.push(frame, 0)
    assert drain(queue) == sorted(numbered(3) * 2)


def test_settings():
    assert repr(Impairment.parse("loss=0.1 delay=5 rate=100 queue=7")) == repr(
        Impairment(loss=0.1, delay=5, rate=100, queue=7)
    )
    for text, message in (
        ("los=1", "los=1"),
        ("loss", "loss"),
        ("loss=x", "not a number"),
        ("loss=101", "percent"),
        ("loss=nan%", "percent"),
        ("delay=inf", "milliseconds"),
        ("queue=-1", "queue must be 0 to 4294967295, not -1"),
        ("seed=18446744073709551616", "seed must be 0 to"),
        ("ordered=2", "ordered must be 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Impairment.parse(text)
    for bad in ({"delay": -1}, {"rate": -5}, {"queue": 0}, {"corrupt": 200}):
        with pytest.raises(ValueError, match="must be"):
            Impairment(**bad)
