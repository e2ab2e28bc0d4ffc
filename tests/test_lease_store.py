"""Leases on disk: what is written when, what is read after a restart, and what stops the start."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import netstack
from netstack import lease_store
from netstack.errors import ConfigError
from netstack.gateway import Gateway
from netstack.lease_store import LeaseStore
from netstack.services.dhcp4_leases import StoredLease
from netstack.testing.guest import Guest

MAC = bytes([2, 0, 0, 0, 0, 7])
NOW = 5000.0  # of the server's clock


def lease(address: str = "192.168.65.3", left: float = 100.0, state: str = "bound") -> StoredLease:
    return StoredLease(address, state, b"\1" + MAC, False, MAC, "laptop", "", NOW + left)


@contextlib.contextmanager
def store(folder: Path, threaded: bool = False) -> Iterator[LeaseStore]:
    opened = LeaseStore(str(folder), lambda: NOW, threaded)
    try:
        yield opened
    finally:
        opened.close()


def left(folder: Path) -> dict[str, float]:
    """Seconds left of each lease when the file is opened again."""
    with store(folder) as again:
        return {entry.address: round(entry.expires - NOW) for entry in again.leases()}


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | str]:
    """Clocks that the test moves: wall and boot in seconds, and the name of the boot."""
    at: dict[str, float | str] = {"wall": 1e9, "boot": 1000.0, "name": "first"}
    monkeypatch.setattr(lease_store.time, "time", lambda: at["wall"])
    monkeypatch.setattr(lease_store, "boot_time", lambda: at["boot"])
    monkeypatch.setattr(lease_store, "boot_name", lambda: at["name"])
    return at


def test_what_is_put_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    static = StoredLease("192.168.65.50", "reserved", b"id", True, b"", "db", "id:db", float("inf"))
    with store(folder) as first:
        first.put({"192.168.65.3": lease(), "192.168.65.4": lease("192.168.65.4"), "192.168.65.50": static})
        first.put({"192.168.65.4": None})
    with store(folder) as again:
        found = again.leases()
    assert found[0] == static
    assert [(e.address, e.state, e.key, e.mac, e.name) for e in found[1:]] == [
        ("192.168.65.3", "bound", b"\1" + MAC, MAC, "laptop")
    ]
    assert 95 < found[1].expires - NOW <= 100
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({"boot": 1040.0, "wall": 1e9 + 40}, 60),
        ({"boot": 1040.0, "wall": 1e9 - 1e6}, 60),  # set back
        ({"boot": 1040.0, "wall": 1e9 + 1e6}, 60),  # set forward
        ({"boot": 1200.0, "wall": 1e9}, -100),
        ({"boot": 5.0, "name": "second", "wall": 1e9 + 40}, 60),
        ({"boot": 5.0, "name": "second", "wall": 1e9 + 200}, -100),
        ({"boot": 5.0, "name": "second", "wall": 0.0}, 100),  # without a battery: never more than it was
    ],
)
def test_clocks(
    tmp_path: Path, clocks: dict[str, float | str], change: dict[str, float | str], seconds: int
) -> None:
    with store(tmp_path) as first:
        first.put({"192.168.65.3": lease()})
    clocks.update(change)
    assert left(tmp_path) == {"192.168.65.3": seconds}


def test_a_reply_waits_for_the_disk_and_not_the_caller(tmp_path: Path) -> None:
    sent = threading.Event()
    with store(tmp_path, threaded=True) as first:
        other = sqlite3.connect(tmp_path / "leases.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        first.put({"192.168.65.3": lease()}, sent.set)
        assert time.monotonic() - begun < lease_store.BUSY_SECONDS / 2
        assert not sent.wait(0.05)
        other.execute("ROLLBACK")
        assert sent.wait(10)
        with contextlib.closing(other):
            assert other.execute("SELECT count(*) FROM leases").fetchone() == (1,)


def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease_store, "BUSY_SECONDS", 0.0)
    sent: list[int] = []
    with store(tmp_path) as first:
        other = sqlite3.connect(tmp_path / "leases.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        first.put({"192.168.65.3": lease()}, lambda: sent.append(1))
        first.put({"192.168.65.4": lease("192.168.65.4")}, lambda: sent.append(2))
        assert sent == [1, 2], "the network goes on"
        assert first.failures == 2
        assert [r.message for r in caplog.records if "cannot be written" in r.message] == [
            f"the leases cannot be written (database is locked): they are given out all the same, and written when "
            f"{tmp_path}/leases.db can be again"
        ]
        other.execute("ROLLBACK")
        other.close()
        first.put({"192.168.65.5": lease("192.168.65.5")})
    assert len(left(tmp_path)) == 3
    assert caplog.records[-1].message.endswith("again")


def test_a_file_that_is_removed_is_written_anew(tmp_path: Path) -> None:
    with store(tmp_path) as first:
        first.put({"192.168.65.3": lease()})
        (tmp_path / "leases.db").unlink()
        first.put({"192.168.65.4": lease("192.168.65.4")})
    assert set(left(tmp_path)) == {"192.168.65.3", "192.168.65.4"}


def damaged(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(lease_store.SCHEMA)
        db.execute(f"PRAGMA application_id = {lease_store.APPLICATION}")
        db.execute("PRAGMA user_version = 1")
        for n in range(500):
            db.execute(
                "INSERT INTO leases VALUES (?, 'bound', x'01', 0, x'', '', '', 1.0, '', 1.0, 1.0)",
                (f"{n:0200}",),
            )
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 4))


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE photos (name TEXT)")


def nonsense(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(lease_store.SCHEMA)
        db.execute(f"PRAGMA application_id = {lease_store.APPLICATION}")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO leases VALUES ('x', 'lost', x'01', 0, x'', '', '', 1.0, '', 1.0, 1.0)")


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA application_id = {lease_store.APPLICATION}")
        db.execute("PRAGMA user_version = 9")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda path: path.write_bytes(b"not a database at all\n" * 50),
            "is not a lease file of netstack, or is damaged",
        ),
        (damaged, "is damaged"),
        (nonsense, "is damaged (the lease of 'x' makes no sense)"),
        (foreign, "is not a lease file of netstack"),
        (newer, "is of another version of netstack (9, not 1)"),
        (lambda path: path.mkdir(), "cannot be opened"),
        (lambda path: path.symlink_to("/etc/passwd"), "cannot be opened"),
        (lambda path: path.parent.chmod(0o777), "can be written by others"),
    ],
)
def test_what_stops_the_start(tmp_path: Path, spoil: object, sentence: str) -> None:
    path = tmp_path / "leases.db"
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else b""
    for _ in range(2):  # the directory is free again
        with pytest.raises(ConfigError, match=re.escape(sentence)):
            Gateway(netstack.Config(dns=(), state=str(tmp_path)), now_ns=1)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_that_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_store, "BUSY_SECONDS", 0.0)
    with store(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "leases.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match=r"leases\.db is locked by another program"):
            LeaseStore(str(tmp_path), lambda: NOW)


def test_one_directory_two_gateways(tmp_path: Path) -> None:
    with (
        store(tmp_path),
        pytest.raises(ConfigError, match=rf"in use by another netstack \(process {os.getpid()}\)"),
    ):
        Gateway(netstack.Config(dns=(), state=str(tmp_path)), now_ns=1)
    assert left(tmp_path) == {}


def test_the_command_says_it_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "leases.db").write_text("hello, world, this is no database\n" * 9)
    argv = (
        sys.executable,
        "-m",
        "netstack",
        "serve",
        "--listen",
        f"hyperkit:{tmp_path}/h",
        "--state",
        str(tmp_path),
    )
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "leases.db is not a lease file of netstack" in done.stderr


def test_leases_outlive_their_gateway(tmp_path: Path) -> None:
    """A guest's address, its name and its right to speak, also after a plain renewal; and what was reserved."""
    config = netstack.Config(dns=(), state=str(tmp_path), source_check="held", lease_seconds=3600)

    @contextlib.contextmanager
    def network(mac: str) -> Iterator[tuple[Gateway, Guest]]:
        with Gateway(config) as gateway, Guest(gateway, mac=mac) as guest:
            yield gateway, guest

    with network("02:00:00:00:00:21") as (gateway, guest):
        assert guest.dhcp()["address"] == "192.168.65.3"
        gateway.reserve("id:db-1", "192.168.65.77", "db")
        (first,) = [x.expires for x in gateway.leases() if x.state == "bound"]
        assert guest.dhcp()["address"] == "192.168.65.3"
        (renewed,) = [x.expires for x in gateway.leases() if x.state == "bound"]
        assert first is not None
        assert renewed is not None
        assert abs(renewed - time.time() - 3600) < 60
    with network("02:00:00:00:00:22") as (gateway, guest):
        found = {str(x.address): x for x in gateway.leases()}
        assert found["192.168.65.3"].mac == bytes([2, 0, 0, 0, 0, 0x21])
        assert abs((found["192.168.65.3"].expires or 0) - renewed) < 2
        assert (found["192.168.65.77"].state, found["192.168.65.77"].name) == ("static", "db")
        assert guest.dhcp()["address"] == "192.168.65.4"
        assert gateway.release("192.168.65.77")
    with network("02:00:00:00:00:21") as (gateway, guest):
        guest.configure("192.168.65.3", 24, "192.168.65.1", "192.168.65.1")
        assert guest.ping("192.168.65.1"), "it may go on without asking again"
        assert "192.168.65.77" not in {str(x.address) for x in gateway.leases()}
