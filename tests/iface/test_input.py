"""Frames from a guest: what is answered, what is dropped, and that each drop has one counter."""

from __future__ import annotations

import atexit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IPOption
from stack import (
    ARP,
    GATEWAY,
    GATEWAY_MAC,
    GUEST,
    HOST,
    ICMP,
    IP,
    MAC,
    TCP,
    UDP,
    Ether,
    Raw,
    Stack,
    arp_who_has,
)


@pytest.mark.parametrize("address", [GATEWAY, HOST])
def test_arp_is_answered_for_our_own_addresses(stack: Stack, address: str) -> None:
    (reply,) = stack.send(arp_who_has(address))
    assert reply[ARP].op == 2
    assert reply[ARP].psrc == address
    assert reply[ARP].hwsrc == GATEWAY_MAC
    assert reply[ARP].pdst == GUEST
    assert reply.dst == MAC


def test_arp_for_others_stays_silent(stack: Stack) -> None:
    assert stack.send(arp_who_has("192.168.65.77")) == []
    assert stack.send(arp_who_has(GUEST)) == []


def test_a_guest_may_not_claim_the_gateway(stack: Stack) -> None:
    assert (
        stack.send(Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(op=2, hwsrc=MAC, psrc=GATEWAY, pdst=GATEWAY))
        == []
    )
    assert stack.drops() == {"arp_spoofed": 1}


@pytest.mark.parametrize("address", [GATEWAY, HOST])
@pytest.mark.parametrize("size", [0, 1, 56, 1472, 1473, 20000, 65507])
def test_echo_gives_the_same_bytes(stack: Stack, address: str, size: int) -> None:
    data = bytes(i * 7 & 255 for i in range(size))
    request = IP(src=GUEST, dst=address, id=9) / ICMP(id=77, seq=5) / Raw(data)
    frames = [Ether(src=MAC, dst=GATEWAY_MAC) / part for part in fragments_of(request)]
    whole = joined(stack.send(*frames))
    assert whole[ICMP].type == 0
    assert (whole[ICMP].id, whole[ICMP].seq) == (77, 5)
    assert whole.src == address
    assert bytes(whole[ICMP].payload)[:size] == data
    assert stack.drops() == {}


def fragments_of(packet: IP, size: int = 1480) -> list[IP]:
    """As a host cuts a datagram for MTU 1500."""
    raw = bytes(packet[IP].payload)
    if len(raw) <= size:
        return [packet]
    parts = []
    for at in range(0, len(raw), size):
        piece = raw[at : at + size]
        more = at + size < len(raw)
        parts.append(
            IP(
                src=packet.src,
                dst=packet.dst,
                id=packet.id,
                proto=bytes(packet)[9],
                flags=1 if more else 0,
                frag=at // 8,
            )
            / Raw(piece)
        )
    return parts


def joined(frames: list[Ether]) -> IP:
    """One datagram out of its fragments."""
    assert frames
    buffer = bytearray(65536)
    end = 0
    for frame in frames:
        ip = frame[IP]
        payload = bytes(ip)[ip.ihl * 4 : ip.len]
        buffer[ip.frag * 8 : ip.frag * 8 + len(payload)] = payload
        assert len(frame) <= 1514
        end = max(end, ip.frag * 8 + len(payload))
        assert bool(ip.flags & 1) == (frame is not frames[-1])
    head = frames[0][IP]
    return IP(bytes(IP(src=head.src, dst=head.dst, proto=head.proto, len=20 + end)) + bytes(buffer[:end]))


ROUTE = IPOption(b"\x83\x07\x04\x01\x02\x03\x04\x00")  # loose source route


def to_gateway() -> Ether:
    return Ether(src=MAC, dst=GATEWAY_MAC)


VALID = [
    arp_who_has(GATEWAY),
    to_gateway() / IP(src=GUEST, dst=GATEWAY) / ICMP(id=1, seq=1) / Raw(b"x" * 20),
    to_gateway() / IP(src=GUEST, dst=HOST) / TCP(sport=4, dport=80, flags="S", options=[("MSS", 1460), ("WScale", 7)]),
    to_gateway() / IP(src=GUEST, dst=GATEWAY) / UDP(sport=4, dport=7) / Raw(b"y" * 9),
]  # fmt: skip


@pytest.mark.parametrize("frame", VALID, ids=["arp", "icmp", "tcp", "udp"])
def test_every_truncation_is_one_drop_and_no_answer(stack: Stack, frame: Ether) -> None:
    raw = bytes(frame)
    for length in range(len(raw)):
        assert stack.send(raw[:length]) == [], length
        assert sum(stack.drops().values()) == 1, length


