"""The wheel against a dictionary: never early, never late, never lost."""

from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.storage.wheel import Wheel

NEVER = 2**64 - 1
SLOT = 1 << 16
DISTANCE = st.one_of(
    st.integers(-SLOT * 3, SLOT * 3),
    st.integers(0, 64 * SLOT * 2),
    st.integers(0, 10**10),
    st.integers(0, 10**15),
    st.sampled_from([SLOT, 64 * SLOT, 4096 * SLOT, 64 * SLOT - 1, 2**62]),
)
OPS = st.lists(
    st.tuples(st.sampled_from(["arm", "arm", "cancel", "advance", "to_next"]), st.integers(0, 15), DISTANCE),
    max_size=80,
)


def drain(wheel, armed, now):
    due = {t for t, d in armed.items() if d <= now}
    got = set()
    while (timer := wheel.expire(now)) is not None:
        assert timer not in got
        assert armed[timer] <= now, "early"
        got.add(timer)
        assert not wheel.armed(timer)
    assert got == due
    for timer in got:
        del armed[timer]


@settings(max_examples=300)
@given(st.one_of(st.integers(0, 5), st.integers(0, 2**62)), OPS)
def test_against_a_dictionary(start, ops):
    wheel, armed, now = Wheel(start, 16), {}, start
    for op, timer, distance in ops:
        if op == "arm":
            deadline = max(0, min(now + distance, NEVER))
            wheel.arm(timer, deadline)
            armed[timer] = deadline
        elif op == "cancel":
            wheel.cancel(timer)
            armed.pop(timer, None)
        elif op == "advance":
            now = min(now + abs(distance), 2**64 - 2)
            drain(wheel, armed, now)
        else:
            soon = wheel.next()
            if soon != NEVER:
                now = max(now, soon)
                drain(wheel, armed, now)
        assert len(wheel) == len(armed)
        assert all(wheel.armed(t) == (t in armed) for t in range(16))
        soon = wheel.next()
        if armed:
            assert soon <= min(armed.values())
        else:
            assert soon == NEVER


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_following_next_reaches_every_deadline_exactly(deadlines):
    """A loop that sleeps until next() wakes a bounded number of times and returns each timer at its very
    deadline.
    """
    wheel, now, wakes, fired = Wheel(0, 40), 0, 0, {}
    for timer, deadline in enumerate(deadlines):
        wheel.arm(timer, deadline)
    while len(wheel):
        soon = wheel.next()
        assert soon >= now
        now = soon
        wakes += 1
        while (timer := wheel.expire(now)) is not None:
            fired[timer] = now
    assert fired == dict(enumerate(deadlines))
    assert wakes <= 9 * len(deadlines)


def test_next_is_exact_when_near():
    wheel = Wheel(10**9, 64)
    for timer in range(64):
        wheel.arm(timer, 10**9 + 50_000 + timer)
    assert wheel.next() == 10**9 + 50_000
    wheel.cancel(0)
    assert wheel.next() == 10**9 + 50_001


def test_rearming_moves():
    wheel = Wheel()
    wheel.arm(0, 1000)
    wheel.arm(0, 10**9)
    assert wheel.expire(10**9 - 1) is None
    assert wheel.expire(10**9) == 0
    assert wheel.next() == NEVER
