"""The bad-path box: between two namespaces with the kernel's stacks, and between links in memory."""

import hashlib
import os
import select
import socket
import threading
import time

import pytest

from netstack.host import namespace
from netstack.link.impair import Impairment
from netstack.link.memory import MemoryLink
from netstack.testing.impairment import ImpairmentBox


def collect(link, count, seconds=10):
    out = []
    while len(out) < count and select.select([link.out_fd], [], [], seconds)[0]:
        out += [frame for frame, _ in link.drain()]
    return out


@pytest.mark.parametrize("backend", ["poll", ""])
def test_carries_frames_between_links(monkeypatch, backend):
    monkeypatch.setenv("NETSTACK_POLLER", backend)
    a, b = MemoryLink(), MemoryLink()
    frames = [i.to_bytes(4, "big").ljust(60, b".") for i in range(300)]
    with ImpairmentBox(a, b, down="delay=1") as box:
        for frame in frames:
            a.inject(frame)
        assert collect(b, 300) == frames
        for frame in frames[:10]:
            b.inject(frame)
        assert collect(a, 10) == frames[:10]
    stats = box.stats()
    assert stats["up"]["pushed"] == stats["up"]["popped"] == 300
    assert stats["down"]["pushed"] == stats["down"]["popped"] == 10
    with box:  # it can be started again
        a.inject(frames[0])
        assert collect(b, 1) == frames[:1]


def test_loses_what_it_should():
    a, b = MemoryLink(queue=4096), MemoryLink(queue=4096)
    with ImpairmentBox(a, b, up=Impairment(loss=100)) as box:
        for _ in range(50):
            a.inject(bytes(60))
        b.inject(bytes(60))
        assert collect(a, 1) == [bytes(60)]
        while box.stats()["up"]["pushed"] < 50:
            time.sleep(0.001)
        assert box.stats()["up"]["lost"] == 50
    assert b.drain() == []


def test_completes_checksums_for_the_far_link():
    """A super-frame from a link that offloads reaches one that does not in segments."""
    a, b = MemoryLink(), MemoryLink()
    header = bytes(12) + b"\x08\0" + bytes.fromhex("45000bb800014000401100000a0000010a000002")
    frame = header + bytes.fromhex("03e8 07d0 0ba4 0000") + bytes(2972)
    with ImpairmentBox(a, b) as box:
        a.inject(frame, (2, 5, 1000, 42, 34, 6))
        got = collect(b, 3)
    assert [len(f) for f in got] == [1042, 1042, 1014]
    assert box.stats()["up"]["refused"] == 0


def test_a_closed_link_is_reported():
    a, b = MemoryLink(), MemoryLink()
    box = ImpairmentBox(a, b)
    box.start()
    with pytest.raises(RuntimeError, match="already"):
        box.start()
    a.close()
    while box.running:
        time.sleep(0.001)
    with pytest.raises(ConnectionError, match="failed"):
        box.stop()
    box.stop()


def test_not_a_tap():
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match="not a TAP"):
            ImpairmentBox(read_end, write_end)
    finally:
        os.close(read_end)
        os.close(write_end)


def transfer(up, down, size):
    """Bytes through two kernels over the box: do they arrive, and what the box says."""
    taps, spaces = [], []
    for address in ("10.3.0.1/24", "10.3.0.2/24"):
        namespace.unshare(namespace.CLONE_NEWNET)
        spaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
        fd, name, _ = namespace.open_tap("imp0", 0)
        namespace.set_interface(name, up=True)
        namespace.add_address(name, address)
        taps.append(fd)
    server = socket.create_server(("10.3.0.2", 80))
    namespace.setns(spaces[0])
    client = socket.socket()
    data = os.urandom(size)
    got = hashlib.sha256()

    def serve():
        with server.accept()[0] as s:
            while piece := s.recv(1 << 16):
                got.update(piece)
                s.sendall(piece[:10])

    with ImpairmentBox(*taps, up=up, down=down) as box:
        thread = threading.Thread(target=serve)
        thread.start()
        client.settimeout(60)
        client.connect(("10.3.0.2", 80))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
        thread.join()
    return got.digest() == hashlib.sha256(data).digest(), box.stats()


@pytest.mark.netns
def test_between_two_kernels(isolated):
    equal, stats = isolated(
        transfer,
        "loss=1 delay=1 reorder=1 duplicate=1 corrupt=0.5 seed=4",
        "loss=1 delay=1 jitter=0.5",
        2_000_000,
    )
    assert equal
    assert stats["up"]["lost"] > 0
    assert stats["up"]["corrupted"] > 0
    assert stats["up"]["refused"] == stats["down"]["refused"] == 0
