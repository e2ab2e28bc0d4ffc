"""Header columns straight from the bytes of plain frames: what they are by way of all other code."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from netstack.capture import chunks, columns  # noqa: E402
from netstack.capture.filter import Filter  # noqa: E402
from netstack.capture.table import HEADERS, Layer  # noqa: E402
from netstack.errors import ConfigError  # noqa: E402

# A verdict on a checksum is no field: every frame is read as a whole for it.
ALL_THE_WAY = (*HEADERS, "ip_checksum")
TCP = struct.pack(">HHIIHHHH", 40000, 443, 0xFFFFFFF0, 7, 0x8018, 512, 0xBEEF, 9) + bytes(12) + b"data"
UDP = struct.pack(">HHHH", 5353, 53, 13, 0) + b"query"
SRC6, DST6 = bytes(range(16)), bytes(range(200, 216))


def ethernet(kind: int, body: bytes) -> bytes:
    return bytes.fromhex("f20000000002f60000000001") + struct.pack(">H", kind) + body


def ipv4(protocol: int, body: bytes) -> bytes:
    head = struct.pack(
        ">BBHHHBBHII", 0x45, 0xB9, 20 + len(body), 0xABCD, 0x4000, 63, protocol, 0, 0xC0A80003, 0xC6336401
    )
    return ethernet(0x0800, head + body)


def ipv6(protocol: int, body: bytes) -> bytes:
    return ethernet(0x86DD, struct.pack(">IHBB", 0x6B912345, len(body), protocol, 62) + SRC6 + DST6 + body)


SHAPES = [
    ipv4(6, TCP),
    ipv4(17, UDP),
    ipv6(6, TCP),
    ipv6(17, UDP),
    ipv4(1, bytes(8)),
    ethernet(0x0806, bytes(28)),
]


def saved(path: Path, frames: list[tuple[bytes, int]]) -> Path:
    """A pcap file of frames, each with its length on the wire."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for i, (frame, length) in enumerate(frames):
            file.write(struct.pack("<IIII", i, i % 1000, len(frame), length) + frame)
    return path


def mixture(seed: int, n: int) -> list[tuple[bytes, int]]:
    """Frames of all shapes: whole, padded, cut, with bytes of their headers changed; runs of one shape between them."""
    draw, frames = random.Random(seed), []
    while len(frames) < n:
        frame = bytearray(draw.choice(SHAPES))
        for _ in range(draw.choice((0, 0, 0, 1, 2))):
            frame[draw.randrange(12, len(frame))] = draw.choice(
                (0, 1, 4, 5, 6, 17, 0x45, 0x46, 0x60, 0xFF, draw.randrange(256))
            )
        frame += bytes(draw.choice((0, 0, 0, 6)))
        length = len(frame) + draw.choice((0, 0, 0, 100, -10))
        kept = bytes(frame[: draw.choice((len(frame), len(frame), draw.randrange(len(frame) + 1)))])
        frames += [(kept, max(0, length))] * draw.choice((1, 1, 1, 70))
    return frames


@pytest.mark.parametrize("seed", range(6))
def test_plain_frames_say_what_all_others_do(seed: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", mixture(seed, 3000))
    straight, whole = columns(path, HEADERS), columns(path, ALL_THE_WAY)
    for name in HEADERS:
        different = np.nonzero((straight[name] != whole[name]).reshape(len(whole), -1).any(axis=1))[0]
        assert not len(different), (
            name,
            different[:5],
            straight[name][different[:5]],
            whole[name][different[:5]],
        )
    for layer in (Layer.TCP, Layer.UDP, Layer.IPV4, Layer.IPV6, Layer.CUT, Layer.MALFORMED):
        assert whole.has(layer).any()


def test_the_fields_of_every_shape(tmp_path: Path) -> None:
    table = columns(saved(tmp_path / "x.pcap", [(frame, len(frame)) for frame in SHAPES]))
    assert table["eth_src"].tolist() == [0xF60000000001] * 6
    assert table["eth_dst"].tolist() == [0xF20000000002] * 6
    assert table["ip_version"].tolist() == [4, 4, 6, 6, 4, 0]
    assert table["ip_tos"].tolist() == [0xB9] * 2 + [0xB9] * 2 + [0xB9, 0]
    assert table["ttl"].tolist() == [63, 63, 62, 62, 63, 0]
    assert table["ip_src"].tolist() == [0xC0A80003] * 2 + [0, 0, 0xC0A80003, 0]
    assert table["ip6_dst"][2].tobytes() == np.array([*struct.unpack(">QQ", DST6)], dtype="u8").tobytes()
    assert table["src_port"].tolist() == [40000, 5353, 40000, 5353, 0, 0]
    assert table["tcp_seq"].tolist() == [0xFFFFFFF0, 0, 0xFFFFFFF0, 0, 0, 0]
    assert table["tcp_header"].tolist() == [32, 0, 32, 0, 0, 0]
    assert table["tcp_flags"].tolist() == [0x18, 0, 0x18, 0, 0, 0]
    assert table["tcp_urgent"].tolist() == [9, 0, 9, 0, 0, 0]
    assert table["payload"].tolist() == [4, 5, 4, 5, 0, 0]
    assert table["udp_length"].tolist() == [0, 13, 0, 13, 0, 0]
    assert table["ip_flags"].tolist() == [2, 2, 0, 0, 2, 0]


def test_a_filter_leaves_gaps_in_the_numbers_only(tmp_path: Path) -> None:
    try:
        Filter("tcp", 1)
    except ConfigError:
        pytest.skip("libpcap is not installed")
    frames = [(frame, len(frame)) for frame in SHAPES] * 100
    path = saved(tmp_path / "x.pcap", frames)
    straight, whole = (columns(path, names, where="udp or arp") for names in (HEADERS, ALL_THE_WAY))
    assert straight["number"].tolist()[:4] == [2, 4, 6, 8]
    for name in HEADERS:
        assert np.array_equal(straight[name], whole[name]), name


def test_chunks_that_are_kept_stay_as_they_are(tmp_path: Path) -> None:
    """Memory is used again only where nobody holds it: neither the array, nor a part of it."""
    path = saved(tmp_path / "x.pcap", [(ipv4(6, TCP), 70 + i) for i in range(1000)])
    kept, parts, addresses = [], [], set()
    for i, chunk in enumerate(chunks(path, "length, number", rows=50)):
        addresses.add(chunk["number"].__array_interface__["data"][0])
        if i % 2:
            kept.append(chunk["length"])
        else:
            parts.append(chunk["length"][10:20])
    assert np.concatenate(kept).tolist() == [70 + i for i in range(1000) if i // 50 % 2]
    assert np.concatenate(parts).tolist() == [70 + 100 * n + i for n in range(10) for i in range(10, 20)]
    assert len(addresses) < 5
