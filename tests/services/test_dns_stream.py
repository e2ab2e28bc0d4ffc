"""DNS over TCP: one end of a socket pair is the guest, servers on the loopback stand for the upstream."""

import asyncio
import contextlib
import socket
import struct

import pytest

from netstack.services.dns_stream import serve_dns_stream
from netstack.services.dns_table import DnsTable
from netstack.wire.dns import DnsEdns, DnsMessage, DnsRecord

TABLE = DnsTable({"gateway.internal": "192.168.65.1", "big.internal": ("TXT", "x" * 5000)})
FOREVER = 60.0  # seconds; no test waits that long unless it hangs


def framed(message):
    return struct.pack("!H", len(message)) + message


def query(name, kind="A", id=1, **more):
    return DnsMessage.query(name, kind, id=id, **more).build()


async def read(reader):
    (n,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(n)


class Upstream:
    """A server that answers each query by ``reply(query)``: bytes, a list of them, or None for silence."""

    def __init__(self, reply):
        self.reply = reply
        self.seen = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *exc):
        self.server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await read(reader)
                self.seen.append(message)
                reply = self.reply(message)
                if asyncio.iscoroutine(reply):
                    reply = await reply
                if reply == b"close":
                    break
                for part in [reply] if isinstance(reply, bytes) else reply or []:
                    writer.write(framed(part))
        writer.close()


def echo(message):
    """A response with this question, an answer, and an rcode that must survive."""
    m = DnsMessage.parse(message)
    m.response = True
    m.rcode = 3
    m.answers.append(DnsRecord(m.questions[0].name, 65280, b"\xc0\x0craw", 77))
    return m.build(compress=False)


class Guest:
    """The connection of a guest, served until the block ends."""

    def __init__(self, upstreams=(), table=TABLE, **options):
        self.upstreams = upstreams
        self.table = table
        self.options = {"idle_timeout": FOREVER, "upstream_timeout": FOREVER, **options}

    async def __aenter__(self):
        ours, theirs = socket.socketpair()
        self.reader, self.writer = await asyncio.open_connection(sock=theirs)
        served = await asyncio.open_connection(sock=ours)
        self.task = asyncio.create_task(
            serve_dns_stream(*served, lambda: self.table, lambda query: self.upstreams, **self.options)
        )
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def send(self, raw):
        self.writer.write(raw)

    async def receive(self):
        return await read(self.reader)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, FOREVER))


async def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()


def test_own_names_and_upstream_names():
    async def main():
        async with Upstream(echo) as up, Guest([up.address]) as guest:
            guest.send(framed(query("Gateway.internal", id=7)))
            own = DnsMessage.parse(await guest.receive())
            assert (own.id, str(own.answers[0].value), own.authoritative) == (7, "192.168.65.1", True)
            asked = query(
                "Www.example.com", 65280, id=8, edns=DnsEdns(flags=0x8000, options=[(10, b"c" * 8)])
            )
            guest.send(framed(asked))
            assert await guest.receive() == echo(asked)
            assert up.seen == [asked]

    run(main())


def test_large_own_answer_is_whole():
    async def main():
        async with Guest() as guest:
            guest.send(framed(query("big.internal", "TXT")))
            reply = DnsMessage.parse(await guest.receive())
            assert not reply.truncated
            assert b"".join(reply.answers[0].value) == b"x" * 5000

    run(main())


def test_pieces_and_several_in_one():
    async def main():
        async with Guest() as guest:
            for byte in framed(query("gateway.internal", id=1)):
                guest.send(bytes([byte]))
                await asyncio.sleep(0)
            assert DnsMessage.parse(await guest.receive()).id == 1
            guest.send(b"".join(framed(query("gateway.internal", id=n)) for n in range(20)))
            assert [DnsMessage.parse(await guest.receive()).id for _ in range(20)] == list(range(20))

    run(main())


def test_answers_come_as_they_get_ready():
    async def main():
        gates = {n: asyncio.Event() for n in range(1, 4)}

        async def held(message):
            await gates[DnsMessage.parse(message).id].wait()
            return echo(message)

        async with Upstream(held) as up, Guest([up.address]) as guest:
            guest.send(b"".join(framed(query("example.com", id=n)) for n in (1, 2, 3)))
            guest.send(framed(query("gateway.internal", id=4)))
            order = []
            assert DnsMessage.parse(await guest.receive()).id == 4
            for n in (3, 1, 2):
                gates[n].set()
                order.append(DnsMessage.parse(await guest.receive()).id)
            assert order == [3, 1, 2]

    run(main())


def test_queries_under_way_are_bounded():
    async def main():
        gate = asyncio.Event()

        async def held(message):
            await gate.wait()
            return echo(message)

        async with Upstream(held) as up, Guest([up.address], max_pending=3) as guest:
            guest.send(b"".join(framed(query("example.com", id=n)) for n in range(10)))
            while len(up.seen) < 3:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert len(up.seen) == 3
            gate.set()
            assert {DnsMessage.parse(await guest.receive()).id for _ in range(10)} == set(range(10))

    run(main())


@pytest.mark.parametrize("fault", ["refused", "silent", "closes", "wrong id", "wrong question", "garbage"])
def test_next_server_takes_over(fault):
    def bad(message):
        if fault == "silent":
            return None
        if fault == "closes":
            return b"close"
        if fault == "garbage":
            return [b"\0", b""]
        m = DnsMessage.parse(echo(message))
        if fault == "wrong id":
            m.id ^= 1
        else:
            m.questions[0].name = "other.example"
        return m.build()

    async def main():
        async with Upstream(bad) as first, Upstream(echo) as second:
            broken = await closed_port() if fault == "refused" else first.address
            async with Guest([broken, second.address], upstream_timeout=1.0) as guest:
                asked = query("example.com", id=5)
                guest.send(framed(asked))
                assert await guest.receive() == echo(asked)
                assert len(second.seen) == 1

    run(main())


