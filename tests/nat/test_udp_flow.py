"""UDP translation over real sockets of the loopback, stepped by hand."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from stack import GATEWAY_MAC, GUEST, HOST, ICMP, IP, MAC, UDP, Ether, Packet, Raw, Stack, data_of

import netstack


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(dial=False)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def datagram(data: bytes, dport: int, sport: int = 5000, dst: str = HOST, **ip: int) -> Packet:
    return (
        Ether(src=MAC, dst=GATEWAY_MAC)
        / IP(src=GUEST, dst=dst, **ip)
        / UDP(sport=sport, dport=dport)
        / Raw(data)
    )


def until(stack: Stack, condition: object = None) -> list[Packet]:
    """The kernel's loopback is quick but not immediate for error queues."""
    out: list[Packet] = []
    for _ in range(200):
        out += stack.run()
        if out:
            break
        time.sleep(0.005)
    return out


@pytest.mark.parametrize("size", [0, 1, 64, 1472])
def test_there_and_back(stack: Stack, server: socket.socket, size: int) -> None:
    data = bytes(i & 255 for i in range(size))
    assert stack.send(datagram(data, server.getsockname()[1])) == []
    got, peer = server.recvfrom(65535)
    assert got == data
    server.sendto(got, peer)
    (reply,) = until(stack)
    assert reply[IP].src == HOST
    assert reply[UDP].sport == server.getsockname()[1]
    assert reply[UDP].dport == 5000
    assert data_of(reply) == data


@pytest.mark.parametrize("size", [1473, 9000, 65507])
def test_large_replies_are_fragmented(stack: Stack, server: socket.socket, size: int) -> None:
    data = bytes(i * 3 & 255 for i in range(size))
    stack.send(datagram(b"?", server.getsockname()[1]))
    _, peer = server.recvfrom(10)
    server.sendto(data, peer)
    frames = until(stack)
    body = b"".join(bytes(f[IP])[20 : f[IP].len] for f in frames)
    assert all(len(f) <= 1514 for f in frames)
    assert body[8:] == data
    whole = IP(bytes(IP(src=HOST, dst=GUEST, proto=17, len=20 + len(body))) + body)
    check = whole[UDP].chksum
    del whole[UDP].chksum
    assert IP(bytes(whole))[UDP].chksum == check


