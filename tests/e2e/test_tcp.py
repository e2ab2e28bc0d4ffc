"""TCP through the NAT: connections open, close, fail and reset for the guest just as they do for the host."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import time

import pytest

from netstack.storage.blocks import Blocks
from netstack.testing.lab import HOST_ALIAS, NOBODY, UNREACHABLE, WORLD
from netstack.testing.namespace import in_thread
from netstack.testing.servers import TcpServer

pytestmark = pytest.mark.netns

KIB, MIB = 1024, 1024 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


def reset(s: socket.socket) -> None:
    """Closes with RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    s.close()


def read_all(s: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    data = bytearray()
    while block := s.recv(1 << 18):
        data += block
    return bytes(data)


def pattern(length: int, seed: int) -> bytes:
    """Bytes that differ at every place and with every seed."""
    block = hashlib.sha256(seed.to_bytes(8, "big")).digest()
    return b"".join(hashlib.sha256(block + i.to_bytes(8, "big")).digest() for i in range(length // 32 + 1))[
        :length
    ]


@contextlib.contextmanager
def pair(net, address=HOST_ALIAS):
    """A guest's connection and the host's end of it."""
    ns, bind = (net.world, WORLD) if address == WORLD else (net.host, net.loopback)
    with ns.listen(bind) as listener:
        listener.settimeout(20)
        guest = net.guest.connect(address, listener.getsockname()[1])
        host, _ = listener.accept()
        host.settimeout(20)
        with guest, host:
            yield guest, host


def test_a_closed_port_refuses_at_once(net):
    with net.host.listen(net.loopback) as closed:
        port = closed.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        net.guest.connect(HOST_ALIAS, port)
    assert time.monotonic() - start < 3, "a retried SYN is not an answer at once"


def test_a_closed_port_refuses_though_it_is_the_one_for_our_end(net):
    """The kernel may give a connect to a port of its own host that very port, and then it has met itself."""
    before = net.host.sysctl("net.ipv4.ip_local_port_range")
    net.host.sysctl("net.ipv4.ip_local_port_range", "23456 23456")
    try:
        with pytest.raises(ConnectionRefusedError):
            net.guest.connect(HOST_ALIAS, 23456)
    finally:
        net.host.sysctl("net.ipv4.ip_local_port_range", before)


def test_a_closed_port_in_the_world_refuses(net):
    with pytest.raises(ConnectionRefusedError):
        net.guest.connect(WORLD, 1)


def test_unreachable_is_an_error_at_once(net):
    start = time.monotonic()
    with pytest.raises(OSError, match=r"No route to host|Network is unreachable"):
        net.guest.connect(UNREACHABLE, 80)
    assert time.monotonic() - start < 3


def test_an_address_that_nobody_has_is_an_error_when_the_router_says_so(net):
    with pytest.raises(OSError, match="No route to host"):
        net.guest.connect(NOBODY, 80, timeout=30)


def test_nothing_is_accepted_before_the_host_has_connected(net):
    """A SYN is answered when the host's connect succeeds: with a full backlog that is never."""
    with net.host.listen(net.loopback, backlog=0) as listener:
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as fillers:
            for _ in range(2):  # backlog 0 takes one; the next SYN is dropped by the host's kernel
                s = fillers.enter_context(net.host.socket())
                s.setblocking(False)
                s.connect_ex((net.loopback, port))
            with pytest.raises((TimeoutError, socket.timeout)):
                net.guest.connect(HOST_ALIAS, port, timeout=1.5)


@pytest.mark.parametrize("address", [HOST_ALIAS, WORLD])
def test_half_close_by_the_guest_loses_nothing(net, address):
    up, down = pattern(3 * MIB + 17, 1), pattern(2 * MIB + 5, 2)
    with pair(net, address) as (guest, host):

        def send() -> None:
            guest.sendall(up)
            guest.shutdown(socket.SHUT_WR)

        sent = in_thread(send)
        assert read_all(host) == up
        sent(20)
        answered = in_thread(lambda: (host.sendall(down), host.close()))
        assert read_all(guest) == down
        answered(20)


@pytest.mark.parametrize("address", [HOST_ALIAS, WORLD])
def test_half_close_by_the_host_loses_nothing(net, address):
    up, down = pattern(2 * MIB + 9, 3), pattern(3 * MIB + 1, 4)
    with pair(net, address) as (guest, host):

        def send() -> None:
            host.sendall(down)
            host.shutdown(socket.SHUT_WR)

        sent = in_thread(send)
        assert read_all(guest) == down
        sent(20)
        answered = in_thread(lambda: (guest.sendall(up), guest.close()))
        assert read_all(host) == up
        answered(20)


def test_both_ways_at_once(net):
    up, down = pattern(4 * MIB, 5), pattern(4 * MIB, 6)
    with pair(net) as (guest, host):

        def talk(s: socket.socket, data: bytes) -> bytes:
            writer = in_thread(lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
            got = read_all(s)
            writer(30)
            return got

        at_host = in_thread(lambda: talk(host, down))
        assert talk(guest, up) == down
        assert at_host(30) == up


def stopped_and_whole(sender, reader, seed):
    """Sends until nothing more is taken, for nobody reads; then all of it arrives."""
    data = pattern(48 * MIB, seed)
    sent = 0
    sender.settimeout(1.0)
    with contextlib.suppress(TimeoutError, socket.timeout):
        while sent < len(data):
            sent += sender.send(memoryview(data)[sent : sent + MIB])
    assert sent < len(data), "48 MiB went nowhere without a reader: the window did not close"
    sender.settimeout(20)
    rest = in_thread(lambda: (sender.sendall(memoryview(data)[sent:]), sender.shutdown(socket.SHUT_WR)))
    assert hashlib.sha256(read_all(reader)).digest() == hashlib.sha256(data).digest()
    rest(20)


def test_a_host_that_does_not_read_stops_the_guest_and_loses_nothing(net):
    with pair(net) as (guest, host):
        stopped_and_whole(guest, host, 7)


def test_a_guest_that_does_not_read_stops_the_host_and_loses_nothing(net):
    with pair(net) as (guest, host):
        stopped_and_whole(host, guest, 8)


def test_a_reset_by_the_host_is_a_reset_for_the_guest(net):
    with pair(net) as (guest, host):
        guest.sendall(b"hello")
        assert host.recv(10) == b"hello"
        reset(host)
        with pytest.raises(ConnectionResetError):
            guest.recv(10)


def test_a_reset_by_the_guest_is_a_reset_for_the_host(net):
    with pair(net) as (guest, host):
        guest.sendall(b"hello")
        assert host.recv(10) == b"hello"
        reset(guest)
        with pytest.raises(ConnectionResetError):
            host.recv(10)


def test_an_end_by_the_host_is_an_end_and_no_reset(net):
    with pair(net) as (guest, host):
        host.sendall(b"last words")
        host.close()
        assert read_all(guest) == b"last words"


def test_bytes_are_sent_as_they_are_and_when_they_are(net):
    """A request-answer game of small writes: nothing is held back for a timer, nothing merged."""
    with pair(net) as (guest, host):
        for s in (guest, host):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def serve() -> int:
            count = 0
            while (ball := host.recv(64)) != b"":
                host.sendall(ball)
                count += 1
            return count

        served = in_thread(serve)
        start = time.monotonic()
        for number in range(2000):
            ball = number.to_bytes(4, "big")
            guest.sendall(ball)
            assert guest.recv(64) == ball
        assert time.monotonic() - start < 2000 * 0.02, "each exchange waited for a timer"
        guest.close()
        assert served(20) == 2000


# --- many connections


def returns_to(measure, limit, seconds=20.0):
    """Whether ``measure()`` comes down to ``limit``, given some time."""
    end = time.monotonic() + seconds
    while measure() > limit:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def open_in_turn(net, count):
    with TcpServer(net.host.listen(net.loopback)) as server:
        failed = 0
        for number in range(count):
            try:
                with net.guest.connect(HOST_ALIAS, server.port) as s:
                    s.sendall(b"%d" % number)
                    s.shutdown(socket.SHUT_WR)
                    failed += read_all(s) != b"%d" % number
            except OSError:
                failed += 1
        assert failed == 0
        assert server.accepted == count


def hold_open(net, count):
    with TcpServer(net.host.listen(net.loopback, backlog=4096)) as server, contextlib.ExitStack() as held:
        connections = [held.enter_context(net.guest.connect(HOST_ALIAS, server.port)) for _ in range(count)]
        for number, s in enumerate(connections):
            s.sendall(number.to_bytes(4, "big") * 100)
        for number, s in enumerate(connections):
            data = b""
            while len(data) < 400:
                block = s.recv(400 - len(data))
                assert block, f"connection {number} of {count} was closed"
                data += block
            assert data == number.to_bytes(4, "big") * 100
        assert server.open == count


@pytest.mark.parametrize(
    ("in_turn", "at_once"),
    [(1000, 500), pytest.param(10_000, 5_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_many_connections_leave_nothing_behind(net, in_turn, at_once):
    open_in_turn(net, 50)  # what is allocated once is there afterwards
    hold_open(net, 50)
    watched = net.netstack
    if watched is not None:
        assert returns_to(watched.descriptors, 64), "connections that were closed are still held"
        descriptors, memory = watched.descriptors(), watched.resident()
    open_in_turn(net, in_turn)
    hold_open(net, at_once)
    if watched is not None:
        assert returns_to(watched.descriptors, descriptors), f"{watched.descriptors()} descriptors"
        # Memory goes back to the allocator's habits: a page here and there may stay, a connection's rings
        # may not. (A sanitizer keeps what was freed, to see it used.)
        assert not Blocks().usable or returns_to(watched.resident, memory + 16 * MIB), (
            f"{(watched.resident() - memory) / MIB:.0f} MiB were kept"
        )


def test_accepting_slowly_is_not_refusing(net):
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(await reader.read(100))

    with TcpServer(net.host.listen(net.loopback), late) as server, contextlib.ExitStack() as held:
        connections = [held.enter_context(net.guest.connect(HOST_ALIAS, server.port)) for _ in range(100)]
        for s in connections:
            s.sendall(b"x")
        assert [s.recv(10) for s in connections] == [b"x"] * 100
