"""The host's sockets on the loopback."""

import errno
import fcntl
import os
import select
import socket
import sys
from pathlib import Path

import pytest

from netstack.host.endpoints import EchoSocket, Listener, StreamSocket, UdpSocket, Wake, udp_has_gso

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
LOOPBACKS = ["127.0.0.1", "::1"]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(params=LOOPBACKS)
def loopback(request):
    if request.param == "::1" and not has_ipv6():
        pytest.skip("no IPv6 on the loopback")
    return request.param


def wait(sock, write=False, seconds=10):
    """Until the socket is ready; an error counts."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT if write else select.POLLIN)
    assert poll.poll(seconds * 1000), "nothing happened"


def connected(address):
    listener = Listener(address)
    client = StreamSocket.connect(address, listener.port)
    wait(listener)
    server, peer = listener.accept()
    assert peer == client.local()
    wait(client, write=True)
    assert client.error() == 0
    return client, server


def test_tcp(loopback):
    client, server = connected(loopback)
    with client, server:
        assert client.sendv([b"one ", b"two ", b"three"]) == 13
        wait(server)
        assert server.recv(6) == b"one tw"
        assert server.recv() == b"o three"
        with pytest.raises(BlockingIOError):
            server.recv()
        client.shutdown_write()
        wait(server)
        assert server.recv() == b""
        assert server.send(b"answer") == 6
        wait(client)
        assert client.recv() == b"answer"


def test_refused(loopback):
    with socket.socket(socket.AF_INET6 if ":" in loopback else socket.AF_INET) as closed:
        closed.bind((loopback, 0))
        try:
            client = StreamSocket.connect(loopback, closed.getsockname()[1])
        except ConnectionRefusedError:
            return
        wait(client, write=True)
        assert client.error() == errno.ECONNREFUSED
        assert client.error() == 0


def test_abort_resets():
    client, server = connected("127.0.0.1")
    client.set_abort()
    client.close()
    wait(server)
    with pytest.raises(ConnectionResetError):
        server.recv()


def test_full_buffer_would_block_and_no_signal_kills():
    a, b = StreamSocket.pair()
    fill = lambda: [a.send(bytes(100_000)) for _ in range(1000)]  # noqa: E731
    with pytest.raises(BlockingIOError):
        fill()
    b.close()
    with pytest.raises(BrokenPipeError):
        a.send(b"x")
    assert a.local() == ("::", 0)


def test_urgent_bytes_stay_in_the_stream():
    listener = Listener("127.0.0.1")
    with socket.create_connection(("127.0.0.1", listener.port)) as s:
        wait(listener)
        server, _ = listener.accept()
        s.send(b"ab")
        s.send(b"!", socket.MSG_OOB)
        s.send(b"cd")
        s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            wait(server)
            data = server.recv()
            if not data:
                break
            got += data
    assert got == b"ab!cd"


def test_descriptors_are_private():
    with Listener("127.0.0.1") as a, UdpSocket() as b, WakeContext() as c:
        pair = StreamSocket.pair()
        for s in (a, b, c, *pair):
            assert fcntl.fcntl(s.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            assert fcntl.fcntl(s.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK


class WakeContext(Wake):
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def test_udp_batch_with_ttl_and_tos(loopback):
    any_address = "::" if ":" in loopback else "0.0.0.0"
    with UdpSocket(any_address) as a, UdpSocket(any_address) as b:
        to = (loopback, b.local()[1])
        sent = [
            (bytes([i]) * (i + 1), to, 0, 0 if i % 2 else 40 + i, 0 if i % 3 else 0x28) for i in range(20)
        ]
        assert a.send(sent) == 20
        wait(b)
        got = []
        while len(got) < 20:
            wait(b)
            got += b.recv(7)
        for (data, _, _, ttl, tos), (data2, peer, gso, ttl2, tos2) in zip(sent, got, strict=True):
            assert data2 == data
            assert peer == (loopback, a.local()[1])
            assert gso == 0
            assert tos2 == tos
            if ttl:
                assert ttl2 == ttl
            else:
                assert ttl2 in (64, 128, 255)
        with pytest.raises(BlockingIOError):
            b.recv()


def test_empty_datagram():
    with UdpSocket() as a, UdpSocket() as b:
        assert a.send([(b"", ("127.0.0.1", b.local()[1]), 0, 0, 0)]) == 1
        wait(b)
        assert b.recv() == [(b"", ("127.0.0.1", a.local()[1]), 0, 64, 0)]


def test_connected_udp():
    with UdpSocket("127.0.0.1") as a, UdpSocket("127.0.0.1") as b:
        a.connect(*b.local())
        assert a.send([(b"hello", None, 0, 0, 0)]) == 1
        wait(b)
        assert b.recv()[0][:2] == (b"hello", a.local())


@linux
@pytest.mark.parametrize(
    ("total", "size"),
    [(10_000, 1000), (10_001, 1000), (65_000, 1400), (20_000, 100), (900, 1000), (65_507, 65_507)],
)
def test_joined_datagrams(loopback, total, size):
    """Sent in one call, they come out as datagrams of the given size, joined again or not, in order."""
    any_address = "::" if ":" in loopback else "0.0.0.0"
    payload = bytes(i * 31 % 251 for i in range(total))
    with UdpSocket(any_address) as a, UdpSocket(any_address) as b:
        assert a.send([(payload, (loopback, b.local()[1]), size, 0, 0)]) == 1
        got = b""
        sizes = []
        while len(got) < total:
            wait(b)
            for data, _, gso, _, _ in b.recv():
                step = gso or len(data)
                sizes += [len(data[at : at + step]) for at in range(0, len(data), step)]
                got += data
        assert got == payload
        assert sizes == [size] * (total // size) + ([total % size] if total % size else [])


@linux
def test_joined_datagrams_reach_a_plain_socket_one_by_one():
    with UdpSocket() as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(10)
        assert a.send([(b"a" * 250, plain.getsockname(), 100, 0, 0)]) == 1
        assert [len(plain.recv(1000)) for _ in range(3)] == [100, 100, 50]


@linux
def test_gso_is_known():
    assert udp_has_gso()


@linux
def test_refused_datagram_is_in_the_error_queue(loopback):
    family = socket.AF_INET6 if ":" in loopback else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as closed:
        closed.bind((loopback, 0))
        port = closed.getsockname()[1]
    any_address = "::" if ":" in loopback else "0.0.0.0"
    with UdpSocket(any_address) as a, UdpSocket(any_address) as b:
        assert a.recv_error() is None
        assert a.send([(b"lost datagram", (loopback, port), 0, 0, 0)]) == 1
        wait(a)
        entry = a.recv_error()
        assert entry["error"] == errno.ECONNREFUSED
        assert entry["peer"] == (loopback, port)
        assert entry["offender"] == loopback
        assert entry["payload"] == b"lost datagram"
        assert (entry["origin"], entry["type"], entry["code"]) == (
            (3, 1, 4) if ":" in loopback else (2, 3, 3)
        )
        assert a.recv_error() is None
        # The left-over error hides neither the next datagram sent nor one received.
        assert a.send([(b"lost again", (loopback, port), 0, 0, 0)]) == 1
        wait(a)
        assert a.send([(b"good", (loopback, b.local()[1]), 0, 0, 0)]) == 1
        wait(b)
        assert b.recv()[0][0] == b"good"
        assert b.send([(b"back", (loopback, a.local()[1]), 0, 0, 0)]) == 1
        wait(a)
        assert a.recv()[0][0] == b"back"


@linux
def test_too_big_is_a_local_error():
    with UdpSocket() as a:
        with pytest.raises(OSError, match="too long") as raised:
            a.send([(bytes(65508), ("127.0.0.1", 9), 0, 0, 0)])
        assert raised.value.errno == errno.EMSGSIZE


def test_options():
    with pytest.raises(OSError, match=r".") as raised:
        UdpSocket(interface="nosuchdevice0")
    assert raised.value.errno in (errno.ENODEV, errno.EPERM, errno.ENOSYS)
    with UdpSocket(ttl=33) as a, UdpSocket() as b:
        a.send([(b"x", ("127.0.0.1", b.local()[1]), 0, 0, 0)])
        wait(b)
        assert b.recv()[0][3] == 33


def test_wake():
    wake = Wake()
    ready = lambda: bool(select.select([wake], [], [], 0)[0])  # noqa: E731
    assert not ready()
    for _ in range(1000):
        wake.signal()
    assert ready()
    wake.clear()
    assert not ready()
    wake.clear()


def echo(ident, sequence, payload, ipv6=False):
    message = (
        bytes([128 if ipv6 else 8, 0, 0, 0])
        + ident.to_bytes(2, "big")
        + sequence.to_bytes(2, "big")
        + payload
    )
    padded = message + bytes(len(message) & 1)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + (~total & 0xFFFF).to_bytes(2, "big") + message[4:]


def exchange(ipv6, address):
    """One echo, and that somebody else's echo is not heard; (raw, ident as sent?)."""
    with EchoSocket(ipv6) as ping, EchoSocket(ipv6) as other:
        assert ping.ident != other.ident
        other.send(address, echo(other.ident, 9, b"not for us", ipv6))
        assert ping.send(address, echo(ping.ident, 7, b"payload " * 20, ipv6), 55) == 168
        wait(ping)
        message, peer, ttl = ping.recv()
        assert message[0] == (129 if ipv6 else 0)
        assert message[4:8] == ping.ident.to_bytes(2, "big") + b"\0\7"
        assert message[8:] == b"payload " * 20
        assert peer == address
        assert ttl in (55, 64, 255)
        with pytest.raises(BlockingIOError):
            ping.recv()
        return ping.raw


