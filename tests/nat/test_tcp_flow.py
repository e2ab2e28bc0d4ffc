"""TCP translation, segment by segment: what the host does is what the guest sees, and the other way round."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from stack import GATEWAY, GUEST, HOST, ICMP, IP, TCP, GuestTcp, Stack, data_of

import netstack


@pytest.fixture
def real() -> Iterator[Stack]:
    """A stack whose connections go to the machine's own loopback."""
    made = Stack(dial=False)
    yield made
    made.close()


def test_handshake_data_and_close_by_the_guest(stack: Stack) -> None:
    guest = GuestTcp(stack)
    guest.open()
    (peer,) = stack.peers
    (ack,) = guest.send(b"hello", seconds=0.1)
    assert ack[TCP].flags == "A"
    assert ack[TCP].ack == guest.seq
    assert peer.recv(100) == b"hello"
    peer.sendall(b"world")
    (data,) = guest.take(stack.run())
    assert data_of(data) == b"world"
    stack.send(guest.segment("A"))
    guest.send(b"", "FA")
    assert peer.recv(100) == b""
    peer.close()
    fin = guest.take(stack.run())[-1]
    assert "F" in fin[TCP].flags
    stack.send(guest.segment("A"))
    assert stack.gateway.flows() == []
    assert stack.gateway.stats()["tcp_closed_normally"] == 1


def test_close_by_the_host_keeps_the_other_direction(stack: Stack) -> None:
    guest = GuestTcp(stack)
    guest.open()
    (peer,) = stack.peers
    peer.shutdown(socket.SHUT_WR)
    fin = guest.take(stack.run())[-1]
    assert "F" in fin[TCP].flags
    stack.send(guest.segment("A"))
    guest.send(b"still here")
    assert peer.recv(100) == b"still here"
    guest.send(b"", "FA")
    assert peer.recv(100) == b""
    flows = stack.gateway.flows()
    assert [f["state"] for f in flows] == ["TIME-WAIT"]
    stack.run(20)
    assert stack.gateway.flows() == []


def test_syn_ack_waits_for_the_host(stack: Stack) -> None:
    stack.accept = False
    guest = GuestTcp(stack)
    (answer,) = stack.send(guest.segment("S"))
    assert "R" in answer[TCP].flags
    assert answer[TCP].ack == guest.seq + 1
    assert stack.gateway.flows() == []


def test_refused_by_the_host_is_a_reset(real: Stack) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    guest = GuestTcp(real, dport=port)
    (answer,) = real.send(guest.segment("S"))
    assert answer[TCP].flags == "RA"
    assert real.gateway.stats()["tcp_refused"] == 1


def test_reset_before_it_is_seen_to_be_open_is_a_reset(real: Stack) -> None:
    """A server that ends with a connection in its backlog: Linux tells the connecting socket ECONNRESET."""
    guest = GuestTcp(real)
    with socket.create_server(("127.0.0.1", 0)) as server:
        guest.dport = server.getsockname()[1]
        real.link.inject(bytes(guest.segment("S")))
        real.gateway.step(real.now)
    (answer,) = real.run()
    assert answer[TCP].flags == "RA"
    assert real.gateway.stats()["tcp_refused"] == 1


