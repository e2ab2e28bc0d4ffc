"""The part of 9P2000 that a small synthetic file tree needs, as bytes and values; and VPNKit's tree of ports. No I/O.

Theory of operation
    A message is ``size[4] type[1] tag[2]`` and its fields, little-endian; `take` cuts one off a buffer,
    `Session.answer` answers it. A session is one connection with its table of fids; all sessions share a `Tree`.

    The tree is VPNKit's: at its root a README and an entry for each name that a client has made with mkdir. An entry
    is a directory with one file, ``ctl``. Who opens that and writes a specification to it has it *published*, and reads
    ``OK`` with what became of it, or ``ERROR`` with the reason; after that the entry is a file that holds the
    specification. Closing ctl - which the end of the connection does as well, so that a controller that has crashed
    holds nothing - or removing the entry ends the publication, and the entry with it.

Unlike VPNKit
    Only a fid that was opened ends the publication when it is clunked, so that a client may walk to ctl and stat it;
    a name is made once; removing the entry ends it as the README says; directories have no "." and "..", which 9P does
    not list; a wstat that would only truncate ctl (as ``echo spec > ctl`` asks for) does nothing instead of failing.

Bounds
    `MAX_MESSAGE` bytes a message, `MAX_FIDS` a session, `MAX_ENTRIES` in the tree, `MAX_SPEC` bytes of a specification.

References: Plan 9 manual section 5 (intro, attach, walk, open, read, clunk, remove, stat, version).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["MAX_MESSAGE", "Entry", "Malformed", "Problem", "Session", "Tree", "take"]

MAX_MESSAGE = 32768 + 24  # a read of VPNKit's iounit
MIN_MESSAGE = 256
MAX_FIDS = 1024
MAX_ENTRIES = 4096
MAX_NAME = 255
MAX_SPEC = 4096
MAX_WALK = 16  # walk(5)

VERSION, AUTH, ATTACH, ERROR, FLUSH, WALK, OPEN, CREATE, READ, WRITE, CLUNK, REMOVE, STAT, WSTAT = (
    100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126,
)  # fmt: skip
DIRECTORY = 0x80  # of a qid's type; as the top byte of a mode the same
NO_FID = 0xFFFFFFFF
OPEN_WRITE = (1, 2)  # OWRITE, ORDWR
KEEP_MODE = 0xFFFFFFFF  # of wstat: not to be changed

README = """\
The ports that are forwarded
----------------------------

Each is a file here that holds its specification. Removing the file ends it.

To forward another port, make a directory of a name that is not taken, open the file ctl in it, and write

    tcp:HOST ADDRESS:HOST PORT:tcp:GUEST ADDRESS:GUEST PORT
    udp:HOST ADDRESS:HOST PORT:udp:GUEST ADDRESS:GUEST PORT

to it at once. Then read it: it says

    OK SPECIFICATION    with the port that was chosen where HOST PORT was 0
    ERROR REASON

