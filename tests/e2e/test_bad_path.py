"""Bulk transfers over a path that loses, delays and reorders: every byte arrives, nothing is reset."""

from __future__ import annotations

import hashlib
import socket

import pytest

from netstack.testing.lab import HOST_ALIAS
from netstack.testing.namespace import in_thread

pytestmark = pytest.mark.netns

MIB = 1024 * 1024
MILD = {"loss": 0.1, "reorder": 1.0, "delay": 5.0}  # per cent, per cent, ms one way
LOSSY = {"loss": 2.0, "delay": 1.0}


def transfer(source, sink, size):
    """Sends ``size`` bytes and half-closes; whether they arrived as they were sent."""
    block = bytes(range(256)) * 4096  # 1 MiB
    digest = hashlib.sha256()

    def send():
        for number in range(size // MIB):
            data = number.to_bytes(8, "big") + block[8:]
            digest.update(data)
            source.sendall(data)
        source.shutdown(socket.SHUT_WR)

    sender = in_thread(send)
    got, count = hashlib.sha256(), 0
    while data := sink.recv(1 << 18):
        got.update(data)
        count += len(data)
    sender(60)
    assert count == size
    assert got.digest() == digest.digest()


@pytest.mark.parametrize(
    ("impairment", "size"),
    [
        pytest.param(MILD, 16 * MIB, id="mild"),
        pytest.param(LOSSY, 2 * MIB, id="lossy"),
        pytest.param(MILD, 256 * MIB, id="mild-256M", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(LOSSY, 16 * MIB, id="lossy-16M", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_both_ways_arrive_whole(lab, impairment, size):
    lab.attach(impairment=impairment)
    with lab.host.listen() as listener:
        listener.settimeout(60)
        guest = lab.guest.connect(HOST_ALIAS, listener.getsockname()[1], timeout=120)
        host, _ = listener.accept()
        host.settimeout(120)
        with guest, host:
            transfer(guest, host, size)
            transfer(host, guest, size)
