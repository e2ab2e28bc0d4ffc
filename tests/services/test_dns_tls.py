"""DNS over TLS against a server of the test with a certificate of its own authority."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct

import programs
import pytest

from netstack.services.dns_servers import NameServer
from netstack.services.dns_tls import TlsResolver
from netstack.wire.dns import DnsMessage, DnsRecord

NAME = "dns.test"
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    programs.certificate(folder / "cert", folder / "key", NAME)
    return folder


class Server:
    """Answers each query with its own name; ``late`` ones only when another has been answered."""

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert", folder / "key")
        self.connections = 0
        self.ids = []
        self.close_after = None

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        held, served = [], 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while served != self.close_after:
                (n,) = struct.unpack("!H", await reader.readexactly(2))
                m = DnsMessage.parse(await reader.readexactly(n))
                self.ids.append(m.id)
                m.response = True
                m.answers.append(DnsRecord.of(m.questions[0].name, "TXT", m.questions[0].name, 60))
                held.append(m.build())
                if m.questions[0].name.startswith("silent"):
                    held.pop()
                elif not m.questions[0].name.startswith("late"):
                    for raw in reversed(held):
                        writer.write(struct.pack("!H", len(raw)) + raw)
                    held.clear()
                served += 1
            await writer.drain()
        writer.close()


def run(certificate, test, name=NAME, timeout=5.0, trusted=True):
    async def main():
        async def dial(host, port):
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            return sock

        context = ssl.create_default_context(cafile=certificate / "cert" if trusted else None)
        async with Server(certificate) as server:
            resolver = TlsResolver(
                NameServer("127.0.0.1", server.port, name), dial, timeout=timeout, context=context
            )
            try:
                await asyncio.wait_for(test(server, resolver), 20)
            finally:
                await resolver.close()

    asyncio.run(main())


def query(name, id):
    return DnsMessage.query(name, "TXT", id=id).build()


def test_one_connection_for_queries_that_are_answered_in_another_order(certificate):
    async def test(server, resolver):
        names = [f"late{i}.test" for i in range(20)] + ["last.test"]
        replies = await asyncio.gather(
            *(resolver.ask(query(name, 7)) for name in names)
        )  # the same id for all
        for name, raw in zip(names, replies, strict=True):
            reply = DnsMessage.parse(raw)
            assert (reply.id, reply.answers[0].name) == (7, name)
        assert server.connections == 1
        assert len(set(server.ids)) == len(names)

    run(certificate, test)


def test_a_connection_that_was_closed_is_made_anew(certificate):
    async def test(server, resolver):
        server.close_after = 2
        for i in range(6):
            assert await resolver.ask(query(f"n{i}.test", i)) is not None
        assert server.connections == 3

    run(certificate, test)


@pytest.mark.parametrize(("name", "trusted"), [("other.test", True), (NAME, False), ("127.0.0.1", True)])
def test_a_certificate_that_is_not_the_server_s(certificate, name, trusted):
    async def test(server, resolver):
        assert await resolver.ask(query("one.test", 1)) is None
        assert server.ids == []

    run(certificate, test, name, trusted=trusted)


def test_silence_ends_and_nobody_there(certificate):
    async def test(server, resolver):
        assert await resolver.ask(query("silent.test", 1)) is None
        assert await resolver.ask(query("one.test", 1)) is not None  # over a new connection
        assert server.connections == 2
        await resolver.close()
        server.server.close()
        assert await resolver.ask(query("one.test", 1)) is None

    run(certificate, test, timeout=0.3)
