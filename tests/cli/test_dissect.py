"""``netstack dissect``: what it writes in each form, of whole and of damaged files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

from netstack.cli.main import main

S, A = 2, 16


def frame(up: bool, seq: int, ack: int, flags: int, data: bytes = b"") -> bytes:
    ends = (0x0A000001, 0x0A000002) if up else (0x0A000002, 0x0A000001)
    ports = (40000, 80) if up else (80, 40000)
    tcp = struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 1000, 0, 0) + data
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(tcp), 7, 0x4000, 64, 6, 0, *ends)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + ip + tcp


FRAMES = [frame(True, 100, 0, S), frame(False, 500, 101, S | A), frame(True, 101, 501, A, b"hello")]


def capture(path: Path, frames: list[bytes] = FRAMES, start: int = 1_700_000_000) -> str:
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for i, one in enumerate(frames):
        data += struct.pack("<IIII", start + i, 250_000_000, len(one), len(one)) + one
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return capture(tmp_path / "x.pcap")


def test_a_line_a_frame(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:6] == ["1", "0.000000", "10.0.0.1:40000", "10.0.0.2:80", "TCP", "54"]
    assert lines[2].endswith("[SA] seq 500 ack 101 win 1000 len 0 (bad checksum)")
    assert lines[3].split()[1] == "2.000000"


def test_csv(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", "--csv", "--columns", "time,ip6_src,src_port,rtt,dns_name", "-c", "2", path]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        {"time": "1700000000250000000", "ip_src": "10.0.0.1", "src_port": "40000", "rtt": "", "dns_name": ""},
        {
            "time": "1700000001250000000",
            "ip_src": "10.0.0.2",
            "src_port": "80",
            "rtt": "1000000000",
            "dns_name": "",
        },
    ]


def test_json(path: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["dissect", "--json", "-o", str(out), path]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["number"] for row in rows] == [1, 2, 3]
    assert rows[2]["payload"] == 5
    assert "dns_name" not in rows[2]
    assert rows[0]["eth_src"] == "02:00:00:00:00:01"
    assert rows[0]["ip_checksum"] == "bad"


def test_parquet(path: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "x.parquet"
    assert main(["dissect", "--parquet", "-o", str(out), path]) == 0
    rows = parquet.read_table(out).to_pylist()
    assert [row["ip_src"] for row in rows] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert rows[0]["rtt"] is None
    assert rows[1]["rtt"] == 1_000_000_000
    assert str(parquet.read_schema(out).field("time").type) == "timestamp[ns]"


def test_flows(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", "--flows", path]) == 0
    text = capsys.readouterr().out
    assert "established" in text
    assert "10.0.0.1:40000" in text
    assert main(["dissect", "--flows", "--json", path]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["protocol"], row["handshake"], row["payload_up"]) == ("TCP", 2_000_000_000, 5)


def test_stats(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", "--stats", path]) == 0
    text = capsys.readouterr().out
    assert "3 frames, 167 bytes" in text
    assert "from 2023-11-14 22:13:20 UTC, 2.000 s" in text
    assert "TCP 80" in text


def test_plot(path: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "x.png"
    assert main(["dissect", "--plot", str(out), path]) == 0
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_filter(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", "--csv", "--columns", "number", "--filter", "src port 80", path]) == 0
    assert capsys.readouterr().out == "number\n2\n"


def test_a_folder_and_a_pipe(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    capture(tmp_path / "y.pcapng", FRAMES[:1])
    (tmp_path / "notes.txt").write_text("no capture")
    assert main(["dissect", "--csv", "--columns", "number", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["number", "1", "2", "3", "1"]
    with open(path) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["dissect", "--csv", "--columns", "number", "-"]) == 0
    assert capsys.readouterr().out.split() == ["number", "1", "2", "3"]


def test_a_damaged_file_is_shown_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(capture(tmp_path / "x.pcap"))
    path.write_bytes(path.read_bytes()[:-1])
    assert (
        main(["dissect", "--csv", "--columns", "number", str(path), capture(tmp_path / "y.pcap", FRAMES[:1])])
        == 2
    )
    done = capsys.readouterr()
    assert done.out.split() == ["number", "1", "2", "1"]
    assert done.err == f"netstack: {path}: cut short: the 74 bytes from byte 164 on are no whole record\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["/nowhere.pcap"], "/nowhere.pcap: there is no such file"),
        ([__file__], "neither a pcap nor a pcapng file"),
        (["--csv", "--columns", "tim", "PATH"], "do you mean time?"),
        (["--columns", "time", "PATH"], "--columns is for"),
        (["--parquet", "PATH"], "--parquet needs --out"),
        (["-o", "x", "PATH"], "--out needs"),
        (["--filter", "prot 5", "PATH"], "filter 'prot 5' cannot be used"),
        (["--dask", "local", "PATH"], "--dask makes"),
        (["--flow", "3", "PATH"], "--flow says"),
        (["--flow", "3", "--plot", "OUT", "PATH"], "there is no flow 3"),
        (["--stats", "--csv", "PATH"], "--stats has a form of its own"),
        (["--count", "0", "PATH"], "--count"),
        (["EMPTY"], "holds no captures"),
        (["--parquet", "--out", "EMPTY", "PATH"], "is a folder"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], message: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    named = {"PATH": path, "EMPTY": str(empty), "OUT": str(tmp_path / "x.png")}
    assert main(["dissect", *(named.get(text, text) for text in arguments)]) == 2
    done = capsys.readouterr()
    assert message in done.err
    assert done.out == ""
    assert done.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "standard output"),
        (["--stats"], "standard output"),
        (["--csv"], "standard output"),
        (["--csv", "--out", "/dev/full"], "/dev/full"),
    ],
)
def test_a_full_disk_is_not_the_capture_s(
    path: str,
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = open("/dev/full", "w")  # noqa: SIM115 (closing it fails again, which is the point of it)
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["dissect", path, *arguments]) == 2
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        full.close()
    assert capsys.readouterr().err == f"netstack: {named}: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--csv", "--out"], ["--plot"]])
def test_a_capture_is_not_written_over(
    path: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(path).read_bytes()
    assert main(["dissect", path, *arguments, path]) == 2
    assert Path(path).read_bytes() == before
    assert "is one of the captures that are read" in capsys.readouterr().err


def test_dask_makes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Row for row what a run without it makes; the workers are threads' neighbours: one local cluster."""
    pytest.importorskip("distributed")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(5):
        capture(folder / f"{i}.pcap", FRAMES if i % 2 == 0 else FRAMES[2:] * 3, 1_700_000_000 + 100 * i)
    outs = {}
    for name, more in (("serial", []), ("dask", ["--dask", "local"])):
        out = tmp_path / name
        assert main(["dissect", *more, "--parquet", "--out", str(out), str(folder)]) == 0
        outs[name] = {p.name: parquet.read_table(p) for p in sorted(out.iterdir())}
    assert list(outs["serial"]) == [f"{i}.pcap.parquet" for i in range(5)]
    assert outs["serial"].keys() == outs["dask"].keys()
    for name, table in outs["serial"].items():
        assert table.equals(outs["dask"][name]), name
    capsys.readouterr()
    texts = []
    for more in ([], ["--dask", "local"]):
        assert main(["dissect", *more, "--flows", "--csv", str(folder)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].count("\n") == 4  # one conversation for each SYN; what has none continues the one before
