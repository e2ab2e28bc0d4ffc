"""Leases on disk: a directory with one SQLite file, written by a thread of its own and never by the engine's.

Theory of operation
    The directory belongs to one gateway at a time (a lock that ends with its process). Every change is one transaction,
    and a DHCP reply that promises something goes out when that is on disk (RFC 2131 section 4.3.2). Where the disk
    refuses, the network goes on: replies go out, the log says so once, and all that is missing is written as soon
    as it can be.

    Times are kept twice: by the wall clock, and by the clock that counts since the machine was booted, with the name of
    that boot. After a restart within the same boot the second counts, so that a change of the wall clock meanwhile is
    without effect; after a reboot the first, of which a lease never gets longer than it was.
"""

from __future__ import annotations

import fcntl
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from .errors import ConfigError
from .host.boot import boot_name, boot_time
from .log import logger

if TYPE_CHECKING:
    from .services.dhcp4_leases import StoredLease

__all__ = ["LeaseStore"]

FILE = "leases.db"
LOCK = "lock"
APPLICATION = 0x6E73_6C64  # PRAGMA application_id: "nsld"
VERSION = 1
BUSY_SECONDS = 2.0  # another program may have it locked so long
RETRY_SECONDS = 10.0
MAX_WAITING = 4096  # replies that wait for the disk; clients ask again

SCHEMA = """
CREATE TABLE leases (
    address TEXT PRIMARY KEY, state TEXT NOT NULL, client BLOB NOT NULL, sent INTEGER NOT NULL, mac BLOB NOT NULL,
    name TEXT NOT NULL, who TEXT NOT NULL, expires REAL, boot TEXT NOT NULL, boot_expires REAL, seconds REAL
) WITHOUT ROWID
"""
STATES = frozenset(("bound", "kept", "declined", "static", "reserved"))

Row = tuple[str, str, bytes, int, bytes, str, str, float | None, str, float | None, float | None]
Reply = Callable[[], None]


class LeaseStore:
    """The leases in a directory, which is made where it is missing, for this user alone.

    Args:
        directory: where; the file in it is ``leases.db``.
        now: the server's clock.
        threaded: write in a thread; without, :meth:`put` writes at once (a gateway that is stepped by hand).

    Raises:
        ConfigError: the directory cannot be had, another gateway has it, or the file is locked, damaged, or not ours.
            It is left as it is.
    """

    def __init__(self, directory: str, now: Callable[[], float], threaded: bool = True) -> None:
        self.path = os.path.join(directory, FILE)
        self._now = now
        self._boot = boot_name()
        self._lock_fd = _own(directory)
        self._wake = threading.Condition()
        self._pending: dict[str, Row | None] = {}
        self._replies: list[Reply] = []
        self._thread: threading.Thread | None = None
        self._threaded = threaded
        self._closing = False
        self._failing = False
        self.failures = 0  #: how often a change could not be written at once
        try:
            self._db = _open(self.path)
            self._identity = _identity(self.path)
            self._rows = _read(self._db, self.path)
        except BaseException:
            os.close(self._lock_fd)
            raise

    # ------------------------------------------------------------------ what there was

    def leases(self) -> list[StoredLease]:
        """What was stored, the newest first, each with the time that is left of it by the server's clock."""
        from .services.dhcp4_leases import StoredLease

        out = []
        for row in self._rows.values():
            address, state, client, sent, mac, name, who, expires, boot, boot_expires, seconds = row
            expires = self._now() + self._left(expires, boot, boot_expires, seconds)
            out.append(StoredLease(address, state, client, bool(sent), mac, name, who, expires))
        return sorted(out, key=lambda entry: -entry.expires)

    def _left(
        self, expires: float | None, boot: str, boot_expires: float | None, seconds: float | None
    ) -> float:
        if expires is None or boot_expires is None or seconds is None:
            return math.inf
        if boot and boot == self._boot:
            return boot_expires - boot_time()
        return min(expires - time.time(), seconds)  # more than it was: the clock went back

    def _row(self, entry: StoredLease) -> Row:
        what = (entry.address, entry.state, entry.key, int(entry.sent), entry.mac, entry.name, entry.who)
        if math.isinf(entry.expires):
            return (*what, None, self._boot, None, None)
        left = entry.expires - self._now()
        return (*what, time.time() + left, self._boot, boot_time() + left, left)

    # ------------------------------------------------------------------ what changes

    def put(self, changes: Mapping[str, StoredLease | None], reply: Reply | None = None) -> None:
        """Stores what has changed, by address (None: forgotten), and then calls ``reply``."""
        with self._wake:
            for address, entry in changes.items():
                self._pending[address] = None if entry is None else self._row(entry)
            if reply is not None and len(self._replies) < MAX_WAITING:
                self._replies.append(reply)
            if self._threaded and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="netstack-leases", daemon=True)
                self._thread.start()
            self._wake.notify()
        if not self._threaded:
            self._write()

    def close(self) -> None:
        """Writes what is left, and lets others have the directory. Harmless when called again."""
        if self._lock_fd < 0:
            return
        with self._wake:
            self._closing = True
            self._replies.clear()
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._write()
        if self._pending:
            logger().error(
                "%d changes of leases are lost: %s cannot be written", len(self._pending), self.path
            )
        self._db.close()
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._closing or self._replies or (self._pending and not self._failing),
                    RETRY_SECONDS if self._failing else None,
                )
                if self._closing:
                    return  # the rest is written by close
            self._write()

    def _write(self) -> None:
        with self._wake:
            changes, self._pending = self._pending, {}
            replies, self._replies = self._replies, []
        try:
            if changes:
                self._commit(changes)
        except (sqlite3.Error, OSError, ConfigError) as err:
            with self._wake:
                self._pending = changes | self._pending
            self.failures += 1
            if not self._failing:
                logger().error(
                    "the leases cannot be written (%s): they are given out all the same, and written when %s can be "
                    "again",
                    err,
                    self.path,
                )
            self._failing = True
        else:
            if changes and self._failing:
                self._failing = False
                logger().info("the leases are written to %s again", self.path)
        for reply in replies:
            try:
                reply()
            except Exception:  # one that cannot be sent is asked for again
                logger().exception("a DHCP reply could not be sent")

    def _commit(self, changes: dict[str, Row | None]) -> None:
        every = False
        # removed, or another in its place: what we write would be lost
        if _identity(self.path) != self._identity:
            fresh = _open(self.path)
            self._db.close()
            self._db, self._identity, every = fresh, _identity(self.path), True
        rows = {k: v for k, v in (self._rows | changes).items() if v is not None}
        with self._db:  # a transaction
            if every:
                self._db.execute("DELETE FROM leases")
                _insert(self._db, rows.values())
            else:
                self._db.executemany(
                    "DELETE FROM leases WHERE address = ?", [(k,) for k, v in changes.items() if v is None]
                )
                _insert(self._db, [row for row in changes.values() if row is not None])
        self._rows = rows


