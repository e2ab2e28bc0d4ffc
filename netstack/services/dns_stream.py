"""DNS over TCP (RFC 7766) for one connection of a guest to the gateway.

Each message has its length in two bytes in front. Queries are taken as they come, several at once, and
answered as the answers get ready; the client tells them apart by id and question. Names of the table are
answered at once, all others go to the upstream servers over TCP, unchanged, and so do the answers on their
way back: every type, code and option. A query that no upstream answers gets SERVFAIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from netstack.services.dns import ANSWERED, FORWARD, answer, failure, matches
from netstack.services.dns_table import DnsTable

__all__ = ["IDLE_TIMEOUT", "MAX_PENDING", "UPSTREAM_TIMEOUT", "Cache", "Upstream", "serve_dns_stream"]

IDLE_TIMEOUT = 10.0  # seconds without a whole query, while none is pending
UPSTREAM_TIMEOUT = 5.0  # seconds for one server to take the connection and answer
MAX_PENDING = 64  # queries of one connection under way; the rest waits unread
STREAM = 0  # max_udp of answer(): no datagram bounds the reply
_TRANSFERS = (251, 252)  # IXFR, AXFR: answered by several messages
_LENGTH = struct.Struct("!H")


#: A server that is asked by TCP, or a function that asks: it gives the answer, or None where it has none.
Upstream = tuple[str, int] | Callable[[bytes], Awaitable["bytes | None"]]


class Cache(Protocol):
    """What is known already."""

    def dns_cached(self, query: bytes, stale: bool = False) -> bytes | None:
        """The answer to a query; with ``stale`` also one whose time is over."""

    def dns_keep(self, query: bytes, reply: bytes) -> None:
        """Notes an answer."""


class Connect(Protocol):
    """Opens a connection as :func:`asyncio.open_connection` does."""

    def __call__(
        self, host: str, port: int, /
    ) -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]: ...


async def serve_dns_stream(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    table_getter: Callable[[], DnsTable | None],
    upstreams_getter: Callable[[bytes], Sequence[Upstream]],
    *,
    cache: Cache | None = None,
    idle_timeout: float = IDLE_TIMEOUT,
    upstream_timeout: float = UPSTREAM_TIMEOUT,
    max_pending: int = MAX_PENDING,
    connect: Connect = asyncio.open_connection,
) -> None:
    """Serves one connection until the client ends it or stays silent; then closes it.

    Args:
        reader, writer: the connection of the client.
        table_getter: the table of our own names as it is now, or None.
        upstreams_getter: whom to ask a query, in order, as it is now: the (address, port) of a server that is asked by
            TCP, or whatever else gives an answer.
        cache: answers that are known, and keeps new ones.
        idle_timeout: seconds; only a whole query starts it again, and it does not run while answers are due.
        upstream_timeout: seconds for each server.
        max_pending: queries under way at once.
        connect: how to reach a server.
    """
    session = _Session(writer, idle_timeout, upstream_timeout, connect, cache)
    pending: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(max_pending)

    def finished(task: asyncio.Task[None]) -> None:
        pending.discard(task)
        room.release()

    try:
        while True:
            query = await _next_query(reader, pending, idle_timeout)
            if query is None:
                break
            verdict, reply = answer(table_getter(), query, STREAM)
            if verdict == ANSWERED and reply is not None:
                await session.send(reply)
            elif verdict == FORWARD:
                await room.acquire()
                task = asyncio.create_task(session.forward(query, tuple(upstreams_getter(query))))
                pending.add(task)
                task.add_done_callback(finished)
        while pending:  # the client may have ended its side only: it still gets its answers
            await asyncio.wait(pending)
    except (ConnectionError, TimeoutError, asyncio.TimeoutError):
        pass  # the client is gone or does not read: there is nobody to answer
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1.0)


async def _next_query(
    reader: asyncio.StreamReader, pending: set[asyncio.Task[None]], idle_timeout: float
) -> bytes | None:
    """The next message, in however many pieces it comes; None at the end or when the client stays silent."""
    message = asyncio.ensure_future(_read_message(reader))
    try:
        while True:
            done, _ = await asyncio.wait({message}, timeout=idle_timeout)
            if done:
                return message.result()
            if not pending:
                return None
    except asyncio.IncompleteReadError:
        return None
    finally:
        message.cancel()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(2))
    return await reader.readexactly(length)


class _Session:
    """The way back to the client, and the way to the upstream servers."""

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        idle_timeout: float,
        upstream_timeout: float,
        connect: Connect,
        cache: Cache | None,
    ) -> None:
        self._writer = writer
        self._idle_timeout = idle_timeout
        self._upstream_timeout = upstream_timeout
        self._connect = connect
        self._cache = cache
        self._lock = asyncio.Lock()

    async def send(self, message: bytes) -> None:
        """Length and message in one write (RFC 7766 section 8). A client that does not read is given up.

        Raises:
            ConnectionError, asyncio.TimeoutError: it is gone, or reads nothing for the idle time.
        """
        async with self._lock:
            if self._writer.is_closing():
                raise ConnectionResetError("the client has closed the connection")
            self._writer.write(_LENGTH.pack(len(message)) + message)
            try:
                await asyncio.wait_for(self._writer.drain(), self._idle_timeout)
            except asyncio.TimeoutError:
                self._writer.transport.abort()
                raise

    async def forward(self, query: bytes, upstreams: Sequence[Upstream]) -> None:
        """Asks one server after the other; the client gets the first answer, or SERVFAIL."""
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):  # from send: the client is gone
            reply = self._cache.dns_cached(query) if self._cache is not None else None
            if reply is not None:
                await self.send(reply)
                return
            for upstream in upstreams:
                if await self._ask(query, upstream):
                    return
            reply = self._cache.dns_cached(query, True) if self._cache is not None else None
            reply = reply or failure(query)
            if reply is not None:
                await self.send(reply)

    async def _ask(self, query: bytes, upstream: Upstream) -> bool:
        """True when this server answered and the client has it."""
        if callable(upstream):
            given = await upstream(query)
            if given is None or not matches(query, given):
                return False
            self._keep(query, given)
            await self.send(given)
            return True
        host, port = upstream
        writer = None
        try:
            try:
                reader, writer = await asyncio.wait_for(self._connect(host, port), self._upstream_timeout)
                writer.write(_LENGTH.pack(len(query)) + query)
                reply = await asyncio.wait_for(_answer_to(reader, query), self._upstream_timeout)
            except (OSError, EOFError, asyncio.TimeoutError):
                return False
            self._keep(query, reply)
            await self.send(reply)
            if _query_type(query) in _TRANSFERS:
                await self._relay_transfer(reader, query)
            return True
        finally:
            if writer is not None:
                writer.transport.abort()

    def _keep(self, query: bytes, reply: bytes) -> None:
        if self._cache is not None:
            self._cache.dns_keep(query, reply)

    async def _relay_transfer(self, reader: asyncio.StreamReader, query: bytes) -> None:
        """What follows the first message of a zone transfer, until the server ends it or falls silent."""
        while True:
            try:
                message = await asyncio.wait_for(_read_message(reader), self._upstream_timeout)
            except (OSError, EOFError, asyncio.TimeoutError):
                return
            if message[:2] == query[:2]:
                await self.send(message)


async def _answer_to(reader: asyncio.StreamReader, query: bytes) -> bytes:
    """The message that belongs to the query; others are skipped."""
    while True:
        message = await _read_message(reader)
        if matches(query, message):
            return message


def _query_type(query: bytes) -> int:
    """The type of the first question; the query was read before."""
    at = 12
    while query[at]:
        at += 1 + query[at]
    return int.from_bytes(query[at + 1 : at + 3], "big")
