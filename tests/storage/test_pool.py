"""The pool: objects are disjoint, zeroed, bounded; memory falls back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.storage.pool import Pool


@given(
    st.one_of(st.integers(1, 300), st.integers(6000, 9000)),  # the large ones in pages of their own
    st.integers(1, 9),
    st.integers(1, 40),
    st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=200),
)
def test_against_a_set(size, per_chunk, limit, ops):
    pool, out = Pool(size, per_chunk, limit), []
    for get, pick in ops:
        if get:
            address = pool.get()  # raises AssertionError when the object is not zeroed
            if len(out) == limit:
                assert address is None
            else:
                assert address is not None
                assert address % (64 if size >= 64 else 16) == 0
                assert all(abs(address - other) >= size for other in out)
                out.append(address)
        elif out:
            pool.put(out.pop(pick % len(out)))
        assert len(pool) == len(out)


@pytest.mark.parametrize(("size", "per_chunk"), [(100, 16), (900, 64)], ids=["heap", "pages"])
def test_memory_falls_back(size, per_chunk):
    pool = Pool(size, per_chunk, 10000)
    empty = pool.nbytes
    addresses = [pool.get() for _ in range(100 * per_chunk)]
    full = pool.nbytes
    assert 100 * per_chunk * size <= full - empty <= 1.3 * 100 * per_chunk * size + 65536
    for address in addresses:
        pool.put(address)
    assert pool.nbytes - empty <= (full - empty) // 90  # one chunk of a hundred stays


def test_wrong_sizes():
    for size, per_chunk in ((0, 1), (1, 0), (2**20 + 1, 1), (1, 65537)):
        with pytest.raises(ValueError, match="object_size"):
            Pool(size, per_chunk)


def test_put_twice_is_refused():
    pool = Pool(10)
    address = pool.get()
    pool.put(address)
    with pytest.raises(KeyError):
        pool.put(address)
