"""The switch against a dictionary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.switch import Switch

SECOND = 10**9
OPS = st.lists(
    st.tuples(
        st.sampled_from(["learn", "learn", "look", "forget"]),
        st.integers(1, 12),
        st.integers(0, 4),
        st.integers(0, 200),
    ),
    max_size=120,
)


def mac(n):
    return bytes([2, 0, 0, 0, 0, n])


@given(st.integers(1, 16), OPS)
def test_against_a_dictionary(limit, ops):
    switch, model, now, swept = Switch(limit, 300 * SECOND), {}, 0, 0
    for op, n, port, seconds in ops:
        now += seconds * SECOND
        if op == "learn":
            if n in model:
                assert switch.learn(mac(n), port, now) == (model[n][0] != port)
                model[n] = (port, now)
                continue
            if len(model) == limit and now - swept >= 300 * SECOND // 8:
                swept = now
                model = {k: v for k, v in model.items() if now - v[1] <= 300 * SECOND}
            if len(model) < limit:
                assert switch.learn(mac(n), port, now) == 0
                model[n] = (port, now)
            else:
                assert switch.learn(mac(n), port, now) == -1
        elif op == "look":
            if n in model and now - model[n][1] > 300 * SECOND:
                del model[n]
            want = model[n][0] if n in model else Switch.FLOOD
            assert switch.lookup(mac(n), now) == want
        else:
            switch.forget_port(port)
            model = {k: v for k, v in model.items() if v[0] != port}
        assert len(switch) == len(model)


def test_group_addresses_are_flooded_and_never_learnt():
    switch = Switch()
    for group in (b"\xff" * 6, b"\x01\0\x5e\0\0\1", bytes(6)):
        assert switch.learn(group, 3, 0) == -1
        assert switch.lookup(group, 0) == Switch.FLOOD
    assert len(switch) == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="6 bytes"):
        Switch().lookup(b"12345", 0)
    with pytest.raises(ValueError, match="limit"):
        Switch(limit=0)
