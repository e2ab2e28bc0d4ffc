"""One line for any frame."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from netstack.wire.describe import describe, describe_packet

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="10.0.0.1", dst="10.0.0.2", id=9)
V6 = IPv6(src="fd00::1", dst="fd00::2")
QUOTE4 = IP(src="10.0.0.2", dst="10.0.0.3") / UDP(sport=1, dport=33434)
QUOTE6 = IPv6(src="fd00::2", dst="fd00::3") / UDP(sport=1, dport=33434)
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (5, 6)), ("NOP", None), ("WScale", 7)]

LINES = [
    (
        V4 / TCP(sport=1000, dport=80, flags="S", seq=1, window=64240, options=OPTIONS),
        "IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [S], seq 1, win 64240, "
        "options [mss 1460,sackOK,TS val 5 ecr 6,wscale 7], length 0",
    ),
    (
        V4 / TCP(sport=1000, dport=80, flags="PA", seq=0xFFFFFFFF, ack=7, window=5) / Raw(b"abc"),
        "IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [P.], seq 4294967295:2, ack 7, win 5, length 3",
    ),
    (
        V4 / TCP(sport=1, dport=2, flags="A", ack=7, window=5, options=[("SAck", (1, 2, 3, 4))]),
        "IP 10.0.0.1.1 > 10.0.0.2.2: Flags [.], seq 0, ack 7, win 5, options [sack 2 {1:2}{3:4}], length 0",
    ),
    (
        V4 / TCP(sport=1, dport=2, flags=0xFF, urgptr=3, window=5),
        "IP 10.0.0.1.1 > 10.0.0.2.2: Flags [FSRP.UEW], seq 0, ack 0, win 5, urg 3, length 0",
    ),
    (
        V4 / TCP(sport=1, dport=2, flags=0, window=5),
        "IP 10.0.0.1.1 > 10.0.0.2.2: Flags [none], seq 0, win 5, length 0",
    ),
    (V6 / UDP(sport=1000, dport=2000) / Raw(b"hello"), "IP6 fd00::1.1000 > fd00::2.2000: UDP, length 5"),
    (
        V4 / ICMP(type=8, id=1, seq=2) / Raw(bytes(56)),
        "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2, length 64",
    ),
    (V4 / ICMP(type=0, id=1, seq=2), "IP 10.0.0.1 > 10.0.0.2: ICMP echo reply, id 1, seq 2, length 8"),
    (
        V4 / ICMP(type=3, code=3) / QUOTE4,
        "IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.3 UDP port 33434 unreachable (port), length 36",
    ),
    (
        V4 / ICMP(type=3, code=4, nexthopmtu=1400) / QUOTE4,
        "IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.3 UDP port 33434 unreachable "
        "(fragmentation needed), mtu 1400, length 36",
    ),
    (
        V4 / ICMP(type=3, code=77),
        "IP 10.0.0.1 > 10.0.0.2: ICMP [no quotation] unreachable (code 77), length 8",
    ),
    (
        V4 / ICMP(type=11) / IP(src="1.1.1.1", dst="2.2.2.2", proto=1),
        "IP 10.0.0.1 > 10.0.0.2: ICMP time exceeded in transit for 2.2.2.2 ICMP, length 28",
    ),
    (
        V4 / ICMP(type=5, gw="10.0.0.9") / QUOTE4,
        "IP 10.0.0.1 > 10.0.0.2: ICMP redirect 10.0.0.3 UDP port 33434 to 10.0.0.9, length 36",
    ),
    (
        V4 / ICMP(type=12, ptr=20) / QUOTE4,
        "IP 10.0.0.1 > 10.0.0.2: ICMP parameter problem at byte 20 for 10.0.0.3 UDP port 33434, length 36",
    ),
    (V4 / ICMP(type=42), "IP 10.0.0.1 > 10.0.0.2: ICMP type 42, code 0, length 8"),
    (
        V6 / ICMPv6EchoRequest(id=1, seq=2),
        "IP6 fd00::1 > fd00::2: ICMP6, echo request, id 1, seq 2, length 8",
    ),
    (
        V6 / ICMPv6DestUnreach(code=4) / QUOTE6,
        "IP6 fd00::1 > fd00::2: ICMP6, fd00::3 UDP port 33434 unreachable (port), length 56",
    ),
    (
        V6 / ICMPv6PacketTooBig(mtu=1400) / QUOTE6,
        "IP6 fd00::1 > fd00::2: ICMP6, packet too big for fd00::3 UDP port 33434, mtu 1400, length 56",
    ),
    (
        V6 / ICMPv6TimeExceeded(code=1) / QUOTE6,
        "IP6 fd00::1 > fd00::2: ICMP6, time exceeded in reassembly for fd00::3 UDP port 33434, length 56",
    ),
    (
        V6 / ICMPv6ParamProblem(ptr=40) / QUOTE6,
        "IP6 fd00::1 > fd00::2: ICMP6, parameter problem at byte 40 for fd00::3 UDP port 33434, length 56",
    ),
    (
        V6 / ICMPv6ND_NS(tgt="fd00::2") / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01"),
        "IP6 fd00::1 > fd00::2: ICMP6, neighbor solicitation, who has fd00::2, "
        "link address 02:00:00:00:00:01, length 32",
    ),
    (
        V6 / ICMPv6ND_NA(tgt="fd00::2") / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:02"),
        "IP6 fd00::1 > fd00::2: ICMP6, neighbor advertisement, tgt is fd00::2, "
        "link address 02:00:00:00:00:02, length 32",
    ),
    (V6 / ICMPv6ND_RS(), "IP6 fd00::1 > fd00::2: ICMP6, router solicitation, length 8"),
    (
        V6 / ICMPv6ND_RA(routerlifetime=600) / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01"),
        "IP6 fd00::1 > fd00::2: ICMP6, router advertisement, lifetime 600 s, "
        "link address 02:00:00:00:00:01, length 24",
    ),
    (
        IP(src="10.0.0.1", dst="10.0.0.2", id=9, frag=185, proto=17) / Raw(bytes(20)),
        "IP 10.0.0.1 > 10.0.0.2: UDP fragment, id 9, offset 1480, length 20",
    ),
    (
        IP(src="10.0.0.1", dst="10.0.0.2", id=9, flags="MF", proto=17)
        / Raw(b"\0\1\0\2\x05\xdc\0\0" + bytes(16)),
        "IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1492 (first fragment, id 9)",
    ),
    (
        V6 / IPv6ExtHdrFragment(offset=2, id=9, nh=6) / Raw(bytes(16)),
        "IP6 fd00::1 > fd00::2: TCP fragment, id 9, offset 16, length 16",
    ),
    (
        V4 / UDP(sport=5000, dport=53) / DNS(id=7, rd=1, qd=[DNSQR(qname="example.com")]),
        "IP 10.0.0.1.5000 > 10.0.0.2.53: 7+ A? example.com (29)",
    ),
    (
        V4
        / UDP(sport=53, dport=5000)
        / DNS(id=7, qr=1, qd=[DNSQR(qname="a.example")], an=[DNSRR(rrname="a.example", rdata="192.0.2.1")]),
        "IP 10.0.0.1.53 > 10.0.0.2.5000: 7 q: A? a.example 1/0/0 A 192.0.2.1 (52)",
    ),
    (
        V4 / UDP(sport=53, dport=5000) / DNS(id=7, qr=1, rcode=3, tc=1, qd=[DNSQR(qname="a.example")]),
        "IP 10.0.0.1.53 > 10.0.0.2.5000: 7 NXDOMAIN truncated q: A? a.example 0/0/0 (27)",
    ),
    (
        V4 / UDP(sport=53, dport=5000) / Raw(b"abc"),
        "IP 10.0.0.1.53 > 10.0.0.2.5000: [DNS: truncated, 3 bytes]",
    ),
    (
        V4
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=b"\2\0\0\0\0\1")
        / DHCP(options=[("message-type", "request"), ("requested_addr", "10.0.0.9"), "end"]),
        "IP 10.0.0.1.68 > 10.0.0.2.67: DHCP REQUEST 10.0.0.9 from 02:00:00:00:00:01, length 250",
    ),
    (
        V4
        / UDP(sport=67, dport=68)
        / BOOTP(op=2, chaddr=b"\2\0\0\0\0\1", yiaddr="10.0.0.8")
        / DHCP(options=[("message-type", "ack"), "end"]),
        "IP 10.0.0.1.67 > 10.0.0.2.68: DHCP ACK 10.0.0.8 to 02:00:00:00:00:01, length 244",
    ),
    (V4 / UDP(sport=68, dport=67) / Raw(b"abc"), "IP 10.0.0.1.68 > 10.0.0.2.67: [DHCP: truncated, 3 bytes]"),
    (IP(src="10.0.0.1", dst="10.0.0.2", proto=132), "IP 10.0.0.1 > 10.0.0.2: SCTP, length 0"),
    (IP(src="10.0.0.1", dst="10.0.0.2", proto=200), "IP 10.0.0.1 > 10.0.0.2: protocol 200, length 0"),
    (
        IP(src="10.0.0.1", dst="10.0.0.2", proto=6) / Raw(b"abc"),
        "IP 10.0.0.1 > 10.0.0.2: [TCP: truncated, 3 bytes]",
    ),
    (
        ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"),
        "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
    ),
    (
        ARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"),
        "ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 28",
    ),
    (ARP(op=9, psrc="10.0.0.1", pdst="10.0.0.2"), "ARP, operation 9, 10.0.0.1 > 10.0.0.2, length 28"),
    (
        Dot1Q(vlan=5, prio=3) / V4 / UDP(sport=1, dport=2),
        "vlan 5, p 3, IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 0",
    ),
]


@pytest.mark.parametrize(("packet", "line"), LINES, ids=[line for _, line in LINES])
def test_lines(packet: Packet, line: str) -> None:
    assert describe(bytes(ETHER / packet)) == line
    if line.startswith("IP"):
        assert describe_packet(bytes(packet)) == line


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (b"", "[Ethernet: truncated, 0 bytes]"),
        (bytes(12) + b"\x08\x00", "[IP: truncated, 0 bytes]"),
        (bytes(12) + b"\x08\x00\x65" + bytes(30), "[IP: bad version, 31 bytes]"),
        (bytes(12) + b"\x86\xdd" + bytes(40), "[IP6: bad version, 40 bytes]"),
        (bytes(12) + b"\x08\x06" + bytes(28), "[ARP: bad version, 28 bytes]"),
        (
            bytes(12) + b"\x88\xcc" + bytes(3),
            "00:00:00:00:00:00 > 00:00:00:00:00:00, ethertype 0x88cc, length 3",
        ),
        (
            bytes(12) + b"\x00\x03" + bytes(3),
            "00:00:00:00:00:00 > 00:00:00:00:00:00, 802.3, length 0x0003, length 3",
        ),
    ],
)
def test_malformed_frames(frame: bytes, line: str) -> None:
    assert describe(frame) == line


@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_cut_by_a_snapshot_length(version: int) -> None:
    frame = bytes(ETHER / (V4 if version == 4 else V6) / UDP(sport=1, dport=2) / Raw(bytes(100)))
    present = 28 if version == 4 else 48
    line = describe(frame[: 14 + present])
    assert "UDP, length 100" in line
    assert line.endswith(f" [cut at {present} of {present + 100} bytes]")


def test_a_packet_of_another_version() -> None:
    assert describe_packet(b"") == "[IP: version 0, 0 bytes]"
    assert describe_packet(b"\x55") == "[IP: version 5, 1 bytes]"


def one_line(text: str) -> None:
    assert text
    assert text.isprintable()


def test_every_prefix_of_every_frame() -> None:
    for packet, _ in LINES:
        frame = bytes(ETHER / packet)
        for length in range(len(frame)):
            one_line(describe(frame[:length]))


TYPED = st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00\x00\x05\x08\x00"])


@given(
    st.binary(max_size=200) | st.tuples(TYPED, st.binary(max_size=200)).map(lambda t: bytes(12) + t[0] + t[1])
)
def test_random_frames(frame: bytes) -> None:
    one_line(describe(frame))


PACKETS = st.sampled_from([bytes(ETHER / packet) for packet, _ in LINES])


@given(PACKETS, st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), min_size=1, max_size=6))
def test_frames_with_changed_bytes(frame: bytes, changes: list[tuple[int, int]]) -> None:
    data: Any = bytearray(frame)
    for at, value in changes:
        data[at % len(data)] = value
    one_line(describe(data))


@given(st.sampled_from([6, 17, 1, 58]), st.booleans(), st.binary(max_size=120))
def test_random_upper_layers(protocol: int, sixth: bool, content: bytes) -> None:
    packet = (
        IPv6(src="::1", dst="::2", nh=protocol) if sixth else IP(src="1.1.1.1", dst="2.2.2.2", proto=protocol)
    ) / Raw(content)
    one_line(describe_packet(bytes(packet)))


@given(st.sampled_from([53, 67]), st.binary(max_size=300))
def test_random_dns_and_dhcp(port: int, content: bytes) -> None:
    one_line(describe_packet(bytes(V4 / UDP(sport=port, dport=port) / Raw(content))))
