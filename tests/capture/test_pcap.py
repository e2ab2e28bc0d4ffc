"""Capture files: what is written, and reading what others wrote."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapNgReader, PcapReader
from scapy.utils import PcapWriter as ScapyWriter

from netstack.capture.pcap import PcapWriter, read_pcap
from netstack.errors import WireError

NOW = 1_700_000_000_123_456_789
RECORDS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=200)), max_size=20)
FRAMES = [bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(b"x" * n)) for n in range(12)]


def read(data: bytes, **options: Any) -> list[tuple[int, bytes]]:
    return list(read_pcap(io.BytesIO(data), **options))


def written(tmp_path: Path, records: list[tuple[int, bytes]], **options: Any) -> bytes:
    path = tmp_path / "capture.pcapng"
    with PcapWriter(path, **options) as writer:
        for time_ns, frame in records:
            assert writer.write(time_ns, frame)
    return path.read_bytes()


# ---- writing ----


@pytest.mark.skipif(sys.byteorder != "little", reason="the file is in the machine's byte order")
def test_golden(tmp_path: Path) -> None:
    assert written(tmp_path, [(NOW, b"abcde")], snaplen=96) == bytes.fromhex(
        "0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff"
        "0400 0800 6e65747374 61636b 0000 0000 2c000000"
        "01000000 20000000 0100 0000 60000000 0900 0100 09000000 0000 0000 20000000"
        "06000000 28000000 00000000 fe9c9717 15cd853d 05000000 05000000 6162636465 000000 28000000"
    )


@given(records=RECORDS)
def test_what_is_written_is_read(tmp_path: Path, records: list[tuple[int, bytes]]) -> None:
    data = written(tmp_path, records)
    assert read(data) == records
    assert len(data) % 4 == 0


def test_scapy_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    path.write_bytes(written(tmp_path, [(NOW + n, frame) for n, frame in enumerate(FRAMES)]))
    with PcapNgReader(str(path)) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets] == FRAMES
    assert [packet.wirelen for packet in packets] == [len(frame) for frame in FRAMES]
    assert abs(float(packets[0].time) - NOW / 1e9) < 1e-6


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    with PcapWriter(path, snaplen=48) as writer:
        for n, frame in enumerate(FRAMES):
            writer.write(NOW + n, frame)
    fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "ip.dst"]
    run = subprocess.run(
        [
            "tshark",
            "-n",
            "-r",
            str(path),
            "-T",
            "fields",
            *(word for field in fields for word in ("-e", field)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    assert [row[0] for row in rows] == [f"1700000000.{123456789 + n}" for n in range(len(FRAMES))]
    assert [row[1:] for row in rows] == [[str(len(f)), str(min(len(f), 48)), "10.0.0.2"] for f in FRAMES]


@pytest.mark.parametrize(("snaplen", "kept"), [(1, 1), (5, 5), (99, 99), (100, 100), (101, 100), (0, 100)])
def test_the_snapshot_length(tmp_path: Path, snaplen: int, kept: int) -> None:
    frame = bytes(range(100))
    data = written(tmp_path, [(NOW, frame)], snaplen=snaplen)
    assert read(data) == [(NOW, frame[:kept])]
    assert struct.unpack_from("=II", data, 76 + 20) == (kept, 100)


def test_the_largest_snapshot_length(tmp_path: Path) -> None:
    frame = bytes(300_000)
    data = written(tmp_path, [(NOW, frame)] * 5, snaplen=2**32 - 1)
    assert read(data) == [(NOW, frame[:262144])] * 5


@given(
    parts=st.lists(st.binary(max_size=30), max_size=8), snaplen=st.integers(1, 100), extra=st.integers(0, 10)
)
def test_a_frame_in_parts(tmp_path: Path, parts: list[bytes], snaplen: int, extra: int) -> None:
    path = tmp_path / "capture.pcapng"
    frame = b"".join(parts)
    with PcapWriter(path, snaplen) as writer:
        assert writer.write(NOW, parts, len(frame) + extra)
        assert writer.write(NOW + 1, b"next")
    data = path.read_bytes()
    assert read(data) == [(NOW, frame[:snaplen]), (NOW + 1, b"next"[:snaplen])]
    assert struct.unpack_from("=I", data, 76 + 24) == (len(frame) + extra,)


def test_too_many_parts(tmp_path: Path) -> None:
    with PcapWriter(tmp_path / "x") as writer, pytest.raises(ValueError, match="at most 8 parts"):
        writer.write(NOW, [b""] * 9)


def test_it_is_buffered_until_flushed(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    with PcapWriter(path) as writer:
        for _ in range(100):
            writer.write(NOW, bytes(1000))
        assert path.stat().st_size == 0
        writer.flush()
        assert len(read(path.read_bytes())) == 100
        for _ in range(1000):
            writer.write(NOW, bytes(1000))
        assert path.stat().st_size > 256 * 1024  # a full buffer goes out by itself
        assert (writer.records, writer.lost, writer.error) == (1100, 0, 0)
    assert len(read(path.read_bytes())) == 1100


def test_files_are_private_and_truncated(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    path.write_bytes(bytes(10000))
    path.unlink()
    written(tmp_path, [])
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(bytes(10000))
    written(tmp_path, [])
    assert path.stat().st_size == 76


def test_a_path_that_cannot_be_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        PcapWriter(tmp_path / "missing" / "x")
    assert caught.value.filename == tmp_path / "missing" / "x"
    with pytest.raises(ValueError, match="NUL"):
        PcapWriter("a\0b")


def test_a_closed_writer(tmp_path: Path) -> None:
    writer = PcapWriter(tmp_path / "x")
    writer.close()
    writer.close()
    for use in (lambda: writer.write(1, b""), writer.flush, lambda: writer.records, writer.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_after_an_error_records_are_only_counted() -> None:
    writer = PcapWriter("/dev/full")
    for _ in range(3):
        assert writer.write(NOW, b"frame")
    assert (writer.records, writer.lost, writer.error) == (3, 0, 0)
    with pytest.raises(OSError, match="No space left") as caught:
        writer.flush()
    assert caught.value.errno == errno.ENOSPC
    assert not writer.write(NOW, b"frame")
    assert (writer.records, writer.lost, writer.error) == (0, 4, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        writer.close()


def test_an_error_inside_a_write(tmp_path: Path) -> None:
    code = """
