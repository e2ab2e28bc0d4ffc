"""Connections and datagrams into the guest, segment by segment: published ports, dials, ARP, pings."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from stack import (
    ARP,
    GATEWAY,
    GATEWAY_MAC,
    GUEST,
    HOST,
    ICMP,
    IP,
    MAC,
    SECOND,
    TCP,
    UDP,
    Ether,
    GuestEnd,
    Packet,
    Raw,
    Stack,
    data_of,
)

import netstack
from netstack.publish import PublishError


def know(stack: Stack) -> None:
    """The guest has been heard of."""
    stack.send(stack.ip(ICMP(id=1, seq=1), dst=GATEWAY))


class GuestServer(GuestEnd):
    """The guest's end of a connection that came from outside."""

    def __init__(self, stack: Stack, syn: Packet) -> None:
        tcp = syn[TCP]
        assert tcp.flags == "S" or tcp.flags == "SEC"
        super().__init__(stack, tcp.dport, tcp.sport, syn[IP].src, 5000, tcp.seq + 1)

    def send(self, flags: str, payload: bytes = b"", seconds: float = 0.0, **fields: Any) -> list[Packet]:
        out = self.stack.send(self.segment(flags, payload, **fields), seconds=seconds)
        self.seq += len(payload) + ("F" in flags) + ("S" in flags)
        return self.take(out)

    def accept(self) -> list[Packet]:
        return self.send("SA", options=[("MSS", 1460)])


def syns(packets: list[Packet]) -> list[Packet]:
    return [p for p in packets if TCP in p and p[TCP].flags & 0x12 == 0x02]


@contextlib.contextmanager
def published(stack: Stack, spec: str = "127.0.0.1::80") -> Iterator[tuple[socket.socket, Packet]]:
    """A client of a published port, and the SYN that the guest got."""
    with stack.gateway.publish(spec) as port, socket.create_connection(port.address, 5) as client:
        client.settimeout(5)
        (syn,) = syns(stack.run())
        yield client, syn


