"""Every column against tshark's fields, for every capture there is."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

import tshark  # noqa: E402

from netstack.capture.table import ALL, columns  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# Where we differ on purpose, by file and frame, and the fields.
DIFFERENT: dict[tuple[str, int], set[str]] = {
    # 39 of the 40 bytes of an IPv6 header are in the packet: it has no columns, and tshark shows fields until the
    # end.
    ("tcpdump__ipv6_invalid_length.pcap", 1): {"ip_tos", "ip_length", "ttl", "ip_version", "ip_src"},
    # The SYN/ACK was captured before its SYN. tshark compares the acknowledgement field of the SYN, which is 0
    # and means nothing without the ACK flag, takes the SYN/ACK for acknowledged and measures no round trip of it.
    ("zeek__tcp__handshake-reorder.pcap", 3): {"rtt"},
    # A server repeats its FIN; there is no duplicate acknowledgement of the client's before it. tshark 4.0 notes
    # at each of these frames that it acknowledges what was not captured by setting the client's count of
    # duplicates to -1; the count is unsigned, and so a segment that the client still waits for is a fast
    # retransmission to it.
    ("zeek__tcp__reassembly.pcap", 8): {"tcp_analysis"},
    ("zeek__tcp__reassembly.pcap", 10): {"tcp_analysis"},
    ("zeek__tcp__reassembly.pcap", 12): {"tcp_analysis"},
    # These acknowledge bytes that were not captured, for a second time: as long as the sender of the bytes
    # repeats its own acknowledgement number, tshark says so once (the same -1).
    ("zeek__tcp__reassembly.pcap", 105): {"tcp_analysis"},
    ("missing-frames.pcapng", 13): {"tcp_analysis"},
    # A DNS message over TCP in two segments (the rest is in frame 18): the columns tell of messages that lie
    # whole in their segment.
    ("dns.pcapng", 16): {"dns_flags", "dns_id", "dns_name", "dns_rcode", "dns_type"},
    # An ACK that names new bytes by SACK is a duplicate one whatever its window (RFC 6675 section 2). These have
    # another window than the ACK before, for which reason alone tshark 4.0 calls them updates of the window.
    **{("loss.pcapng", frame): {"tcp_analysis"} for frame in (62, 69, 99)},
    **{("reordering.pcapng", frame): {"tcp_analysis"} for frame in (15, 86, 105, 156, 161, 168)},
}
# How much is made of a header that is wrong, and of the conversation that such frames belong to, is a matter of taste.
MALFORMED = {"malformed.pcapng"}


def captures() -> Iterator[Path]:
    """The project's own captures, and a folder shared/pcaps beside the project or above it, where there is one."""
    folders = [ROOT / "pcaps", *(parent / "shared" / "pcaps" for parent in ROOT.parents)]
    for folder in folders:
        if folder.is_dir():
            yield from sorted(
                p for p in folder.rglob("*") if p.suffix in (".pcap", ".pcapng") and p.is_file()
            )


@pytest.fixture(scope="module", autouse=True)
def needs_tshark() -> None:
    for tool in ("tshark", "mergecap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def test_every_field_of_every_capture(tmp_path: Path) -> None:
    """tshark reads all files in one go, joined: it would take a second for each."""
    paths = [path for path in captures() if path.name not in MALFORMED]
    if not paths:
        pytest.skip("neither pcaps/ nor shared/pcaps is there")
    joined = tmp_path / "joined.pcapng"
    # A file that is cut short on purpose is joined as far as it goes, which mergecap calls a failure.
    subprocess.run(["mergecap", "-a", "-I", "none", "-w", joined, *paths], capture_output=True, check=False)
    places = [(path.name, i + 1) for path in paths for i in range(len(columns(path, "number")))]
    table = columns(joined, ALL)
    rows = tshark.rows(joined)
    assert len(table) == len(places) == len(rows)
    wrong = []
    for text in tshark.differences(table, rows):
        frame, name = int(text.split()[1]), text.split()[2].rstrip(":")
        if name not in DIFFERENT.get(places[frame - 1], ()):
            wrong.append(f"{places[frame - 1]}: {text}")
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong[:20])


def test_a_file_says_the_same_alone_and_joined(tmp_path: Path) -> None:
    paths = list(captures())
    if not paths:
        pytest.skip("neither pcaps/ nor shared/pcaps is there")
    joined = tmp_path / "joined.pcapng"
    subprocess.run(["mergecap", "-a", "-I", "none", "-w", joined, *paths], capture_output=True, check=False)
    table = columns(joined, ALL)
    at = 0
    for path in paths:
        alone = columns(path, ALL)
        for name in ALL:
            if name not in ("number", "interface", "flow", "tcp_analysis", "rtt", "layers"):
                assert np.array_equal(alone[name], table[name][at : at + len(alone)]), (path.name, name)
        at += len(alone)
    assert at == len(table)


TCP = bytes.fromhex("04d20050 000003e8 00000001 6010 1000 0000 0000 020405b4".replace(" ", ""))
IP4 = bytes.fromhex("45000030 00010000 40060000 0a000001 0a000002".replace(" ", "")) + TCP + b"data"
IP6 = bytes.fromhex("60000000 0018 0640".replace(" ", "")) + bytes(15) + b"\x01" + bytes(15) + b"\x02" + TCP
COOKED = bytes.fromhex("0000 0001 0006 020000000001 0000 0800".replace(" ", "")) + IP4
COOKED2 = bytes.fromhex("86dd 0000 00000001 0001 04 06 020000000001 0000".replace(" ", "")) + IP6
LINKS = {
    "raw-4": (101, IP4),
    "raw-6": (101, IP6),
    "ipv4": (228, IP4),
    "ipv6": (229, IP6),
    "cooked": (113, COOKED),
    "cooked-2": (276, COOKED2),
    "null": (0, struct.pack("<I", 2) + IP4),
    "null-big-endian": (0, struct.pack(">I", 2) + IP4),
    "null-bsd-6": (0, struct.pack("<I", 24) + IP6),
    "null-darwin-6": (0, struct.pack("<I", 30) + IP6),
    "loop": (108, struct.pack(">I", 2) + IP4),
    "loop-6": (108, struct.pack(">I", 28) + IP6),
}


def test_link_types(tmp_path: Path) -> None:
    """Each in a file of its own, and all of them joined for tshark."""
    paths = []
    for name, (link, frame) in LINKS.items():
        path = tmp_path / f"{len(paths):02}-{name}.pcap"
        path.write_bytes(
            struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, link)
            + struct.pack("<IIII", 1, 123456789, len(frame), len(frame))
            + frame
        )
        table = columns(path, ALL)
        found = (int(table["src_port"][0]), int(table["tcp_mss"][0]), int(table["time"][0]))
        assert found == (1234, 1460, 1_123456789), name
        paths.append(path)
    joined = tmp_path / "joined.pcapng"
    subprocess.run(["mergecap", "-a", "-I", "none", "-w", joined, *paths], check=True)
    assert tshark.differences(columns(joined, ALL), tshark.rows(joined)) == []