import resource, sys
from netstack.capture.pcap import PcapWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (700_001, resource.RLIM_INFINITY))
writer = PcapWriter(sys.argv[1])
accepted = sum(writer.write(n, bytes(1001)) for n in range(2000))
print(writer.records, writer.lost, writer.error, accepted)
"""
    path = tmp_path / "capture.pcapng"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    records, lost, error, accepted = map(int, run.stdout.split())
    assert error == errno.EFBIG
    assert records + lost == 2000
    assert 0 < records < accepted < 2000
    # The file ends with a whole record, and holds exactly those that were not counted as lost.
    assert [time_ns for time_ns, _ in read(path.read_bytes())] == list(range(records))
    assert 690_000 < path.stat().st_size <= 700_001


def test_standard_output() -> None:
    code = """
from netstack.capture.pcap import PcapWriter
with PcapWriter("-") as writer:
    for n in range(100):
        writer.write(n, bytes(100))
print("a line behind the capture", flush=True)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    capture, _, rest = run.stdout.rpartition(b"a line")
    assert read(capture) == [(n, bytes(100)) for n in range(100)]
    assert rest == b" behind the capture\n"  # standard output itself stays open, and blocking


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def test_a_slow_reader_costs_records_and_no_time(fifo: tuple[Path, int]) -> None:
    path, reader = fifo
    writer = PcapWriter(path)
    frame = bytes(range(250)) * 4
    accepted = [n for n in range(5000) if writer.write(n, frame)]
    assert 500 < len(accepted) < 5000
    assert accepted == list(range(len(accepted)))
    assert (writer.records, writer.lost, writer.error) == (len(accepted), 5000 - len(accepted), 0)

    os.set_blocking(reader, True)
    chunks: list[bytes] = []
    # Once there is room again, records are taken again, and what arrives is whole.
    chunks.append(os.read(reader, 65536))
    assert writer.write(9999, frame)

    def drain() -> None:
        while chunk := os.read(reader, 65536):
            chunks.append(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    writer.close()
    thread.join()
    assert read(b"".join(chunks)) == [(n, frame) for n in [*accepted, 9999]]


def test_close_does_not_wait_for_ever(fifo: tuple[Path, int]) -> None:
    writer = PcapWriter(fifo[0])
    while writer.write(1, bytes(1000)):
        pass
    with pytest.raises(BrokenPipeError):
        writer.close()


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = PcapWriter(path)
    writer.write(1, b"x")
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        writer.flush()
    assert (writer.records, writer.lost) == (0, 1)
    del writer


# ---- reading ----


def classic(
    records: list[tuple[int, int, bytes]], order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1
) -> bytes:
    head = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack(order + "IIII", s, f, len(d), len(d)) + d for s, f, d in records)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def option(kind: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", kind, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(*options: bytes, order: str = "<", link: int = 1, snaplen: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + b"".join(options), order)


def enhanced(ticks: int, data: bytes, order: str = "<", index: int = 0) -> bytes:
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_in_both_orders_and_precisions(order: str, magic: int, unit: int) -> None:
    data = classic([(5, 6, b"one"), (2**32 - 1, 999_999, b"")], order, magic)
    assert read(data) == [
        (5_000_000_000 + 6 * unit, b"one"),
        ((2**32 - 1) * 1_000_000_000 + 999_999 * unit, b""),
    ]


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_what_scapy_writes(tmp_path: Path, nano: bool, endianness: str) -> None:
    path = tmp_path / "scapy.pcap"
    with ScapyWriter(str(path), nano=nano, endianness=endianness, linktype=1) as writer:
        for frame in FRAMES:
            writer.write(Ether(frame))
    assert [data for _, data in read_pcap(path)] == FRAMES
    with PcapReader(str(path)) as theirs:
        times = [float(packet.time) for packet in theirs]
    assert [time_ns / 1e9 for time_ns, _ in read_pcap(str(path))] == pytest.approx(times)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("options", "ticks", "expected"),
    [
        ((), 1_000_001, 1_000_001_000),  # microseconds unless said otherwise
        (((9, b"\x09"),), 1_000_001, 1_000_001),
        (((9, b"\x00"),), 3, 3_000_000_000),
        (((9, b"\x03"),), 3, 3_000_000),
        (((9, b"\x0c"),), 1_999_999, 1999),
        (((9, b"\x81"),), 3, 1_500_000_000),
        (((9, b"\xa0"),), 2**31, 500_000_000),
        (((1, b"a comment"), (9, b"\x09"), (0, b""), (9, b"\x00")), 7, 7),  # nothing counts behind the end
        (((9, b"\x09\x09"),), 5, 5000),
    ],
)
def test_time_resolutions(order: str, options: Any, ticks: int, expected: int) -> None:
    described = interface(*(option(kind, value, order) for kind, value in options), order=order)
    assert read(section(order) + described + enhanced(ticks, b"x", order)) == [(expected, b"x")]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_time_offset(order: str) -> None:
    described = interface(option(14, struct.pack(order + "q", -2), order), order=order)
    assert read(section(order) + described + enhanced(5_000_000, b"x", order)) == [(3_000_000_000, b"x")]


