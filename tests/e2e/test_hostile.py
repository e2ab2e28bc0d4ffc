"""Frames that no decent kernel sends, put on the guest's TAP: dropped, counted once, and survived."""

from __future__ import annotations

import random
import socket
import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, TAP, Lab
from netstack.testing.namespace import unavailable

pytestmark = pytest.mark.netns

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # packet(7), Linux 4.20
BATCH = 100  # frames: fewer than any queue on the way holds

WORK = {
    "up_frames", "up_bytes", "down_frames", "down_bytes", "switched_frames", "arp_replies", "echo_replies",
    "icmp_errors_sent", "icmp_errors_received", "fragments_reassembled", "fragments_sent", "engine_wakeups",
}  # fmt: skip


class Wire:
    """The guest's end of the TAP, frame by frame."""

    def __init__(self, lab, gateway):
        self.gateway = gateway
        with lab.guest.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((TAP, ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.settimeout(10)
        self.mac = self.socket.getsockname()[4].hex(":")
        self.peer = gateway.config.gateway_mac
        self.seen = gateway.stats()

    def send(self, frame):
        self.socket.send(bytes(frame))

    def ip(self, payload, dst=GATEWAY, src=GUEST, **fields):
        return Ether(src=self.mac, dst=self.peer) / IP(src=src, dst=dst, **fields) / payload

    def received(self):
        """What has come until an echo, sent now, returns: the mark that all before is dealt with."""
        mark = random.randbytes(16)
        self.send(self.ip(ICMP(id=0xBEEF, seq=1) / Raw(mark)))
        frames = []
        while True:
            data = self.socket.recv(70000)
            if data[6:12].hex(":") != self.peer:
                continue
            if mark in data:
                return frames
            frames.append(Ether(data))

    def drops(self):
        """The drop counters that have moved. IPv6 is the kernel's own, from a device just come up."""
        now = self.gateway.stats()
        moved = {k: v - self.seen[k] for k, v in now.items() if v != self.seen[k] and k not in WORK}
        self.seen = now
        moved.pop("frame_ipv6", None)
        return moved


@pytest.fixture(scope="module")
def served():
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab, lab.gateway() as gateway:
        lab.guest.sysctl(f"net.ipv6.conf.{TAP}.disable_ipv6", "1")
        yield lab, gateway


@pytest.fixture
def wire(served):
    made = Wire(*served)
    made.received()
    made.drops()
    yield made
    made.received()  # it still answers
    made.socket.close()


def bad_frames(w):
    """counter: frame"""
    echo = w.ip(ICMP(id=1, seq=1) / Raw(b"x" * 40))
    vlan = Ether(src=w.mac, dst=w.peer, type=0x8100) / Raw(b"\0\5\x08\0" + bytes(echo[IP]))
    return {
        "frame_vlan": vlan,
        "frame_not_ours": Ether(src=w.mac, dst="02:99:99:99:99:99") / echo[IP],
        "frame_bad_source": Ether(src=w.peer, dst=w.peer) / echo[IP],
        "frame_unknown_type": Ether(src=w.mac, dst=w.peer, type=0x88CC) / Raw(b"\0" * 50),
        "ip_truncated": w.ip(ICMP(id=1, seq=1) / Raw(b"x" * 40), len=1400),
        "ip_bad_header": Ether(src=w.mac, dst=w.peer, type=0x0800) / Raw(b"\x41" + bytes(echo[IP])[1:]),
        "ip_bad_checksum": w.ip(ICMP() / Raw(b"x" * 40), chksum=1),
        "ip_spoofed": w.ip(ICMP() / Raw(b"x" * 40), src="10.1.2.3"),
        "ip_bad_source": w.ip(ICMP() / Raw(b"x" * 40), src="127.0.0.1"),
        "ip_bad_destination": w.ip(UDP(sport=1, dport=2) / Raw(b"x" * 40), dst="127.0.0.1"),
        "icmp_bad": w.ip(ICMP(chksum=5) / Raw(b"x" * 40)),
        "tcp_bad_header": w.ip(TCP(dport=80, dataofs=15, flags="S"), dst=HOST_ALIAS),
        "tcp_bad_checksum": w.ip(TCP(dport=80, flags="S", chksum=5), dst=HOST_ALIAS),
        "udp_bad_header": w.ip(UDP(dport=80, len=900) / Raw(b"x" * 40), dst=HOST_ALIAS),
        "udp_bad_checksum": w.ip(UDP(dport=80, chksum=5) / Raw(b"x" * 40), dst=HOST_ALIAS),
        "arp_spoofed": Ether(src=w.mac, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=2, hwsrc=w.mac, psrc=GATEWAY, pdst=GATEWAY),
    }


def test_each_bad_frame_is_one_drop_with_a_name_and_has_no_answer(wire):
    for counter, frame in bad_frames(wire).items():
        wire.send(frame)
        assert wire.received() == [], counter
        assert wire.drops() == {counter: 1}, counter


def test_overlapping_fragments(wire):
    whole = bytes(ICMP(id=3, seq=1) / Raw(bytes(range(256)) * 6))
    for offset, data, more in ((0, whole[:800], 1), (400, b"EVIL" * 200, 1), (800, whole[800:], 0)):
        wire.send(wire.ip(Raw(data), proto=1, id=77, flags=more, frag=offset // 8))
    assert not [frame for frame in wire.received() if b"EVIL" in bytes(frame)]
    assert wire.drops().get("fragment_overlap", 0) >= 1


def test_any_damage_to_any_frame_is_survived(wire):
    """Two thousand frames with a few bytes changed or cut off; the same ones in each run."""
    rng = random.Random(20)
    originals = [
        bytes(f)
        for f in (
            *bad_frames(wire).values(),
            wire.ip(TCP(sport=9, dport=9, flags="S", options=[("MSS", 1460), ("WScale", 7)]), dst=HOST_ALIAS),
            wire.ip(UDP(sport=68, dport=67) / Raw(b"\1\1\6\0" + b"\0" * 296)),
            wire.ip(UDP(sport=4, dport=53) / Raw(b"\0\1\1\0\0\1\0\0\0\0\0\0\3one\0\0\1\0\1")),
            wire.ip(ICMP(type=3, code=4) / IP(src=GUEST, dst=GATEWAY) / UDP()),
        )
    ]
    for number in range(2000):
        raw = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 6)):
            raw[rng.randrange(12, len(raw))] = rng.randrange(256)
        wire.send(raw[: rng.randrange(14, len(raw) + 1)] if rng.random() < 0.3 else raw)
        if number % BATCH == 0:
            assert all(len(frame) <= 1514 for frame in wire.received())
    wire.received()
    assert sum(wire.drops().values()) > 500


def test_a_burst_of_syns_is_answered_one_by_one(wire):
    before = wire.gateway.stats()
    resets = set()

    def look():
        for answer in wire.received():
            assert answer[TCP].flags == "RA"
            assert answer[TCP].ack == answer[TCP].dport + 1
            resets.add(answer[TCP].dport)

    for port in range(1024, 3024):
        wire.send(wire.ip(TCP(sport=port, dport=9, flags="S", seq=port), dst=HOST_ALIAS))
        if port % BATCH == 0:
            look()
    # A refusal is the host's answer, and a busy host may give it after the echo that was sent behind its SYN.
    deadline = time.monotonic() + 10
    while len(resets) < 2000 and time.monotonic() < deadline:
        look()
    assert resets == set(range(1024, 3024))
    after = wire.gateway.stats()
    assert after["tcp_opened"] - before["tcp_opened"] == 2000
    assert after["tcp_refused"] - before["tcp_refused"] == 2000
    assert wire.gateway.flows() == []
    wire.drops()
