"""DNS over TLS from a guest: its question goes in clear text to the gateway, and from there under TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import certificate

from netstack.config import Config
from netstack.gateway import Gateway
from netstack.services import dns_tls
from netstack.testing.lab import GATEWAY, Lab
from netstack.testing.namespace import unavailable
from netstack.testing.servers import TcpServer
from netstack.wire.dns import DnsMessage, DnsRecord

pytestmark = pytest.mark.netns
NAME = "dns.test"
PLACE = "127.0.0.9"


class Resolver(TcpServer):
    """A name server under TLS that knows one address for every name; after ``close_after`` queries it hangs up."""

    asked = 0
    close_after = 0

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab.host.listen(PLACE, 853), self.answer)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert", folder / "key")

    async def serve(self) -> None:
        self._listener.setblocking(False)
        self._server = await asyncio.start_server(self._connection, sock=self._listener, ssl=self.context)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                message = DnsMessage.parse(await reader.readexactly(length))
                self.asked += 1
                message.response = message.recursion_available = True
                message.answers.append(DnsRecord.of(message.questions[0].name, "A", "203.0.113.7", 60))
                raw = message.build()
                writer.write(struct.pack("!H", len(raw)) + raw)
                await writer.drain()
                if self.asked == self.close_after:
                    return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and a certificate for NAME that is its own authority."""
    made: Path = tmp_path_factory.mktemp("tls")
    certificate(made / "cert", made / "key", NAME)
    return made


@pytest.fixture
def lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    if reason := unavailable():
        pytest.skip(reason)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert"))
    with Lab() as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def programs() -> None:
    for program in ("openssl", "dig"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")


def dig(lab: Lab, name: str, *more: str) -> str:
    return lab.guest.run("dig", f"@{GATEWAY}", "+tries=1", "+time=8", *more, name, "A").stdout


def settings(name: str = NAME) -> Config:
    return Config(dns=(f"tls://{PLACE}#{name}",), dns_cache=0)


def counted(gateway: Gateway) -> tuple[int, int]:
    stats = gateway.stats()
    return stats["dns_tls_connections"], stats["dns_tls_untrusted"]


def test_questions_of_a_guest(lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_tls, "IDLE_SECONDS", 0.5)
    with Resolver(lab, folder) as server, lab.gateway(settings()) as gateway:
        for transport in ("+notcp", "+tcp", "+notcp"):
            assert "203.0.113.7" in dig(lab, "one.example", transport)
        assert (server.accepted, server.asked) == (1, 3)  # one connection for all
        end = time.monotonic() + 10
        while server.open:  # idle, and so it ends
            assert time.monotonic() < end
            time.sleep(0.02)
        server.close_after = server.asked + 1
        assert "203.0.113.7" in dig(lab, "two.example")
        assert "203.0.113.7" in dig(lab, "three.example")  # the server has hung up in between
        assert server.asked == 5
        assert counted(gateway) == (server.accepted, 0) == (3, 0)


def test_another_s_certificate_is_no_answer(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Resolver(lab, folder) as server:
        with lab.gateway(settings("dns.other")) as gateway, caplog.at_level(logging.WARNING):
            for transport in ("+notcp", "+tcp"):
                assert "status: SERVFAIL" in dig(lab, "one.example", transport)
            assert counted(gateway) == (0, 2)
            assert gateway.stats()["dns_servfail"] >= 1
        assert caplog.text.count("is not trusted: Hostname mismatch") == 1  # told once
        monkeypatch.delenv("SSL_CERT_FILE")
        with lab.gateway(settings()) as gateway:
            assert "status: SERVFAIL" in dig(lab, "one.example")
            assert counted(gateway) == (0, 1)
        assert server.asked == 0


def test_nobody_there_is_a_failure_and_is_asked_again(lab: Lab, folder: Path) -> None:
    with lab.gateway(settings()) as gateway:
        assert "status: SERVFAIL" in dig(lab, "one.example")
        with Resolver(lab, folder):
            end = time.monotonic() + 10
            while "203.0.113.7" not in dig(lab, "one.example"):  # given up for a second, then asked again
                assert time.monotonic() < end
        assert counted(gateway) == (1, 0)
