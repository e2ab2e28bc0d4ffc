"""The guest's side of ``netstack demo``: the steps, and a guest that takes them by the kernel's stack.

`main` runs inside the demo's namespace and reports one JSON object a line to a descriptor. `take_steps` is
the same for the guest in memory: what a step needs of its guest is the `Guest` protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from netstack.errors import NetstackError

__all__ = ["Guest", "Plan", "Stream", "main", "take_steps"]

WAIT_SECONDS = 10.0  # for any one answer
BLOCK = 1 << 18  # bytes per call of a bulk transfer
DATAGRAMS = (0, 1, 512, 1400, 1472, 4000, 9000)  # sizes echoed; the last two travel as fragments
PINGS = 3


class Plan(NamedTuple):
    """What the guest is to find."""

    interface: str
    gateway: str
    host: str  #: the address that stands for the host's loopback
    host_name: str  #: its name
    web_port: int
    udp_port: int
    bulk_port: int
    seconds: float  #: of each bulk transfer


class Stream(Protocol):
    """A TCP connection: a socket has all of this."""

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Sends everything."""

    def recv(self, limit: int, /) -> bytes:
        """Up to limit bytes; none at the end of the stream."""

    def shutdown(self, how: int, /) -> None:
        """Ends one direction."""

    def close(self) -> None:
        """Ends both."""


class Endpoint(Protocol):
    """A UDP port."""

    def sendto(self, data: bytes, destination: tuple[str, int], /) -> Any:
        """Sends a datagram."""

    def recvfrom(self) -> tuple[bytes, tuple[str, int]]:
        """The next datagram, and where it came from."""

    def close(self) -> None:
        """Gives the port up."""


class Guest(Protocol):
    """What the steps need."""

    def dhcp(self) -> dict[str, Any]:
        """Gets an address: ``address``, ``prefix``, ``router``, ``dns`` and ``lease`` (seconds)."""

    def resolve(self, name: str) -> str:
        """The IPv4 address of a name."""

    def ping(self, address: str) -> float:
        """Seconds to the echo reply."""

    def connect(self, address: str, port: int) -> Stream:
        """Opens a TCP connection."""

    def udp(self) -> Endpoint:
        """Opens a UDP port."""


class StepError(NetstackError):
    """A step did not come out as it must."""


def _dhcp(guest: Guest, plan: Plan) -> dict[str, Any]:
    return guest.dhcp()


def _resolve(guest: Guest, plan: Plan) -> dict[str, Any]:
    address = guest.resolve(plan.host_name)
    if address != plan.host:
        raise StepError(f"{plan.host_name} resolves to {address}, not to {plan.host}")
    return {"name": plan.host_name, "address": address}


def _ping(guest: Guest, plan: Plan) -> dict[str, Any]:
    times = [guest.ping(plan.gateway) for _ in range(PINGS)]
    return {"address": plan.gateway, "count": PINGS, "best_ms": min(times) * 1e3}


