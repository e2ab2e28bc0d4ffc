"""A gateway in a Python program: what the program does with the GIL is nothing to the guest."""

from __future__ import annotations

import ctypes
import hashlib
import socket
import sys
import threading
import time

import pytest

from netstack.testing.lab import HOST_ALIAS

pytestmark = pytest.mark.netns

MIB = 1024 * 1024
BLOCKED_SECONDS = 5.0

# Both programs run beside the one that is blocked, so that the whole transfer needs this process for its
# packets only.
SERVER = """
import socket, sys
s = socket.create_server(("127.0.0.1", 8000))
print("ready", flush=True)
c, _ = s.accept()
while data := c.recv(1 << 18):
    c.sendall(data)
"""
CLIENT = """
import hashlib, socket, threading, time
s = socket.create_connection(("192.168.65.2", 8000))
data = bytes(range(256)) * 4096 * 8
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send)
t.start()
parts = []
while block := s.recv(1 << 18):
    parts.append(block)
t.join()
print(hashlib.sha256(b"".join(parts)).hexdigest(), time.monotonic(), flush=True)
"""


def test_a_transfer_completes_while_the_gil_is_held(lab):
    """PyDLL keeps the GIL: for five seconds no Python runs in this process, and 8 MiB go both ways."""
    with lab.gateway():
        server = lab.host.spawn(sys.executable, "-c", SERVER)
        server.wait_for("ready")
        begin = time.monotonic()
        client = lab.guest.spawn(sys.executable, "-c", CLIENT)
        ctypes.PyDLL(None).usleep(int(BLOCKED_SECONDS * 1e6))
        end = time.monotonic()
        assert end - begin >= BLOCKED_SECONDS
        assert client.wait() == 0, client.text
        digest, finished = client.text.split()
        assert digest == hashlib.sha256(bytes(range(256)) * 4096 * 8).hexdigest()
        assert float(finished) < end, "the transfer waited for the GIL"


def test_echo_is_answered_while_a_thread_spins(lab):
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    with lab.gateway() as gw:
        thread = threading.Thread(target=spin)
        thread.start()
        try:
            done = lab.guest.run("ping", "-c", "50", "-i", "0.01", "-W", "5", HOST_ALIAS)
        finally:
            stop.set()
            thread.join()
        assert " 0% packet loss" in done.stdout
        assert gw.stats()["echo_replies"] == 50


def read_all(s: socket.socket) -> None:
    while s.recv(4096):
        pass


def test_stopping_in_the_middle_of_a_transfer_resets_both_sides(lab):
    with lab.host.listen() as listener:
        with lab.gateway():
            guest = lab.guest.connect(HOST_ALIAS, listener.getsockname()[1])
            host, _ = listener.accept()
            guest.sendall(b"x" * 1000)
            host.settimeout(20)
            assert host.recv(10) == b"x" * 10
        with guest, host:
            with pytest.raises(ConnectionResetError):
                read_all(host)
            with pytest.raises((ConnectionResetError, socket.timeout)):
                guest.recv(1)