def test_to_the_hosts_loopback(real: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        guest = GuestTcp(real, dport=server.getsockname()[1])
        guest.open()
        conn, _ = server.accept()
        with conn:
            guest.send(b"x" * 1000)
            assert conn.recv(2000) == b"x" * 1000
            # the host's reset is the guest's reset
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        (answer,) = real.run()
        assert "R" in answer[TCP].flags
    assert real.gateway.flows() == []
    assert real.gateway.stats()["tcp_reset_by_host"] == 1


def test_a_guests_reset_is_the_hosts_reset(real: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        guest = GuestTcp(real, dport=server.getsockname()[1])
        guest.open()
        conn, _ = server.accept()
        real.send(guest.segment("R"))
        conn.settimeout(5)
        with conn, pytest.raises(ConnectionResetError):
            conn.recv(1)
    assert real.gateway.flows() == []


def test_without_the_alias_the_loopback_is_out_of_reach() -> None:
    stack = Stack(netstack.Config(dns=(), host_alias=None), dial=False)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            guest = GuestTcp(stack, dport=server.getsockname()[1])
            answers = stack.send(guest.segment("S"))
            assert any(TCP in a and "R" in a[TCP].flags for a in answers)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
    finally:
        stack.close()


def test_an_address_that_nobody_has(stack: Stack) -> None:
    answers = stack.send(GuestTcp(stack, dst="192.168.65.200").segment("S"))
    assert [(a[ICMP].type, a[ICMP].code) for a in answers if ICMP in a] == [(3, 1)]
    assert any(TCP in a and "R" in a[TCP].flags for a in answers)


@pytest.mark.parametrize("port", [1, 22, 80, 65535])
def test_the_gateway_refuses_what_it_does_not_offer(stack: Stack, port: int) -> None:
    (answer,) = stack.send(GuestTcp(stack, dport=port, dst=GATEWAY).segment("S"))
    assert answer[TCP].flags == "RA"
    assert stack.peers == []


def test_a_segment_without_a_connection_is_answered_by_reset(stack: Stack) -> None:
    guest = GuestTcp(stack)
    (answer,) = stack.send(guest.segment("A", seq=77, ack=5555))
    assert answer[TCP].flags == "R"
    assert answer[TCP].seq == 5555
    assert stack.send(guest.segment("R")) == []
    assert stack.drops() == {"tcp_no_connection": 2}


def test_bytes_wait_for_a_host_that_does_not_read(stack: Stack) -> None:
    guest = GuestTcp(stack)
    guest.open()
    (peer,) = stack.peers
    sent = bytearray()
    edge = guest.seq + 65535  # of the window
    for i in range(3000):
        if edge - guest.seq < 1460:
            answers = stack.run(0.1)
            if not answers:
                break
        else:
            chunk = bytes([i & 255]) * 1460
            answers = guest.send(chunk)
            sent += chunk
        for p in answers:
            assert p[TCP].ack + p[TCP].window >= edge, "the window shrank"
            edge = p[TCP].ack + p[TCP].window
    else:
        pytest.fail("the window never closed")
    got = bytearray()
    peer.setblocking(False)
    while len(got) < len(sent):
        try:
            got += peer.recv(1 << 20)
        except BlockingIOError:
            stack.run()
    assert got == sent


def test_down_is_limited_by_the_guests_window(stack: Stack) -> None:
    guest = GuestTcp(stack, window=4000)
    guest.open()
    (peer,) = stack.peers
    peer.sendall(b"d" * 20000)
    got = b"".join(data_of(p) for p in stack.run() if TCP in p)
    assert 0 < len(got) <= 4000
    guest.ack += len(got)
    for _ in range(200):
        more = guest.take(stack.send(guest.segment("A")))
        got += b"".join(data_of(p) for p in more)
        if len(got) >= 20000:
            break
    assert got == b"d" * 20000


def test_a_lost_segment_is_sent_again(stack: Stack) -> None:
    guest = GuestTcp(stack)
    guest.open()
    stack.peers[0].sendall(b"once more")
    first = [p for p in stack.run() if data_of(p)]
    again = [p for p in stack.run(3) if data_of(p)]
    assert len(first) == 1
    assert again
    assert all(data_of(p) == b"once more" and p[TCP].seq == first[0][TCP].seq for p in again)


def test_the_flow_table_is_bounded() -> None:
    stack = Stack(netstack.Config(dns=(), max_tcp_flows=4))
    try:
        for sport in range(5):
            (answer,) = stack.send(GuestTcp(stack, sport=5000 + sport).segment("S"))
            assert ("R" in answer[TCP].flags) == (sport == 4)
        assert stack.drops()["tcp_flows_full"] == 1
    finally:
        stack.close()


def test_stopping_resets_everybody() -> None:
    stack = Stack()
    guest = GuestTcp(stack)
    guest.open()
    (peer,) = stack.peers
    stack.gateway.stop()
    assert any(TCP in p and "R" in p[TCP].flags for p in map(ether, stack.link.drain()))
    assert peer.recv(1) == b""
    peer.close()


def ether(item: tuple[bytes, object]) -> IP:
    from stack import Ether

    return Ether(item[0])


def test_flows_tell_what_went_through(stack: Stack) -> None:
    guest = GuestTcp(stack, sport=41000, dport=8080)
    guest.open()
    guest.send(b"x" * 100)
    (flow,) = stack.gateway.flows()
    assert (flow["protocol"], flow["state"]) == ("tcp", "ESTABLISHED")
    assert (flow["guest"], flow["guest_port"]) == (GUEST, 41000)
    assert (flow["peer"], flow["peer_port"]) == (HOST, 8080)
    assert flow["bytes_up"] == 100


def test_every_segment_comes_from_the_address_that_was_asked(real: Stack) -> None:
    """RFC 9293 MUST-44 and MUST-45: the address that IP gives a connection is its own for all its life.

    Two connections with the same ports to two addresses of the host: answers, data, their repetition and the reset
    of each come from the address that this guest asked, and the sequence numbers of the one do not fit the other.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        guests = [GuestTcp(real, port, dst=dst) for dst in (HOST, GATEWAY)]
        answers = [real.send(guest.segment("S", options=guest.options))[-1] for guest in guests]
        assert [p[IP].src for p in answers] == [HOST, GATEWAY]
        guests[0].seq += 1
        guests[0].ack = answers[0][TCP].seq + 1
        real.send(guests[0].segment("A"))
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"once")
            first = [p for p in real.run(0.0) if data_of(p)]
            again = [p for p in real.run(3.0) if data_of(p)]  # it was not acknowledged
            assert first
            assert again
            assert {p[IP].src for p in first + again} == {HOST}
            (stray,) = real.send(
                real.ip(TCP(sport=guests[0].sport, dport=port, flags="A", seq=1, ack=9), dst=GATEWAY)
            )
            assert (stray[IP].src, stray[TCP].flags, stray[TCP].seq) == (GATEWAY, "R", 9)
