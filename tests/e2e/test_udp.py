"""UDP through the NAT: any size, any peer, and the truth about closed ports."""

from __future__ import annotations

import os
import socket
import time

import pytest

from netstack.testing.lab import HOST_ALIAS, UNREACHABLE, WORLD
from netstack.testing.servers import UdpEcho

pytestmark = pytest.mark.netns

IP_RECVERR = 11
SIZES = [0, 1, 2, 7, 576, 1471, 1472, 1473, 1480, 2952, 2953, 8192, 16384, 40000, 65506, 65507]


def bound(ns, address="0.0.0.0", port=0):
    s = ns.socket(kind=socket.SOCK_DGRAM)
    s.settimeout(10)
    s.bind((address, port))
    return s


@pytest.mark.parametrize("size", SIZES)
def test_datagrams_of_every_size_come_back_whole(net, size):
    with UdpEcho(bound(net.host, net.loopback)) as server, bound(net.guest) as guest:
        sent = os.urandom(size)
        guest.sendto(sent, (HOST_ALIAS, server.port))
        data, source = guest.recvfrom(70000)
        assert data == sent
        assert source == (HOST_ALIAS, server.port)
        assert [length for length, _ in server.seen] == [size]


def test_a_thousand_datagrams_in_flight_a_few_at_a_time(net):
    with UdpEcho(bound(net.host, net.loopback)) as server, bound(net.guest) as guest:
        guest.connect((HOST_ALIAS, server.port))
        back = set()
        for first in range(0, 1000, 20):
            for number in range(first, first + 20):
                guest.send(number.to_bytes(4, "big") * 300)
            for _ in range(20):
                data = guest.recv(2000)
                assert len(data) == 1200
                assert data == data[:4] * 300
                back.add(int.from_bytes(data[:4], "big"))
        assert back == set(range(1000))


def refused(net, address, port):
    with bound(net.guest) as guest:
        guest.connect((address, port))
        guest.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            guest.recv(100)


def test_a_closed_port_refuses(net):
    with bound(net.host, net.loopback) as closed:
        port = closed.getsockname()[1]
    refused(net, HOST_ALIAS, port)


def test_a_closed_port_out_in_the_world_refuses(net):
    with bound(net.world, WORLD) as closed:
        port = closed.getsockname()[1]
    refused(net, WORLD, port)


def test_an_unreachable_host_is_reported(net):
    with bound(net.guest) as guest:
        guest.setsockopt(
            socket.IPPROTO_IP, IP_RECVERR, 1
        )  # Linux keeps soft errors from those who did not ask
        guest.connect((UNREACHABLE, 9))
        guest.send(b"anybody?")
        with pytest.raises(OSError, match="No route to host"):
            guest.recv(100)


def test_one_mapping_for_all_peers_and_every_peer_may_answer(net):
    """Endpoint-independent mapping and filtering (RFC 4787 REQ-1, REQ-8 as an application wants it)."""
    net.world.ip("address", "replace", "203.0.113.3/24", "dev", "down0")
    first = bound(net.world, WORLD)
    other = bound(net.world, "203.0.113.3")
    with first, other, bound(net.guest) as guest:
        guest.sendto(b"one", first.getsockname())
        data, mapped = first.recvfrom(100)
        assert data == b"one"
        other.sendto(b"from a third party", mapped)
        assert guest.recvfrom(100) == (b"from a third party", other.getsockname())
        guest.sendto(b"two", other.getsockname())
        assert other.recvfrom(100) == (b"two", mapped)
        first.sendto(b"late", mapped)
        assert guest.recvfrom(100) == (b"late", first.getsockname())


def test_netcat_speaks_udp(net):
    server = net.host.spawn("nc", "-u", "-l", "-n", net.loopback, "7007")
    end = time.monotonic() + 10
    while not udp_bound(net.host, 7007):
        assert time.monotonic() < end, server.text
        time.sleep(0.01)
    done = net.guest.run("nc", "-u", "-n", "-w", "1", HOST_ALIAS, "7007", stdin=b"datagram by hand\n")
    assert done.returncode == 0
    server.wait_for("datagram by hand")
    server.stop()


def udp_bound(ns, port):
    with ns.entered(), open("/proc/thread-self/net/udp") as table:
        return any(line.split()[1].endswith(f":{port:04X}") for line in table.readlines()[1:])
