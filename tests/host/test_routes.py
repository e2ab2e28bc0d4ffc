"""Addresses and routes that come and go, in a namespace of the test."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from netstack.host.routes import RouteWatcher, has_address, parse_messages
from netstack.testing.lab import Lab
from netstack.testing.namespace import unavailable

ADDRESS = b"\x02\x18\x80\0\0\0\0\x07" + struct.pack("=HH4s", 8, 1, bytes((10, 8, 0, 9)))


def message(kind, body=b""):
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_messages():
    local = ADDRESS + struct.pack("=HH4s", 8, 2, bytes((10, 8, 0, 1)))
    data = message(24) + message(21, ADDRESS) + message(21, local) + message(16) + message(20)
    assert parse_messages(data) == [(24, None), (21, "10.8.0.9"), (21, "10.8.0.1"), (20, None)]


@pytest.mark.parametrize("cut", range(1, 44))
def test_damaged_messages(cut):
    data = message(21, ADDRESS)
    parse_messages(data[:-cut])
    parse_messages(data[:16] + bytes(cut) + data[16:])
    parse_messages(bytes((cut,)) + data[1:])


@pytest.mark.netns
def test_what_comes_and_goes():
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        with lab.host.entered():
            watcher = RouteWatcher()

        def heard(*command):
            lab.host.ip(*command)
            time.sleep(0.01)
            with lab.host.entered():
                return watcher.read()

        try:
            lab.host.sysctl("net.ipv6.conf.all.disable_ipv6", "1")  # whose addresses come when they like
            lab.host.ip("link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1")
            lab.host.ip("link", "set", "vpn0", "up")
            lab.host.ip("link", "set", "vpn1", "up")
            time.sleep(0.05)
            with lab.host.entered():
                watcher.read()
            assert heard("address", "add", "10.8.0.2/24", "dev", "vpn0") == (True, [])
            assert heard("route", "add", "10.9.0.0/16", "via", "10.8.0.1") == (True, [])
            with lab.host.entered():
                assert watcher.read() == (False, [])
                assert has_address("10.8.0.2")
            assert heard("address", "add", "10.8.0.2/24", "dev", "lo") == (True, [])
            assert heard("address", "del", "10.8.0.2/24", "dev", "lo") == (True, [])  # it has it still
            assert heard("link", "del", "vpn0") == (True, ["10.8.0.2"])
        finally:
            watcher.close()


@pytest.mark.netns
def test_more_than_the_kernel_keeps():
    """ENOBUFS: which messages are lost nobody says, so that the addresses themselves are compared."""
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        lab.host.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
        lab.host.ip("link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1")
        lab.host.ip("link", "set", "vpn0", "up")
        lab.host.ip("address", "add", "10.8.0.2/24", "dev", "vpn0")
        with lab.host.entered():
            watcher = RouteWatcher()
        try:
            watcher._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
            batch = lab.directory / "batch"
            lines = [f"route add 10.{i // 250}.{i % 250}.0/24 dev lo" for i in range(300, 400)]
            batch.write_text("\n".join([*lines, "address add 10.9.0.3/32 dev lo", "link del vpn0", ""]))
            lab.host.ip("-batch", str(batch))
            with lab.host.entered():
                assert watcher.read() == (True, ["10.8.0.2"])
                assert watcher.overflows == 1
                lab.host.ip("address", "del", "10.9.0.3/32", "dev", "lo")  # known from the list alone
                assert watcher.read() == (True, ["10.9.0.3"])
                assert watcher.overflows == 1
        finally:
            watcher.close()
