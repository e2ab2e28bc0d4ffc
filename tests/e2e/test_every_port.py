"""A guest that tries every port of gateway and host alias, TCP and UDP: what is not offered does not exist."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import netstack
from netstack.gateway import Gateway
from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, TAP, Lab
from netstack.testing.namespace import unavailable
from netstack.testing.servers import TcpServer, UdpEcho

pytestmark = pytest.mark.netns

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # packet(7), Linux 4.20
SO_RCVBUFFORCE = 33
BATCH = 200  # frames between two looks: fewer than any queue on the way holds
PORTS = np.arange(1, 65536)
SOURCE_PORT = 54321
SYN_ACK, RST_ACK = 0x12, 0x14
OFFERED = {GATEWAY: ({53}, {53, 67}), HOST_ALIAS: ({8123}, {8124})}  # TCP, UDP


class Scanner:
    """The guest's end of its TAP: frames for all ports, and what came back from each."""

    def __init__(self, lab: Lab, gateway: Gateway) -> None:
        with lab.guest.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((TAP, ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self.socket.settimeout(20)
        self.mac = self.socket.getsockname()[4].hex(":")
        self.peer = bytes.fromhex(gateway.config.gateway_mac.replace(":", ""))
        self.marks = 0

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ip(self, payload: object, dst: str) -> bytes:
        return bytes(Ether(src=self.mac, dst=self.peer.hex(":")) / IP(src=GUEST, dst=dst) / payload)

    def frames(self, dst: str, protocol: str) -> list[bytes]:
        """One for each port."""
        if protocol == "tcp":
            plain = self.ip(TCP(sport=SOURCE_PORT, dport=0, flags="S", seq=1, options=[("MSS", 1460)]), dst)
        else:
            plain = self.ip(UDP(sport=SOURCE_PORT, dport=0, chksum=0) / Raw(b"?"), dst)
        table = np.tile(np.frombuffer(plain, np.uint8), (len(PORTS), 1))
        table[:, 36], table[:, 37] = PORTS >> 8, PORTS & 255
        if protocol == "tcp":
            total = (~int.from_bytes(plain[50:52], "big") & 0xFFFF) + PORTS
            check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            table[:, 50], table[:, 51] = check >> 8, check & 255
        return [row.tobytes() for row in table]

    def until_mark(self) -> Iterator[bytes]:
        """What comes until an echo, sent now, returns."""
        self.marks += 1
        mark = b"mark%012d" % self.marks
        self.socket.send(self.ip(ICMP(id=0xBEEF, seq=1) / Raw(mark), GATEWAY))
        while True:
            frame = self.socket.recv(2048)
            if frame[6:12] != self.peer or frame[12:14] != b"\x08\x00":
                continue
            if frame[23] == 1 and mark in frame:
                return
            yield frame

    @staticmethod
    def note_udp(frame: bytes, dst: str, answered: set[int], unreachable: set[int]) -> None:
        address = socket.inet_aton(dst)
        if frame[23] == 17 and frame[26:30] == address:
            answered.add(int.from_bytes(frame[34:36], "big"))
        elif frame[23] == 1 and frame[34:36] == b"\x03\x03" and frame[58:62] == address:
            unreachable.add(int.from_bytes(frame[64:66], "big"))

    def scan(self, dst: str, protocol: str) -> tuple[dict[int, int], set[int], set[int]]:
        """(the flags each TCP port has answered with), (UDP ports that answer), (those said to be unreachable)."""
        address = socket.inet_aton(dst)
        flags: dict[int, int] = {}
        answered: set[int] = set()
        unreachable: set[int] = set()

        def note(frame: bytes) -> None:
            if protocol == "udp":
                self.note_udp(frame, dst, answered, unreachable)
            elif (
                frame[23] == 6 and frame[26:30] == address and frame[36:38] == SOURCE_PORT.to_bytes(2, "big")
            ):
                port = int.from_bytes(frame[34:36], "big")
                assert flags.get(port, frame[47]) == frame[47], f"port {port} says two things"
                flags[port] = frame[47]

        frames = self.frames(dst, protocol)
        for at in range(0, len(frames), BATCH):
            for frame in frames[at : at + BATCH]:
                self.socket.send(frame)
            for frame in self.until_mark():
                note(frame)
        end = time.monotonic() + 20
        while protocol == "tcp" and len(flags) < len(frames):  # the host's own answers take a moment
            assert time.monotonic() < end, f"{len(frames) - len(flags)} ports say nothing"
            for frame in self.until_mark():
                note(frame)
        return flags, answered, unreachable


@pytest.fixture(scope="module")
def lab_and_gateway() -> Iterator[tuple[Lab, Gateway]]:
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab, lab.gateway(netstack.Config(dns=())) as gateway:
        lab.guest.sysctl(f"net.ipv6.conf.{TAP}.disable_ipv6", "1")
        yield lab, gateway


def until(test: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not test():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize("dst", [GATEWAY, HOST_ALIAS], ids=["gateway", "host alias"])
def test_every_port(lab_and_gateway: tuple[Lab, Gateway], dst: str) -> None:
    """RST or ICMP port unreachable from all but those offered: not even the sockets of the guest's own flows."""
    lab, gateway = lab_and_gateway
    udp = lab.host.socket(kind=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 8124))
    tcp_offered, udp_offered = OFFERED[dst]
    with TcpServer(lab.host.listen("127.0.0.1", 8123)), UdpEcho(udp), Scanner(lab, gateway) as scanner:
        well(lab, gateway)
        descriptors = len(os.listdir("/proc/self/fd"))
        flags, _, _ = scanner.scan(dst, "tcp")
        assert {port for port, said in flags.items() if said == SYN_ACK} == tcp_offered
        assert Counter(flags.values()) == {SYN_ACK: len(tcp_offered), RST_ACK: 65535 - len(tcp_offered)}

        before = gateway.stats()
        _, answered, unreachable = scanner.scan(dst, "udp")

        def settled() -> bool:
            """Every port has had its ICMP error, or was one too many in its millisecond (RFC 1812 4.3.2.8).

            Not all of those that the host itself sends come through: they wait in a queue of the flow's socket.
            """
            for frame in scanner.until_mark():
                scanner.note_udp(frame, dst, answered, unreachable)
            now = gateway.stats()
            said = sum(now[key] - before[key] for key in ("icmp_errors_sent", "icmp_rate_limited"))
            assert said <= 65535 - len(udp_offered)
            return said == 65535 - len(udp_offered) or (dst == HOST_ALIAS and said > 60000)

        until(settled)
        assert answered == ({8124} if dst == HOST_ALIAS else set())  # "?" is neither DNS nor DHCP
        assert len(unreachable) > 500
        assert not unreachable & udp_offered
        well(lab, gateway)
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1)  # the one UDP flow's


def well(lab: Lab, gateway: Gateway) -> None:
    """The stack does what it should, and holds nothing back."""
    lab.guest.connect(GATEWAY, 53).close()  # the first has the control plane make a loop, which stays
    with lab.guest.connect(HOST_ALIAS, 8123) as sock:
        sock.sendall(b"well?")
        assert sock.recv(5) == b"well?"
    until(lambda: all(f["protocol"] == "udp" or f["state"] == "TIME-WAIT" for f in gateway.flows()))
