"""The link in memory: bounded, woken, closed, and with a path in front of it."""

import select
import threading

import pytest

from netstack.link.impair import Impairment
from netstack.link.memory import FrameMeta, MemoryLink

OK, AGAIN, CLOSED, BAD = 0, -1, -2, -3
MS = 1_000_000


def readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


def test_both_ways_with_metadata():
    link = MemoryLink(features=("csum", "tso4"))
    meta = FrameMeta(2, 1, 1000, 54, 34, 16)
    assert link.inject(b"a" * 60, meta)
    assert link.inject(b"b" * 60)
    assert link.engine_recv() == (b"a" * 60, meta)
    assert link.engine_recv() == (b"b" * 60, FrameMeta())
    assert link.engine_recv() is None
    assert link.engine_send(b"c" * 5000, meta) == OK
    assert link.engine_send(b"d" * 60) == OK
    assert link.drain() == [(b"c" * 5000, meta), (b"d" * 60, FrameMeta())]
    assert link.drain() == []
    stats = link.stats()
    assert (stats["rx_frames"], stats["rx_bytes"], stats["tx_frames"], stats["tx_bytes"]) == (2, 120, 2, 5060)


def test_wake_ups():
    link = MemoryLink()
    assert not readable(link.wake_fd)
    link.inject(bytes(60))
    link.inject(bytes(60))
    assert readable(link.wake_fd)
    link.engine_recv()
    link.engine_recv()
    assert link.engine_recv() is None
    assert not readable(link.wake_fd)
    link.engine_send(bytes(60))
    assert readable(link.out_fd)
    link.drain()
    assert not readable(link.out_fd)


def test_bounded():
    link = MemoryLink(queue=3)
    assert [link.inject(bytes(60)) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [link.engine_send(bytes(60)) for _ in range(5)] == [OK] * 3 + [AGAIN] * 2
    assert link.stats()["tx_full"] == 2
    assert link.pending() == (3, 3)
    assert len(link.drain(2)) == 2
    assert link.engine_send(bytes(60)) == OK


def test_refuses_what_it_cannot_carry():
    link = MemoryLink(mtu=1500)
    assert link.engine_send(bytes(1514)) == OK
    assert link.engine_send(bytes(1515)) == BAD
    assert link.engine_send(bytes(13)) == BAD
    assert link.engine_send(bytes(100), FrameMeta(csum=2, csum_start=34, csum_offset=16)) == BAD
    assert link.engine_send(bytes(5000), FrameMeta(2, 1, 1000, 54, 34, 16)) == BAD
    able = MemoryLink(mtu=1500, features=("csum", "tso4", "uso"))
    assert able.engine_send(bytes(5000), FrameMeta(2, 1, 1446, 54, 34, 16)) == OK
    assert able.engine_send(bytes(5000), FrameMeta(2, 1, 1461, 54, 34, 16)) == BAD  # segments above the MTU
    assert able.engine_send(bytes(5000), FrameMeta(2, 4, 1000, 74, 54, 16)) == BAD  # no TSO for IPv6
    assert able.engine_send(bytes(5000), FrameMeta(2, 0x81, 1000, 54, 34, 16)) == BAD  # no ECN


def test_close():
    link = MemoryLink()
    link.inject(bytes(60))
    link.close()
    assert readable(link.wake_fd)
    assert link.engine_recv() is not None
    with pytest.raises(ConnectionError):
        link.engine_recv()
    assert link.engine_send(bytes(60)) == CLOSED
    assert not link.inject(bytes(60))


def test_path_on_virtual_time():
    link = MemoryLink(impair=(Impairment(delay=10), Impairment(delay=5)))
    link.inject(b"u" * 60, now=1 * MS)
    assert link.engine_recv() is None
    assert link.next_deadline() == 11 * MS
    link.step(2 * MS)
    assert link.engine_send(b"d" * 60) == OK
    assert link.next_deadline() == 7 * MS
    link.step(7 * MS)
    assert link.drain() == [(b"d" * 60, FrameMeta())]
    assert not readable(link.wake_fd)
    link.step(11 * MS)
    assert readable(link.wake_fd)
    assert link.engine_recv() == (b"u" * 60, FrameMeta())
    assert link.next_deadline() is None
    assert link.stats()["up"]["popped"] == link.stats()["down"]["popped"] == 1


def test_a_full_queue_keeps_frames_on_the_path():
    link = MemoryLink(queue=2, impair=Impairment(delay=1))
    for _ in range(5):
        assert link.inject(bytes(60), now=0)
    link.step(5 * MS)
    assert link.pending()[0] == 2
    while link.engine_recv():
        pass
    link.step(5 * MS)
    assert link.pending()[0] == 2


def test_real_time_reads_the_clock():
    link = MemoryLink(impair=Impairment(), real_time=True)
    link.inject(b"x" * 60)
    assert link.engine_recv() == (b"x" * 60, FrameMeta())
    link.engine_send(b"y" * 60)
    assert link.drain() == [(b"y" * 60, FrameMeta())]


def test_a_frame_that_is_held_wakes_its_reader():
    """Who sleeps until an older deadline, or without one, would be late for it."""
    link = MemoryLink(impair=(None, Impairment.parse("delay=20ms")), real_time=True)
    assert not readable(link.out_fd)
    link.engine_send(bytes(60))
    assert readable(link.out_fd)
    assert link.next_deadline() is not None
    assert link.drain() == []  # it is not due yet; and the wake-up is taken back
    assert not readable(link.out_fd)
    link.close()


def test_two_threads():
    link = MemoryLink(queue=64)
    total, got = 20000, []

    def sender():
        for i in range(total):
            while not link.inject(i.to_bytes(20, "big")):
                pass

    thread = threading.Thread(target=sender)
    thread.start()
    while len(got) < total:
        frame = link.engine_recv()
        if frame is None:
            select.select([link.wake_fd], [], [], 10)
        else:
            got.append(int.from_bytes(frame[0], "big"))
    thread.join()
    assert got == list(range(total))


def test_settings():
    with pytest.raises(ValueError, match="no such feature"):
        MemoryLink(features=("lro",))
    with pytest.raises(ValueError, match="mtu"):
        MemoryLink(mtu=60)
    with pytest.raises(ValueError, match="queue"):
        MemoryLink(queue=0)