IP_FRAME = VALID[1]
BAD = {
    "frame_vlan": Ether(src=MAC, dst=GATEWAY_MAC, type=0x8100) / Raw(b"\0\5\x08\0" + bytes(IP_FRAME[IP])),
    "frame_not_ours": Ether(src=MAC, dst="02:99:99:99:99:99") / IP_FRAME[IP],
    "frame_bad_source": Ether(src="03:00:00:00:00:01", dst=GATEWAY_MAC) / IP_FRAME[IP],
    "frame_unknown_type": Ether(src=MAC, dst=GATEWAY_MAC, type=0x88CC) / Raw(b"\0" * 50),
    "frame_ipv6": Ether(src=MAC, dst=GATEWAY_MAC, type=0x86DD) / Raw(b"\x60" + b"\0" * 60),
    "frame_oversized": to_gateway() / IP(src=GUEST, dst=GATEWAY) / ICMP() / Raw(b"z" * 1500),
    "ip_bad_source": to_gateway() / IP(src="224.0.0.9", dst=GATEWAY) / ICMP(),
    "ip_spoofed": to_gateway() / IP(src="10.1.1.1", dst=GATEWAY) / ICMP(),
    "ip_multicast": to_gateway() / IP(src=GUEST, dst="224.0.0.251") / UDP(sport=5353, dport=5353),
    "ip_broadcast": to_gateway() / IP(src=GUEST, dst="192.168.65.255") / ICMP(),
    "ip_bad_destination": to_gateway() / IP(src=GUEST, dst="127.0.0.1") / ICMP(),
    "ip_ttl": to_gateway() / IP(src=GUEST, dst=GATEWAY, ttl=0) / ICMP(),
    "ip_bad_checksum": to_gateway() / IP(src=GUEST, dst=GATEWAY, chksum=1) / ICMP(),
    "ip_truncated": to_gateway() / IP(src=GUEST, dst=GATEWAY, len=900) / ICMP() / Raw(b"q" * 20),
    "ip_source_route": to_gateway() / IP(src=GUEST, dst=GATEWAY, options=ROUTE) / ICMP(),
    "icmp_bad": to_gateway() / IP(src=GUEST, dst=GATEWAY) / ICMP(chksum=5),
    "icmp_ignored": to_gateway() / IP(src=GUEST, dst=GATEWAY) / ICMP(type=13),
    "tcp_bad_checksum": to_gateway() / IP(src=GUEST, dst=HOST) / TCP(dport=80, chksum=5),
    "tcp_bad_header": to_gateway() / IP(src=GUEST, dst=HOST) / TCP(dport=80, dataofs=15),
    "udp_bad_checksum": to_gateway() / IP(src=GUEST, dst=HOST) / UDP(dport=80, chksum=5) / Raw(b"abc"),
    "udp_bad_header": to_gateway() / IP(src=GUEST, dst=HOST) / UDP(dport=80, len=500) / Raw(b"abc"),
    "fragment_bad": to_gateway() / IP(src=GUEST, dst=GATEWAY, flags=1) / Raw(b"12345"),
    "tcp_bad_address": to_gateway() / IP(src=GUEST, dst=HOST) / TCP(dport=0, flags="S"),
}  # fmt: skip


@pytest.mark.parametrize("counter", BAD)
def test_bad_frames_have_one_counter_each(stack: Stack, counter: str) -> None:
    assert stack.send(bytes(BAD[counter])) == []
    assert stack.drops() == {counter: 1}


def test_unknown_ip_protocol_is_unreachable(stack: Stack) -> None:
    frame = to_gateway() / IP(src=GUEST, dst=GATEWAY, proto=99) / Raw(b"hello world")
    (reply,) = stack.send(frame)
    assert (reply[ICMP].type, reply[ICMP].code) == (3, 2)
    assert stack.drops() == {"ip_unknown_protocol": 1}


@given(st.binary(max_size=200))
def test_junk_behind_a_good_ethernet_header_harms_nothing(junk: bytes) -> None:
    stack = SHARED
    for kind in (b"\x08\x00", b"\x08\x06", b"\x86\xdd"):
        stack.send(bytes.fromhex("f61636bcf9c6020000000003") + kind + junk)
    (reply,) = [p for p in stack.send(arp_who_has(GATEWAY)) if ARP in p]
    assert reply[ARP].psrc == GATEWAY


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=120))
def test_answers_never_carry_more_than_came(total: int, udp_length: int, data: bytes) -> None:
    """The class of CVE-2020-10756 and 2026-115449: lengths that lie must not draw out memory."""
    stack = SHARED
    icmp = IP(src=GUEST, dst=GATEWAY, len=total) / ICMP(id=1, seq=1) / Raw(data)
    udp = IP(src=GUEST, dst=GATEWAY, len=total) / UDP(sport=9, dport=9, len=udp_length) / Raw(data)
    for packet in (icmp, udp):
        frame = Ether(src=MAC, dst=GATEWAY_MAC) / packet
        for reply in stack.send(bytes(frame)):
            assert len(bytes(reply)) <= len(bytes(frame)) + 28  # an ICMP error adds its own headers


SHARED = Stack()
atexit.register(SHARED.close)