def allow_ping_sockets(allowed):
    """A fresh network namespace forbids them to everybody."""
    setting = Path("/proc/sys/net/ipv4/ping_group_range")
    if allowed:
        setting.write_text("0 0")
    low, high = map(int, setting.read_text().split())
    assert (low <= 0 <= high) is allowed


def exchange_both(allowed):
    allow_ping_sockets(allowed)
    return exchange(False, "127.0.0.1"), exchange(True, "::1") if has_ipv6() else None


@linux
@pytest.mark.netns
def test_echo_by_ping_socket(isolated):
    assert isolated(exchange_both, True) in ((False, False), (False, None))


@linux
@pytest.mark.netns
def test_echo_by_raw_socket(isolated):
    assert isolated(exchange_both, False) in ((True, True), (True, None))


def time_exceeded(allowed):
    """An echo request that meets an ICMP error; what the error looked like."""
    allow_ping_sockets(allowed)
    with EchoSocket() as ping, EchoSocket() as other:
        # Nobody forwards on the loopback, so the error is sent by hand through another raw socket.
        request = echo(ping.ident, 3, b"quoted")
        ping.send("127.0.0.5", request)
        header = bytes([0x45, 0, 0, 20 + len(request), 0, 0, 0, 0, 64, 1, 0, 0, 127, 0, 0, 1, 127, 0, 0, 5])
        error = bytearray(b"\x0b\0\0\0\0\0\0\0" + header + request)
        total = sum(int.from_bytes(error[i : i + 2], "big") for i in range(0, len(error) & ~1, 2))
        total += error[-1] << 8 if len(error) & 1 else 0
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        error[2:4] = (~total & 0xFFFF).to_bytes(2, "big")
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as injector:
            injector.sendto(bytes(error), ("127.0.0.1", 0))
        for _ in range(50):
            if not ping.raw:
                entry = ping.recv_error()
                if entry:
                    return "queue", entry["type"], entry["peer"][0], entry["payload"][:8] == request[:8]
            try:
                message, _, _ = ping.recv()
            except BlockingIOError:
                wait(ping)
                continue
            if message[0] == 11:
                with pytest.raises(BlockingIOError):
                    other.recv()
                return "message", message[0], socket.inet_ntoa(message[24:28]), message[28:36] == request[:8]
    return None


@linux
@pytest.mark.netns
def test_icmp_error_about_an_echo(isolated):
    assert isolated(time_exceeded, False) == ("message", 11, "127.0.0.5", True)
    assert isolated(time_exceeded, True) == ("queue", 11, "127.0.0.5", True)


def forbidden():
    import ctypes

    allow_ping_sockets(False)

    libc = ctypes.CDLL(None, use_errno=True)
    # PR_CAPBSET_DROP does not take CAP_NET_RAW from a process that has it: set the sets themselves.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capset(header, data) == 0
    try:
        EchoSocket()
    except PermissionError as error:
        return error.errno
    return None


@linux
@pytest.mark.netns
def test_echo_forbidden(isolated):
    assert isolated(forbidden) == errno.EACCES


def test_closed_endpoint():
    udp = UdpSocket()
    udp.close()
    udp.close()
    with pytest.raises(ValueError, match="closed"):
        udp.recv()
    with pytest.raises(ValueError, match="64"):
        UdpSocket().recv(65)
