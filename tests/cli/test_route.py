"""``netstack route``: the host's own route to guests, in namespaces made for the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import Instance, eventually

from netstack.control.client import Client
from netstack.testing.lab import GATEWAY, GUEST, Lab, python_environment
from netstack.testing.namespace import Namespace, in_thread

pytestmark = pytest.mark.netns
pytest.importorskip("aiohttp")

HERE = "192.168.65.254"
DEVICE = "netstack0"


class Routed:
    """A laboratory with a running instance, and ``netstack`` in its host namespace."""

    def __init__(self, lab: Lab, *options: str) -> None:
        self.lab = lab
        self.socket = lab.directory / "api.sock"
        self.process = lab.attach("--api", str(self.socket), *options)

    def netstack(self, *arguments: str, status: int = 0, through: tuple[str, ...] = ()) -> str:
        """What the command prints; its sentence where it is to fail."""
        done = self.lab.host.run(
            *(*through, sys.executable, "-m", "netstack", *arguments, "--instance", str(self.socket)),
            check=False,
            env=python_environment(),
        )
        assert done.returncode == status, done.stderr
        if status:
            assert done.stderr.count("\n") == 1
            return str(done.stderr)
        return str(done.stdout)

    def devices(self) -> list[str]:
        links = json.loads(self.lab.host.run("ip", "-j", "link", "show").stdout)
        return [link["ifname"] for link in links]

    def routes(self) -> list[Any]:
        return [r["dst"] for r in json.loads(self.lab.host.run("ip", "-j", "route", "show").stdout)]

    def clean(self) -> bool:
        return DEVICE not in self.devices() and "192.168.65.0/24" not in self.routes()


@pytest.fixture
def routed(lab: Lab) -> Iterator[Routed]:
    one = Routed(lab)
    yield one
    if one.process.running:
        one.process.stop()


def exchange(near: Namespace, far: Namespace, kind: int, address: str) -> str:
    """Something sent to an address and back; who it came from."""
    server = far.socket(kind=kind)
    server.bind(("0.0.0.0", 7000))
    server.settimeout(20)
    with server, near.socket(kind=kind) as client:
        client.settimeout(20)
        if kind == socket.SOCK_STREAM:
            server.listen()
            client.connect((address, 7000))
            sock, peer = server.accept()
            with sock:
                sending = in_thread(lambda: sock.sendall(sock.recv(100)))
                client.sendall(b"to and fro")
                assert client.recv(100) == b"to and fro"
                sending(20)
        else:
            client.connect((address, 7000))
            client.send(b"to and fro")
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
            assert client.recv(100) == b"to and fro"
    return str(peer[0])


def test_guests_by_their_own_addresses(routed: Routed) -> None:
    host, guest = routed.lab.host, routed.lab.guest
    assert routed.clean()
    said = routed.netstack("route", "add")
    assert said == f"{DEVICE} leads to 192.168.65.0/24; this host is {HERE} there\n"
    for address in (GUEST, GATEWAY):
        assert " 3 received" in host.run("ping", "-c", "3", "-i", "0.05", "-W", "5", address).stdout
    assert " 1 received" in guest.run("ping", "-c", "1", "-W", "5", HERE).stdout
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert exchange(host, guest, kind, GUEST) == HERE
        assert exchange(guest, host, kind, HERE) == GUEST
    rows = [line.split() for line in routed.netstack("route", "show").splitlines()]
    assert rows[1:] == [[DEVICE, "192.168.65.0/24", HERE]]
    (shown,) = json.loads(routed.netstack("route", "show", "--json"))["routes"]
    routed.netstack("route", "rm")
    eventually(routed.clean)
    assert json.loads(routed.netstack("route", "show", "--json")) == {"routes": []}
    assert routed.process.running  # a guest's link that ends would end it
    again = json.loads(routed.netstack("route", "add", "--json", "--device", "again"))
    assert again == shown | {"id": shown["id"] + 1, "device": "again"}  # its address was free again
    assert " 1 received" in host.run("ping", "-c", "1", "-W", "5", GUEST).stdout


def test_bulk(routed: Routed) -> None:
    """Segments as large as offload makes them pass between the two TAPs whole."""
    routed.netstack("route", "add")
    data = os.urandom(1 << 20) * 32
    with routed.lab.guest.listen("0.0.0.0", 7001) as listener:
        listener.settimeout(20)
        client = routed.lab.host.connect(GUEST, 7001)
        sock, _ = listener.accept()
        with client, sock:
            client.settimeout(60)
            sock.settimeout(60)
            for near, far in ((client, sock), (sock, client)):
                sending = in_thread(lambda near=near: near.sendall(data))
                got = bytearray()
                while len(got) < len(data):
                    got += far.recv(1 << 20)
                sending(60)
                assert got == data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_goes_with_the_instance(routed: Routed, number: int) -> None:
    routed.netstack("route", "add")
    assert not routed.clean()
    os.kill(routed.process.pid, number)
    eventually(lambda: not routed.process.running)
    eventually(routed.clean)


def test_a_device_that_is_deleted(routed: Routed) -> None:
    routed.netstack("route", "add")
    routed.lab.host.ip("link", "delete", DEVICE)
    eventually(lambda: json.loads(routed.netstack("route", "show", "--json")) == {"routes": []})
    assert routed.process.running
    assert routed.netstack("route", "add").startswith(f"{DEVICE} leads")


def test_what_cannot_be(routed: Routed) -> None:
    lab = routed.lab
    assert "there is no route" in routed.netstack("route", "rm", status=2)
    lab.host.ip("route", "add", "192.168.65.128/25", "dev", "lo")
    assert "already, through lo" in routed.netstack("route", "add", status=1)
    lab.host.ip("route", "delete", "192.168.65.128/25", "dev", "lo")
    weak = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert f"sudo netstack route add --instance {routed.socket}" in routed.netstack(
        "route", "add", status=125, through=weak
    )
    # What failed has left nothing behind, such as an address that is taken.
    assert json.loads(routed.netstack("route", "add", "--json"))["address"] == HERE
    assert f"already, through {DEVICE}" in routed.netstack("route", "add", status=1)
    assert "no route through other" in routed.netstack("route", "rm", "other", status=2)


def test_isolated_guests_stay_so(lab: Lab, tmp_path: Path) -> None:
    one = Instance(tmp_path, "--isolate")
    try:
        done = lab.host.run(
            *(sys.executable, "-m", "netstack", "route", "add", "--instance", str(one.socket)),
            check=False,
            env=python_environment(),
        )
        assert done.returncode == 2
        assert "the guests are isolated" in done.stderr
    finally:
        one.close()


def test_a_client_that_gives_no_device(tmp_path: Path) -> None:
    """Its address is free again, whether it goes or sends something else; and a device that is none is refused."""
    one = Instance(tmp_path)
    try:
        client = Client(str(one.socket))
        for message, fds in ((None, []), (b"{}", []), (b'{"device": "x"}', [0])):
            made, fd = client.descriptor("/v1/routes", None)
            made.close()
            with socket.socket(fileno=fd) as channel:
                channel.settimeout(20)
                assert json.loads(channel.recv(4096))["address"] == HERE
                if message is not None:
                    with open(os.devnull, "rb") as other:
                        socket.send_fds(channel, [message], [other.fileno()] * len(fds))
                if fds:
                    assert "no" in json.loads(channel.recv(4096))["error"]
            eventually(lambda: one.ask("GET", "/v1/guests")[1]["guests"] == [])
        assert one.ask("POST", "/v1/routes")[0] == 426
        assert one.ask("DELETE", "/v1/routes/1")[0] == 404
    finally:
        one.close()