def _download(guest: Guest, plan: Plan) -> dict[str, Any]:
    begin = time.monotonic()
    stream = guest.connect(plan.host, plan.web_port)
    stream.sendall(f"GET /payload HTTP/1.0\r\nHost: {plan.host_name}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = stream.recv(BLOCK)
        if not data:
            raise StepError("the web server closed the connection before it answered")
        head += data
    header, _, rest = head.partition(b"\r\n\r\n")
    if b" 200 " not in header.split(b"\r\n")[0]:
        raise StepError(f"the web server answered {header.splitlines()[0].decode(errors='replace')}")
    digest, count = hashlib.sha256(rest), len(rest)
    while data := stream.recv(BLOCK):
        digest.update(data)
        count += len(data)
    stream.close()
    return {"bytes": count, "seconds": time.monotonic() - begin, "sha256": digest.hexdigest()}


def _udp(guest: Guest, plan: Plan) -> dict[str, Any]:
    sent = [bytes(i * 7 & 0xFF for i in range(size)) for size in DATAGRAMS]
    with closing(guest.udp()) as endpoint:
        for data in sent:
            endpoint.sendto(data, (plan.host, plan.udp_port))
            if endpoint.recvfrom()[0] != data:
                raise StepError(f"a datagram of {len(data)} bytes came back altered")
    return {"sizes": DATAGRAMS}


def _down(guest: Guest, plan: Plan) -> dict[str, Any]:
    stream = guest.connect(plan.host, plan.bulk_port)
    begin = time.monotonic()
    stream.sendall(b"D")
    count = 0
    while data := stream.recv(BLOCK):
        count += len(data)
    seconds = time.monotonic() - begin
    stream.close()
    return {"bytes": count, "seconds": seconds}


def _up(guest: Guest, plan: Plan) -> dict[str, Any]:
    stream = guest.connect(plan.host, plan.bulk_port)
    block = memoryview(bytes(BLOCK))
    begin = time.monotonic()
    stream.sendall(b"U")
    count = 0
    while time.monotonic() - begin < plan.seconds:
        stream.sendall(block)
        count += len(block)
    stream.shutdown(socket.SHUT_WR)
    while stream.recv(BLOCK):  # the end of it: the host has everything
        pass
    seconds = time.monotonic() - begin
    stream.close()
    return {"bytes": count, "seconds": seconds}


STEPS: dict[str, Callable[[Guest, Plan], dict[str, Any]]] = {
    "dhcp": _dhcp,
    "resolve": _resolve,
    "ping": _ping,
    "download": _download,
    "udp": _udp,
    "down": _down,
    "up": _up,
}


def take_steps(guest: Guest, plan: Plan) -> Iterator[dict[str, Any]]:
    """Takes the steps until one fails; what came of each, with its name as ``step``, perhaps ``error``."""
    for name, step in STEPS.items():
        try:
            yield {"step": name, **step(guest, plan)}
        except (OSError, NetstackError) as err:
            text = (
                "no answer" if isinstance(err, TimeoutError) else getattr(err, "strerror", None) or str(err)
            )
            yield {"step": name, "error": text}
            return


class KernelGuest:
    """This process in its network namespace, by the kernel's stack; root there."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def dhcp(self) -> dict[str, Any]:
        """Gets a lease by DHCP, sets the address, the route and /etc/resolv.conf from it (RFC 2131 §3.1)."""
        from netstack.cli.demo_dhcp import obtain_lease

        return obtain_lease(self._interface)

    def resolve(self, name: str) -> str:
        """By the C library, as any program does."""
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        return str(found[0][4][0])

    def ping(self, address: str) -> float:
        """By an unprivileged ping socket: the kernel fills in identifier and checksum (RFC 792)."""
        body = os.urandom(56)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as ping:
            ping.connect((address, 0))
            begin = time.monotonic()
            ping.send(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + body)
            while True:
                left = begin + WAIT_SECONDS - time.monotonic()
                if left <= 0 or not select.select([ping], [], [], left)[0]:
                    raise TimeoutError
                reply = ping.recv(1500)
                if reply[0] == 0 and reply[8:] == body:
                    return time.monotonic() - begin

    def connect(self, address: str, port: int) -> socket.socket:
        """A socket that gives up after `WAIT_SECONDS` of silence."""
        return socket.create_connection((address, port), WAIT_SECONDS)

    def udp(self) -> KernelEndpoint:
        """A socket of its own."""
        return KernelEndpoint()


class KernelEndpoint:
    """A UDP socket that gives up after `WAIT_SECONDS`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(WAIT_SECONDS)
        self.sendto = self._socket.sendto
        self.close = self._socket.close

    def recvfrom(self) -> tuple[bytes, tuple[str, int]]:
        """The next datagram."""
        return self._socket.recvfrom(65535)


def main(plan: Plan, report_fd: int) -> int:
    """Takes the steps in this namespace, reporting to a descriptor; the exit status."""
    try:
        with open(report_fd, "w", buffering=1) as report:
            for result in take_steps(KernelGuest(plan.interface), plan):
                print(json.dumps(result), file=report)
                if "error" in result:
                    return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Plan(*json.loads(sys.argv[1])), int(sys.argv[2])))