The port is forwarded until ctl is closed.
"""
UNASKED = "ERROR no request received. Please read the README.\n"


class Malformed(Exception):
    """Bytes that are no message of 9P: the connection is not worth keeping."""


class Problem(Exception):
    """A request that is answered with Rerror, or a specification with ERROR."""


@dataclass(eq=False)
class Entry:
    """A name at the root: a directory until something is published, a file from then on."""

    name: str
    number: int  # of its qid; its ctl has the next one
    spec: str = ""
    result: str = ""
    release: Callable[[], None] | None = None
    gone: bool = False


class Tree:
    """What all sessions see.

    Args:
        publish: gives the specification that became of one, and what ends it, or raises Problem.
    """

    def __init__(self, publish: Callable[[str], tuple[str, Callable[[], None]]]) -> None:
        self._publish = publish
        self._entries: dict[str, Entry] = {}
        self._next = 2  # 0 is the root, 1 the README
        self._lock = threading.RLock()

    def find(self, name: str) -> Entry | None:
        """The entry of a name."""
        return self._entries.get(name)

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._lock:
            return list(self._entries.values())

    def make(self, name: str) -> Entry:
        """A new entry.

        Raises:
            Problem: the name is taken, or none, or there are too many.
        """
        with self._lock:
            if name in self._entries or name == "README":
                raise Problem("file exists")
            if not name or name in (".", "..") or "/" in name or len(name.encode()) > MAX_NAME:
                raise Problem("illegal name")
            if len(self._entries) >= MAX_ENTRIES:
                raise Problem("too many ports")
            entry = self._entries[name] = Entry(name, self._next)
            self._next += 2
            return entry

    def write(self, entry: Entry, data: bytes) -> None:
        """Publishes what is written to an entry's ctl; how that went is the entry's result.

        Raises:
            Problem: something was written before, or the entry is gone.
        """
        with self._lock:
            if entry.result or entry.gone:
                raise Problem("permission denied")
            entry.result = "ERROR"  # nobody else writes while the port is being had
        try:
            if len(data) > MAX_SPEC:
                raise Problem(f"a specification has at most {MAX_SPEC} bytes")
            spec, release = self._publish(data.decode("ascii", "replace").strip())
        except Problem as err:
            entry.result = f"ERROR {err}\n"
            return
        with self._lock:
            entry.spec, entry.release, entry.result = spec, release, f"OK {spec}\n"
            if not entry.gone:
                return
        release()  # somebody has removed it meanwhile

    def free(self, entry: Entry) -> None:
        """Ends the publication, and the entry with it. Harmless when it is gone."""
        with self._lock:
            if entry.gone:
                return
            entry.gone = True
            del self._entries[entry.name]
            release = entry.release
        if release is not None:
            release()

    def close(self) -> None:
        """Ends all."""
        for entry in self.entries():
            self.free(entry)


# --- bytes


def take(buffer: bytearray, limit: int = MAX_MESSAGE) -> bytes | None:
    """Cuts the first message off a buffer (without its size); None while it is not whole.

    Raises:
        Malformed: its size is none that a message has.
    """
    if len(buffer) < 4:
        return None
    size = int.from_bytes(buffer[:4], "little")
    if not 7 <= size <= limit:
        raise Malformed(f"a message of {size} bytes")
    if len(buffer) < size:
        return None
    message = bytes(buffer[4:size])
    del buffer[:size]
    return message


def built(kind: int, tag: int, body: bytes = b"") -> bytes:
    """A whole message."""
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def text(value: str | bytes) -> bytes:
    """A string with its length."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<H", len(raw)) + raw


class Fields:
    """Reads the fields of a message one after the other.

    Raises:
        Malformed: from each, when the message is too short for it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        """So many bytes."""
        end = self._at + size
        if end > len(self._data):
            raise Malformed("a message that ends too early")
        self._at = end
        return self._data[end - size : end]

    def number(self, size: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self.raw(size), "little")

    def text(self) -> str:
        """A string."""
        try:
            return self.raw(self.number(2)).decode()
        except UnicodeDecodeError:
            raise Malformed("a string that is not UTF-8") from None

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise Malformed("a message with too many bytes")


def qid(directory: bool, number: int) -> bytes:
    """13 bytes: what identifies a file."""
    return struct.pack("<BIQ", DIRECTORY if directory else 0, 0, number)


def stat(name: str, directory: bool, writable: bool, number: int, length: int) -> bytes:
    """A file's description, with its size in front (stat(5))."""
    mode = (
        (0o555 if directory else 0o444) | (0o222 if writable else 0) | (DIRECTORY << 24 if directory else 0)
    )
    body = (
        struct.pack("<HI", 0, 0)
        + qid(directory, number)
        + struct.pack("<IIIQ", mode, 0, 0, 0 if directory else length)
        + text(name)
        + text("root") * 3
    )
    return struct.pack("<H", len(body)) + body


# --- a connection


@dataclass
class Fid:
    """What a fid stands for: the root (neither), the README, an entry, or an entry's ctl."""

    entry: Entry | None = None
    ctl: bool = False
    readme: bool = False
    opened: bool = False
    ends: list[int] = field(default_factory=list)  # where in a directory a read may go on

    def is_directory(self) -> bool:
        return not self.readme and not self.ctl and (self.entry is None or not self.entry.spec)

    def qid(self) -> bytes:
        number = self.entry.number + self.ctl if self.entry is not None else int(self.readme)
        return qid(self.is_directory(), number)

    def content(self) -> bytes:
        if self.readme:
            return README.encode()
        assert self.entry is not None
        return (self.entry.result or UNASKED if self.ctl else f"{self.entry.spec}\n").encode()

    def stat(self) -> bytes:
        number = self.entry.number + self.ctl if self.entry is not None else int(self.readme)
        name = (
            "ctl"
            if self.ctl
            else "README"
            if self.readme
            else self.entry.name
            if self.entry is not None
            else "/"
        )
        directory = self.is_directory()
        root = self.entry is None and not self.readme
        return stat(name, directory, self.ctl or root, number, 0 if directory else len(self.content()))


