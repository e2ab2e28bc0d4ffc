"""The bytes of a capture file, read or unpacked piece by piece.

A file is not mapped: reading into memory that stays in the processor's cache takes no longer than mapping its pages
(`python -m bench dissect`), and a file that shrinks under a map ends the program.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from netstack.errors import ConfigError

__all__ = ["Source", "packed_name"]

PIECE = 256 << 10  # bytes that are read at once: they stay in the processor's cache until they are used
UNPACKED_PIECE = 4 << 20
PACKED_PIECE = 256 << 10
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
SUFFIXES = (".pcap", ".pcapng", ".cap", ".dmp", ".ntar")
PACKED = (".gz", ".zst")


def packed_name(name: str) -> bool:
    """Is this the name of a capture, packed or not?"""
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return name.endswith(SUFFIXES)


class _Gzip:
    """Unpacks gzip (RFC 1952), of any number of members; what precedes a cut or damage is given all the same."""

    def __init__(self, file: IO[bytes]) -> None:
        self.whole = False  #: at the end of a member
        self._file = file
        self._packed = b""
        self._damage: zlib.error | None = None
        self._member = zlib.decompressobj(wbits=31)

    def read(self, n: int) -> bytes:
        """At most n bytes; b"" at the end. zlib.error where the packing is damaged."""
        while True:
            if not self._packed:
                self._packed = self._file.read(PACKED_PIECE)
                if not self._packed:
                    return b""
            if self.whole:
                if self._packed.strip(b"\0") == b"":  # padding after the last member
                    self._packed = b""
                    continue
                self._member = zlib.decompressobj(wbits=31)
                self.whole = False
            piece = self._unpack(n)
            self.whole = self._member.eof
            self._packed = self._member.unused_data if self.whole else self._member.unconsumed_tail
            if piece:
                return piece

    def _unpack(self, n: int) -> bytes:
        if self._damage is not None:
            raise self._damage
        before = self._member.copy()
        try:
            return self._member.decompress(self._packed, n)
        except zlib.error as err:  # what it had unpacked until then is lost: again, in small steps
            self._damage = err
        found = bytearray()
        try:
            for at in range(len(self._packed)):
                found += before.decompress(self._packed[at : at + 1])
        except zlib.error:
            pass
        if not found:
            raise self._damage
        return bytes(found)


class Source:
    """A capture file, plain or packed with gzip or zstd; a context manager.

    `buffer` holds what is there of it from the first byte not yet used; `more` brings the next.

    Args:
        path: of the file; ``-`` is standard input.

    Raises:
        OSError: it cannot be opened. ConfigError: it is packed with zstd, and zstandard is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.buffer: memoryview = memoryview(b"")
        self.fault = ""  #: what was wrong with the file or its packing; what was read before is in buffer
        self.size = 0  #: bytes of the file as it lies on disk when it was opened; 0 where that is not known
        self._stream: Any = None
        self._room = bytearray()  # what buffer is a part of
        self._read = 0  # bytes of a plain file
        self._file: IO[bytes] = sys.stdin.buffer if os.fspath(path) == "-" else Path(path).open("rb")  # noqa: SIM115
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode) and self._file is not sys.stdin.buffer:
            self.size = status.st_size
        magic = self._file.peek(4)[:4] if hasattr(self._file, "peek") else b""
        if magic[:2] == GZIP:
            self._stream = _Gzip(self._file)
        elif magic == ZSTD:
            try:
                import zstandard
            except ImportError:
                raise ConfigError(
                    "a file packed with zstd needs the Python package zstandard: "
                    "install it with pip install 'netstack[captures]', or unpack the file first"
                ) from None
            self._stream = zstandard.ZstdDecompressor().stream_reader(self._file, read_across_frames=True)

    def more(self, used: int) -> bool:
        """Lets go of the first used bytes of the buffer and reads on; False at the end of the file.

        The memory of the buffer before is used again.
        """
        if self._stream is None:
            return self._more_of_file(used)
        piece = b""
        try:
            piece = self._stream.read(UNPACKED_PIECE)
        except zlib.error as err:
            self.fault = f"its packing is damaged ({err})"
        except Exception as err:
            if type(err).__name__ != "ZstdError":  # its package need not be there
                raise
            self.fault = f"its packing is damaged ({err})"
        if not piece and isinstance(self._stream, _Gzip) and not self._stream.whole:
            self.fault = self.fault or "its packing is cut short"
        self.buffer = memoryview(bytes(self.buffer[used:]) + piece if len(self.buffer) > used else piece)
        return bool(piece)

    def _more_of_file(self, used: int) -> bool:
        left = bytes(self.buffer[used:])
        self.buffer = memoryview(b"")
        if len(self._room) < len(left) + PIECE // 2:
            self._room = bytearray(len(left) + PIECE)
        room = memoryview(self._room)
        room[: len(left)] = left
        n: int = self._file.readinto1(room[len(left) :])  # type: ignore[attr-defined]
        self.buffer = room[: len(left) + n]
        self._read += n
        if n == 0 and self._read < self.size:
            read = f"{self.size} bytes at first, and {self._read} could be read"
            self.fault = f"it became shorter while it was read: {read}"
        return n > 0

    def keep(self) -> bytes:
        """All that is left of the file, unpacked; `fault` says where that is not all there should be."""
        parts = [bytes(self.buffer)]
        if self._stream is None:
            parts.append(self._file.read())
            self._read += len(parts[1])
            self.more(len(self.buffer))  # which finds out whether it has become shorter
        else:
            while self.more(len(self.buffer)):
                parts.append(bytes(self.buffer))
        self.buffer = memoryview(b"")
        return b"".join(parts) if parts[0] or len(parts) != 2 else parts[1]

    def position(self, at: int) -> int:
        """How far into the file, as it lies on disk, the byte at of the buffer is; roughly, where it is packed."""
        if self._stream is None:
            return self._read - len(self.buffer) + at
        return self._file.tell() if self.size else 0

    def close(self) -> None:
        """Closes the file; again does nothing."""
        self.buffer = memoryview(b"")
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
