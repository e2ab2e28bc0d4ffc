"""The commands that ask a running instance."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from instance import ROOT, Instance, address_of, environment

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("cli"), "--guest", "02:00:00:00:00:07=192.168.65.7,web")
    yield one
    one.close()


def netstack(folder: Path, *arguments: str, status: int = 0) -> str:
    """What a command prints; its sentence where it is to fail."""
    argv = [sys.executable, "-m", "netstack", *arguments]
    done = subprocess.run(argv, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    if status:
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.stderr
    assert done.stderr == ""
    return done.stdout


def test_list(instance: Instance) -> None:
    heads, *rows = netstack(instance.folder, "list").splitlines()
    assert heads.split() == ["NAME", "COMMAND", "PID", "NETWORK", "UPTIME", "LISTENS"]
    assert [row.split()[:3] for row in rows] == [["one", "serve", str(instance.process.pid)]]
    (info,) = json.loads(netstack(instance.folder, "list", "--json"))
    assert info["listen"] == [instance.guests]


def test_guests(instance: Instance) -> None:
    row = ["192.168.65.7", "02:00:00:00:00:07", "web", "static", "never"]
    assert row in [line.split() for line in netstack(instance.folder, "guests").splitlines()]
    answer = json.loads(netstack(instance.folder, "guests", "--json"))
    assert answer == instance.ask("GET", "/v1/guests")[1]
    assert answer["guests"][0]["name"] == "web"


def test_stats_and_flows(instance: Instance) -> None:
    names = json.loads(netstack(instance.folder, "stats", "--json")).keys()
    lines = netstack(instance.folder, "stats", "--all").splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(names)
    assert json.loads(netstack(instance.folder, "flows", "--json")) == {"flows": []}
    assert netstack(instance.folder, "flows").split()[:2] == ["PROTOCOL", "STATE"]


def test_port(instance: Instance) -> None:
    for by in ("id", "spec"):
        added = json.loads(netstack(instance.folder, "port", "add", "127.0.0.1:0:web:80", "--json"))
        assert added["guest"] == "web"
        address = address_of(added["addresses"][0])
        socket.create_connection(address, 10).close()
        row = netstack(instance.folder, "port", "list").splitlines()[1].split()
        assert row == [str(added["id"]), added["spec"], "tcp", added["addresses"][0], "web:80"]
        assert json.loads(netstack(instance.folder, "port", "list", "--json")) == {"ports": [added]}
        assert netstack(instance.folder, "port", "rm", str(added[by])) == ""
        with socket.socket() as sock:
            assert sock.connect_ex(address) != 0
    assert "no port is published as 99" in netstack(instance.folder, "port", "rm", "99", status=2)
    assert "'nonsense'" in netstack(instance.folder, "port", "add", "nonsense", status=2)


def test_which_instance(tmp_path: Path) -> None:
    assert "no instance runs" in netstack(tmp_path, "guests", status=2)
    assert json.loads(netstack(tmp_path, "list", "--json")) == []
    one, two = Instance(tmp_path), Instance(tmp_path, "--network=10.9.0.0/24", name="two")
    try:
        assert "several instances run (one, two)" in netstack(tmp_path, "stats", status=2)
        assert "no instance 'three' runs" in netstack(tmp_path, "stats", "--instance", "three", status=2)
        for place in ("two", str(two.socket)):
            netstack(tmp_path, "port", "add", "127.0.0.1:0:80", "--instance", place)
        assert len(two.ask("GET", "/v1/ports")[1]["ports"]) == 2
        assert one.ask("GET", "/v1/ports")[1]["ports"] == []
        one.stop(signal.SIGKILL)
        assert one.socket.exists()
        netstack(tmp_path, "stats")  # two is the only one left
        assert os.listdir(one.socket.parent) == ["two.sock"]
        two.stop()
        assert "does not answer" in netstack(tmp_path, "stats", "--instance", str(two.socket), status=2)
    finally:
        one.close()
        two.close()


@pytest.mark.usefixtures("_sandboxes")
def test_run_serves_it_when_asked(tmp_path: Path) -> None:
    inside = [sys.executable, "-m", "netstack", "list", "--json"]  # the sandbox sees the host's files
    for option, names in ((("--api", "mine"), [("mine", "run")]), ((), [])):
        out = netstack(tmp_path, "run", *option, "--", *inside)
        assert [(i["name"], i["command"]) for i in json.loads(out)] == names
    assert os.listdir(tmp_path / "netstack") == []
