"""What users of Docker for Mac asked for and were told could not be done: a test of each, named after it.

The programs are those that a user has, and netstack's own commands. The pieces have tests of their own elsewhere.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from instance import eventually

import netstack
from netstack.host.namespace import open_tap
from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, WORLD, WORLD_HOST, Lab, python_environment
from netstack.testing.namespace import Namespace, Process, in_thread

pytestmark = pytest.mark.netns
pytest.importorskip("aiohttp")

SECOND = "192.168.65.4"
SECOND_HOST = "198.51.100.11"  # another address of the host's


@dataclass
class Setting:
    """A guest served by ``netstack attach``, its host, a world, and the commands that ask the instance."""

    lab: Lab
    world: Namespace
    process: Process
    socket: Path

    def netstack(self, *arguments: str) -> str:
        """What a command prints that asks the instance."""
        argv = (sys.executable, "-m", "netstack", *arguments, "--instance", str(self.socket))
        return str(self.lab.host.run(*argv, env=python_environment()).stdout)


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    with Lab() as lab:
        _, world = lab.world()
        api = lab.directory / "api.sock"
        published = ("-P", "-p", f"{WORLD_HOST}:8080:80", "-p", "9000-9009:9000-9009")
        process = lab.attach("--api", str(api), *published)
        yield Setting(lab, world, process, api)
        assert process.stop() == 0, process.text


def peer_seen(guest: Namespace, client: Namespace, port: int, place: tuple[str, int], at: str = GUEST) -> str:
    """The address from which a server in the guest, at a port, is reached by a client that connects to a place."""
    with guest.listen(at, port) as listener:
        listener.settimeout(20)
        with client.connect(*place) as sock:
            sock.settimeout(20)
            served, peer = listener.accept()
            with served:
                sending = in_thread(lambda: served.sendall(served.recv(100).upper()))
                sock.sendall(b"hello")
                assert sock.recv(100) == b"HELLO"
                sending(20)
    return str(peer[0])


def received(text: str) -> int:
    found = re.search(r"(\d+) received", text)
    assert found, text
    return int(found[1])


def test_ping_a_guest_from_the_host(setting: Setting) -> None:
    """From the gateway without any right; and with a route, by the host's own ping."""
    assert received(setting.netstack("ping", "-c", "3", "-i", "0.05", GUEST)) == 3
    setting.netstack("route", "add")
    try:
        done = setting.lab.host.run("ping", "-c", "3", "-i", "0.05", "-W", "5", GUEST)
        assert received(done.stdout) == 3
    finally:
        setting.netstack("route", "rm")


def test_ping_out_of_a_guest(setting: Setting) -> None:
    for address in (GATEWAY, HOST_ALIAS, WORLD):
        done = setting.lab.guest.run("ping", "-c", "2", "-i", "0.05", "-W", "5", address)
        assert received(done.stdout) == 2


def test_reach_a_guest_by_its_own_address(setting: Setting) -> None:
    """With a route, any program; without one, through standard input and output."""
    server = setting.lab.guest.spawn(sys.executable, "-m", "http.server", "7008")
    server.wait_listening(7008)
    try:
        argv = (
            sys.executable,
            "-m",
            "netstack",
            "connect",
            f"{GUEST}:7008",
            "--instance",
            str(setting.socket),
        )
        request = b"HEAD / HTTP/1.0\r\n\r\n"
        done = setting.lab.host.run(*argv, env=python_environment(), stdin=request)
        assert " 200 OK" in done.stdout
        with pytest.raises(OSError, match=r"unreachable|timed out"):
            setting.lab.host.connect(GUEST, 7008, timeout=1)
        setting.netstack("route", "add")
        try:
            connection = http.client.HTTPConnection(GUEST, 7008)
            connection.sock = setting.lab.host.connect(GUEST, 7008)
            connection.request("HEAD", "/")
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            setting.netstack("route", "rm")
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["host.internal", "host.docker.internal"])
def test_a_guest_reaches_a_service_on_the_hosts_loopback_by_a_stable_name(
    setting: Setting, name: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the program 'curl' is missing")
    server = setting.lab.host.spawn(sys.executable, "-m", "http.server", "7009", "--bind", "127.0.0.1")
    server.wait_listening(7009)
    try:
        done = setting.lab.guest.run("curl", "-sSI", f"http://{name}:7009/")
        assert " 200 OK" in done.stdout
    finally:
        server.stop()


def test_see_the_real_client_address(setting: Setting) -> None:
    place = (WORLD_HOST, 8080)
    assert peer_seen(setting.lab.guest, setting.world, 80, place) == WORLD
    assert peer_seen(setting.lab.guest, setting.lab.host, 80, place) == WORLD_HOST


def test_publish_all_ports(setting: Setting) -> None:
    """A port that is opened inside is open on the host, for as long as it is, and port 80 only once."""

    def published() -> dict[int, str]:
        ports = json.loads(setting.netstack("port", "list", "--json"))["ports"]
        return {p["guest_port"]: p["addresses"][0] for p in ports if p["guest_port"] != 9000}

    eventually(lambda: published().keys() == {80})  # what another test has just closed goes first
    with setting.lab.guest.listen("0.0.0.0", 7010) as one, setting.lab.guest.listen("0.0.0.0", 80):
        eventually(lambda: published().keys() == {80, 7010})
        one.settimeout(20)
        with setting.world.connect(WORLD_HOST, int(published()[7010].rpartition(":")[2])):
            served, peer = one.accept()
            served.close()
        assert peer[0] == WORLD
    eventually(lambda: published().keys() == {80})
    assert re.search(r"TCP port 7010 of the guest is published at 0\.0\.0\.0:\d+", setting.process.text)


def test_publish_a_range(setting: Setting) -> None:
    for port in (9000, 9004, 9009):
        assert peer_seen(setting.lab.guest, setting.world, port, (WORLD_HOST, port)) == WORLD
    rows = json.loads(setting.netstack("port", "list", "--json"))["ports"]
    assert [r["count"] for r in rows if r["guest_port"] == 9000] == [10]  # one rule


def test_two_guests_on_one_port_number_at_two_host_addresses(lab: Lab) -> None:
    _, world = lab.world()
    lab.host.ip("address", "add", f"{SECOND_HOST}/24", "dev", "up0")
    second = lab.namespace("guest2")
    with second.entered():
        fd, _, granted = open_tap("tap0")
    with lab.gateway(netstack.Config(dns=())) as gateway:
        gateway.add_tap(fd, granted)
        second.ip("address", "add", f"{SECOND}/24", "dev", "tap0")
        second.ip("link", "set", "tap0", "up")
        second.ip("route", "add", "default", "via", GATEWAY)
        guests = ((lab.guest, GUEST, WORLD_HOST), (second, SECOND, SECOND_HOST))
        with lab.host.entered():
            ports = [gateway.publish(f"{host}:80:{guest}:80") for _, guest, host in guests]
        for namespace, guest, host in guests:
            assert peer_seen(namespace, world, 80, (host, 80), guest) == WORLD
        for port in ports:
            port.close()
        with pytest.raises(ConnectionRefusedError):
            world.connect(WORLD_HOST, 80)
