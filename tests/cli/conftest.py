"""What the tests of the commands share: real processes, on machines that allow namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from instance import Instance, environment, guest_of

from netstack.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]


@cache
def no_sandbox() -> str | None:
    """Why there are no sandboxes here."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    from netstack.sandbox import Interface, Sandbox, random_mac

    try:
        probe = Sandbox(["true"], Interface("tap0", 1500, random_mac()), "")
        try:
            os.close(probe.tap().fd)
        finally:
            probe.kill()
    except SandboxError as err:
        return str(err)
    return None


@pytest.fixture
def _sandboxes() -> None:
    """For tests that need namespaces and /dev/net/tun, as any user."""
    if reason := no_sandbox():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A running ``netstack serve`` with a guest at `instance.GUEST` that echoes, and a name, ghost, of nobody."""
    pytest.importorskip("aiohttp")
    if reason := no_sandbox():
        pytest.skip(reason)
    one = Instance(tmp_path_factory.mktemp("served"), "--guest", "02:00:00:00:00:07=192.168.65.99,ghost")
    try:
        with guest_of(one):
            yield one
    finally:
        one.close()


@pytest.fixture
def ask(served: Instance) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a command that asks `served`; its three streams are pipes unless said otherwise."""

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [sys.executable, "-m", "netstack", *arguments],
            cwd=ROOT,
            env=environment(served.folder) | {"PYTHONUNBUFFERED": "1"},
            **{**pipes, **options},
        )

    return start


@pytest.fixture
def web() -> Iterator[int]:
    """The port of a web server on this host's loopback that answers every path with ``hello``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
