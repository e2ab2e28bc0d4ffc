"""Requests of the control API that go on when their answer has begun, as a client of any kind makes them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from instance import PATIENCE, Instance, eventually

pytest.importorskip("aiohttp")

NOBODY = "192.168.65.99"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("streams"))
    yield one
    one.close()


def send(instance: Instance, path: str, body: object, *headers: str) -> socket.socket:
    """A connection on which a request has been sent."""
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers, "", ""]
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(instance.socket))
    sock.sendall("\r\n".join(head).encode() + data)
    return sock


def descriptors(instance: Instance) -> int:
    return len(os.listdir(f"/proc/{instance.process.pid}/fd"))


def test_ping_ends_when_its_client_goes(instance: Instance) -> None:
    before = descriptors(instance)
    with send(
        instance, "/v1/ping", {"guest": NOBODY, "count": None, "interval": 0.02, "timeout": 0.1}
    ) as sock:
        data = b""
        while data.count(b'"seq"') < 3:
            data += sock.recv(65536)
    assert b"application/x-ndjson" in data
    eventually(lambda: descriptors(instance) <= before)  # its connection is closed


def test_a_descriptor_must_be_asked_for(instance: Instance) -> None:
    status, answer = instance.ask("POST", "/v1/connect", {"guest": NOBODY, "port": 1})
    assert status == 426
    assert "Upgrade: descriptor" in answer["error"]


def test_a_client_that_gives_up_leaves_nothing(instance: Instance) -> None:
    before = descriptors(instance)
    waiting = [
        send(
            instance,
            "/v1/connect",
            {"guest": NOBODY, "port": 1},
            "Connection: Upgrade",
            "Upgrade: descriptor",
        )
        for _ in range(10)
    ]
    eventually(lambda: descriptors(instance) >= before + 10)
    for sock in waiting:
        sock.close()
    eventually(lambda: descriptors(instance) <= before)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/ping", {"guest": "nobody"}, 404, "no guest has the name or address 'nobody'"),
        ("/v1/ping", {"guest": NOBODY, "interval": 0.001}, 400, "interval"),
        ("/v1/ping", {"guest": NOBODY, "size": 65508}, 400, "size"),
        ("/v1/ping", {"count": 1}, 400, "guest"),
        ("/v1/connect", {"guest": NOBODY, "port": 0}, 400, "port"),
    ],
)
def test_what_is_refused(instance: Instance, path: str, body: object, status: int, words: str) -> None:
    found, answer = instance.ask("POST", path, body)
    assert found == status
    assert words in answer["error"]


def test_stopping_does_not_wait_for_them(tmp_path: Path) -> None:
    one = Instance(tmp_path)
    try:
        with send(one, "/v1/ping", {"guest": NOBODY, "count": None}) as sock:
            assert sock.recv(12) == b"HTTP/1.1 200"
            assert one.stop() == 0
            while sock.recv(65536):
                pass
    finally:
        one.close()