def test_blocks_of_every_kind() -> None:
    data = (
        section()
        + block(0xBAD, b"unknown to us")
        + interface(snaplen=4)
        + interface(option(9, b"\x09"))
        + block(3, struct.pack("<I", 3) + b"abc")
        + block(3, struct.pack("<I", 9) + b"abcd")
        + block(2, struct.pack("<HHIIII", 1, 0, 0, 7, 3, 3) + b"old")
        + enhanced(8, b"new", index=1)
        + block(5, bytes(12))
        + section(">")
        + interface(order=">")
        + enhanced(9, b"next section", ">")
    )
    assert read(data) == [(0, b"abc"), (0, b"abcd"), (7, b"old"), (8, b"new"), (9000, b"next section")]


def test_other_link_types() -> None:
    for data in (classic([(0, 1, b"x")], link=101), section() + interface(link=101) + enhanced(1, b"x")):
        with pytest.raises(WireError, match="link type 101 instead of 1") as caught:
            read(data)
        assert caught.value.code == -9
        assert read(data, link_type=101) == read(data, link_type=None) == [(1000, b"x")]


START = section() + interface()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", -1),
        (b"\xd4\xc3\xb2", -1),
        (b"GIF89a" + bytes(40), -2),
        (struct.pack("<IHHIIII", 0xA1B2C3D4, 3, 0, 0, 0, 0, 1), -2),
        (classic([]) + struct.pack("<IIII", 0, 0, 262145, 1), -3),
        (classic([]) + struct.pack("<IIII", 0, 0, 2**32 - 1, 1), -3),
        (classic([]) + struct.pack("<IIII", 0, 0, 262144, 1), -1),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4E, 1, 0, -1)), -2),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)), -2),
        (block(0x0A0D0D0A, struct.pack("<IHH", 0x1A2B3C4D, 1, 0)), -3),
        (START + struct.pack("<II", 6, 0) + bytes(4), -3),
        (START + struct.pack("<II", 6, 8) + bytes(4), -3),
        (START + struct.pack("<II", 6, 33) + bytes(25), -3),
        (START + struct.pack("<II", 6, 2**32 - 4) + bytes(4), -3),
        (START + struct.pack("<II", 6, (1 << 24) + 4) + bytes(4), -3),
        (START + struct.pack("<II", 6, 1 << 24), -1),
        (START + struct.pack("<II", 0xBAD, 12) + struct.pack("<I", 16), -3),
        (START + block(6, bytes(16)), -3),
        (START + block(3, b""), -3),
        (section() + block(1, bytes(4)), -3),
        (section() + block(1, bytes(8) + struct.pack("<HH", 9, 5) + bytes(4)), -3),
        (START + block(6, struct.pack("<IIIII", 0, 0, 0, 5, 5) + b"abcd"), -3),
        (START + block(6, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 5) + b"abcd"), -3),
        (START + enhanced(1, b"x", index=1), -6),
        (section() + enhanced(1, b"x"), -6),
        (section() + block(3, bytes(4)), -6),
        (START + section() + enhanced(1, b"x"), -6),
    ],
)
def test_every_fault(data: bytes, code: int) -> None:
    with pytest.raises(WireError, match=r"at byte \d+ of the capture") as caught:
        read(data)
    assert caught.value.code == code


