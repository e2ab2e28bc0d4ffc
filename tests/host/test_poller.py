"""The same behaviour from every back-end."""

import os
import socket
import sys
import time

import pytest

from netstack.host.poller import Poller

MS = 1_000_000
READ, WRITE, ERROR, HUP, RDHUP = Poller.READ, Poller.WRITE, Poller.ERROR, Poller.HUP, Poller.RDHUP
BACKENDS = ["poll", "epoll" if sys.platform == "linux" else "kqueue"]


@pytest.fixture(params=BACKENDS)
def poller(request, monkeypatch):
    monkeypatch.setenv("NETSTACK_POLLER", request.param)
    made = Poller()
    assert made.backend == request.param
    return made


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    yield a, b
    a.close()
    b.close()


def only(events, token):
    """The events of the one token that may have any, together."""
    assert {t for t, _ in events} <= {token}
    mask = 0
    for _, m in events:
        mask |= m
    return mask


def test_edges(poller, pair):
    a, b = pair
    poller.add(a.fileno(), READ, 7)
    assert poller.wait(0) == []
    b.send(b"x")
    assert only(poller.wait(1000 * MS), 7) == READ
    assert poller.wait(0) == [], "the same readiness is no news"
    assert a.recv(10) == b"x"
    with pytest.raises(BlockingIOError):
        a.recv(10)
    poller.rearm(a.fileno(), READ)
    assert poller.wait(0) == []
    b.send(b"y")
    assert only(poller.wait(1000 * MS), 7) == READ


def test_write_edge(poller, pair):
    a, b = pair
    poller.add(a.fileno(), READ | WRITE, 1)
    assert only(poller.wait(0), 1) == WRITE
    assert poller.wait(0) == []
    try:
        while True:
            a.send(bytes(65536))
    except BlockingIOError:
        poller.rearm(a.fileno(), WRITE)
    assert poller.wait(0) == []
    while True:
        try:
            b.recv(1 << 20)
        except BlockingIOError:
            break
    assert only(poller.wait(1000 * MS), 1) & WRITE


def test_peer_shutdown(poller, pair):
    a, b = pair
    poller.add(a.fileno(), READ, 1)
    b.shutdown(socket.SHUT_WR)
    mask = only(poller.wait(1000 * MS), 1)
    assert mask & READ
    assert mask & RDHUP
    assert not mask & HUP
    assert poller.wait(0) == []


def test_hang_up_is_told_once(poller, pair):
    a, b = pair
    poller.add(a.fileno(), READ | WRITE, 1)
    poller.wait(0)
    b.close()
    mask = only(poller.wait(1000 * MS), 1)
    assert mask & READ
    assert mask & (HUP | RDHUP)
    assert poller.wait(5 * MS) == []


def test_refused_connect(poller):
    with socket.socket() as closed, socket.socket() as s:
        closed.bind(("127.0.0.1", 0))
        s.setblocking(False)
        poller.add(s.fileno(), READ | WRITE, 3)
        poller.wait(0)
        s.connect_ex(closed.getsockname())
        poller.rearm(s.fileno(), READ | WRITE)
        assert only(poller.wait(1000 * MS), 3)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        poller.remove(s.fileno())


def test_time_out(poller):
    before = time.monotonic_ns()
    assert poller.wait(3 * MS) == []
    assert time.monotonic_ns() - before >= 3 * MS


def test_many_descriptors_and_a_small_limit(poller):
    pairs = [socket.socketpair() for _ in range(40)]
    try:
        for i, (a, b) in enumerate(pairs):
            poller.add(a.fileno(), READ, i)
            b.send(b"x")
        seen = []
        for _ in range(40):
            seen += [token for token, _ in poller.wait(0, limit=3)]
        assert sorted(seen) == list(range(40))
        for a, _ in pairs[::2]:
            poller.remove(a.fileno())
        for a, b in pairs:
            a.recv(10)
            poller.rearm(a.fileno(), READ)
            b.send(b"y")
        seen = []
        for _ in range(20):
            seen += [token for token, _ in poller.wait(0)]
        assert sorted(seen) == list(range(1, 40, 2))
    finally:
        for a, b in pairs:
            a.close()
            b.close()


def test_remove_and_add_again(poller, pair):
    a, b = pair
    poller.add(a.fileno(), READ, 1)
    with pytest.raises(FileExistsError):
        poller.add(a.fileno(), READ, 1)
    poller.remove(a.fileno())
    poller.remove(a.fileno())
    b.send(b"x")
    assert poller.wait(0) == []
    poller.add(a.fileno(), READ, 2)
    assert only(poller.wait(0), 2) == READ


def test_bad_arguments(poller, monkeypatch):
    with pytest.raises(OSError, match="poller_wait"):
        poller.wait(0, limit=0)
    monkeypatch.setenv("NETSTACK_POLLER", "select")
    with pytest.raises(OSError, match="poller_new"):
        Poller()


def test_error_queue_is_an_error_event(poller):
    if sys.platform != "linux":
        pytest.skip("IP_RECVERR is Linux")
    from netstack.host.endpoints import UdpSocket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        peer = closed.getsockname()
    with UdpSocket() as udp:
        poller.add(udp.fileno(), READ, 5)
        assert udp.send([(b"x", peer, 0, 0, 0)]) == 1
        assert only(poller.wait(1000 * MS), 5) & ERROR
        assert udp.recv_error()["error"] == 111
        poller.remove(udp.fileno())


def test_best_back_end(monkeypatch):
    monkeypatch.delenv("NETSTACK_POLLER", raising=False)
    assert Poller().backend == BACKENDS[1]
    assert os.environ.get("NETSTACK_POLLER") is None