def _insert(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    db.executemany("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _own(directory: str) -> int:
    """The descriptor that keeps the directory ours."""
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        state = os.stat(directory)
        if state.st_uid not in (os.geteuid(), 0) or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"the state directory {directory} can be written by others: "
                "name one of your own, or say chmod 700 to it"
            )
        fd = os.open(
            os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as err:
        raise ConfigError(f"the state directory {directory} cannot be used: {err.strerror or err}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise ConfigError(
            f"the state directory {directory} is in use by another netstack"
            f"{f' (process {who})' if who.isdecimal() else ''}: give each its own"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return (state.st_dev, state.st_ino)


def _open(path: str) -> sqlite3.Connection:
    """The file, made where it is missing.

    Raises:
        ConfigError: it cannot be opened, or is not ours.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(fd, 0o600)
        empty = os.fstat(fd).st_size == 0
        os.close(fd)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    except (OSError, sqlite3.Error) as err:
        why = getattr(err, "strerror", None) or err
        raise ConfigError(f"the lease file {path} cannot be opened: {why}") from None
    try:
        if empty:
            with db:
                db.execute(SCHEMA)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise ConfigError(f"{path} is not a lease file of netstack: name another state directory")
        if version != VERSION:
            raise ConfigError(
                f"the lease file {path} is of another version of netstack ({version}, not {VERSION}): "
                "name another state directory, or move the file away"
            )
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as err:
        db.close()
        raise _unusable(path, err) from None
    except BaseException:
        db.close()
        raise
    return db


def _unusable(path: str, err: sqlite3.Error) -> ConfigError:
    text = str(err)
    if "locked" in text or "busy" in text:
        return ConfigError(f"the lease file {path} is locked by another program: close it there first")
    if "not a database" in text:
        return ConfigError(
            f"{path} is not a lease file of netstack, or is damaged: move it away to start without"
        )
    return ConfigError(f"the lease file {path} is damaged ({text}): move it away to start without its leases")


def _read(db: sqlite3.Connection, path: str) -> dict[str, Row]:
    """Every row.

    Raises:
        ConfigError: they are not what was written.
    """
    try:
        (sound,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(" ".join(sound.split()))
        rows = db.execute(
            "SELECT address, state, client, sent, mac, name, who, expires, boot, boot_expires, seconds FROM leases"
        ).fetchall()
        for address, state, client, sent, mac, name, who, expires, boot, boot_expires, seconds in rows:
            good = (
                all(isinstance(text, str) for text in (address, name, who, boot))
                and all(isinstance(data, bytes) for data in (client, mac))
                and all(x is None or isinstance(x, float) for x in (expires, boot_expires, seconds))
                and state in STATES
                and isinstance(sent, int)
                and len(mac) in (0, 6)
            )
            if not good:
                raise sqlite3.DatabaseError(f"the lease of {address!r} makes no sense")
    except sqlite3.Error as err:
        db.close()
        raise _unusable(path, err) from None
    return {row[0]: row for row in rows}
