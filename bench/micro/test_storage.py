"""What one operation of each container costs: the loops run in C, so divide by the number in the name."""

import pytest

from netstack.link.framing import segment
from netstack.storage.pool import Pool
from netstack.storage.ring import Ring
from netstack.storage.table import Table, siphash13
from netstack.storage.wheel import Wheel


def test_ring_100k(benchmark):
    ring = Ring()
    assert benchmark(ring.churn, 100_000, 65536) >= 100_000 * 65536


@pytest.mark.parametrize("timers", [1, 5000])
def test_wheel_rearm_100k(benchmark, timers):
    """Each round: move a timer, ask for the next deadline, look for expired ones, 10 us pass."""
    wheel = Wheel(0, timers)
    benchmark.pedantic(wheel.churn, (100_000, 10_000, 200_000_000), rounds=5)


@pytest.mark.parametrize("flows", [10, 10_000])
def test_table_get_100k(benchmark, flows):
    table = Table(40, 16, 1 << 20, 1, 2)
    keys = [i.to_bytes(40, "little") for i in range(flows)]
    for i, key in enumerate(keys):
        table.put(key, i + 1)
    assert benchmark(table.churn, 100_000, b"".join(keys)) == 100_000


def test_pool_100k(benchmark):
    assert benchmark(Pool(512).churn, 100_000) == 100_000


def test_siphash_of_40_bytes(benchmark):
    """One call from Python: most of it is the call."""
    benchmark(siphash13, bytes(40), 1, 2)


def test_software_segmentation_of_64k(benchmark):
    """45 segments with checksums, copied into Python objects."""
    header = bytes(12) + b"\x08\0" + bytes.fromhex("4500ffff00010000400600000a0000010a000002")
    header += bytes.fromhex("0001000200000000000000005010ffff00000000")
    pieces = [header, bytes(65160)]
    rc, sent, _ = benchmark(segment, pieces, (2, 1, 1448, 54, 34, 16))
    assert (rc, sent) == (0, 45)
