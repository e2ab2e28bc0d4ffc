"""The range set against a Python set of offsets."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.storage.ranges import Ranges

BASE = st.sampled_from([0, 2**32 - 20, 2**63])
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 60), st.integers(0, 15)),
        st.tuples(st.just("drop"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("has"), st.integers(0, 60), st.integers(0, 10)),
    ),
    max_size=60,
)


def runs(offsets):
    out = []
    for o in sorted(offsets):
        if out and out[-1][1] == o:
            out[-1][1] = o + 1
        else:
            out.append([o, o + 1])
    return [tuple(r) for r in out]


@given(BASE, st.integers(1, 6), OPS)
def test_against_a_set(base, limit, ops):
    ranges, model = Ranges(limit), set()
    for op, at, n in ops:
        left, right = base + at, base + at + n
        if op == "add":
            new = set(range(left, right))
            merged = runs(model | new)
            got = ranges.add(left, right)
            if len(merged) > limit:
                assert got == -1
            else:
                assert got == (1 if new - model else 0)
                model |= new
        elif op == "drop":
            ranges.drop_below(left)
            model = {o for o in model if o >= left}
        else:
            assert ranges.contains(left, right) == (set(range(left, right)) <= model)
        assert list(ranges) == runs(model)
        assert len(ranges) == len(runs(model))
        assert ranges.nbytes == len(model)


def test_limit_still_lets_ranges_join():
    ranges = Ranges(2)
    assert ranges.add(0, 1) == ranges.add(5, 6) == 1
    assert ranges.add(9, 10) == -1
    assert ranges.add(1, 5) == 1
    assert list(ranges) == [(0, 6)]
