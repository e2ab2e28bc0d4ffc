"""When the engine looks for events before it sleeps."""

import os

import pytest

from netstack import Config, ConfigError
from netstack.gateway import several_processors
from netstack.host.spin import Spin

US = 1000
LIMIT = 25 * US


def looking() -> Spin:
    """A policy after a time of short sleeps."""
    spin = Spin(LIMIT)
    for _ in range(30):
        spin.slept(20 * US)
    assert spin.look == LIMIT
    return spin


def test_it_sleeps_at_first_and_for_ever_when_events_are_rare():
    spin = Spin(LIMIT)
    for _ in range(1000):
        assert spin.look == 0
        spin.slept(100_000 * US)


def test_a_few_long_sleeps_end_it():
    spin = looking()
    for _ in range(5):
        spin.slept(1000 * US)
    assert spin.look == 0, "each look in vain is time that others could use"


def test_now_and_then_a_long_one_does_not():
    spin = looking()
    for n in range(200):
        if n % 20:
            spin.found()
        else:
            spin.slept(1000 * US)
        assert spin.look == LIMIT


def test_half_of_them_in_vain_do():
    spin = looking()
    for _ in range(20):
        spin.found()
        spin.slept(1000 * US)
    assert spin.look == 0


def test_who_wants_the_processor_gets_it():
    spin = looking()
    spin.disturbs()
    for n in range(40):  # short sleeps that a look would have spared
        assert spin.look == 0, n
        spin.slept(20 * US)
    spin.slept(20 * US)
    assert spin.look == LIMIT, "and in time it is tried again"


def test_nothing_is_nothing():
    spin = Spin(0)
    for _ in range(100):
        spin.slept(1)
        assert spin.look == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no choice of processors here")
def test_a_single_processor_is_never_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert not several_processors()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 4})
    assert several_processors()


def test_the_setting_has_bounds():
    assert Config(busy_poll_us=0).busy_poll_us == 0
    with pytest.raises(ConfigError, match="busy_poll_us 1001 is out of range: it may be 0 to 1000"):
        Config(busy_poll_us=1001)
