"""VPNKit's files of forwards: read, watched, and followed by the gateway."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stack import GATEWAY, TCP, UDP, GuestTcp, Raw, Stack, data_of

import netstack
from netstack.forwards import GatewayForward, parse_forwards, parse_gateway_forwards


def test_gateway_forwards() -> None:
    text = '[{"protocol":"udp","external_port":53,"internal_ip":"10.0.0.1","internal_port":5353}]'
    assert parse_gateway_forwards(text) == [GatewayForward("udp", 53, "10.0.0.1", 5353)]


def test_forwards() -> None:
    entry = {"protocol": "tcp", "dst_prefix": "198.51.100.9/24", "dst_port": 0, "path": "/x"}
    (forward,) = parse_forwards(json.dumps([entry, {**entry, "dst_prefix": "2001:db8::/32"}]))
    assert (str(forward.prefix), forward.port, forward.path) == ("198.51.100.0/24", 0, "/x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"),
        ("{}", "a list of objects"),
        ("[1]", "a list of objects"),
        ('[{"protocol":"icmp"}]', "use tcp or udp"),
        ('[{"protocol":"tcp","internal_ip":"::1"}]', "not an IPv4 address"),
        ('[{"protocol":"tcp","internal_ip":"1.1.1.1","external_port":true}]', "external_port"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(netstack.ConfigError, match=why):
        parse_gateway_forwards(text)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Stack, Path, Path]]:
    """A stack whose connections go to the machine's loopback, and its two files (absent at first)."""
    ports, unix = tmp_path / "ports.json", tmp_path / "unix.json"
    config = netstack.Config(dns=(), gateway_forwards=str(ports), forwards=str(unix), host_alias=None)
    stack = Stack(config, dial=False)
    yield stack, ports, unix
    stack.close()


def write(path: Path, entries: Any) -> None:
    new = path.with_suffix(".new")
    new.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    os.replace(new, path)


def answer_to(stack: Stack, guest: GuestTcp) -> str:
    """The flags of the answer to a SYN, which may take a moment: a real connect is behind it."""
    out = stack.send(guest.segment("S"))
    end = time.monotonic() + 10
    while not out and time.monotonic() < end:
        time.sleep(0.01)
        out = stack.run()
    return str(out[0][TCP].flags)


def test_gateway_port_to_the_host_and_away_again(files: tuple[Stack, Path, Path]) -> None:
    stack, ports, _ = files
    with socket.create_server(("127.0.0.1", 0)) as server:
        entry = {"protocol": "tcp", "external_port": 8080, "internal_ip": "127.0.0.1"}
        entry["internal_port"] = server.getsockname()[1]
        assert answer_to(stack, GuestTcp(stack, 8080, 40000, GATEWAY)) == "RA"
        write(ports, [entry])
        assert answer_to(stack, GuestTcp(stack, 8080, 40001, GATEWAY)) == "SA"
        server.settimeout(5)
        server.accept()[0].close()
        write(ports, "broken")
        assert answer_to(stack, GuestTcp(stack, 8080, 40002, GATEWAY)) == "SA"
        write(ports, [{**entry, "external_port": 8081}])
        assert answer_to(stack, GuestTcp(stack, 8080, 40003, GATEWAY)) == "RA"
        assert answer_to(stack, GuestTcp(stack, 8081, 40004, GATEWAY)) == "SA"


def test_gateway_port_over_udp(files: tuple[Stack, Path, Path]) -> None:
    stack, ports, _ = files
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        entry = {"protocol": "udp", "external_port": 5353, "internal_ip": "127.0.0.1"}
        write(ports, [{**entry, "internal_port": server.getsockname()[1]}])
        stack.send(stack.ip(UDP(sport=4000, dport=5353) / Raw(b"hello"), dst=GATEWAY))
        data, peer = server.recvfrom(100)
        assert data == b"hello"
        server.sendto(b"answer", peer)
        (answer,) = stack.run()
        assert (answer["IP"].src, answer[UDP].sport, data_of(answer)) == (GATEWAY, 5353, b"answer")


@pytest.mark.parametrize("accepted", [True, False])
def test_outgoing_to_a_unix_socket(files: tuple[Stack, Path, Path], tmp_path: Path, accepted: bool) -> None:
    stack, _, unix = files
    path = str(tmp_path / "sock")
    asked: list[Any] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(10)

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                (length,) = struct.unpack("<H", sock.recv(2))
                asked.append(json.loads(sock.recv(length)))
                reply = json.dumps({"accepted": accepted}).encode()
                sock.sendall(struct.pack("<H", len(reply)) + reply + (b"behind" if accepted else b""))
                with contextlib.suppress(ConnectionResetError):
                    sock.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        write(unix, [{"protocol": "tcp", "dst_prefix": "198.51.100.0/24", "dst_port": 80, "path": path}])
        guest = GuestTcp(stack, 80, 40000, "198.51.100.7")
        assert answer_to(stack, guest) == ("SA" if accepted else "RA")
        assert asked == [
            {
                "protocol": "tcp",
                "src_ip": "192.168.65.3",
                "src_port": 40000,
                "dst_ip": "198.51.100.7",
                "dst_port": 80,
            }
        ]
        if accepted:
            stack.send(guest.segment("R", seq=1001))
        thread.join(10)
        assert not thread.is_alive()


def test_a_unix_socket_that_nobody_serves_refuses(files: tuple[Stack, Path, Path], tmp_path: Path) -> None:
    stack, _, unix = files
    nowhere = str(tmp_path / "none")
    write(unix, [{"protocol": "tcp", "dst_prefix": "198.51.100.0/24", "dst_port": 0, "path": nowhere}])
    assert answer_to(stack, GuestTcp(stack, 80, 40000, "198.51.100.7")) == "RA"
