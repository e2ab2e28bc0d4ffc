"""The table against a dictionary, and its hash against the interpreter's own SipHash-1-3."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.storage.table import Table, siphash13

OPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "del", "get", "sweep"]),
        st.integers(0, 60),
        st.integers(1, 2**40),
    ),
    max_size=150,
)


def walk(table):
    cursor = 0
    while True:
        value, cursor = table.next(cursor)
        if value is None:
            return
        yield value


@settings(max_examples=200)
@given(
    st.sampled_from([1, 6, 8, 16, 20, 37, 40, 48]),
    st.integers(1, 64),
    st.integers(0, 20),
    st.sampled_from([0, 8, 72]),
    OPS,
)
def test_against_a_dictionary(key_size, limit, initial, key_offset, ops):
    table, model = Table(key_size, initial, limit, 1, 2, key_offset), {}
    for op, k, value in ops:
        key = k.to_bytes(2, "big").rjust(key_size, b"\0")[-key_size:]
        if op == "put":
            want = -2 if key in model else -1 if len(model) >= limit else 0
            assert table.put(key, value) == want
            if want == 0:
                model[key] = value
        elif op == "del":
            assert table.delete(key) == model.pop(key, None)
        elif op == "get":
            assert table.get(key) == model.get(key)
        else:
            # a walk that deletes some of what it meets, meets everything exactly once
            seen = []
            by_value = {}
            for kk, v in model.items():
                by_value.setdefault(v, []).append(kk)
            for v in walk(table):
                seen.append(v)
                if v % 3 == k % 3:
                    owner = next((o for o in by_value[v] if len(by_value[v]) == 1), None)
                    if owner is not None:
                        assert table.delete(owner) == v
                        del model[owner]
            assert sorted(seen) == sorted(v for v, owners in by_value.items() for _ in owners)
        assert len(table) == len(model)
    assert sorted(walk(table)) == sorted(model.values())
    for key, value in model.items():
        assert table.get(key) == value


def test_grows_and_gives_back():
    table = Table(40, 16, 100_000, 3, 4)
    small = table.nbytes
    keys = [i.to_bytes(40, "little") for i in range(20_000)]
    for i, key in enumerate(keys):
        assert table.put(key, i + 1) == 0
    assert all(table.get(key) == i + 1 for i, key in enumerate(keys))
    assert table.nbytes > 20_000 * 48
    for key in keys:
        assert table.delete(key) is not None
    assert table.nbytes == small


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this interpreter hashes differently")
def test_hash_is_siphash13():
    script = (
        "import sys; from netstack.storage.table import siphash13\n"
        "for n in [*range(1, 70), 1000]:\n"
        "    data = bytes((i * 37 + n) & 255 for i in range(n))\n"
        "    assert hash(data) & (2**64 - 1) == siphash13(data, 0, 0), n\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": ":".join(filter(None, sys.path))},
    )


def test_hash_depends_on_both_keys():
    assert len({siphash13(b"x" * 16, a, b) for a in (0, 1) for b in (0, 1)}) == 4


def test_wrong_arguments():
    with pytest.raises(ValueError, match="key_size"):
        Table(0)
    with pytest.raises(ValueError, match="key_size"):
        Table(8, limit=0)
    with pytest.raises(ValueError, match="8 bytes"):
        Table(8).get(b"1234567")