def test_right_answer_behind_a_wrong_one():
    async def main():
        def reply(message):
            return [echo(query("example.com", id=99)), echo(message)]

        async with Upstream(reply) as up, Guest([up.address]) as guest:
            asked = query("example.com", id=5)
            guest.send(framed(asked))
            assert await guest.receive() == echo(asked)

    run(main())


def test_servfail_when_nobody_answers():
    async def main():
        ports = [await closed_port(), await closed_port()]
        for upstreams in ([], ports):
            async with Guest(upstreams) as guest:
                guest.send(framed(query("Www.Example.com", "SRV", id=6, edns=DnsEdns(flags=0x8000))))
                reply = DnsMessage.parse(await guest.receive())
                assert (reply.id, reply.rcode, reply.questions[0].name) == (6, 2, "Www.Example.com")
                assert reply.edns.dnssec_ok

    run(main())


def test_zone_transfer_in_several_messages():
    async def main():
        def reply(message):
            return [echo(message)] * 3

        async with Upstream(reply) as up, Guest([up.address], upstream_timeout=1.0) as guest:
            asked = query("example.com", "AXFR", id=5)
            guest.send(framed(asked))
            assert [await guest.receive() for _ in range(3)] == [echo(asked)] * 3

    run(main())


def test_malformed_is_refused_and_junk_is_not_answered():
    async def main():
        async with Guest() as guest:
            response = bytearray(query("gateway.internal", id=2))
            response[2] |= 0x80
            guest.send(framed(b"") + framed(b"junk") + framed(bytes(response)))
            guest.send(framed(query("gateway.internal", id=3)[:-1]))
            guest.send(framed(query("gateway.internal", id=4)))
            assert [(m.id, m.rcode) for m in [DnsMessage.parse(await guest.receive()) for _ in range(2)]] == [
                (3, 1),
                (4, 0),
            ]

    run(main())


def test_half_closed_client_gets_what_is_due():
    async def main():
        gate = asyncio.Event()

        async def held(message):
            await gate.wait()
            return echo(message)

        async with Upstream(held) as up, Guest([up.address]) as guest:
            asked = query("example.com", id=5)
            guest.send(framed(asked))
            guest.writer.write_eof()
            while not up.seen:
                await asyncio.sleep(0.001)
            gate.set()
            assert await guest.receive() == echo(asked)
            assert await guest.reader.read() == b""
            await guest.task

    run(main())


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\x20partial"])
def test_silence_ends_the_connection(sent):
    async def main():
        async with Guest(idle_timeout=0.05) as guest:
            guest.send(sent)
            assert await guest.reader.read() == b""
            await guest.task

    run(main())


def test_pieces_do_not_keep_it_open():
    async def main():
        async with Guest(idle_timeout=0.1) as guest:

            async def drip():
                guest.send(b"\0\xff")
                while True:
                    guest.send(b"x")
                    await asyncio.sleep(0.02)

            task = asyncio.create_task(drip())
            with contextlib.suppress(ConnectionError):
                assert await guest.reader.read() == b""
            task.cancel()
            await guest.task

    run(main())


def test_waiting_for_an_answer_is_not_silence():
    async def main():
        gate = asyncio.Event()

        async def held(message):
            await gate.wait()
            return echo(message)

        async with Upstream(held) as up, Guest([up.address], idle_timeout=0.2) as guest:
            guest.send(framed(query("example.com", id=5)))
            await asyncio.sleep(0.5)
            gate.set()
            assert DnsMessage.parse(await guest.receive()).id == 5

    run(main())


def test_client_that_goes_away_leaves_nothing_behind():
    async def main():
        async with Upstream(lambda message: None) as up, Guest([up.address], upstream_timeout=1.0) as guest:
            guest.send(b"".join(framed(query("example.com", id=n)) for n in range(5)))
            while len(up.seen) < 5:
                await asyncio.sleep(0.001)
            guest.writer.transport.abort()
            await guest.task
            left = {t for t in asyncio.all_tasks() if "_ask" in repr(t) or "forward" in repr(t)}
            assert not left

    run(main())


def test_client_that_does_not_read_is_given_up():
    async def main():
        async with Guest(idle_timeout=0.1) as guest:
            guest.reader._transport.pause_reading()
            with contextlib.suppress(ConnectionError):
                for _ in range(2000):
                    guest.send(framed(query("big.internal", "TXT")))
                    await guest.writer.drain()
            await guest.task
            assert guest.task.exception() is None

    run(main())


def test_cancelled_from_outside():
    async def main():
        async with Upstream(lambda message: None) as up, Guest([up.address]) as guest:
            guest.send(framed(query("example.com")))
            while not up.seen:
                await asyncio.sleep(0.001)
            guest.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await guest.task
            assert await guest.reader.read() == b""

    run(main())


def test_table_and_servers_are_asked_for_each_time():
    async def main():
        async with Upstream(echo) as up, Guest([]) as guest:
            guest.send(framed(query("gateway.internal", id=1)))
            assert DnsMessage.parse(await guest.receive()).rcode == 0
            guest.table = None
            guest.send(framed(query("gateway.internal", id=2)))
            assert DnsMessage.parse(await guest.receive()).rcode == 2
            guest.upstreams = [up.address]
            guest.send(framed(query("gateway.internal", id=3)))
            assert DnsMessage.parse(await guest.receive()).rcode == 3

    run(main())
