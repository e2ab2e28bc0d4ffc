"""Real virtual machines and namespaces behind relays, several at once on one ``netstack serve``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest

from netstack.testing.lab import HOST_ALIAS, Lab, python_environment
from netstack.testing.namespace import Namespace, Process

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

GATEWAY = "192.168.65.1"
MiB = 1 << 20
SIZE = 64 * MiB

DHCP_SCRIPT = """#!/bin/sh
case $1 in bound|renew)
    ip address replace $ip/$mask dev $interface
    ip route replace default via $router
esac
"""


@pytest.fixture
def vm_lab(lab: Lab) -> Lab:
    if reason := machine.missing():
        pytest.skip(reason)
    return lab


@contextlib.contextmanager
def serving(lab: Lab, *options: str) -> Iterator[tuple[Process, Path]]:
    """``netstack serve`` in the host namespace, ready; the file with its events."""
    events = lab.directory / "events"
    process = lab.host.spawn(
        *(sys.executable, "-m", "netstack", "serve", "--notify", str(events), *options),
        env=python_environment(),
    )
    try:
        wait_event(process, events, "ready")
        yield process, events
    finally:
        status = process.stop()
    assert status == 0, process.text


def events_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_event(process: Process, path: Path, name: str, count: int = 1, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while sum(event["event"] == name for event in events_of(path)) < count:
        assert process.running, process.text
        assert time.monotonic() < end, f"no {name}: {process.text}"
        time.sleep(0.05)


@contextlib.contextmanager
def relayed(ns: Namespace, place: str, *options: str) -> Iterator[Process]:
    """``netstack relay`` in a namespace, with a lease by busybox udhcpc."""
    reader, writer = os.pipe()
    argv = (sys.executable, "-m", "netstack", "relay", "tap:tap0", "--connect", place)
    process = ns.spawn(
        *argv, "--ready-fd", str(writer), *options, pass_fds=[writer], env=python_environment()
    )
    os.close(writer)
    try:
        assert os.read(reader, 8) == b"1\n", process.text
        script = ns.directory / "dhcp.sh"
        script.write_text(DHCP_SCRIPT)
        script.chmod(0o755)
        ns.run("busybox", "udhcpc", "-i", "tap0", "-n", "-q", "-f", "-t", "8", "-T", "1", "-s", str(script))
        yield process
    finally:
        os.close(reader)
        process.stop()


class Files:
    """A server that gives bytes to whoever connects, and one that takes them and keeps their hash."""

    def __init__(self, ns: Namespace, size: int) -> None:
        block = bytes(range(256)) * 4096
        self.data = block * (size // len(block))
        self.digest = hashlib.sha256(self.data).hexdigest()
        self.received: list[str] = []
        self._arrived = threading.Condition()
        self._down, self._up = ns.listen(), ns.listen()
        self.down_port, self.up_port = (s.getsockname()[1] for s in (self._down, self._up))
        for target in (self._give, self._take):
            threading.Thread(target=target, daemon=True).start()

    def _give(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._down.accept()

                def send(sock=sock):  # type: ignore[no-untyped-def]
                    with contextlib.suppress(OSError), sock:
                        sock.sendall(self.data)

                threading.Thread(target=send, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._up.accept()
                digest = hashlib.sha256()
                with contextlib.suppress(OSError), sock:
                    while piece := sock.recv(1 << 18):
                        digest.update(piece)
                with self._arrived:
                    self.received.append(digest.hexdigest())
                    self._arrived.notify_all()

    def wait(self, seconds: float) -> str:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.received, seconds), "nothing was uploaded"
            return self.received.pop()

    def close(self) -> None:
        self._down.close()
        self._up.close()


NETDEVS = {
    "stream": ("qemu:{folder}/q.sock", "stream,server=off,addr.type=unix,addr.path={folder}/q.sock"),
    "socket": ("qemu+tcp:127.0.0.1:4444", "socket,connect=127.0.0.1:4444"),
    "dgram": (
        "unixgram:{folder}/d.sock",
        "dgram,local.type=unix,local.path={folder}/vm.sock,remote.type=unix,remote.path={folder}/d.sock",
    ),
    "dgram-udp": (
        "udp:127.0.0.1:4445",
        "dgram,local.type=inet,local.host=127.0.0.1,local.port=4446,remote.type=inet,remote.host=127.0.0.1,remote.port=4445",
    ),
}


@pytest.mark.parametrize("kind", NETDEVS)
def test_machine(vm_lab: Lab, kind: str) -> None:
    """A lease, a name, a ping, and 64 MiB there and back with the right hash."""
    lab = vm_lab
    place, netdev = (text.format(folder=lab.directory) for text in NETDEVS[kind])
    files = Files(lab.host, SIZE)
    with serving(lab, "--listen", place), machine.Machine(lab.host, lab.directory, netdev) as vm:
        vm.boot()
        assert vm.dhcp() == "192.168.65.3"
        assert HOST_ALIAS in vm.sh("nslookup host.internal")
        vm.sh(f"ping -c 2 -W 5 {GATEWAY}")
        began = time.monotonic()
        vm.sh(f"nc {HOST_ALIAS} {files.down_port} < /dev/null > file", timeout=120)
        middle = time.monotonic()
        assert files.digest in vm.sh("sha256sum file", timeout=60)
        again = time.monotonic()
        vm.sh(f"nc {HOST_ALIAS} {files.up_port} < file", timeout=120)
        assert files.wait(60) == files.digest
        end = time.monotonic()
        print(
            f"{kind}: {SIZE * 8e-6 / (middle - began):.0f} Mbit/s down, {SIZE * 8e-6 / (end - again):.0f} up"
        )
    files.close()


def test_machines_and_a_namespace_reach_each_other(vm_lab: Lab) -> None:
    lab = vm_lab
    folder = lab.directory
    with (
        serving(lab, "--listen", f"qemu:{folder}/q.sock", "--listen", f"hyperkit:{folder}/h.sock"),
        machine.Machine(
            lab.host, folder, NETDEVS["stream"][1].format(folder=folder), "52:54:00:00:00:01"
        ) as one,
        machine.Machine(
            lab.host, folder, NETDEVS["stream"][1].format(folder=folder), "52:54:00:00:00:02"
        ) as two,
        relayed(lab.guest, f"hyperkit:{folder}/h.sock"),
    ):
        one.boot()
        two.boot()
        addresses = {one.dhcp(), two.dhcp(), "192.168.65.3"}
        assert addresses == {"192.168.65.3", "192.168.65.4", "192.168.65.5"}
        for address in addresses:
            one.sh(f"ping -c 2 -W 5 {address}")
            two.sh(f"ping -c 2 -W 5 {address}")
            lab.guest.run("ping", "-c", "2", "-W", "5", address)


def test_killed_machine_comes_back(vm_lab: Lab) -> None:
    """In mid-transfer: its flows and descriptors go, and the same MAC finds its address again."""
    lab = vm_lab
    folder = lab.directory
    files = Files(lab.host, SIZE)
    netdev = NETDEVS["stream"][1].format(folder=folder)
    with serving(lab, "--listen", f"qemu:{folder}/q.sock") as (serve, events):
        before = None
        for round_ in range(2):
            with machine.Machine(lab.host, folder, netdev) as vm:
                vm.boot()
                assert vm.dhcp() == "192.168.65.3"
                vm.begin(f"nc {HOST_ALIAS} {files.down_port} < /dev/null > /dev/null")
                time.sleep(1.0)
            wait_event(serve, events, "link_closed", round_ + 1)
            descriptors = len(os.listdir(f"/proc/{serve.pid}/fd"))
            # a connection whose guest is gone is given up by its retransmissions; the link's own descriptors go at once
            before = before if before is not None else descriptors
            assert descriptors <= before + 1
    files.close()


def test_relay_carries_both_ways(lab: Lab) -> None:
    """Two guests on HyperKit's socket: transfers to the host, and to each other."""
    place = f"hyperkit:{lab.directory}/h.sock"
    other = lab.namespace("two")
    files = Files(lab.host, SIZE)
    with serving(lab, "--listen", place), relayed(lab.guest, place), relayed(other, place):
        for ns in (lab.guest, other):
            with ns.connect(HOST_ALIAS, files.down_port) as sock:
                digest = hashlib.sha256()
                while piece := sock.recv(1 << 18):
                    digest.update(piece)
            assert digest.hexdigest() == files.digest
            with ns.connect(HOST_ALIAS, files.up_port) as sock:
                sock.sendall(files.data)
            assert files.wait(30) == files.digest
        with other.listen("0.0.0.0") as listener:
            with lab.guest.connect("192.168.65.4", listener.getsockname()[1]) as sock:
                sock.sendall(b"from one guest to the other")
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == "192.168.65.3"
                assert accepted.recv(100) == b"from one guest to the other"
    files.close()


