"""Blocks: disjoint, the last one back is the next one out, and what is not in use has no pages."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.storage.blocks import Blocks

BLOCK = 65536
SLABS = Blocks().usable
needs_slabs = pytest.mark.skipif(not SLABS, reason="this build takes every buffer from the allocator")


def resident() -> int:
    """Bytes of this process that are in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@needs_slabs
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=300))
def test_against_a_set(ops):
    blocks, out = Blocks(), []
    last = None
    for get, pick in ops:
        if get:
            address = blocks.get()
            assert last is None or address == last, "the last one that was put back is warm"
            assert all(abs(address - other) >= BLOCK for other in out)
            out.append(address)
            last = None
        elif out:
            last = out.pop(pick % len(out))
            blocks.put(last)
        assert len(blocks) == len(out)


@needs_slabs
def test_many_go_back_to_the_system():
    blocks = Blocks()
    out = [blocks.get() for _ in range(1000)]
    assert (len(blocks), blocks.warm) == (1000, 0)
    for address in out:
        blocks.put(address)
    assert (len(blocks), blocks.warm) == (0, 64)
    assert blocks.cold >= 1000 - 64


@needs_slabs
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_their_pages_as_well():
    blocks, before = Blocks(), resident()
    out = [blocks.get() for _ in range(5000)]  # each touches its first and its last page
    assert resident() - before > 5000 * 8192 * 0.9
    for address in out:
        blocks.put(address)
    assert resident() - before < 5000 * 8192 * 0.2


@needs_slabs
def test_an_address_that_is_not_out():
    blocks = Blocks()
    with pytest.raises(KeyError):
        blocks.put(4096)
    address = blocks.get()
    blocks.put(address)
    with pytest.raises(KeyError):
        blocks.put(address)


def test_a_checking_build_has_none():
    if not SLABS:
        with pytest.raises(MemoryError, match="no block of 64 KiB"):
            Blocks().get()
