"""The mailbox against a list of messages, and between two threads."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.storage.mailbox import Mailbox

HEADER = 8  # bytes that a message takes beside its own
CAPACITY = 64

messages = st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=CAPACITY))


@given(st.lists(st.one_of(messages, st.none()), max_size=60))
def test_first_in_first_out_and_bounded(steps: list[tuple[int, bytes] | None]) -> None:
    """Each step posts a message, or takes one."""
    box = Mailbox(CAPACITY)
    waiting: list[tuple[int, bytes]] = []
    for step in steps:
        if step is None:
            assert box.take() == (waiting.pop(0) if waiting else None)
            continue
        room = CAPACITY - sum(HEADER + len(data) for _, data in waiting)
        assert box.post(*step) == (HEADER + len(step[1]) <= room)
        if HEADER + len(step[1]) <= room:
            waiting.append(step)
    for message in waiting:
        assert box.take() == message
    assert box.take() is None


def test_one_thread_writes_and_another_reads() -> None:
    box = Mailbox(256)
    sent = [(number, bytes([number & 255]) * (number % 40)) for number in range(5000)]

    def write() -> None:
        for message in sent:
            while not box.post(*message):
                time.sleep(0)

    writer = threading.Thread(target=write)
    writer.start()
    got: list[tuple[int, bytes]] = []
    while len(got) < len(sent):
        message = box.take()
        if message is not None:
            got.append(message)
        else:
            time.sleep(0)
    writer.join()
    assert got == sent


@pytest.mark.parametrize("capacity", [0, 8, 48])
def test_capacities_that_cannot_be(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Mailbox(capacity)
