"""Captures as columns: formats, selection, faults, filters, conversations."""

from __future__ import annotations

import gzip
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from netstack.capture import chunks, columns, flows  # noqa: E402
from netstack.capture.filter import Filter  # noqa: E402
from netstack.capture.flow_table import merge  # noqa: E402
from netstack.capture.table import ALL, COLUMNS, HEADERS, Analysis, Check, Layer  # noqa: E402
from netstack.errors import ConfigError, WireError  # noqa: E402

S, A, F, R, P = 2, 16, 1, 4, 8
CLIENT, SERVER = 0x0A000001, 0x0A000002


def segment(
    up: bool, seq: int, ack: int, flags: int, data: bytes = b"", window: int = 1000, options: bytes = b"",
    ports: tuple[int, int] = (40000, 80),
) -> bytes:  # fmt: skip
    """An Ethernet frame with a TCP segment; its checksums are left at zero."""
    src, dst = (CLIENT, SERVER) if up else (SERVER, CLIENT)
    sport, dport = ports if up else ports[::-1]
    offset = (20 + len(options)) // 4 << 4
    tcp = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, offset, flags, window, 0, 0) + options + data
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(tcp), 7, 0x4000, 64, 6, 0, src, dst)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + ip + tcp


def classic(frames: list[tuple[int, bytes]], order: str = "<", nano: bool = False, link: int = 1) -> bytes:
    """A pcap file of frames with times in ns."""
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for when, frame in frames:
        seconds, rest = divmod(when, 10**9)
        out += struct.pack(order + "IIII", seconds, rest // unit, len(frame), len(frame)) + frame
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def described(order: str, link: int = 1, resolution: int | None = None, shift: int | None = None) -> bytes:
    body = struct.pack(order + "HHI", link, 0, 0)
    if resolution is not None:
        body += struct.pack(order + "HHBxxx", 9, 1, resolution)
    if shift is not None:
        body += struct.pack(order + "HHq", 14, 8, shift)
    return block(order, 1, body + struct.pack(order + "HH", 0, 0))


def enhanced(order: str, interface: int, ticks: int, frame: bytes) -> bytes:
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame)


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


HANDSHAKE = [
    (1_000_000_000, segment(True, 100, 0, S, options=bytes.fromhex("020405b4 01030307 0402 0101"))),
    (1_010_000_000, segment(False, 500, 101, S | A, options=bytes.fromhex("020405b4 01030308 0402 0101"))),
    (1_011_000_000, segment(True, 101, 501, A)),
]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_in_both_byte_orders_and_precisions(order: str, nano: bool, tmp_path: Path) -> None:
    table = columns(saved(tmp_path / "x.pcap", classic(HANDSHAKE, order, nano)), ALL)
    assert table["time"].tolist() == [when for when, _ in HANDSHAKE]
    assert table["tcp_flags"].tolist() == [S, S | A, A]
    assert table["tcp_wscale"].tolist() == [7, 8, 0]
    assert table.valid("tcp_wscale").tolist() == [True, True, False]
    assert table.addresses("src").tolist() == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert table.macs("dst")[0] == "02:00:00:00:00:02"


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_times_interfaces_and_sections(order: str, tmp_path: Path) -> None:
    frame = HANDSHAKE[0][1]
    data = section(order) + described(order) + described(order, 101, 9) + described(order, 1, 0x80 | 10, 5)
    data += enhanced(order, 0, 7, frame) + block(order, 0x99, b"unknown") + enhanced(order, 1, 7, frame[14:])
    data += enhanced(order, 2, 1024 * 3 + 512, frame)
    data += block(order, 3, struct.pack(order + "I", len(frame)) + frame)
    other = "<" if order == ">" else ">"
    data += section(other) + described(other, 1, 3) + enhanced(other, 0, 9, frame)
    table = columns(saved(tmp_path / "x.pcapng", data), ALL)
    assert table.fault == ""
    assert table["time"].tolist() == [7000, 7, 8_500_000_000, 0, 9_000_000]
    assert table["interface"].tolist() == [0, 1, 2, 0, 3]
    assert table["link_type"].tolist() == [1, 101, 1, 1, 1]
    assert set(table["src_port"].tolist()) == {40000}