def test_same_uuid_finds_its_address_again(lab: Lab) -> None:
    place = f"hyperkit:{lab.directory}/h.sock"
    who = ("--uuid", "d1d9cd61-d0dc-4715-9bb3-4c11da7ad7a5")
    with serving(lab, "--listen", place):
        for _ in range(2):
            with relayed(lab.guest, place, *who, "--address", "192.168.65.250"):
                shown = lab.guest.run("ip", "address", "show", "dev", "tap0").stdout
                assert "192.168.65.250/24" in shown
                assert "02:50:00:00:00:01" in shown


def test_a_tap_of_its_own(lab: Lab) -> None:
    """``--tap``: the kernel of the same namespace is the guest; when the TAP is removed, the service has ended."""
    events = lab.directory / "events"
    argv = (sys.executable, "-m", "netstack", "serve", "--tap", "tap0", "--notify", str(events))
    process = lab.guest.spawn(*argv, env=python_environment())
    wait_event(process, events, "ready")
    assert events_of(events)[-1] == {"event": "ready", "listen": ["tap:tap0"]}
    script = lab.directory / "dhcp.sh"
    script.write_text(DHCP_SCRIPT)
    script.chmod(0o755)
    lab.guest.ip("link", "set", "tap0", "up")
    lab.guest.run(
        "busybox", "udhcpc", "-i", "tap0", "-n", "-q", "-f", "-t", "8", "-T", "1", "-s", str(script)
    )
    assert "192.168.65.3/24" in lab.guest.run("ip", "address", "show", "dev", "tap0").stdout
    lab.guest.run("ping", "-c", "2", "-W", "5", GATEWAY)
    lab.guest.ip("link", "delete", "tap0")
    wait_event(process, events, "stopping")
    assert process.wait(20) == 0, process.text
