"""What the kernel says is open in a namespace, asked from there and from outside."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from netstack.host.sock_diag import OpenPort, open_ports, open_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag is Linux's")


def bound(family: int, kind: int, address: str, port: int, only6: bool = False) -> socket.socket:
    sock = socket.socket(family, kind)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def everything() -> tuple[set[OpenPort], set[OpenPort], set[OpenPort]]:
    with ExitStack() as stack:
        diag = stack.enter_context(open_socket())
        before = open_ports(diag)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for where in (
                (socket.AF_INET, kind, "0.0.0.0", 1001),
                (socket.AF_INET, kind, "127.0.0.1", 1002),
                (socket.AF_INET6, kind, "::", 1003),
                (socket.AF_INET6, kind, "::", 1004, True),
                (socket.AF_INET6, kind, "::1", 1005),
                (socket.AF_INET6, kind, "::ffff:127.0.0.1", 1006),
            ):
                stack.enter_context(bound(*where))
        stack.enter_context(socket.create_connection(("127.0.0.1", 1002)))  # no listener
        client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        client.connect(("127.0.0.1", 1002))  # nor is this
        inside = open_ports(diag)
        stack.pop_all().close()
        diag = open_socket()
        return before, inside, open_ports(diag)


def test_what_ipv4_reaches(isolated: Callable[..., Any]) -> None:
    before, inside, after = isolated(everything)
    assert before == after == set()
    assert inside == {
        OpenPort(protocol, address, port)
        for protocol in ("tcp", "udp")
        for address, port in (
            ("0.0.0.0", 1001),
            ("127.0.0.1", 1002),
            ("0.0.0.0", 1003),
            ("127.0.0.1", 1006),
        )
    }


def nine_hundred() -> int:
    sockets = [bound(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", port) for port in range(2000, 2900)]
    with open_socket() as diag:
        found = open_ports(diag)
    assert {p.port for p in found} == {s.getsockname()[1] for s in sockets}
    return len(found)


def test_more_than_one_message(isolated: Callable[..., Any]) -> None:
    assert isolated(nine_hundred) == 900