class Session:
    """One connection: requests go in with :meth:`answer`, :meth:`close` is its end."""

    def __init__(self, tree: Tree) -> None:
        self.limit = MAX_MESSAGE  #: bytes of a message; less when the client says so
        self._tree = tree
        self._fids: dict[int, Fid] = {}
        self._made: list[Entry] = []

    def close(self) -> None:
        """The connection has ended: what it held open is closed."""
        for fid in list(self._fids.values()):
            self._clunked(fid)
        self._fids.clear()
        for entry in self._made:
            if not entry.result:  # a directory that nobody has used
                self._tree.free(entry)

    def answer(self, message: bytes) -> bytes:
        """The reply to a message (as `take` gives it).

        Raises:
            Malformed: it is none.
        """
        fields = Fields(message)
        kind, tag = fields.number(1), fields.number(2)
        request = self._REQUESTS.get(kind)
        if request is None:
            raise Malformed(f"a message of type {kind}")
        try:
            return built(kind + 1, tag, request(self, fields))
        except Problem as err:
            return built(ERROR + 1, tag, text(str(err).encode()[:MAX_NAME]))

    # --- requests, each giving the body of its reply

    def _version(self, fields: Fields) -> bytes:
        size, version = fields.number(4), fields.text()
        fields.end()
        for fid in self._fids.values():
            self._clunked(fid)
        self._fids.clear()  # version(5): a session begins anew
        if size < MIN_MESSAGE:
            raise Problem(f"messages of {MIN_MESSAGE} bytes must be possible")
        self.limit = min(size, MAX_MESSAGE)
        return struct.pack("<I", self.limit) + text("9P2000" if version.startswith("9P2000") else "unknown")

    def _auth(self, fields: Fields) -> bytes:
        raise Problem("authentication not required")

    def _attach(self, fields: Fields) -> bytes:
        number, _, _, _ = fields.number(4), fields.number(4), fields.text(), fields.text()
        # 9P2000.u's clients, told that this is 9P2000, end here
        fields.end()
        return self._put(number, Fid()).qid()

    def _flush(self, fields: Fields) -> bytes:
        fields.number(2)
        fields.end()
        return b""  # each request has been answered before the next is read

    def _walk(self, fields: Fields) -> bytes:
        number, new, count = fields.number(4), fields.number(4), fields.number(2)
        if count > MAX_WALK:
            raise Malformed("a walk of too many names")
        names = [fields.text() for _ in range(count)]
        fields.end()
        at = self._fid(number)
        if at.opened and names:
            raise Problem("cannot walk an open file")
        if new != number and new in self._fids:
            raise Problem("fid in use")
        found: list[bytes] = []
        for name in names:
            step = self._step(at, name)
            if step is None:
                if not found:
                    raise Problem("file not found")
                break
            at = step
            found.append(at.qid())
        if len(found) == len(names):
            self._fids.pop(number if new == number else NO_FID, None)
            self._put(new, Fid(at.entry, at.ctl, at.readme))
        return struct.pack("<H", len(found)) + b"".join(found)

    def _step(self, at: Fid, name: str) -> Fid | None:
        if name == "..":
            return Fid(at.entry) if at.ctl else Fid()
        if at.entry is None and not at.readme:
            if name == "README":
                return Fid(readme=True)
            entry = self._tree.find(name)
            return None if entry is None else Fid(entry)
        if at.entry is not None and not at.ctl and name == "ctl":
            return Fid(at.entry, ctl=True)
        return None

    def _open(self, fields: Fields) -> bytes:
        fid, mode = self._fid(fields.number(4)), fields.number(1)
        fields.end()
        if fid.opened:
            raise Problem("file already open")
        if mode & 3 in OPEN_WRITE and not fid.ctl:
            raise Problem("permission denied")
        fid.opened = True
        return fid.qid() + struct.pack("<I", self._iounit())

    def _iounit(self) -> int:
        return self.limit - 24

    def _create(self, fields: Fields) -> bytes:
        fid, name, mode, _ = self._fid(fields.number(4)), fields.text(), fields.number(4), fields.number(1)
        fields.end()
        if fid.entry is not None or fid.readme or fid.opened or not mode & (DIRECTORY << 24):
            raise Problem("permission denied")
        entry = self._tree.make(name)
        self._made = [one for one in self._made if not one.gone and not one.result]
        self._made.append(entry)
        fid.entry, fid.opened = entry, True
        return fid.qid() + struct.pack("<I", self._iounit())

    def _read(self, fields: Fields) -> bytes:
        fid, offset, count = self._fid(fields.number(4)), fields.number(8), fields.number(4)
        fields.end()
        if not fid.opened:
            raise Problem("file not open")
        count = min(count, self._iounit())
        directory = fid.is_directory()
        data = self._listing(fid, offset, count) if directory else fid.content()[offset : offset + count]
        return struct.pack("<I", len(data)) + data

    def _listing(self, fid: Fid, offset: int, count: int) -> bytes:
        """Whole descriptions, from where a read of this directory has ended before (read(5))."""
        if fid.entry is not None:
            files = [Fid(fid.entry, ctl=True)]
        else:
            files = [Fid(readme=True), *(Fid(entry) for entry in self._tree.entries())]
        if offset == 0:
            fid.ends = []
        elif not fid.ends or offset != fid.ends[-1]:
            raise Problem("bad offset in directory read")
        out = b""
        for file in files[len(fid.ends) :]:
            one = file.stat()
            if len(out) + len(one) > count:
                break
            out += one
            fid.ends.append(offset + len(out))
        return out

    def _write(self, fields: Fields) -> bytes:
        fid, _, count = self._fid(fields.number(4)), fields.number(8), fields.number(4)
        data = fields.raw(count)
        fields.end()
        if not fid.ctl or not fid.opened or fid.entry is None:
            raise Problem("permission denied")
        self._tree.write(fid.entry, data)
        return struct.pack("<I", count)

    def _clunk(self, fields: Fields) -> bytes:
        number = fields.number(4)
        fields.end()
        fid = self._fid(number)
        del self._fids[number]
        self._clunked(fid)
        return b""

    def _clunked(self, fid: Fid) -> None:
        if fid.ctl and fid.opened and fid.entry is not None:
            self._tree.free(fid.entry)

    def _remove(self, fields: Fields) -> bytes:
        number = fields.number(4)
        fields.end()
        fid = self._fid(number)
        del self._fids[number]  # remove(5): whether it succeeds or not
        if fid.entry is None:
            raise Problem("permission denied")
        self._tree.free(fid.entry)
        return b""

    def _stat(self, fields: Fields) -> bytes:
        fid = self._fid(fields.number(4))
        fields.end()
        return text(fid.stat())

    def _wstat(self, fields: Fields) -> bytes:
        fid, change = self._fid(fields.number(4)), Fields(fields.raw(fields.number(2)))
        fields.end()
        change.raw(2 + 2 + 4 + 13)
        mode, _, _, _ = change.number(4), change.number(4), change.number(4), change.number(8)
        names = [change.text() for _ in range(4)]
        if not fid.ctl or mode != KEEP_MODE or any(names):
            raise Problem("permission denied")
        return b""

    _REQUESTS: dict[int, Callable[[Session, Fields], bytes]] = {  # noqa: RUF012  # never changed
        VERSION: _version,
        AUTH: _auth,
        ATTACH: _attach,
        FLUSH: _flush,
        WALK: _walk,
        OPEN: _open,
        CREATE: _create,
        READ: _read,
        WRITE: _write,
        CLUNK: _clunk,
        REMOVE: _remove,
        STAT: _stat,
        WSTAT: _wstat,
    }

    # --- fids

    def _fid(self, number: int) -> Fid:
        found = self._fids.get(number)
        if found is None:
            raise Problem("fid not found")
        return found

    def _put(self, number: int, fid: Fid) -> Fid:
        if number in self._fids or number == NO_FID:
            raise Problem("fid in use")
        if len(self._fids) >= MAX_FIDS:
            raise Problem("too many fids")
        self._fids[number] = fid
        return fid
