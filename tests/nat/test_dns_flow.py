"""The resolver: own names from the table, everything else raw to an upstream, and never silence."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from stack import GATEWAY, GATEWAY_MAC, GUEST, HOST, IP, MAC, UDP, Ether, Packet, Stack, data_of

import netstack


@pytest.fixture
def upstream() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def made(*upstreams: socket.socket) -> Stack:
    dns = tuple(f"127.0.0.1#{s.getsockname()[1]}" for s in upstreams)
    return Stack(netstack.Config(dns=dns))


def query(name: str, qtype: str = "A", ident: int = 0x1234, sport: int = 5353) -> Packet:
    message = DNS(id=ident, rd=1, qd=DNSQR(qname=name, qtype=qtype))
    return Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=GUEST, dst=GATEWAY) / UDP(sport=sport, dport=53) / message


def reply_of(stack: Stack, frames: list[Packet], virtual: float = 0.0) -> DNS:
    for _ in range(200):
        if frames:
            break
        time.sleep(0.005)
        frames = stack.run(virtual)
    (frame,) = frames
    assert frame[IP].src == GATEWAY
    assert (frame[UDP].sport, frame[UDP].dport) == (53, 5353)
    return DNS(data_of(frame))


@pytest.mark.parametrize(
    ("name", "address"),
    [("gateway.internal", GATEWAY), ("host.internal", HOST), ("HOST.docker.Internal", HOST)],
)
def test_built_in_names(name: str, address: str) -> None:
    stack = made()
    try:
        answer = reply_of(stack, stack.send(query(name)))
        assert answer.rcode == 0
        assert answer.an[0].rdata == address
        assert answer.qd[0].qname == name.encode() + b"."
    finally:
        stack.close()


def test_other_names_go_to_the_upstream_raw(upstream: socket.socket) -> None:
    stack = made(upstream)
    try:
        assert stack.send(query("example.org", "TXT")) == []
        raw, peer = upstream.recvfrom(1000)
        asked = DNS(raw)
        assert asked.qd[0].qname == b"example.org."
        assert asked.qd[0].qtype == 16
        answer = DNS(
            id=asked.id, qr=1, rcode=5, qd=asked.qd, an=DNSRR(rrname="example.org", type="TXT", rdata="x")
        )
        upstream.sendto(bytes(answer), peer)
        got = reply_of(stack, [])
        assert got.id == 0x1234
        assert got.rcode == 5
        assert bytes(got)[2:] == bytes(answer)[2:]
    finally:
        stack.close()


def test_every_bit_but_the_id_passes_both_ways(upstream: socket.socket) -> None:
    """The case of a name (0x20), RD, AD, CD, EDNS with DO and an option, and whatever an answer carries."""
    stack = made(upstream)
    opt = bytes.fromhex("00 0029 04d0 00008000 0007 fde9 0003 616263")  # DO, and option 65001
    name = b"\x03wWw\x07eXaMpLe\x03oRg\x00"
    asked = bytes.fromhex("1234 0130 0001 0000 0000 0001") + name + bytes.fromhex("ff98 0001") + opt
    try:
        frame = (
            Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=GUEST, dst=GATEWAY) / UDP(sport=5353, dport=53) / asked
        )
        assert stack.send(frame) == []
        raw, peer = upstream.recvfrom(1000)
        assert raw[2:] == asked[2:]
        record = bytes.fromhex("c00c ff98 0001 0000003c 0004 00ff8001")  # of a type that nobody knows
        answer = bytes.fromhex("85b3 0001 0001 0000 0001") + raw[12 : -len(opt)] + record + opt
        upstream.sendto(raw[:2] + answer, peer)
        for _ in range(200):
            frames = stack.run()
            if frames:
                break
            time.sleep(0.005)
        assert data_of(frames[0]) == b"\x12\x34" + answer
    finally:
        stack.close()


@pytest.mark.usefixtures("poller")
def test_an_answer_that_fits_no_query_is_dropped(upstream: socket.socket) -> None:
    """The one that fits is still heard, also when it comes later."""
    stack = made(upstream)
    try:
        stack.send(query("example.org"))
        raw, peer = upstream.recvfrom(1000)
        wrong = DNS(raw)
        wrong.id ^= 1
        wrong.qr = 1
        upstream.sendto(bytes(wrong), peer)
        other = DNS(raw)
        other.qr = 1
        other.qd[0].qname = "evil.example."
        upstream.sendto(bytes(other), peer)
        time.sleep(0.05)
        assert stack.run() == []
        assert stack.drops()["dns_reply_mismatch"] == 2
        right = DNS(raw)
        right.qr = 1
        upstream.sendto(bytes(right), peer)
        assert reply_of(stack, []).id == 0x1234
    finally:
        stack.close()


def test_a_refusing_upstream_is_followed_by_the_next(upstream: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        stack = made(closed, upstream)
    try:
        stack.send(query("example.org"))
        time.sleep(0.05)
        stack.run()
        raw, peer = upstream.recvfrom(1000)
        upstream.sendto(raw[:2] + b"\x81\x80" + raw[4:], peer)
        assert reply_of(stack, []).rcode == 0
        assert stack.gateway.stats()["dns_failovers"] == 1
    finally:
        stack.close()


def test_new_upstreams_are_asked_what_is_under_way(upstream: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind(("127.0.0.1", 0))
        stack = made(old)
        try:
            stack.send(query("example.org"))
            stack.gateway._engine.set_dns_routes([("", [("127.0.0.1", upstream.getsockname()[1], 0)])])
            raw, peer = upstream.recvfrom(1000)
            upstream.sendto(raw[:2] + b"\x81\x80" + raw[4:], peer)
            assert reply_of(stack, []).id == 0x1234
        finally:
            stack.close()


def test_a_silent_upstream_gives_servfail(upstream: socket.socket) -> None:
    stack = made(upstream)
    try:
        assert stack.send(query("example.org")) == []
        answer = reply_of(stack, stack.run(11))
        assert answer.rcode == 2
        assert answer.id == 0x1234
        assert answer.qd[0].qname == b"example.org."
    finally:
        stack.close()


def test_without_upstreams_servfail_at_once() -> None:
    stack = made()
    try:
        assert reply_of(stack, stack.send(query("example.org"))).rcode == 2
    finally:
        stack.close()


def test_a_repeated_question_is_asked_once(upstream: socket.socket) -> None:
    stack = made(upstream)
    try:
        stack.send(query("example.org"), query("example.org"))
        upstream.recvfrom(1000)
        upstream.settimeout(0.1)
        with pytest.raises(TimeoutError):
            upstream.recvfrom(1000)
    finally:
        stack.close()


def test_junk_deserves_no_answer() -> None:
    stack = made()
    try:
        frame = (
            Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=GUEST, dst=GATEWAY) / UDP(sport=9, dport=53) / b"short"
        )
        assert stack.send(frame) == []
        assert stack.drops() == {"dns_junk": 1}
    finally:
        stack.close()