def test_a_client_reaches_the_guest_as_the_host_alias_with_its_own_port(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        assert (syn[IP].src, syn[IP].dst) == (HOST, GUEST)
        assert (syn[TCP].sport, syn[TCP].dport) == (client.getsockname()[1], 80)
        assert syn[Ether].dst == MAC
        guest = GuestServer(stack, syn)
        client.sendall(b"before it is accepted")
        assert stack.run(0.1) == []
        answer = guest.accept()
        assert b"".join(data_of(p) for p in answer) == b"before it is accepted"
        guest.send("PA", b"answer")
        assert client.recv(100) == b"answer"
        client.sendall(b"more")
        assert b"".join(data_of(p) for p in guest.take(stack.run(0.1))) == b"more"
    assert stack.gateway.stats()["forward_tcp"] == 1


def test_half_closes_pass_both_ways(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        guest = GuestServer(stack, syn)
        guest.accept()
        client.shutdown(socket.SHUT_WR)
        assert "F" in guest.take(stack.run(0.1))[-1][TCP].flags
        guest.send("PA", b"still here")
        assert client.recv(100) == b"still here"
        guest.send("FA")
        assert client.recv(100) == b""
        stack.run(20)  # TIME-WAIT is over
        assert stack.gateway.flows() == []
        assert stack.gateway.stats()["tcp_closed_normally"] == 1


def test_refusal_resets_the_client(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        guest = GuestServer(stack, syn)
        guest.send("RA", seq=0)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert stack.drops() == {"forward_tcp": 1, "forward_refused": 1}
    assert stack.gateway.flows() == []


def test_port_unreachable_is_refusal(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        stack.send(stack.ip(ICMP(type=3, code=3) / bytes(syn[IP])[:28], dst=syn[IP].src))
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_resets_pass_both_ways(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        guest = GuestServer(stack, syn)
        guest.accept()
        guest.send("R")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with published(stack) as (client, syn):
        guest = GuestServer(stack, syn)
        guest.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert "R" in stack.run(0.1)[-1][TCP].flags


def test_a_client_that_leaves_before_the_answer(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        stack.run(0.1)
        assert stack.gateway.flows() == []
        guest = GuestServer(stack, syn)
        assert "R" in guest.accept()[-1][TCP].flags  # a late answer meets no connection
    assert stack.gateway.stats()["forward_abandoned"] == 1


def test_a_half_closed_client_is_still_served(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, syn):
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)
        stack.run(0.1)
        guest = GuestServer(stack, syn)
        answer = guest.accept()
        assert b"".join(data_of(p) for p in answer) == b"request"
        assert "F" in answer[-1][TCP].flags
        guest.send("PA", b"response")
        guest.send("FA")
        assert client.recv(100) == b"response"


def test_silence_is_a_reset_in_the_end(stack: Stack) -> None:
    know(stack)
    with published(stack) as (client, _):
        more = stack.run(130)
        assert len(syns(more)) > 3
        assert any(ARP in p for p in more)  # the address may have moved to another MAC
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert stack.gateway.stats()["forward_timed_out"] == 1


def test_the_mac_is_asked_for_first(stack: Stack) -> None:
    with stack.gateway.publish("127.0.0.1::80") as port, socket.create_connection(port.address, 5):
        (request,) = stack.run()
        assert request[Ether].dst == "ff:ff:ff:ff:ff:ff"
        assert request[Ether].src == request[ARP].hwsrc == GATEWAY_MAC
        assert (request[ARP].op, request[ARP].psrc, request[ARP].pdst) == (1, GATEWAY, GUEST)
        reply = ARP(op=2, hwsrc=MAC, psrc=GUEST, hwdst=GATEWAY_MAC, pdst=GATEWAY)
        (syn,) = stack.send(Ether(src=MAC, dst=GATEWAY_MAC) / reply)
        assert syn[Ether].dst == MAC
        assert syn[TCP].dport == 80


def test_nobody_with_that_address(stack: Stack) -> None:
    with stack.gateway.publish("127.0.0.1::80") as port, socket.create_connection(port.address, 5) as client:
        requests = stack.run(4)
        assert [p[ARP].op for p in requests] == [1, 1, 1]
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert stack.gateway.stats()["forward_no_guest"] == 1
    assert stack.gateway.flows() == []


def test_the_guests_own_connection_of_that_name_is_left_alone(stack: Stack) -> None:
    """The guest dials the host alias from port 80 to just the port that a client then comes from."""
    know(stack)
    with socket.socket() as client, stack.gateway.publish("127.0.0.1::80") as port:
        client.bind(("127.0.0.1", 0))
        taken = client.getsockname()[1]
        stack.send(stack.ip(TCP(sport=80, dport=taken, flags="S", seq=1), dst=HOST))
        client.connect(port.address)
        (syn,) = syns(stack.run())
        assert syn[TCP].sport != taken
        assert syn[TCP].sport >= 49152
        assert len(stack.gateway.flows()) == 2


def test_publish_source_gateway() -> None:
    stack = Stack(netstack.Config(dns=(), publish_source="gateway"))
    try:
        know(stack)
        with published(stack) as (_, syn):
            assert syn[IP].src == GATEWAY
    finally:
        stack.close()


def test_ipv6_and_unix_clients(stack: Stack, tmp_path: Any) -> None:
    know(stack)
    path = str(tmp_path / "sock")
    with stack.gateway.publish(f"unix:{path}:80") as port, socket.socket(socket.AF_UNIX) as client:
        assert port.address == path
        client.connect(path)
        (syn,) = syns(stack.run())
        assert syn[IP].src == HOST
        GuestServer(stack, syn).accept()
    assert not (tmp_path / "sock").exists()
    if socket.has_ipv6:
        try:
            with published(stack, "[::1]::80") as (_, syn):
                assert syn[IP].src == HOST
        except PublishError as err:
            pytest.skip(str(err))


def test_release_frees_the_port_at_once_and_keeps_connections(stack: Stack) -> None:
    know(stack)
    port = stack.gateway.publish("127.0.0.1::80")
    with socket.create_connection(port.address, 5) as client:
        client.settimeout(5)
        (syn,) = syns(stack.run())
        guest = GuestServer(stack, syn)
        guest.accept()
        port.close()
        port.close()
        with stack.gateway.publish(f"127.0.0.1:{port.address[1]}:81") as again:
            assert again.address == port.address
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(port.address, 5)
        guest.send("PA", b"goes on")
        assert client.recv(100) == b"goes on"


def test_a_range_is_one_rule(stack: Stack) -> None:
    know(stack)
    with stack.gateway.publish("127.0.0.1::8000-8019") as ports:
        first = ports.address[1]
        assert [p for _, p in ports.addresses] == list(range(first, first + 20))
        for at in (0, 7, 19):
            with socket.create_connection(("127.0.0.1", first + at), 5):
                (syn,) = syns(stack.run())
                assert syn[TCP].dport == 8000 + at


def test_a_guest_by_name_that_comes_later(stack: Stack) -> None:
    with stack.gateway.publish("127.0.0.1:0:web:80") as port:
        with socket.create_connection(port.address, 5) as client:
            stack.run()
            client.settimeout(5)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        stack.gateway._admit(1, "web", "192.168.65.7", "02:00:00:00:00:07", "web")
        with socket.create_connection(port.address, 5):
            (syn,) = syns(stack.run())
            assert syn[IP].dst == "192.168.65.7"
            assert syn[Ether].dst == "02:00:00:00:00:07"


def test_udp_clients_have_their_own_mappings(stack: Stack) -> None:
    know(stack)
    with (
        stack.gateway.publish("127.0.0.1::53/udp") as port,
        socket.socket(type=socket.SOCK_DGRAM) as one,
        socket.socket(type=socket.SOCK_DGRAM) as two,
    ):
        for sock, data in ((one, b"1"), (two, b"2"), (one, b""), (two, b"x" * 3000)):
            sock.settimeout(5)
            sock.sendto(data, port.address)
            got = [p for p in stack.run() if IP in p]
            if len(data) < 1400:
                (datagram,) = got
                assert (datagram[IP].src, datagram[UDP].sport) == (HOST, sock.getsockname()[1])
                assert (datagram[UDP].dport, data_of(datagram)) == (53, data)
            else:
                assert len(got) == 3  # in fragments
            reply = UDP(sport=53, dport=sock.getsockname()[1]) / Raw(b"re:" + data[:1000])
            stack.send(stack.ip(reply))
            assert sock.recvfrom(2000) == (b"re:" + data[:1000], port.address)
    stats = stack.gateway.stats()
    assert (stats["forward_clients"], stats["forward_down"], stats["forward_up"]) == (2, 4, 4)


def test_udp_waits_for_the_mac_and_ends_with_silence(stack: Stack) -> None:
    with stack.gateway.publish("127.0.0.1::53/udp") as port, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"first", port.address)
        client.sendto(b"second", port.address)
        (request,) = stack.run()
        assert request[ARP].pdst == GUEST
        out = stack.send(Ether(src=MAC, dst=GATEWAY_MAC) / ARP(op=2, hwsrc=MAC, psrc=GUEST, pdst=GATEWAY))
        assert [data_of(p) for p in out] == [b"first", b"second"]
        stack.run(40)
        answer = UDP(sport=53, dport=client.getsockname()[1]) / Raw(b"late")
        stack.send(stack.ip(answer))  # the mapping has ended: this is the guest's own datagram
        assert stack.gateway.stats()["forward_up"] == 0


def test_dial_and_refusal(stack: Stack) -> None:
    know(stack)
    sock, done = stack.gateway.dial_soon(GUEST, 80)
    with sock:
        (syn,) = syns(stack.run())
        assert syn[IP].src == GATEWAY
        assert not done.done()
        guest = GuestServer(stack, syn)
        guest.accept()
        assert done.result(0) is None
        sock.sendall(b"hello")
        assert b"".join(data_of(p) for p in guest.take(stack.run(0.1))) == b"hello"
        guest.send("PA", b"hi")
        assert sock.recv(10) == b"hi"
        guest.send("FA")
        assert sock.recv(10) == b""
    sock, done = stack.gateway.dial_soon(GUEST, 81)
    with sock:
        (syn,) = syns(stack.run())
        GuestServer(stack, syn).send("RA", seq=0)
        with pytest.raises(ConnectionRefusedError):
            done.result(0)


def test_dial_to_nobody_and_giving_up(stack: Stack) -> None:
    sock, done = stack.gateway.dial_soon("192.168.65.99", 80)
    with sock:
        stack.run(5)
        with pytest.raises(OSError, match="No route"):
            done.result(0)
    sock, done = stack.gateway.dial_soon("192.168.65.99", 80)
    sock.close()
    stack.run(0.1)
    assert stack.gateway.flows() == []
    with pytest.raises(OSError, match="nowhere"):
        stack.gateway.dial_soon("nowhere", 80)
    with pytest.raises(OSError, match="No route"):
        stack.gateway.dial_soon(HOST, 80)


def test_listen_is_a_host_of_the_network(stack: Stack) -> None:
    with stack.gateway.listen("192.168.65.200", 8080) as listener:
        who = ARP(hwsrc=MAC, psrc=GUEST, pdst="192.168.65.200")
        (reply,) = stack.send(Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / who)
        assert reply[ARP].hwsrc == GATEWAY_MAC
        (echo,) = stack.send(stack.ip(ICMP(id=1, seq=1), dst="192.168.65.200"))
        assert (echo[IP].src, echo[ICMP].type) == ("192.168.65.200", 0)
        syn = stack.ip(TCP(sport=1234, dport=8080, flags="S", seq=1), dst="192.168.65.200")
        (answer,) = stack.send(syn)
        assert answer[TCP].flags == "SA"
        sock, guest = listener.accept(0)
        assert guest == (GUEST, 1234)
        with sock:
            data = TCP(sport=1234, dport=8080, flags="PA", seq=2, ack=answer[TCP].seq + 1) / Raw(b"hello")
            stack.send(stack.ip(data, dst="192.168.65.200"))
            assert sock.recv(10) == b"hello"
        stack.run()
        (other,) = stack.send(stack.ip(TCP(sport=9, dport=81, flags="S"), dst="192.168.65.200"))
        assert "R" in other[TCP].flags
        with pytest.raises(TimeoutError):
            listener.accept(0)
        with pytest.raises(netstack.NetstackError, match="listens at"):
            stack.gateway.listen("192.168.65.200", 8080)
    assert stack.send(Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / who) == []
    with pytest.raises(netstack.NetstackError, match="belongs to a guest"):
        stack.gateway.listen(GUEST, 80)


def test_listen_takes_a_port_of_the_gateway_or_far_away(stack: Stack) -> None:
    for address in (GATEWAY, HOST, "198.51.100.7"):
        with stack.gateway.listen(address, 8080) as listener:
            (answer,) = stack.send(stack.ip(TCP(sport=1234, dport=8080, flags="S", seq=1), dst=address))
            assert answer[TCP].flags == "SA"
            listener.accept(0)[0].close()


def test_datagrams(stack: Stack) -> None:
    know(stack)
    with stack.gateway.open_datagram(GUEST, 53) as sock:
        sock.settimeout(5)
        sock.send(b"question")
        (datagram,) = stack.run()
        assert (datagram[IP].src, datagram[UDP].dport, data_of(datagram)) == (GATEWAY, 53, b"question")
        stack.send(stack.ip(UDP(sport=53, dport=datagram[UDP].sport) / Raw(b"answer"), dst=GATEWAY))
        assert sock.recv(100) == b"answer"


def test_ping_a_guest_from_the_gateway(stack: Stack) -> None:
    sent, answered = stack.gateway._reaching().ping_soon(GUEST, 56)
    (request,) = stack.run()
    assert request[ARP].pdst == GUEST
    out = stack.send(Ether(src=MAC, dst=GATEWAY_MAC) / ARP(op=2, hwsrc=MAC, psrc=GUEST, pdst=GATEWAY))
    (echo,) = out
    assert (echo[IP].src, echo[ICMP].type, len(echo[ICMP].payload)) == (GATEWAY, 8, 56)
    stack.now += SECOND // 1000
    stack.send(stack.ip(ICMP(type=0, id=echo[ICMP].id, seq=echo[ICMP].seq) / echo[ICMP].payload, dst=GATEWAY))
    assert answered.result(0) - sent == SECOND // 1000
    stack.send(stack.ip(ICMP(type=0, id=echo[ICMP].id, seq=9), dst=GATEWAY))
    assert stack.gateway.stats()["ping_reply_ignored"] == 1
