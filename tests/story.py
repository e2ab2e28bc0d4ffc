"""Captures made for a test: a guest and its peers, frame by frame."""

from __future__ import annotations

from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from netstack.capture.pcap import PcapWriter

GUEST, PEER, ROUTER = "10.1.0.2", "203.0.113.9", "10.1.0.1"
GUEST_MAC, ROUTER_MAC = "02:00:00:00:01:02", "02:00:00:00:01:01"
START = 1_700_000_000_000_000_000
MSS = [("MSS", 1460), ("NOP", None), ("WScale", 7)]

__all__ = ["ARP", "GUEST", "GUEST_MAC", "ICMP", "PEER", "ROUTER", "ROUTER_MAC", "TCP", "UDP", "Story", "Talk"]


class Story:
    """The frames of a capture, a millisecond apart where nothing else is said."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.now = START

    def up(self, layer: Packet, dst: str = PEER, src: str = GUEST, **ip: int) -> None:
        """A packet of the guest's."""
        self.raw(bytes(Ether(src=GUEST_MAC, dst=ROUTER_MAC) / IP(src=src, dst=dst, **ip) / layer))

    def down(self, layer: Packet, src: str = PEER, dst: str = GUEST, **ip: int) -> None:
        """A packet of a peer's."""
        self.raw(bytes(Ether(src=ROUTER_MAC, dst=GUEST_MAC) / IP(src=src, dst=dst, **ip) / layer))

    def raw(self, frame: bytes) -> None:
        """A frame."""
        self.frames.append((self.now, frame))
        self.wait(0.001)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += round(seconds * 1e9)

    def save(self, directory: Path, name: str = "story.pcapng", **options: int) -> str:
        """Writes the capture; its path."""
        path = directory / name
        with PcapWriter(path, **options) as writer:
            for when, frame in self.frames:
                writer.write(when, frame)
        return str(path)


class Talk:
    """A TCP conversation in a story."""

    def __init__(
        self, story: Story, sport: int = 40000, dport: int = 80, isn: int = 1000, peer_isn: int = 0xFFFFFF00
    ) -> None:
        self.story, self.sport, self.dport = story, sport, dport
        self.seq, self.peer_seq = isn, peer_isn
        self.window = 500

    def up(self, flags: str = "A", data: bytes = b"", **fields: int) -> None:
        """A segment of the guest's."""
        tcp = TCP(sport=self.sport, dport=self.dport, flags=flags, seq=fields.pop("seq", self.seq),
                  ack=fields.pop("ack", self.peer_seq if "A" in flags else 0), window=self.window,
                  **fields)  # fmt: skip
        self.story.up(tcp / data if data else tcp)
        self.seq = (self.seq + len(data) + ("S" in flags) + ("F" in flags)) & 0xFFFFFFFF

    def down(self, flags: str = "A", data: bytes = b"", **fields: int) -> None:
        """A segment of the peer's."""
        tcp = TCP(sport=self.dport, dport=self.sport, flags=flags, seq=fields.pop("seq", self.peer_seq),
                  ack=fields.pop("ack", self.seq if "A" in flags else 0), window=500, **fields)  # fmt: skip
        self.story.down(tcp / data if data else tcp)
        self.peer_seq = (self.peer_seq + len(data) + ("S" in flags) + ("F" in flags)) & 0xFFFFFFFF

    def open(self) -> Talk:
        """The handshake."""
        self.up("S", options=MSS)
        self.down("SA", options=MSS)
        self.up()
        return self

    def ask(self, question: bytes = b"GET", answer: bytes = b"200 OK") -> Talk:
        """A question and its answer."""
        self.up("PA", question)
        self.down("PA", answer)
        self.up()
        return self

    def close(self) -> Talk:
        """The guest ends, then the peer."""
        self.up("FA")
        self.down("FA")
        self.up()
        return self
