"""A lease by a real DHCP client, and the network that it gives."""

from __future__ import annotations

import shutil

import pytest

from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, TAP

pytestmark = pytest.mark.netns

SCRIPT = """#!/bin/sh
set -e
echo "event=$1"
case "$1" in
bound|renew)
    env
    ip address replace "$ip/$mask" dev "$interface"
    ip route replace default via "$router"
    ;;
esac
"""


@pytest.fixture
def client(lab):
    """Runs udhcpc in the guest; what its script was told."""
    program = [p] if (p := shutil.which("udhcpc")) else None
    if program is None and (p := shutil.which("busybox")):
        program = [p, "udhcpc"]
    if program is None:
        pytest.skip("no udhcpc: install the package udhcpc or busybox")
    script = lab.directory / "lease"
    script.write_text(SCRIPT)
    script.chmod(0o755)

    def run(*options):
        done = lab.guest.run(
            *program, "-i", TAP, "-f", "-n", "-q", "-t", "5", "-T", "1", "-s", str(script), *options
        )
        told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert told["event"] in ("bound", "renew"), done.stdout
        return told

    return run


def test_a_lease_gives_a_network(lab, client):
    process = lab.attach(configure=False)
    lab.guest.ip("link", "set", TAP, "up")
    told = client()
    assert told["ip"] == GUEST
    assert told["subnet"] == "255.255.255.0"
    assert told["router"] == GATEWAY
    assert told["dns"] == GATEWAY
    assert told["serverid"] == GATEWAY
    assert told["lease"] == "86400"
    with lab.host.listen() as listener, lab.guest.connect(HOST_ALIAS, listener.getsockname()[1]) as s:
        server, _ = listener.accept()
        server.sendall(b"you have a network")
        assert s.recv(100) == b"you have a network"
        server.close()
    assert client("-r", told["ip"])["ip"] == GUEST, "the same client gets the same address again"
    assert process.stop() == 0


def test_the_lease_tells_the_mtu(lab, client):
    lab.attach(configure=False, mtu=9000)
    lab.guest.ip("link", "set", TAP, "up")
    assert client("-O", "mtu")["mtu"] == "9000"


def test_addresses_are_not_given_twice(lab, client):
    lab.attach(configure=False)
    lab.guest.ip("link", "set", TAP, "up")
    first = client()["ip"]
    lab.guest.ip("link", "set", TAP, "down")
    lab.guest.ip("link", "set", TAP, "address", "02:00:00:00:00:77")
    lab.guest.ip("link", "set", TAP, "up")
    assert client()["ip"] != first