def test_packed_files_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gzip, zstd, several members, and records that lie across two pieces read."""
    data = classic(HANDSHAKE * 50)
    monkeypatch.setattr("netstack.capture.source.PIECE", 1000)
    plain = columns(saved(tmp_path / "x.pcap", data), ALL)
    two = gzip.compress(data[:3001]) + gzip.compress(data[3001:]) + bytes(20)
    files = [saved(tmp_path / "x.pcap.gz", two)]
    zstandard = pytest.importorskip("zstandard")
    files.append(
        saved(tmp_path / "x.pcap.zst", zstandard.compress(data[:999]) + zstandard.compress(data[999:]))
    )
    for path in files:
        packed = columns(path, ALL)
        assert packed.fault == ""
        for name in ALL:
            assert np.array_equal(plain[name], packed[name]), (path.name, name)


def test_a_file_that_shrinks_or_grows_while_it_is_read(tmp_path: Path) -> None:
    """What was read stays, and it is said; the program goes on, as it would not with the file mapped."""
    data = classic(HANDSHAKE)
    data += data[24:] * 19_999
    path = saved(tmp_path / "x.pcap", data)
    rows, pieces = 0, chunks(path, "time", rows=100)
    rows += len(next(pieces))
    os.truncate(path, 1000)
    got: list[int] = []
    with pytest.raises(WireError, match=f"became shorter while it was read: {len(data)} bytes at first"):
        got.extend(len(piece) for piece in pieces)
    assert 100 <= rows + sum(got) < 60_000
    path = saved(tmp_path / "y.pcap", data)
    pieces = chunks(path, "time", rows=100)
    rows = len(next(pieces))
    with path.open("ab") as file:
        file.write(classic(HANDSHAKE)[24:])
    assert rows + sum(len(piece) for piece in pieces) == 60_003


def test_a_cut_or_damaged_packing_gives_what_precedes_it(tmp_path: Path) -> None:
    data = gzip.compress(classic(HANDSHAKE * 50), 0)
    cut = columns(saved(tmp_path / "x.pcap.gz", data[: len(data) // 2]))
    assert len(cut) > 60
    assert "cut short" in cut.fault
    damaged = columns(saved(tmp_path / "y.pcap.gz", data[:-8] + b"12345678"))
    assert len(damaged) == 150
    assert "damaged" in damaged.fault


def test_chunks_are_the_whole_in_pieces(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", classic(HANDSHAKE * 500))
    whole = columns(path, ALL)
    seen: list[tuple[int, int]] = []
    pieces = list(chunks(path, ALL, rows=64, progress=lambda at, size: seen.append((at, size))))
    assert [len(piece) for piece in pieces] == [64] * 23 + [28]
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    for name in ALL:
        assert np.array_equal(whole[name], np.concatenate([piece[name] for piece in pieces])), name


@pytest.mark.parametrize("name", ALL)
def test_a_column_alone_is_what_it_is_among_all(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", classic([*HANDSHAKE, (0, DNS_QUESTION), (0, dhcp(3))]))
    alone, among = columns(path, [name])[name], columns(path, ALL)[name]
    if name == "layers":  # it tells of the layers that were looked at
        among = among & alone
    assert np.array_equal(alone, among)
    assert alone.dtype == np.dtype(COLUMNS[name].dtype)


def udp(data: bytes, sport: int, dport: int) -> bytes:
    head = struct.pack(">HHHH", sport, dport, 8 + len(data), 0)
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 28 + len(data), 7, 0, 64, 17, 0, CLIENT, SERVER)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + ip + head + data


DNS_QUESTION = udp(bytes.fromhex("beef01000001000000000000") + b"\3www\4Test\0\0\x1c\0\1", 999, 53)


def dhcp(kind: int) -> bytes:
    return udp(bytes(236) + b"\x63\x82\x53\x63\x00\x35\x01" + bytes([kind]) + b"\xff", 68, 67)


def test_dns_and_dhcp(tmp_path: Path) -> None:
    table = columns(saved(tmp_path / "x.pcap", classic([(0, DNS_QUESTION), (0, dhcp(3)), HANDSHAKE[0]])), ALL)
    assert table["dns_name"].tolist() == ["www.Test", None, None]
    assert table["dns_type"].tolist() == [28, 0, 0]
    assert table["dns_id"].tolist() == [0xBEEF, 0, 0]
    assert table["dhcp_type"].tolist() == [0, 3, 0]
    assert table["l4_checksum"].tolist() == [Check.ABSENT, Check.ABSENT, Check.BAD]


def test_names_that_are_wrong(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", classic([]))
    with pytest.raises(ConfigError, match="do you mean ip_src"):
        columns(path, "ip_scr")
    with pytest.raises(ConfigError, match="there are number, time"):
        columns(path, "zzzzzz")
    assert columns(path).names == HEADERS
    assert len(columns(path, ALL)) == 0


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_what_is_no_capture(size: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", b"hello, I am not a capture"[:size])
    words = "neither a pcap nor a pcapng file" if size else "it is empty"
    with pytest.raises(WireError, match=rf"x\.pcap: {words}"):
        columns(path)


def faulty() -> dict[str, tuple[bytes, int, str]]:
    whole = classic(HANDSHAKE)
    ng = section("<") + described("<") + enhanced("<", 0, 1, HANDSHAKE[0][1])
    long = struct.pack("<IIII", 1, 0, 300_000, 300_000)
    bad_option = block("<", 1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 9, 200))
    return {
        "cut header": (whole[:20], 0, "neither"),
        "cut record": (whole[:-1], 2, "cut short: the 69 bytes from byte 188"),
        "cut record header": (whole + b"12345", 3, "cut short: the 5 bytes"),
        "long record": (whole + long, 3, "damaged at byte 258: a record of 300000 bytes"),
        "version": (whole[:4] + b"\3\0" + whole[6:], 0, "version 3"),
        "cut block": (ng[:-1], 0, "cut short"),
        "no byte order": (ng + struct.pack("<III", 0x0A0D0D0A, 28, 7), 1, "byte-order magic"),
        "block length": (ng + struct.pack("<III", 6, 7, 7), 1, "length \\(7\\)"),
        "lengths differ": (ng[:-4] + b"\x10\0\0\0", 0, "cannot be right"),
        "interface": (ng + enhanced("<", 1, 0, b""), 1, "interface 1, which is not described"),
        "packet": (ng + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 50, 50)), 1, "does not hold its packet"),
        "option": (ng + bad_option, 1, "an option that runs past"),
    }


@pytest.mark.parametrize(("data", "frames", "text"), faulty().values(), ids=faulty())
def test_faults_say_where_and_keep_what_precedes(data: bytes, frames: int, text: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pcap", data)
    got: list[int] = []
    with pytest.raises(WireError, match=text):
        got.extend(len(chunk) for chunk in chunks(path))
    assert sum(got) == frames
    if frames:
        table = columns(path)
        assert (len(table), bool(table.fault)) == (frames, True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_read_without_a_crash(tmp_path: Path, data: st.DataObject) -> None:
    """Frames of random bytes behind real beginnings, on every link type, and files with bytes changed."""
    link = data.draw(st.sampled_from([0, 1, 12, 101, 108, 113, 228, 229, 276, 147]))
    heads = [b"", HANDSHAKE[0][1], DNS_QUESTION, dhcp(1), HANDSHAKE[0][1][14:], b"\x60" + bytes(39)]
    frames = []
    for _ in range(data.draw(st.integers(1, 5))):
        head = data.draw(st.sampled_from(heads))
        frame = bytearray(head[: data.draw(st.integers(0, len(head)))] + data.draw(st.binary(max_size=80)))
        for _ in range(data.draw(st.integers(0, 4)) if frame else 0):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        frames.append((0, bytes(frame)))
    raw = bytearray(
        classic(frames, link=link)
        if data.draw(st.booleans())
        else section("<") + described("<", link) + b"".join(enhanced("<", 0, 1, f) for _, f in frames)
    )
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = saved(tmp_path / "x.pcap", bytes(raw))
    try:
        table = columns(path, ALL)
    except WireError:
        return
    assert len(table) <= len(frames)
    table.addresses("src")
    flows(path, faults=[])


class TestFilter:
    def test_frames_that_pass_keep_their_numbers(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "x.pcap", classic([*HANDSHAKE, (0, DNS_QUESTION), *HANDSHAKE]))
        assert columns(path, "number", where="udp port 53")["number"].tolist() == [4]
        assert columns(path, "number", where="tcp[tcpflags] & tcp-syn != 0")["number"].tolist() == [
            1,
            2,
            5,
            6,
        ]
        assert len(columns(path, "number", where="ip6")) == 0

    def test_an_expression_that_is_wrong(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "x.pcap", classic(HANDSHAKE))
        with pytest.raises(ConfigError, match=r"filter 'tcp porrt 5' cannot be used: .*syntax error"):
            columns(path, where="tcp porrt 5")

    @pytest.mark.parametrize(
        ("expression", "passing"),
        [
            ("", "sdh"),
            ("host 10.0.0.1", "sdh"),
            ("port 53 or port 67", "dh"),
            ("greater 100", "h"),
            ("tcp[13] & 2 = 2", "s"),
            ("not udp", "s"),
            ("ether src 02:00:00:00:00:01 and udp[4:2] > 100", "h"),
            ("len - 14 = ip[2:2] and ip[8] / 2 = 32", "sdh"),
        ],
    )
    def test_programs(self, expression: str, passing: str) -> None:
        made = Filter(expression)
        frames = {"s": HANDSHAKE[0][1], "d": DNS_QUESTION, "h": dhcp(1)}
        assert "".join(name for name, frame in frames.items() if made.passes(frame)) == passing
        assert not Filter("tcp port 80").passes(b"")

    def test_without_libpcap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> Any:
            raise OSError(name)

        monkeypatch.setattr("ctypes.CDLL", absent)
        with pytest.raises(ConfigError, match="needs libpcap: install it"):
            Filter("tcp")


def made(*frames: bytes, step: int = 1_000_000) -> bytes:
    return classic([(10**9 + i * step, frame) for i, frame in enumerate(frames)], nano=True)


class TestAnalysis:
    """What the order of segments says, one case each."""

    def found(self, tmp_path: Path, *frames: bytes, step: int = 1_000_000) -> list[Analysis]:
        table = columns(saved(tmp_path / "x.pcap", made(*frames, step=step)), ["tcp_analysis"])
        return [Analysis(int(value)) for value in table["tcp_analysis"]]

    def test_round_trips(self, tmp_path: Path) -> None:
        table = columns(saved(tmp_path / "x.pcap", classic(HANDSHAKE)), ["rtt", "flow", "layers"])
        assert table["rtt"].tolist() == [0, 10_000_000, 1_000_000]
        assert table.valid("rtt").tolist() == [False, True, True]
        assert table["flow"].tolist() == [0, 0, 0]

    def test_retransmission(self, tmp_path: Path) -> None:
        data = segment(True, 101, 501, A, b"x" * 10)
        got = self.found(tmp_path, data, segment(True, 111, 501, A, b"y" * 10), data, step=500_000_000)
        assert got == [0, 0, Analysis.RETRANSMISSION]

    def test_out_of_order_and_lost(self, tmp_path: Path) -> None:
        late = segment(True, 111, 501, A, b"y" * 10)
        got = self.found(
            tmp_path, segment(True, 101, 501, A, b"x" * 10), segment(True, 121, 501, A, b"z" * 10), late
        )
        assert got == [0, Analysis.LOST_SEGMENT, Analysis.OUT_OF_ORDER]

    def test_fast_retransmission(self, tmp_path: Path) -> None:
        ack = segment(False, 501, 101, A)
        sent = [segment(True, 101 + 10 * i, 501, A, b"x" * 10) for i in range(4)]
        got = self.found(tmp_path, *sent, ack, ack, ack, sent[0])
        assert got[5:] == [Analysis.DUPLICATE_ACK] * 2 + [
            Analysis.FAST_RETRANSMISSION | Analysis.RETRANSMISSION
        ]

    def test_spurious_retransmission(self, tmp_path: Path) -> None:
        data = segment(True, 101, 501, A, b"x" * 10)
        got = self.found(tmp_path, data, segment(False, 501, 111, A), data)
        assert got[2] == Analysis.SPURIOUS_RETRANSMISSION | Analysis.RETRANSMISSION

    def test_windows(self, tmp_path: Path) -> None:
        got = self.found(
            tmp_path,
            segment(True, 101, 501, A, b"x" * 10),
            segment(False, 501, 111, A, window=0),
            segment(True, 111, 501, A, b"y"),
            segment(False, 501, 111, A, window=0),
            segment(False, 501, 111, A, window=500),
        )
        assert got[1:] == [
            Analysis.ZERO_WINDOW,
            Analysis.ZERO_WINDOW_PROBE,
            Analysis.ZERO_WINDOW | Analysis.ZERO_WINDOW_PROBE_ACK,
            Analysis.WINDOW_UPDATE,
        ]

    def test_keep_alive(self, tmp_path: Path) -> None:
        got = self.found(
            tmp_path,
            segment(True, 101, 501, A, b"x" * 10),
            segment(False, 501, 111, A),
            segment(True, 110, 501, A),
            segment(False, 501, 111, A),
        )
        assert got[2:] == [Analysis.KEEP_ALIVE, Analysis.KEEP_ALIVE_ACK]

    def test_ports_used_again(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "x.pcap", made(*(f for _, f in HANDSHAKE), segment(True, 9000, 0, S)))
        table = columns(path, ["flow", "tcp_analysis"])
        assert table["flow"].tolist() == [0, 0, 0, 1]
        assert table["tcp_analysis"][3] == Analysis.REUSED_PORTS
        assert [flow.state for flow in flows(path)] == ["established", "unanswered"]


class TestFlows:
    def test_a_conversation(self, tmp_path: Path) -> None:
        tail = [
            (2 * 10**9, segment(True, 101, 501, A | P, b"x" * 100)),
            (2_020_000_000, segment(False, 501, 201, A | F)),
            (2_030_000_000, segment(True, 201, 502, A | F)),
        ]
        (flow,) = flows(saved(tmp_path / "x.pcap", classic(HANDSHAKE + tail)))
        row = flow.row()
        assert (row["client"], row["client_port"], row["server"], row["server_port"]) == (
            "10.0.0.1",
            40000,
            "10.0.0.2",
            80,
        )
        assert (row["state"], row["handshake"], row["duration"]) == ("closed", 11_000_000, 1_030_000_000)
        assert (row["frames_up"], row["frames_down"], row["payload_up"], row["payload_down"]) == (
            4,
            2,
            100,
            0,
        )
        assert (row["rtt_samples_down"], row["rtt_min_down"], row["rtt_max_down"]) == (
            2,
            10_000_000,
            20_000_000,
        )

    def test_the_server_speaks_first_in_the_capture(self, tmp_path: Path) -> None:
        (flow,) = flows(saved(tmp_path / "x.pcap", classic(HANDSHAKE[1:])))
        assert (flow.server[1], flow.up.frames, flow.down.frames) == (80, 1, 1)

    @pytest.mark.parametrize(
        ("frames", "state"),
        [
            ([segment(True, 1, 0, S), segment(False, 0, 2, R | A)], "refused"),
            ([f for _, f in HANDSHAKE] + [segment(True, 101, 501, R)], "reset"),
            ([f for _, f in HANDSHAKE] + [segment(True, 101, 501, F | A)], "half-closed"),
            ([segment(True, 101, 501, A)], "partial"),
        ],
    )
    def test_states(self, frames: list[bytes], state: str, tmp_path: Path) -> None:
        assert [flow.state for flow in flows(saved(tmp_path / "x.pcap", made(*frames)))] == [state]

    def test_files_are_merged(self, tmp_path: Path) -> None:
        """What begins in the middle continues, also where the other side comes first; a SYN begins anew."""
        first = saved(tmp_path / "1.pcap", classic(HANDSHAKE))
        second = saved(
            tmp_path / "2.pcap",
            made(segment(False, 501, 101, A, b"z" * 7), segment(True, 101, 508, A), segment(True, 9, 0, S)),
        )
        found = flows(first, second)
        assert [(flow.up.frames, flow.down.frames, flow.down.payload) for flow in found] == [
            (3, 2, 7),
            (1, 0, 0),
        ]
        assert found[0].handshake == 11_000_000
        assert merge([]) == []


def test_the_engine_does_without_numpy() -> None:
    """What a running network imports of captures is the writer alone."""
    import subprocess

    names = ("numpy", "netstack.capture.table")
    code = f"import sys, netstack.gateway; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_layers_of_fragments_and_tags(tmp_path: Path) -> None:
    frame = HANDSHAKE[0][1]
    tagged = frame[:12] + b"\x88\xa8\x00\x64\x81\x00\x20\x05" + frame[12:]
    fragment = bytearray(frame)
    fragment[20:22] = b"\x20\x10"
    table = columns(
        saved(tmp_path / "x.pcap", classic([(0, tagged), (0, bytes(fragment)), (0, frame[:40])])), ALL
    )
    assert (table["vlan"][0], table["vlan_inner"][0], table["src_port"][0]) == (100, 5, 40000)
    assert table.has(Layer.FRAGMENT).tolist() == [False, True, False]
    assert (table["fragment_offset"][1], table["ip_flags"][1], table.valid("src_port")[1]) == (128, 1, False)
    assert table.has(Layer.MALFORMED).tolist() == [False, False, True]
