"""Outgoing sockets of Python's: bound as the settings say, and refused at the start where that can never work."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netstack import Config, Gateway
from netstack.outbound import bind_outbound, check_outbound

ROOT = Path(__file__).resolve().parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="marks and interfaces are Linux's")


def test_bound_to_an_address_but_to_the_loopback() -> None:
    config = Config(outbound_address="127.0.0.1")  # any address of this host's does
    for there, expected in (("192.0.2.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "::")):
        family = socket.AF_INET6 if ":" in there else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            bind_outbound(sock, there, config)
            assert sock.getsockname()[0] == expected


@linux
def test_bound_to_an_interface_but_to_the_loopback() -> None:
    config = Config(outbound_interface="lo")
    for there, expected in (("192.0.2.1", b"lo\0"), ("127.0.0.1", b"")):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            bind_outbound(sock, there, config)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == expected


def test_an_ipv4_address_is_none_for_an_ipv6_socket() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        bind_outbound(sock, "fe80::1%1", Config(outbound_address="127.0.0.1"))
        assert sock.getsockname()[0] == "::"


@linux
@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(outbound_interface="nosuch0"), "this host has no nosuch0"),
        (Config(outbound_address="192.0.2.77"), "this host has no 192.0.2.77"),
        (Config(outbound_interface="lo", outbound_address="127.0.0.1"), None),
        (Config(), None),
    ],
)
def test_what_is_not_there_may_come(
    config: Config, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "netstack")
    check_outbound(config)
    said = [record.getMessage() for record in caplog.records]
    assert said == ([] if words is None else [f"{words}: connections of guests fail until it has"])


@linux
def test_what_this_user_may_not_do_is_said_at_the_start() -> None:
    """In a user namespace of its own, where the right is one over the namespace's network and not over this host's."""
    code = (
        "from netstack import Config, Gateway\n"
        "from netstack.errors import NetstackError\n"
        "try:\n"
        "    Gateway(Config(outbound_mark=51))\n"
        "except NetstackError as err:\n"
        "    print(err)"
    )
    done = subprocess.run(
        ["unshare", "-U", "--", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if "unshare failed" in done.stderr:
        pytest.skip("no user namespaces here")
    expected = (
        "this user may not mark outgoing packets (--mark): run netstack as root, or leave the setting out\n"
    )
    assert (done.stdout, done.stderr) == (expected, "")


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="marks need root")
def test_marked() -> None:
    config = Config(outbound_mark=51)
    Gateway(config).stop()
    for there in ("192.0.2.1", "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            bind_outbound(sock, there, config)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 51