def test_one_mapping_for_all_peers(stack: Stack, server: socket.socket) -> None:
    """RFC 4787 REQ-1 and REQ-8: a third party that learns the mapping can answer."""
    stack.send(datagram(b"a", server.getsockname()[1]))
    _, mapped = server.recvfrom(10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        third.bind(("127.0.0.1", 0))
        stack.send(datagram(b"b", third.getsockname()[1]))
        third.settimeout(5)
        assert third.recvfrom(10)[1] == mapped
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.sendto(b"hole", mapped)
            (reply,) = until(stack)
            assert reply[UDP].sport == stranger.getsockname()[1]
            assert data_of(reply) == b"hole"


def test_a_closed_port_is_said_to_be_closed(stack: Stack, server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    out = stack.send(datagram(b"anyone?", port)) or until(stack)
    (error,) = out
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    quoted = IP(bytes(error[ICMP].payload))
    assert (quoted.src, quoted.dst) == (GUEST, HOST)
    assert (quoted[UDP].sport, quoted[UDP].dport) == (5000, port)
    assert bytes(quoted[UDP].payload) == b"anyone?"


def test_the_gateways_own_ports_are_closed(stack: Stack) -> None:
    (error,) = stack.send(datagram(b"x", 9, dst="192.168.65.1"))
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    assert error[IP].src == "192.168.65.1"
    assert stack.drops() == {"udp_no_port": 1}


def test_a_low_ttl_ends_at_the_gateway(stack: Stack) -> None:
    (error,) = stack.send(datagram(b"x", 33434, dst="203.0.113.9", ttl=1))
    assert (error[ICMP].type, error[ICMP].code) == (11, 0)
    assert error[IP].src == "192.168.65.1"


def test_a_silent_flow_ends_after_thirty_seconds(stack: Stack, server: socket.socket) -> None:
    stack.send(datagram(b"x", server.getsockname()[1]))
    stack.run(29)
    assert len(stack.gateway.flows()) == 1
    stack.run(2)
    assert stack.gateway.flows() == []


def test_a_two_way_flow_ends_after_three_minutes(stack: Stack, server: socket.socket) -> None:
    stack.send(datagram(b"x", server.getsockname()[1]))
    server.sendto(b"y", server.recvfrom(10)[1])
    until(stack)
    stack.run(179)
    assert len(stack.gateway.flows()) == 1
    stack.run(2)
    assert stack.gateway.flows() == []


def test_the_oldest_flow_makes_room(server: socket.socket) -> None:
    stack = Stack(netstack.Config(dns=(), max_udp_flows=8), dial=False)
    try:
        for sport in range(12):
            stack.send(datagram(b"x", server.getsockname()[1], sport=6000 + sport))
            stack.run(2)
        ports = sorted(f["guest_port"] for f in stack.gateway.flows())
        assert ports == list(range(6004, 6012))
        assert stack.drops()["udp_flow_evicted"] == 4
    finally:
        stack.close()


def test_fragments_from_the_guest_arrive_whole(stack: Stack, server: socket.socket) -> None:
    data = bytes(i * 11 & 255 for i in range(20000))
    raw = bytes(IP(src=GUEST, dst=HOST) / UDP(sport=5000, dport=server.getsockname()[1]) / Raw(data))[20:]
    frames = []
    for at in range(0, len(raw), 1480):
        more = at + 1480 < len(raw)
        ip = IP(src=GUEST, dst=HOST, id=5, proto=17, flags=int(more), frag=at // 8)
        frames.append(Ether(src=MAC, dst=GATEWAY_MAC) / ip / Raw(raw[at : at + 1480]))
    stack.send(*frames)
    assert server.recv(65535) == data


@pytest.mark.parametrize("dst", ["255.255.255.255", "192.168.65.255", "192.168.65.0"])
@pytest.mark.parametrize("ttl", [1, 64])
@pytest.mark.parametrize("port", [53, 68, 9999])
def test_a_guest_without_an_address_reaches_nothing_but_dhcp(
    stack: Stack, dst: str, ttl: int, port: int
) -> None:
    """Its packets belong to no neighbour, so that whatever would answer one must not see them."""
    raw = IP(src="0.0.0.0", dst=dst, ttl=ttl) / UDP(sport=68, dport=port) / Raw(bytes(32))
    assert stack.send(Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / raw) == []
    assert stack.gateway.stats()["ip_broadcast"] == 1
    assert stack.gateway.flows() == []


#: sizes of a burst: runs of one size that end in a shorter one, single ones, and nothing at all
BURST = [100, 100, 100, 40, 100, 100, 1472, 1472, 7, 7, 7, 7, 0, 0, 7, 8, 8, 1472, 1, *[64] * 150]


def numbered(sizes: list[int]) -> list[bytes]:
    return [bytes((n * 7 + i) & 255 for i in range(size)) for n, size in enumerate(sizes)]


def test_a_burst_to_the_host_arrives_as_it_was(stack: Stack, server: socket.socket) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    burst = numbered(BURST)
    stack.send(*(datagram(data, server.getsockname()[1]) for data in burst))
    assert [server.recv(65535) for _ in burst] == burst
    assert stack.gateway.stats()["udp_up"] == len(burst)


def test_a_burst_to_several_is_not_mixed_up(stack: Stack, server: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
        burst = numbered([80] * 60)
        ports = [(server if n % 5 < 3 else other).getsockname()[1] for n in range(60)]
        stack.send(*(datagram(data, port) for data, port in zip(burst, ports, strict=True)))
        for sock in (server, other):
            mine = [data for data, port in zip(burst, ports, strict=True) if port == sock.getsockname()[1]]
            assert [sock.recv(65535) for _ in mine] == mine


def test_each_of_a_burst_keeps_its_tos(stack: Stack, server: socket.socket) -> None:
    server.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    marks = [0, 0, 0x20, 0x20, 0x20, 0, 0x88]
    stack.send(*(datagram(b"same size", server.getsockname()[1], tos=tos) for tos in marks))
    seen = []
    for _ in marks:
        data, extra, _, _ = server.recvmsg(100, 100)
        assert data == b"same size"
        seen += [value[0] for _, kind, value in extra if kind == socket.IP_TOS]
    assert seen == marks


def test_a_burst_to_the_guest_arrives_as_it_was(stack: Stack, server: socket.socket) -> None:
    stack.send(datagram(b"?", server.getsockname()[1]))
    _, peer = server.recvfrom(10)
    burst = numbered(BURST)
    for data in burst:
        server.sendto(data, peer)
    frames: list[Packet] = []
    for _ in range(200):
        frames += stack.run()
        if len(frames) >= len(burst):
            break
        time.sleep(0.005)
    assert [data_of(f) for f in frames] == burst
    for f in frames:
        check = f[UDP].chksum
        del f[UDP].chksum
        assert IP(bytes(f[IP]))[UDP].chksum == check
    assert stack.gateway.stats()["udp_down"] == len(burst)
