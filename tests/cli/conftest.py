"""What the tests of the commands share: real processes, on machines that allow namespaces."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