def test_packets_in_front_of_a_fault_are_given() -> None:
    packets = read_pcap(io.BytesIO(START + enhanced(1, b"x") + b"\x06"))
    assert next(packets) == (1000, b"x")
    with pytest.raises(WireError):
        next(packets)


@pytest.mark.parametrize(
    "data", [classic([(0, 0, b"abc"), (0, 0, b"defg")]), START + enhanced(0, b"abc") + enhanced(0, b"defg")]
)
def test_every_prefix(data: bytes) -> None:
    ends = 0
    codes = set()
    for length in range(len(data)):
        found: list[tuple[int, bytes]] = []
        try:
            found.extend(read_pcap(io.BytesIO(data[:length])))
            ends += 1
        except WireError as error:
            codes.add(error.code)
        assert found == read(data)[: len(found)]
    assert codes == {-1}
    assert ends == (2 if data.startswith(b"\xd4") else 3)  # a file may end between records


SAMPLES = st.sampled_from(
    [classic([(1, 2, b"abc"), (3, 4, b"defg")]), START + enhanced(1, b"abc") + enhanced(2, b"defg")]
)


@given(
    SAMPLES, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), st.binary(max_size=60)
)
def test_damaged_files(data: bytes, changes: list[tuple[int, int]], tail: bytes) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        for time_ns, packet in read_pcap(io.BytesIO(bytes(damaged) + tail), link_type=None):
            assert isinstance(time_ns, int)
            assert len(packet) <= len(damaged) + len(tail)
    except WireError:
        pass


@given(st.sampled_from([b"", b"\xd4\xc3\xb2\xa1\x02\x00", START]), st.binary(max_size=200))
def test_random_files(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(WireError):
        read(start + rest, link_type=None)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_pcap(tmp_path / "missing"))


def test_standard_input() -> None:
    code = "from netstack.capture.pcap import read_pcap; print(list(read_pcap('-')))"
    run = subprocess.run(
        [sys.executable, "-c", code], input=classic([(1, 2, b"x")]), capture_output=True, check=True
    )
    assert eval(run.stdout) == [(1_000_002_000, b"x")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_files_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(classic([(1, 2, b"x")] * 3))
    before = os.listdir("/proc/self/fd")
    packets = read_pcap(path)
    next(packets)
    packets.close()  # type: ignore[attr-defined]
    assert os.listdir("/proc/self/fd") == before
