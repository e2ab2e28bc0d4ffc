"""Small servers for tests. Each takes a bound socket, so that it may come from any namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

__all__ = ["DnsResponder", "Server", "TcpServer", "UdpEcho", "echo"]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """An event loop in a thread of its own; a context manager. Subclasses begin their work in ``serve``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)

    async def serve(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._thread.start()
        self._await(self.serve())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._await(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _await(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _cancel_all(self) -> None:
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it reads, and closes after the peer has."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


class TcpServer(Server):
    """Serves every connection of a listening socket with ``handler(reader, writer)``, then closes it.

    Attributes:
        port: of the listening socket.
        accepted: connections so far.
        open: connections now.
    """

    def __init__(self, listener: socket.socket, handler: Handler = echo) -> None:
        super().__init__()
        self._listener = listener
        self._handler = handler
        self.port: int = listener.getsockname()[1]
        self.accepted = 0
        self.open = 0

    async def serve(self) -> None:
        self._listener.setblocking(False)
        self._server = await asyncio.start_server(self._connection, sock=self._listener)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        try:
            # A server that closes cancels what still runs; asyncio would report that as an error of ours.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._handler(reader, writer)
        finally:
            self.open -= 1
            writer.close()

    async def _cancel_all(self) -> None:
        self._server.close()
        await super()._cancel_all()


class UdpEcho(Server):
    """Sends every datagram back to where it came from, empty ones too.

    Attributes:
        port: of the socket.
        seen: (length, address) of every datagram that came.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self.port: int = sock.getsockname()[1]
        self.seen: list[tuple[int, Any]] = []

    def _answer(self, data: bytes, addr: Any) -> bytes | None:
        self.seen.append((len(data), addr))
        return data

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            data, addr = self._sock.recvfrom(1 << 16)
            answer = self._answer(data, addr)
            if answer is not None:
                self._sock.sendto(answer, addr)

    async def serve(self) -> None:
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._readable)

    async def _cancel_all(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()
        await super()._cancel_all()


class DnsResponder(UdpEcho):
    """A name server which answers each question with the record data and the code that a table holds.

    Args:
        sock: a bound UDP socket.
        table: (lower-case name, type) -> (rcode, record data or None). Any other question is not answered.
    """

    def __init__(self, sock: socket.socket, table: dict[tuple[str, int], tuple[int, bytes | None]]) -> None:
        super().__init__(sock)
        self._table = table
        self.questions: list[tuple[str, int]] = []

    def _answer(self, data: bytes, addr: Any) -> bytes | None:
        ident, flags, _, _, _, _ = struct.unpack_from("!6H", data)
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii").lower())
            at += 1 + data[at]
        (kind,) = struct.unpack_from("!H", data, at + 1)
        question = (".".join(labels), kind)
        self.questions.append(question)
        found = self._table.get(question)
        if found is None:
            return None
        rcode, rdata = found
        head = struct.pack("!6H", ident, 0x8080 | (flags & 0x0100) | rcode, 1, rdata is not None, 0, 0)
        record = b"" if rdata is None else struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(rdata)) + rdata
        return head + data[12 : at + 5] + record
