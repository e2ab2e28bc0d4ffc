"""A capture under way: the queue, its writer, files and pipes."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pcapng
import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netstack.capture.filter import Filter
from netstack.capture.recorder import Recorder

NOW = 1_700_000_000_123_456_789
MAC, GATEWAY = "02:00:00:00:00:03", "f6:16:36:bc:f9:c6"
PATIENCE = 30.0
GSO_TCP4, CSUM_PARTIAL, GSO_UDP = 1, 2, 5


def frame(length: int = 100, port: int = 80) -> bytes:
    """TCP of so many bytes, in all."""
    headers = (
        Ether(src=MAC, dst=GATEWAY) / IP(src="192.168.65.3", dst="10.0.0.1") / TCP(sport=1000, dport=port)
    )
    return bytes(headers / Raw(b"x" * (length - 54)))


def eventually(true: object) -> None:
    end = time.monotonic() + PATIENCE
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.005)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    recorder = Recorder(str(path), snaplen=70, section=("riscv64", "Linux 7", "netstack 9"))
    recorder.set_names(
        {"web.internal": (("A", bytes([192, 168, 65, 3])), ("TXT", b"x")), "*.x": (("A", bytes(4)),)}
    )
    for n in range(6):
        assert recorder.write(NOW + n, frame(), port=1 + n % 2, outbound=n >= 4)
    ended = recorder.close()
    assert ended == recorder.close() == recorder.state()
    size = path.stat().st_size
    assert ended == {"frames": 6, "lost": 0, "bytes": size, "full": False, "error": 0, "files": 0}
    file = pcapng.read(path)
    assert [file.options[code] for code in (2, 3, 4)] == [[b"riscv64"], [b"Linux 7"], [b"netstack 9"]]
    assert [(i.snaplen, i.options[12], i.options[15]) for i in file.interfaces] == [
        (70, [b"Linux 7"], [b"riscv64"])
    ] * 2
    assert file.names == [("web.internal", "192.168.65.3")]
    assert [(f.interface, f.time_ns, f.length, len(f.data)) for f in file.frames] == [
        (n % 2, NOW + n, 100, 70) for n in range(6)
    ]
    assert [f.flags for f in file.frames] == [0b101] * 4 + [0b110] * 2  # unicast, in and out
    assert [(i.statistics[4], i.statistics[5]) for i in file.interfaces] == [(3, 0)] * 2
    assert path.stat().st_mode & 0o777 == 0o600
    pcapng.accepted(path, 6)


def test_nothing_captured(tmp_path: Path) -> None:
    path = tmp_path / "none.pcapng"
    Recorder(str(path)).close()
    assert pcapng.read(path).kinds == [pcapng.SECTION]
    pcapng.accepted(path, 0)


@pytest.mark.parametrize("address", ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"])
def test_kinds_of_destinations(tmp_path: Path, address: str) -> None:
    path = tmp_path / "x"
    with_address = bytes(Ether(src=MAC, dst=address)) + bytes(50)
    recorder = Recorder(str(path))
    recorder.write(NOW, with_address)
    recorder.close()
    assert pcapng.read(path).frames[0].flags == (1 | (3 if address[0] == "f" else 2) << 2)


def test_a_filter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    recorder = Recorder(str(path), filter=Filter("tcp dst port 81"))
    assert [recorder.write(NOW, frame()), recorder.write(NOW, frame(port=81))] == [False, True]
    assert recorder.close()["lost"] == 0
    file = pcapng.read(path)
    assert file.interfaces[0].options[11] == [b"\0tcp dst port 81"]
    assert {code: file.interfaces[0].statistics[code] for code in (4, 5, 6)} == {4: 2, 5: 0, 6: 1}
    pcapng.accepted(path, 1)


def super_frame(payload: int, udp: bool = False) -> tuple[bytes, tuple[int, int, int, int, int, int]]:
    """A super-frame as it comes from an offload, its checksum left out, with its metadata."""
    transport = UDP(sport=5, dport=6, chksum=0) if udp else TCP(sport=5, dport=6, flags="PA", seq=7, chksum=0)
    headers = 14 + 20 + (8 if udp else 20)
    data = bytearray(
        bytes(
            Ether(src=MAC, dst=GATEWAY)
            / IP(src="192.168.65.3", dst="10.0.0.1")
            / transport
            / Raw(os.urandom(payload))
        )
    )
    l4 = len(data) - 34
    pseudo = sum(struct.unpack("!4H", data[26:34])) + (17 if udp else 6) + l4
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    at = 34 + (6 if udp else 16)
    data[at : at + 2] = struct.pack("!H", (pseudo & 0xFFFF) + (pseudo >> 16))
    gso = (GSO_UDP if udp else GSO_TCP4), 1000, headers
    return bytes(data), (CSUM_PARTIAL, *gso, 34, 6 if udp else 16)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("wire_frames", [False, True])
def test_super_frames(tmp_path: Path, udp: bool, wire_frames: bool) -> None:
    path = tmp_path / "x"
    recorder = Recorder(str(path), wire_frames=wire_frames)
    for n, payload in enumerate((2500, 40_000)):  # one is gathered with others, one is written alone
        data, meta = super_frame(payload, udp)
        assert recorder.write(NOW + n, data, meta=meta, outbound=True)
    recorder.close()
    file = pcapng.read(path)
    words = "datagrams" if udp else "segments"
    if wire_frames:
        assert len(file.frames) == 3 + 40
        assert {len(f.data) for f in file.frames} == {1042, 542} if udp else {1054, 554}
        assert not any(f.comments for f in file.frames)
    else:
        assert [f.comments for f in file.frames] == [
            [f"super-frame: {n} {words} of at most 1000 bytes on the wire"] for n in (3, 40)
        ]
    pcapng.accepted(path, len(file.frames))


def test_metadata_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for wire_frames in (False, True):
        recorder = Recorder(str(path), wire_frames=wire_frames)
        for meta in (
            (2, 1, 1000, 9, 65535, 65535),
            (2, 0, 0, 0, 90, 9),
            (0, 4, 7, 0, 0, 0),
            (2, 5, 1, 60, 13, 0),
        ):
            assert recorder.write(NOW, frame(), meta=meta)
        assert recorder.close()["frames"] == 4
        assert [f.data for f in pcapng.read(path).frames] == [frame()] * 4
    recorder = Recorder(str(path))
    for length in (0, 5, 13, 14):
        assert recorder.write(NOW, frame()[:length], meta=(2, 1, 100, 54, 34, 16))
    recorder.close()
    assert [len(f.data) for f in pcapng.read(path).frames] == [0, 5, 13, 14]


def test_wire_frames_and_a_snapshot_length(tmp_path: Path) -> None:
    path = tmp_path / "x"
    data, meta = super_frame(2500)
    recorder = Recorder(str(path), wire_frames=True, snaplen=60)
    recorder.write(NOW, data, meta=meta)
    recorder.close()
    assert [(len(f.data), f.length) for f in pcapng.read(path).frames] == [(60, 1054), (60, 1054), (60, 554)]


def answer(name: str, *addresses: str) -> bytes:
    records = [DNSRR(rrname="alias.example", type="A", rdata=address) for address in addresses]
    an = DNSRR(rrname=name, type="CNAME", rdata="alias.example")
    for record in records:
        an = an / record
    dns = DNS(id=1, qr=1, qd=DNSQR(qname=name), an=an, ancount=1 + len(records))
    return bytes(
        Ether(src=GATEWAY, dst=MAC)
        / IP(src="192.168.65.1", dst="192.168.65.3")
        / UDP(sport=53, dport=9)
        / dns
    )


def test_names_that_answers_tell(tmp_path: Path) -> None:
    path = tmp_path / "x"
    recorder = Recorder(str(path), filter=Filter("tcp"), snaplen=60)
    recorder.write(NOW, answer("www.example.org", "10.1.2.3", "10.1.2.4"), outbound=True)
    recorder.write(NOW, answer("www.example.org", "10.1.2.4"), outbound=True)  # known already
    recorder.write(NOW, answer("evil.example", "10.9.9.9"))  # a guest's own is no answer
    recorder.write(NOW, answer("cut.example", "10.9.9.9")[:-3], outbound=True)
    recorder.write(NOW, frame())
    recorder.close()
    file = pcapng.read(path)
    assert file.names == [("www.example.org", "10.1.2.3"), ("www.example.org", "10.1.2.4")]
    assert len(file.frames) == 1
    pcapng.accepted(path, 1)


def test_many_names_are_bounded(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "x_.pcapng"), ring=(2, 64_000))
    data = answer("nnnn.example", "10.1.2.3")
    for n in range(5000):
        told = data.replace(b"nnnn", b"%04d" % n).replace(
            bytes([10, 1, 2, 3]), bytes([10, 1, n >> 8, n & 255])
        )
        recorder.write(NOW, told, outbound=True)
    for n in range(100):
        recorder.write(NOW + n, frame(1000))
    ended = recorder.close()
    assert ended["lost"] == 0
    assert ended["files"] < 60  # names leave room for frames
    last = sorted(tmp_path.iterdir())[-1]
    assert len(pcapng.read(last).names) <= 2048 + 100


def test_a_table_of_names_that_no_file_of_the_ring_could_hold(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "x"), ring=(2, 64_000))
    recorder.set_names({f"n{n}.internal": (("A", bytes(4)),) for n in range(5000)})
    for n in range(100):
        recorder.write(NOW + n, frame(1000))
    assert recorder.close()["files"] == 2
    assert pcapng.read(sorted(tmp_path.iterdir())[-1]).names == []


def test_a_ring(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "all.pcapng"), ring=(3, 64_000), section=("m", "s", "a"))
    recorder.set_names({"web.internal": (("A", bytes(4)),)})
    for n in range(1000):
        recorder.write(NOW + n * 1_000_000_000, frame(1000), port=1 + n % 2)
    ended = recorder.close()
    files = sorted(tmp_path.iterdir())
    stamp = time.strftime(
        "%Y%m%d%H%M%S", time.localtime(NOW // 10**9 + 999 - len(pcapng.read(files[-1]).frames) + 1)
    )
    assert files[-1].name == f"all_{ended['files']:05}_{stamp}.pcapng"
    assert [f.name[:10] for f in files] == [f"all_{ended['files'] - n:05}_" for n in (2, 1, 0)]
    assert ended["frames"] == 1000
    seen = []
    for path in files:
        assert path.stat().st_size <= 64_000
        file = pcapng.read(path)
        assert len(file.interfaces) == 2
        assert ("web.internal", "0.0.0.0") in file.names
        assert all(i.statistics for i in file.interfaces)
        seen += [(f.time_ns - NOW) // 10**9 for f in file.frames]
    pcapng.accepted(path, len(file.frames))
    assert seen == list(range(1000 - len(seen), 1000))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_frame_larger_than_a_file_of_the_ring(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "x"), ring=(2, 64_000))
    for n in range(3):
        recorder.write(NOW + n, bytes(65_000))
    assert recorder.close()["files"] == 3
    assert [len(pcapng.read(path).frames) for path in tmp_path.iterdir()] == [1, 1]


def test_a_ring_whose_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    recorder = Recorder(str(folder / "x"), ring=(2, 64_000))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    for n in range(200):
        recorder.write(NOW + n, frame(1000))
    ended = recorder.close()
    assert ended["error"] == errno.ENOENT
    assert ended["frames"] + ended["lost"] == 200
    assert ended["lost"] > 0


def test_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    recorder = Recorder(str(path), limit=3000)
    for n in range(40):
        recorder.write(NOW + n, frame())
    eventually(lambda: recorder.state()["full"])
    assert not recorder.write(NOW, frame())
    ended = recorder.close()
    file = pcapng.read(path)
    assert 2800 < path.stat().st_size == ended["bytes"] <= 3000
    assert (ended["frames"], ended["lost"], ended["error"]) == (len(file.frames), 0, 0)
    assert file.kinds[-1] == pcapng.STATISTICS
    small = Recorder(str(path), limit=60)
    small.write(NOW, frame())
    assert small.close()["full"]
    assert len(pcapng.read(path).frames) == 0


# --- what does not keep up


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[str, int]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield str(path), reader
    os.close(reader)


def test_a_reader_that_does_not_read(fifo: tuple[str, int]) -> None:
    """Records are lost and counted, and no call waits; once it reads, the next record says how many were lost."""
    path, reader = fifo
    recorder = Recorder(path)
    data = frame(60_000)
    taken = [recorder.write(NOW + n, data) for n in range(1200)]
    assert 400 < taken.count(True) < 700  # a queue of 32 MiB
    assert recorder.state()["lost"] == taken.count(False)
    os.set_blocking(reader, True)
    chunks: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(reader, 1 << 20):
            chunks.append(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    eventually(lambda: taken.append(recorder.write(NOW, frame())) or taken[-1])
    ended = recorder.close()
    thread.join()
    file = pcapng.read(b"".join(chunks))
    assert (ended["frames"], ended["lost"], ended["error"]) == (taken.count(True), taken.count(False), 0)
    assert len(file.frames) == ended["frames"]
    assert file.frames[-1].comments == [
        f"{ended['lost']} frames before this one were lost: the capture did not keep up"
    ]
    assert file.interfaces[0].statistics[5] == ended["lost"]


def test_close_does_not_wait_for_ever(fifo: tuple[str, int]) -> None:
    recorder = Recorder(fifo[0])
    for n in range(100):
        recorder.write(NOW + n, frame(60_000))
    ended = recorder.close()
    assert ended["error"] == errno.EPIPE
    assert (ended["frames"] + ended["lost"], ended["frames"] < 100) == (100, True)


def test_a_fifo_without_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # which one is looked at below
        Recorder(str(path))
    assert caught.value.errno == errno.ENXIO


def test_a_reader_that_goes_away_is_noticed_without_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    recorder = Recorder(str(path))
    os.close(reader)
    eventually(lambda: recorder.state()["error"] == errno.EPIPE)
    assert not recorder.write(NOW, frame())
    assert recorder.close()["lost"] == 1


def test_a_socket_as_descriptor() -> None:
    ours, theirs = socket.socketpair()
    recorder = Recorder(theirs.detach())
    for n in range(10):
        recorder.write(NOW + n, frame())
    recorder.close()
    with ours:
        data = b"".join(iter(lambda: ours.recv(65536), b""))
    assert len(pcapng.read(data).frames) == 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk() -> None:
    recorder = Recorder("/dev/full")
    eventually(lambda: recorder.state()["error"])
    assert [recorder.write(NOW, frame()) for _ in range(3)] == [False] * 3
    assert recorder.close() | {"bytes": 0} == {
        "frames": 0, "lost": 3, "bytes": 0, "full": False, "error": errno.ENOSPC, "files": 0,
    }  # fmt: skip


def test_what_cannot_be(tmp_path: Path) -> None:
    for target in (str(tmp_path), str(tmp_path / "no" / "x")):
        with pytest.raises(OSError, match=r"directory|exist"):
            Recorder(target)
    recorder = Recorder(str(tmp_path / "x"))
    with pytest.raises(ValueError, match="port 256"):
        recorder.write(NOW, b"", port=256)
    recorder.close()
    for use in (recorder.tap_capsule, lambda: recorder.set_names({}), lambda: recorder.write(NOW, b"")):
        with pytest.raises(ValueError, match="closed"):
            use()
    Recorder(str(tmp_path / "x"))  # let go without a close
