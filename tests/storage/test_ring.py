"""The ring against a dictionary from stream offset to byte."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netstack.storage.blocks import Blocks
from netstack.storage.ring import Ring


class RingMachine(RuleBasedStateMachine):
    @initialize(
        offset=st.one_of(st.integers(0, 10), st.integers(2**32 - 5000, 2**32 + 5), st.just(2**63)),
        blocks=st.booleans(),
    )
    def start(self, offset, blocks):
        self.ring = Ring(offset, Blocks() if blocks else None)
        self.head = self.tail = offset
        self.bytes = {}  # everything that was written or placed and not dropped
        self.counter = 0

    def fresh(self, n):
        self.counter += 1
        return bytes((self.counter * 31 + i * 7) & 0xFF for i in range(n))

    def end(self):
        return max([self.tail, *(o + 1 for o in self.bytes)])

    @rule(n=st.one_of(st.integers(0, 20000), st.integers(65000, 66000), st.integers(65537, 200000)))
    def reserve(self, n):
        self.ring.reserve(n)
        assert self.ring.capacity >= n

    @rule()
    def shrink(self):
        before = self.ring.capacity
        self.ring.shrink()
        assert self.ring.capacity <= before
        if self.end() == self.head:
            assert self.ring.capacity == 0

    @rule(n=st.integers(0, 9000))
    def write(self, n):
        data = self.fresh(n)
        room = self.ring.capacity - (self.tail - self.head)
        assert self.ring.write(data) == min(n, room)
        for i in range(min(n, room)):
            self.bytes[self.tail + i] = data[i]
        self.tail += min(n, room)

    @rule(gap=st.integers(-50, 6000), n=st.integers(1, 3000))
    def place(self, gap, n):
        data = self.fresh(n)
        offset = self.tail + max(gap, -self.tail)
        self.ring.place(offset, data)
        for i in range(n):
            if self.head <= offset + i < self.head + self.ring.capacity:
                self.bytes[offset + i] = data[i]

    @rule()
    def commit_contiguous(self):
        n = 0
        while self.tail + n in self.bytes:
            n += 1
        self.ring.commit(n)
        self.tail += n

    @rule(n=st.integers(0, 9000))
    def drop(self, n):
        n = min(n, self.tail - self.head)
        self.ring.drop(n)
        for offset in range(self.head, self.head + n):
            del self.bytes[offset]
        self.head += n

    @precondition(lambda self: self.head == self.tail)
    @rule(n=st.integers(0, 3000))
    def skip(self, n):
        self.ring.skip(n)
        self.head += n
        self.tail += n
        self.bytes = {o: b for o, b in self.bytes.items() if o >= self.head}

    @rule(start=st.integers(-10, 9000), n=st.integers(0, 9000))
    def peek(self, start, n):
        offset = max(0, self.head + start)
        spans = self.ring.peek(offset, n)
        assert len(spans) <= 2
        lo, hi = max(offset, self.head), min(offset + n, self.tail)
        assert b"".join(spans) == bytes(self.bytes[o] for o in range(lo, hi))

    @invariant()
    def everything_is_there(self):
        if not hasattr(self, "ring"):
            return
        assert (self.ring.head, self.ring.tail, len(self.ring)) == (
            self.head,
            self.tail,
            self.tail - self.head,
        )
        capacity = self.ring.capacity
        assert capacity == 0 or capacity & (capacity - 1) == 0
        held = b"".join(self.ring.peek(self.head, self.tail - self.head))
        assert held == bytes(self.bytes[o] for o in range(self.head, self.tail))
        if not self.bytes:
            assert self.ring.position == 0


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRing = RingMachine.TestCase


def test_placed_bytes_survive_growth_and_wrapping():
    ring = Ring()
    ring.reserve(4096)
    ring.write(bytes(4000))
    ring.drop(3999)
    ring.place(5000, b"island")  # wraps: it lies at the beginning of the memory
    ring.reserve(8192)
    ring.write(bytes(1000))
    ring.commit(6)
    assert b"".join(ring.peek(5000, 6)) == b"island"


def test_empty_ring_starts_again_at_the_beginning():
    ring = Ring()
    ring.reserve(4096)
    for _ in range(10):
        ring.write(b"x" * 1000)
        assert ring.position == 0
        ring.drop(1000)
    assert ring.head == 10000


def test_too_large():
    ring = Ring()
    with pytest.raises(MemoryError):
        ring.reserve(2**30 + 1)
    assert ring.capacity == 0
