"""A real ``netstack serve`` with its control API, and a real guest of it behind ``netstack relay``."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 30.0  # seconds
GUEST = "192.168.65.3"
GUEST_PORT = 7777

ECHO = f"""
import socket, threading
def serve(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)
server = socket.create_server(("0.0.0.0", {GUEST_PORT}))
socket.socket().connect_ex(("192.168.65.1", 9))  # so that the network has seen this guest
print("listens", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
SCRIPT = f"""
"$0" -m netstack relay tap:tap0 --connect "$1" --address {GUEST} &
until ip link show tap0 >/dev/null 2>&1; do sleep 0.05; done
ip address add {GUEST}/24 dev tap0 && ip link set tap0 up && exec "$0" -c "$2"
"""


def environment(folder: Path) -> dict[str, str]:
    """That of processes whose control sockets lie in a folder of the test."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": path}


def eventually(true: Callable[[], Any]) -> Any:
    """What a condition gives as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.02)
    return value


class Instance:
    """A ``netstack serve`` that is ready; its sockets lie in ``folder``."""

    def __init__(self, folder: Path, *options: str, name: str | None = "one") -> None:
        self.folder = folder
        self.guests = f"hyperkit:{folder}/{name}.h"
        named = ("--api", name) if name else ()
        argv = (sys.executable, "-m", "netstack", "serve", "--listen", self.guests, *named, *options)
        self.process = subprocess.Popen(
            argv, cwd=ROOT, env=environment(folder), stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line.endswith(" ready\n"):
                break
        assert self.log, "it said nothing"
        self.socket = folder / "netstack" / f"{name or self.process.pid}.sock"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, answer) of a request; a body of bytes is sent as it is."""
        connection = http.client.HTTPConnection("localhost")
        with contextlib.closing(connection), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.socket))
            connection.sock = sock
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json else text

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Ends it, however it stands."""
        if self.process.poll() is None:
            self.stop()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def guest_of(instance: Instance) -> Iterator[int]:
    """A guest at `GUEST` that echoes what comes to `GUEST_PORT`; a process in its namespaces."""
    argv = ("unshare", "-rn", "sh", "-c", SCRIPT, sys.executable, instance.guests, ECHO)
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment(instance.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "listens\n"
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the relay and the server are of its session
        process.wait()
        process.stdout.close()


def inside(guest: int, *argv: str) -> str:
    """What a program prints in the guest's namespaces."""
    enter = ("nsenter", "-t", str(guest), "-U", "-n", "--preserve-credentials", "--")
    done = subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout


def address_of(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)
