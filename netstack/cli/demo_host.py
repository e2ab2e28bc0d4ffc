"""The host's side of ``netstack demo``: small servers on the loopback, and what they saw."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["HostServices"]

BLOCK = 1 << 20  # bytes per call of the bulk server
PAYLOAD = 32 << 20  # bytes of the file that is downloaded
ANSWER_SECONDS = 20.0  # a server gives a silent guest up


class HostServices:
    """A web server, a UDP echo and a bulk server on 127.0.0.1, each on a port of the system's choice.

    The sockets are open from the beginning, the threads run from `start` on, so that the process may fork in
    between. ``saw[step]`` is what the host saw of a step, in words; ``counted[step]`` the bytes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.payload = os.urandom(PAYLOAD)
        self.sha256 = hashlib.sha256(self.payload).hexdigest()
        self.saw: dict[str, list[str]] = defaultdict(list)
        self.counted: dict[str, int] = {}
        self.done: dict[str, threading.Event] = defaultdict(threading.Event)
        services = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                services.saw["download"].append(
                    f"{self.command} {self.path} from {_name(self.client_address)}"
                )
                self.send_response(200 if self.path == "/payload" else 404)
                body = services.payload if self.path == "/payload" else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing: the report does."""

        self._web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._web.daemon_threads = True
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._bulk = socket.create_server(("127.0.0.1", 0))
        self.web_port: int = self._web.server_address[1]
        self.udp_port: int = self._udp.getsockname()[1]
        self.bulk_port: int = self._bulk.getsockname()[1]

    def start(self) -> None:
        """Serves, in threads that end with the process."""
        for serve in (self._web.serve_forever, self._echo, self._serve_bulk):
            threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._web.shutdown()
        self._web.server_close()
        self._udp.close()
        self._bulk.close()

    def _echo(self) -> None:
        senders: dict[str, int] = defaultdict(int)
        while True:
            try:
                data, peer = self._udp.recvfrom(65535)
                senders[_name(peer)] += 1
                self.saw["udp"] = [f"{count} datagrams from {sender}" for sender, count in senders.items()]
                self._udp.sendto(data, peer)
            except OSError:
                return

    def _serve_bulk(self) -> None:
        while True:
            try:
                connection, peer = self._bulk.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(ANSWER_SECONDS)
                try:
                    self._bulk_connection(connection, _name(peer))
                except OSError as err:
                    self.saw["bulk"].append(f"{_name(peer)} failed: {err.strerror or err}")

    def _bulk_connection(self, connection: socket.socket, peer: str) -> None:
        """The first byte says what the guest wants: D to be sent data, U to send some."""
        step = {b"D": "down", b"U": "up"}.get(connection.recv(1), "")
        count = 0
        if step == "down":
            block = memoryview(self.payload)[:BLOCK]
            until = time.monotonic() + self._seconds
            while time.monotonic() < until:
                connection.sendall(block)
                count += len(block)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the guest has everything
        elif step == "up":
            buffer = bytearray(BLOCK)
            while got := connection.recv_into(buffer):
                count += got
        self.saw[step].append(f"{count:,} bytes {'to' if step == 'down' else 'from'} {peer}")
        self.counted[step] = count
        self.done[step].set()


def _name(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
