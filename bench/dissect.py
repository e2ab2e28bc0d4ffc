"""Header columns of a capture: frames a second, beside what else a Python program can do.

    python -m bench dissect [--frames N] [--mix mixed|small|large]

A file of TCP segments over IPv4 is made in a temporary folder and read several times; the best time of each counts,
as the file is in memory then. Every reader sums the same six fields (addresses, ports, sequence number, flags), and
the sums must agree. The slow ones read fewer frames.

- chunks: `netstack.capture.chunks`, all header columns, and only the six; memory is used again
- columns: `netstack.capture.columns`, which holds the whole result
- numpy: the bytes of the fixed headers gathered with one index, if all IP headers had 20 bytes; record after record is
  found with struct, since nothing else finds them
- struct: two ``unpack_from`` a frame
- dpkt, scapy: their own readers and parsers
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIX = ("ip_src", "ip_dst", "src_port", "dst_port", "tcp_seq", "tcp_flags")
MIXES = {"mixed": (66, 1514), "small": (66, 66), "large": (1514, 1514)}
Sums = tuple[int, ...]


def make(path: Path, frames: int, lengths: tuple[int, int]) -> None:
    """A pcap file of TCP segments, alternately of the two lengths."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        block = bytearray()
        for i in range(frames):
            length = lengths[i & 1]
            block += struct.pack("<IIII", 1_700_000_000 + i // 1000, i % 1000 * 1000, length, length)
            block += bytes.fromhex("020000000001 020000000002 0800".replace(" ", ""))
            flags = 0x18 if length > 66 else 0x10
            block += struct.pack(">BBHHHBBHII", 0x45, 0, length - 14, i & 0xFFFF, 0x4000, 64, 6, 0,
                                 0x0A000000 + (i & 0xFFF), 0xC0A80001)  # fmt: skip
            block += struct.pack(
                ">HHIIBBHHH", 1024 + (i & 0x3FFF), 443, i * 1460 & 0xFFFFFFFF, 1, 0x80, flags, 512, 0, 0
            )
            block += b"\x01\x01\x08\x0a" + struct.pack(">II", i, i) + bytes(length - 66)
            if len(block) > 1 << 20:
                file.write(block)
                block.clear()
        file.write(block)


def by_columns(path: Path, names: tuple[str, ...] | None) -> Sums:
    from netstack.capture import columns

    table = columns(path, names)
    return tuple(int(table[name].sum(dtype="u8")) for name in SIX)


def by_chunks(path: Path, names: tuple[str, ...] | None) -> Sums:
    from netstack.capture import chunks

    total = [0] * 6
    for table in chunks(path, names):
        for i, name in enumerate(SIX):
            total[i] += int(table[name].sum(dtype="u8"))
    return tuple(total)


def by_struct(path: Path) -> Sums:
    data = path.read_bytes()
    record, network = struct.Struct("<IIII").unpack_from, struct.Struct(">II").unpack_from
    transport = struct.Struct(">HHIIBB").unpack_from
    at, end = 24, len(data)
    total = [0] * 6
    while at < end:
        _, _, captured, _ = record(data, at)
        at += 16
        src, dst = network(data, at + 26)
        sport, dport, seq, _, _, flags = transport(data, at + 34)
        for i, value in enumerate((src, dst, sport, dport, seq, flags)):
            total[i] += value
        at += captured
    return tuple(total)


def by_numpy(path: Path) -> Sums:
    import numpy as np

    data = path.read_bytes()
    starts, at, end = [], 24, len(data)
    length = struct.Struct("<I").unpack_from
    while at < end:
        starts.append(at + 16)
        at += 16 + length(data, at + 8)[0]
    raw = np.frombuffer(data, dtype="u1")
    heads = raw[np.array(starts)[:, None] + np.arange(26, 48)]

    def field(offset: int, kind: str) -> Any:
        size = np.dtype(kind).itemsize
        return np.ascontiguousarray(heads[:, offset : offset + size]).view(kind)

    kinds = ((0, ">u4"), (4, ">u4"), (8, ">u2"), (10, ">u2"), (12, ">u4"), (21, "u1"))
    return tuple(int(field(offset, kind).sum(dtype="u8")) for offset, kind in kinds)


def by_dpkt(path: Path) -> Sums:
    import dpkt

    total = [0] * 6
    with path.open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(frame).data
            tcp = ip.data
            found = (
                int.from_bytes(ip.src, "big"),
                int.from_bytes(ip.dst, "big"),
                tcp.sport,
                tcp.dport,
                tcp.seq,
                tcp.flags,
            )
            for i, value in enumerate(found):
                total[i] += value
    return tuple(total)


def by_scapy(path: Path) -> Sums:
    import socket

    from scapy.layers.inet import IP, TCP
    from scapy.utils import PcapReader

    total = [0] * 6
    with PcapReader(str(path)) as reader:
        for frame in reader:
            ip, tcp = frame[IP], frame[TCP]
            ends = (int.from_bytes(socket.inet_aton(address), "big") for address in (ip.src, ip.dst))
            for i, value in enumerate((*ends, tcp.sport, tcp.dport, tcp.seq, int(tcp.flags))):
                total[i] += value
    return tuple(total)


def measure(function: Callable[[], Sums], rounds: int) -> tuple[float, Sums]:
    """Seconds of the best round, and the sums."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        sums = function()
        best = min(best, time.perf_counter() - begin)
    return best, sums


def main(argv: list[str]) -> int:
    """Prints the table; 1 where two readers disagree."""
    parser = argparse.ArgumentParser(prog="python -m bench dissect", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--frames", type=int, default=1_000_000, help="in the large file (default %(default)s)"
    )
    parser.add_argument(
        "--mix", choices=sorted(MIXES), default="mixed", help="lengths: 66 and 1514, or one of them"
    )
    parser.add_argument("--only-columns", action="store_true", help="leave the others out, to tune")
    options = parser.parse_args(argv)
    from netstack.capture.table import ALL

    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for frames in {options.frames, 100_000, 3_000}:
            sizes[frames] = Path(folder) / f"{frames}.pcap"
            make(sizes[frames], frames, MIXES[options.mix])
        readers: list[tuple[str, int, Callable[[Path], Sums]]] = [
            ("chunks: headers", options.frames, lambda path: by_chunks(path, None)),
            ("chunks: the six", options.frames, lambda path: by_chunks(path, SIX)),
            ("columns: headers", options.frames, lambda path: by_columns(path, None)),
            ("columns: the six", options.frames, lambda path: by_columns(path, SIX)),
            ("columns: all", options.frames, lambda path: by_columns(path, ALL)),
        ]
        if not options.only_columns:
            readers += [
                ("numpy", 100_000, by_numpy),
                ("struct", 100_000, by_struct),
                ("dpkt", 100_000, by_dpkt),
                ("scapy", 3_000, by_scapy),
            ]
        print(
            f"{os.uname().machine}, {options.mix}: {MIXES[options.mix][0]} and {MIXES[options.mix][1]} bytes"
        )
        print(f"{'':<20} {'frames':>10} {'frames/s':>14} {'ns/frame':>10} {'times slower':>13}")
        first, wrong = 0.0, False
        expected: dict[int, Sums] = {}
        for name, frames, function in readers:
            path = sizes[frames]
            try:
                function(sizes[3_000])
            except ImportError as err:
                print(f"{name:<20} {err.name} is not installed")
                continue
            seconds, sums = measure(
                lambda f=function, p=path: f(p), 7 if name.startswith(("chunks", "columns")) else 3
            )  # type: ignore[misc]
            rate = frames / seconds
            first = first or rate
            if frames not in expected:
                expected[frames] = by_columns(path, SIX)
            wrong = wrong or sums != expected[frames]
            print(
                f"{name:<20} {frames:>10,} {rate:>14,.0f} {1e9 / rate:>10,.0f} {first / rate:>13,.1f}",
                flush=True,
            )
        if wrong:
            print("the readers disagree", file=sys.stderr)
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
