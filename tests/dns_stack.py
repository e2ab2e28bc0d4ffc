"""A stepped gateway whose name servers are sockets of the test."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from stack import GATEWAY, GATEWAY_MAC, GUEST, IP, MAC, UDP, Ether, Stack, data_of

import netstack
from netstack.wire.dns import DnsEdns, DnsMessage, DnsRecord

SOA = DnsRecord.of("test", "SOA", ("ns.test", "hostmaster.test", 1, 3600, 600, 86400, 20), 60)


class Server:
    """A name server on the loopback: what it was asked, and what it is told to answer."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(5)
        self.port: int = self.sock.getsockname()[1]
        self.text = f"127.0.0.1#{self.port}"
        self.peer: Any = None

    def take(self) -> DnsMessage:
        raw, self.peer = self.sock.recvfrom(65536)
        return DnsMessage.parse(raw)

    def idle(self) -> bool:
        """Whether nothing waits to be read."""
        self.sock.settimeout(0.03)
        try:
            self.sock.recvfrom(65536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(5)
        return False

    def answer(self, query: DnsMessage, *answers: DnsRecord, rcode: int = 0, **more: Any) -> None:
        reply = DnsMessage(query.id, 0, query.questions, answers, edns=query.edns, **more)
        reply.response = reply.recursion_available = True
        reply.recursion_desired, reply.rcode = query.recursion_desired, rcode
        self.sock.sendto(reply.build(), self.peer)


class Asking:
    """A guest that asks the gateway."""

    def __init__(self, **config: Any) -> None:
        self.stack = Stack(netstack.Config(**config))
        self.number = 0x1000

    def ask(self, name: str, kind: str = "A", edns: DnsEdns | None = None, flags: int = 0x100, seconds: float = 0.0,
            sport: int = 5353) -> DnsMessage | None:  # fmt: skip
        """Sends a query; the answer, where it comes at once."""
        self.number += 1
        message = DnsMessage.query(name, kind, id=self.number, edns=edns)
        message.flags = flags
        frame = (
            Ether(src=MAC, dst=GATEWAY_MAC)
            / IP(src=GUEST, dst=GATEWAY)
            / UDP(sport=sport, dport=53)
            / message.build()
        )
        return self.of(self.stack.send(frame, seconds=seconds))

    @staticmethod
    def of(frames: list[Any]) -> DnsMessage | None:
        assert len(frames) <= 1
        return DnsMessage.parse(data_of(frames[0])) if frames else None

    def wait(self, seconds: float = 0.0) -> DnsMessage:
        """The answer that a server has just been told to give."""
        for _ in range(400):
            frames = self.stack.run(seconds)
            if frames:
                found = self.of(frames)
                assert found is not None
                assert found.id == self.number
                return found
            seconds = 0.0
            time.sleep(0.005)
        raise AssertionError("no answer has come")

    def quiet(self) -> None:
        """Lets what was sent arrive; it brings the guest nothing."""
        time.sleep(0.03)
        assert self.stack.run() == []

    def stat(self, name: str) -> int:
        return self.stack.gateway.stats()[f"dns_{name}"]


@contextlib.contextmanager
def asking(*servers: Server, **config: Any) -> Iterator[Asking]:
    """A guest whose gateway knows these servers, in order, for everything."""
    guest = Asking(**{"dns": tuple(s.text for s in servers), **config})
    try:
        yield guest
    finally:
        guest.stack.close()
