"""The guest in memory, against a gateway at work: what a program sees of it is what a socket would show."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from netstack import Config, Gateway
from netstack.errors import NetstackError
from netstack.link.impair import Impairment
from netstack.testing import memory_guest
from netstack.testing.guest import Guest
from netstack.testing.namespace import in_thread
from netstack.testing.servers import TcpServer, UdpEcho

HOST = "192.168.65.2"
MIB = 1024 * 1024


@pytest.fixture
def guest(poller: str) -> Iterator[Guest]:
    gateway = Gateway(Config(dns=()))
    with memory_guest(gateway) as made, gateway:
        made.dhcp()
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as s:
        s.settimeout(20)
        yield s


def accepted(guest: Guest, listener: socket.socket):
    stream = guest.connect(HOST, listener.getsockname()[1])
    host, _ = listener.accept()
    host.settimeout(20)
    return stream, host


def read_all(s) -> bytes:
    data = bytearray()
    while block := s.recv(1 << 18):
        data += block
    return bytes(data)


def test_a_guest_is_quick_to_have():
    gateway = Gateway(Config(dns=()))
    begin = time.perf_counter()
    memory_guest(gateway).close()
    assert time.perf_counter() - begin < 0.5  # milliseconds, on a machine that is not busy
    gateway.stop()


def test_dhcp_tells_the_network():
    gateway = Gateway(Config(dns=(), mtu=1400))
    with memory_guest(gateway) as guest, gateway:
        assert guest.dhcp() == {
            "address": "192.168.65.3",
            "prefix": 24,
            "router": "192.168.65.1",
            "dns": "192.168.65.1",
            "lease": 86400,
            "mtu": 1400,
        }
        assert [str(lease.address) for lease in gateway.leases()] == ["192.168.65.3"]


def test_names(guest):
    assert guest.resolve("gateway.internal") == "192.168.65.1"
    assert guest.resolve("host.docker.internal") == HOST
    with pytest.raises(NetstackError, match="no address"):
        guest.resolve("nothing.internal")


def test_connect_takes_a_name(guest):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with guest.connect("host.internal", port), server.accept()[0] as accepted:
            assert accepted.getsockname() == ("127.0.0.1", port)
    with pytest.raises(
        NetstackError, match=r"nothing\.internal has no address: the name server says SERVFAIL"
    ):
        guest.connect("nothing.internal", 80)


@pytest.mark.parametrize("size", [0, 56, 1472, 1473, 9000])
@pytest.mark.parametrize("address", ["192.168.65.1", HOST])
def test_ping(guest, address, size):
    assert 0 < guest.ping(address, size) < 20


def test_ping_with_a_short_life(guest):
    with pytest.raises(OSError, match="time to live exceeded"):
        guest.ping("203.0.113.9", ttl=1)


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 30000, 65507])
def test_udp(guest, size):
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        with UdpEcho(s) as server:
            data = os.urandom(size)
            assert guest.udp_echo(HOST, server.port, data) == data


def test_udp_to_a_closed_port(guest):
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with guest.udp() as endpoint:
        endpoint.sendto(b"anybody?", (HOST, port))
        with pytest.raises(ConnectionRefusedError):
            endpoint.recvfrom()


def test_tcp_both_ways(guest, listener):
    up, down = os.urandom(3 * MIB + 1), os.urandom(2 * MIB + 3)
    stream, host = accepted(guest, listener)
    with stream, host:
        writer = in_thread(lambda: (stream.sendall(up), stream.shutdown(socket.SHUT_WR)))
        assert read_all(host) == up
        writer(20)
        writer = in_thread(lambda: (host.sendall(down), host.shutdown(socket.SHUT_WR)))
        assert read_all(stream) == down
        writer(20)


def test_a_file_keeps_its_stream_open(guest, listener):
    """http.client closes its socket as soon as an answer that ends with the connection has begun."""
    stream, host = accepted(guest, listener)
    with host:
        file = stream.makefile()
        stream.close()
        host.sendall(b"late, but not too late")
        host.shutdown(socket.SHUT_WR)
        assert file.read() == b"late, but not too late"
        file.close()
        file.close()
        assert host.recv(1) == b""  # now the stream has ended, and not by a reset


def test_tcp_refused(guest, listener):
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        guest.connect(HOST, port)


def test_tcp_reset_by_the_host(guest, listener):
    stream, host = accepted(guest, listener)
    host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    host.close()
    with pytest.raises(ConnectionResetError):
        stream.recv(10)


def test_tcp_reset_by_the_guest(guest, listener):
    stream, host = accepted(guest, listener)
    stream.reset()
    with pytest.raises(ConnectionResetError), host:
        host.recv(10)


def test_sending_after_the_end_is_a_broken_pipe(guest, listener):
    stream, host = accepted(guest, listener)
    with host:
        stream.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            stream.sendall(b"too late")


def test_connections_leave_nothing_behind(guest):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener, TcpServer(listener) as server:
        for number in range(50):
            with guest.connect(HOST, server.port) as stream:
                stream.sendall(b"%d" % number)
                stream.shutdown(socket.SHUT_WR)
                assert read_all(stream) == b"%d" % number
    end = time.monotonic() + 20
    while guest._tcp:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_from_many_threads(guest):
    failed = []
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener, TcpServer(listener) as server:

        def talk(number: int) -> None:
            data = number.to_bytes(4, "big") * 50000
            with guest.connect(HOST, server.port) as stream:
                writer = in_thread(lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
                if read_all(stream) != data:
                    failed.append(number)
                writer(20)

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert failed == []


def test_two_guests_of_one_gateway():
    gateway = Gateway(Config(dns=()))
    with (
        memory_guest(gateway) as one,
        memory_guest(gateway, mac="02:00:00:00:00:04") as two,
        gateway,
    ):
        one.dhcp()
        two.dhcp()
        assert one.address != two.address
        assert one.ping(two.address) > 0
        with two.udp(7) as endpoint, one.udp() as mine:
            mine.sendto(b"across the switch", (two.address, 7))
            assert endpoint.recvfrom() == (b"across the switch", (one.address, mine.port))


def test_over_a_bad_path(listener):
    gateway = Gateway(Config(dns=()))
    data = os.urandom(MIB)
    with memory_guest(gateway, impair=Impairment(loss=1, delay=1, reorder=1)) as guest, gateway:
        guest.dhcp()
        stream, host = accepted(guest, listener)
        with stream, host:
            writer = in_thread(lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
            assert hashlib.sha256(read_all(host)).digest() == hashlib.sha256(data).digest()
            writer(20)


def test_without_an_address_nothing_can_be_sent():
    gateway = Gateway(Config(dns=()))
    with memory_guest(gateway) as guest, gateway, pytest.raises(OSError, match="no address"):
        guest.connect(HOST, 80)


def test_nobody_answers():
    gateway = Gateway(Config(dns=()))
    with memory_guest(gateway, timeout=0.3) as guest:  # the gateway is not started
        with pytest.raises(TimeoutError, match="no DHCP server"):
            guest.dhcp()
        gateway.stop()
