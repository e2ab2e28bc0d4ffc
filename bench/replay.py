"""How fast captures are replayed: frames a second of the capture, from the file to the verdicts.

    python -m bench.replay [FRAMES]

One guest, one peer; a download, an upload, many short conversations, and datagrams. And what a guest in memory costs a
test: the milliseconds until it can be used.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from netstack import Config, Gateway
from netstack.capture.pcap import PcapWriter
from netstack.replay import replay
from netstack.testing import memory_guest
from netstack.testing.plugin import settled
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TCPHeader
from netstack.wire.udp import UDPHeader

GUEST, PEER = "10.1.0.2", "203.0.113.9"
MACS = {GUEST: "02:00:00:00:01:02", PEER: "02:00:00:00:01:01"}
BODY = bytes(1448)
FLAGS = {"F": 1, "S": 2, "A": 16}


def framed(src: str, dst: str, protocol: int, packet: bytes) -> bytes:
    return EthernetHeader(MACS[dst], MACS[src], 0x0800).build(IPv4Header(src, dst, protocol).build(packet))


def segment(src: str, sport: int, dport: int, seq: int, ack: int, flags: str, body: bytes = b"") -> bytes:
    dst = PEER if src == GUEST else GUEST
    bits = sum(bit for letter, bit in FLAGS.items() if letter in flags)
    opens = "S" in flags
    header = TCPHeader(
        sport, dport, seq=seq & 0xFFFFFFFF, ack=ack & 0xFFFFFFFF, flags=bits, window=60000,
        mss=1460 if opens else None, wscale=10 if opens else None,
    )  # fmt: skip
    return framed(src, dst, 6, header.build(body, src=src, dst=dst))


def bulk(frames: int, up: bool) -> Iterator[bytes]:
    """One transfer, with an acknowledgement for every second segment."""
    one, other, a, b = (GUEST, PEER, 40000, 80) if up else (PEER, GUEST, 80, 40000)
    yield segment(GUEST, 40000, 80, 0, 0, "S")
    yield segment(PEER, 80, 40000, 0, 1, "SA")
    yield segment(GUEST, 40000, 80, 1, 1, "A")
    for n in range(frames // 3):
        at = 1 + n * 2 * len(BODY)
        yield segment(one, a, b, at, 1, "A", BODY)
        yield segment(one, a, b, at + len(BODY), 1, "A", BODY)
        yield segment(other, b, a, 1, at + 2 * len(BODY), "A")


def short(frames: int) -> Iterator[bytes]:
    """Nine frames a conversation."""
    for n in range(frames // 9):
        port = 1025 + n % 60000
        isn = n // 60000 * 1000
        yield segment(GUEST, port, 80, isn, 0, "S")
        yield segment(PEER, 80, port, 7, isn + 1, "SA")
        yield segment(GUEST, port, 80, isn + 1, 8, "A")
        yield segment(GUEST, port, 80, isn + 1, 8, "A", b"GET")
        yield segment(PEER, 80, port, 8, isn + 4, "A", BODY)
        yield segment(GUEST, port, 80, isn + 4, 8 + len(BODY), "A")
        yield segment(PEER, 80, port, 8 + len(BODY), isn + 4, "FA")
        yield segment(GUEST, port, 80, isn + 4, 9 + len(BODY), "FA")
        yield segment(PEER, 80, port, 9 + len(BODY), isn + 5, "A")


def datagrams(frames: int) -> Iterator[bytes]:
    """Questions and answers of 100 bytes, of 100 ports."""
    for n in range(frames // 2):
        body = struct.pack("!I", n) * 25
        port = 5000 + n % 100
        yield framed(GUEST, PEER, 17, UDPHeader(port, 7).build(body, src=GUEST, dst=PEER))
        yield framed(PEER, GUEST, 17, UDPHeader(7, port).build(body, src=PEER, dst=GUEST))


KINDS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "download": lambda n: bulk(n, False),
    "upload": lambda n: bulk(n, True),
    "short conversations": short,
    "datagrams": datagrams,
}


def main(frames: int) -> None:
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "capture.pcapng"
            with PcapWriter(path) as writer:
                for n, frame in enumerate(kind(frames)):
                    writer.write(1_700_000_000_000_000_000 + n * 20_000, frame)
            best = 1e9
            for _ in range(3):
                began = time.perf_counter()
                result = replay(str(path))
                best = min(best, time.perf_counter() - began)
        print(
            f"{name:20} {result.frames / best:10,.0f} frames/s   {result.verdict}, {len(result.verdicts)} verdicts"
        )
    took = []
    for _ in range(50):
        began = time.perf_counter()
        with Gateway(Config(dns=())) as gateway, memory_guest(gateway) as guest:
            settled(guest, gateway)
            took.append(time.perf_counter() - began)
    print(f"{'a guest in memory':20} {sorted(took)[25] * 1e3:10.2f} ms (median of 50)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
