"""A whole gateway stepped by hand on virtual time, with a guest made of scapy packets."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

import netstack
from netstack.gateway import Gateway, PendingFlow
from netstack.link.memory import MemoryLink
from netstack.testing.virtual import run_until

GATEWAY = "192.168.65.1"
HOST = "192.168.65.2"
GUEST = "192.168.65.3"
MAC = "02:00:00:00:00:03"
GATEWAY_MAC = "f6:16:36:bc:f9:c6"
SECOND = 1_000_000_000

#: Counters that say what was done; every other counter that moves is a drop.
WORK = {
    "up_frames", "up_bytes", "down_frames", "down_bytes", "engine_wakeups", "fragments_sent", "fragments_reassembled",
    "icmp_errors_sent", "icmp_errors_received", "arp_replies", "echo_replies",
}  # fmt: skip


class Stack:
    """One guest on a link in memory, a gateway without threads, and a clock that only the test moves.

    TCP connections of the guest are given one end of a socket pair; the other ends are in ``peers``, oldest first.
    UDP and queries go to real sockets of the test on the loopback, behind the host alias.
    """

    def __init__(
        self, config: netstack.Config | None = None, *, dial: bool = True, features: Iterable[str] = ()
    ) -> None:
        self.now = SECOND
        self.link = MemoryLink(mtu=(config or netstack.Config()).mtu, features=tuple(features))
        self.peers: list[socket.socket] = []
        self.accept = True
        self.gateway = Gateway(
            config or netstack.Config(dns=()), dialer=self._dial if dial else None, now_ns=self.now
        )
        self.gateway.add_memory(self.link)
        self.seen = self.gateway.stats()

    def _dial(self, flow: PendingFlow) -> socket.socket | None:
        if not self.accept:
            return None
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        self.peers.append(ours)
        return theirs

    def close(self) -> None:
        self.gateway.stop()
        for peer in self.peers:
            peer.close()

    def run(self, seconds: float = 0.0) -> list[Packet]:
        """Lets time pass, doing everything when it is due; what the guest got."""
        self.now = run_until(self.gateway, self.now, self.now + int(seconds * SECOND))
        return [Ether(frame) for frame, _ in self.link.drain()]

    def send(self, *frames: Packet | bytes, seconds: float = 0.0) -> list[Packet]:
        """Puts frames in as the guest, and what came back."""
        for frame in frames:
            self.link.inject(bytes(frame))
        return self.run(seconds)

    def ip(self, payload: Packet, dst: str = HOST, **fields: Any) -> Packet:
        return Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=GUEST, dst=dst, **fields) / payload

    def drops(self) -> dict[str, int]:
        """The drop counters that have moved since the last call."""
        now = self.gateway.stats()
        moved = {
            name: value - self.seen[name]
            for name, value in now.items()
            if value != self.seen[name] and name not in WORK
        }
        self.seen = now
        return moved


class GuestEnd:
    """The guest's end of a TCP connection, segment by segment: whom it speaks with, and where it stands."""

    def __init__(self, stack: Stack, sport: int, dport: int, dst: str, seq: int, ack: int = 0) -> None:
        self.stack = stack
        self.sport, self.dport, self.dst = sport, dport, dst
        self.seq, self.ack = seq, ack
        self.window = 65535

    def segment(self, flags: str, payload: bytes = b"", **fields: Any) -> Packet:
        tcp = TCP(
            sport=self.sport, dport=self.dport, flags=flags, seq=fields.pop("seq", self.seq),
            ack=fields.pop("ack", self.ack if "A" in flags else 0), window=self.window, **fields,
        )  # fmt: skip
        return self.stack.ip(tcp / Raw(payload) if payload else tcp, dst=self.dst)

    def take(self, packets: list[Packet]) -> list[Packet]:
        """Notes in-order bytes of what came."""
        for p in packets:
            if TCP in p and p[TCP].seq == self.ack:
                self.ack += len(data_of(p)) + ("F" in p[TCP].flags)
        return packets


class GuestTcp(GuestEnd):
    """The end of a connection that the guest opens."""

    def __init__(
        self, stack: Stack, dport: int = 80, sport: int = 40000, dst: str = HOST, **options: Any
    ) -> None:
        super().__init__(stack, sport, dport, dst, 1000)
        self.options = options.get("options", [("MSS", 1460)])
        self.window = options.get("window", 65535)

    def open(self) -> Packet:
        """The handshake; the SYN-ACK."""
        (answer,) = self.stack.send(self.segment("S", options=self.options))
        assert answer[TCP].flags == "SA"
        self.seq += 1
        self.ack = answer[TCP].seq + 1
        self.stack.send(self.segment("A"))
        return answer

    def send(self, payload: bytes, flags: str = "PA", seconds: float = 0.0) -> list[Packet]:
        out = self.stack.send(self.segment(flags, payload), seconds=seconds)
        self.seq += len(payload) + ("F" in flags)
        return self.take(out)


def data_of(packet: Packet) -> bytes:
    """The TCP or UDP payload without Ethernet padding."""
    ip = packet[IP]
    layer = packet[TCP] if TCP in packet else packet[UDP]
    header = layer.dataofs * 4 if TCP in packet else 8
    return bytes(ip)[ip.ihl * 4 + header : ip.len]


def arp_who_has(address: str, **fields: Any) -> Packet:
    return Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=MAC, psrc=GUEST, pdst=address, **fields)


__all__ = [
    "ARP", "GATEWAY", "GATEWAY_MAC", "GUEST", "HOST", "ICMP", "IP", "MAC", "TCP", "UDP", "Ether", "GuestEnd",
    "GuestTcp", "Packet", "Raw", "Stack", "arp_who_has", "data_of",
]  # fmt: skip
