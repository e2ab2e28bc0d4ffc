"""Every block of a pcapng file, for tests of what is written; and tshark's and capinfos' opinion of it."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["File", "Frame", "Interface", "accepted", "read"]

SECTION, INTERFACE, NAMES, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 4, 5, 6
Options = dict[int, list[bytes]]


@dataclass
class Frame:
    """An enhanced packet block."""

    interface: int
    time_ns: int
    length: int
    data: bytes
    options: Options

    @property
    def comments(self) -> list[str]:
        return [text.decode() for text in self.options.get(1, [])]

    @property
    def flags(self) -> int:
        return int(struct.unpack("=I", self.options[2][0])[0])

    @property
    def outbound(self) -> bool:
        return self.flags & 3 == 2


@dataclass
class Interface:
    """An interface block, and its statistics where there are some."""

    snaplen: int
    options: Options
    statistics: dict[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.options.get(2, [b""])[0].decode()


@dataclass
class File:
    """What a file of one section holds."""

    options: Options = field(default_factory=dict)
    interfaces: list[Interface] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)


def options_in(data: bytes) -> Options:
    """Code to values."""
    found: Options = {}
    while data:
        code, length = struct.unpack_from("=HH", data)
        if code == 0:
            assert length == 0
            assert len(data) == 4
            break
        found.setdefault(code, []).append(data[4 : 4 + length])
        data = data[4 + length + -length % 4 :]
    return found


def names_in(body: bytes) -> list[tuple[str, str]]:
    """(name, address) of a name resolution block."""
    found: list[tuple[str, str]] = []
    while True:
        kind, length = struct.unpack_from("=HH", body)
        if kind == 0:
            return found
        size = {1: 4, 2: 16}[kind]
        value = body[4 : 4 + length]
        assert value[-1:] == b"\0"
        found.append((value[size:-1].decode(), str(ipaddress.ip_address(value[:size]))))
        body = body[4 + length + -length % 4 :]


def read(data: bytes | Path) -> File:
    """The blocks; every one must be whole."""
    if isinstance(data, Path):
        data = data.read_bytes()
    file = File()
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0
        assert len(data) >= length >= 12
        assert struct.unpack_from("=I", data, length - 4) == (length,)
        body = data[8 : length - 4]
        file.kinds.append(kind)
        if kind == SECTION:
            assert len(file.kinds) == 1
            assert struct.unpack_from("=IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
            file.options = options_in(body[16:])
        elif kind == INTERFACE:
            link, _, snaplen = struct.unpack_from("=HHI", body)
            assert link == 1
            file.interfaces.append(Interface(snaplen, options_in(body[8:])))
            assert file.interfaces[-1].options[9] == [b"\x09"]
        elif kind == ENHANCED:
            number, high, low, captured, on_link = struct.unpack_from("=IIIII", body)
            assert number < len(file.interfaces)
            rest = body[20 + captured + -captured % 4 :]
            frame = body[20 : 20 + captured]
            file.frames.append(Frame(number, high << 32 | low, on_link, frame, options_in(rest)))
        elif kind == STATISTICS:
            number = struct.unpack_from("=I", body)[0]
            for code, values in options_in(body[12:]).items():
                file.interfaces[number].statistics[code] = struct.unpack("=Q", values[0])[0]
        else:
            assert kind == NAMES
            file.names += names_in(body)
        data = data[length:]
    return file


def accepted(path: Path, frames: int, bad: int = 0) -> None:
    """tshark opens it without a word and finds so many bad checksums; capinfos counts the frames."""
    if shutil.which("tshark") is None or shutil.which("capinfos") is None:
        return
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    fields = [word for name in ("ip", "tcp", "udp") for word in ("-e", f"{name}.checksum.status")]
    run = subprocess.run(
        ["tshark", "-n", "-r", str(path), *checks, "-T", "fields", "-e", "frame.number", *fields],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = [line for line in run.stderr.splitlines() if "could be dangerous" not in line]
    assert (run.returncode, said) == (0, [])
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    assert len(rows) == frames
    assert len([row for row in rows if "0" in ",".join(row[1:]).split(",")]) == bad
    infos = subprocess.run(["capinfos", "-Mc", str(path)], capture_output=True, text=True, timeout=60)
    said = [line for line in infos.stderr.splitlines() if "could be dangerous" not in line]
    assert (infos.returncode, said) == (0, [])
    assert infos.stdout.split()[-1] == str(frames)
