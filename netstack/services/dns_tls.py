"""DNS over TLS (RFC 7858): one connection to a server, kept, with many queries on their way at once.

The certificate must be valid and the server's name its own: there is no opportunistic way without.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from netstack.services.dns import matches

if TYPE_CHECKING:
    import socket
    import ssl

    from netstack.services.dns_servers import NameServer

__all__ = ["TlsResolver"]

MAX_PENDING = 512  # queries of one connection on their way
IDLE_SECONDS = 30.0  # without a query, after which the connection is closed
_LENGTH = struct.Struct("!H")

#: Makes a connected TCP socket.
Dial = Callable[[str, int], Awaitable["socket.socket"]]


class TlsResolver:
    """One server, asked over TLS. For one event loop.

    Args:
        server: with its ``tls_name``.
        dial: how a TCP connection to it is made.
        timeout: seconds for connecting, and again for an answer.
        context: of TLS; the system's authorities by default.
        log: is told in one sentence why the server is not trusted, once until it is.

    Attributes:
        connections: made so far.
        untrusted: how often the server's certificate was not valid, or another's.
    """

    declines = False  #: None from :meth:`ask` is a failure

    def __init__(
        self,
        server: NameServer,
        dial: Dial,
        *,
        timeout: float = 4.0,
        context: ssl.SSLContext | None = None,
        log: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.connections = self.untrusted = 0
        self._log = log
        self._told = False
        self.server = server
        self._dial = dial
        self._timeout = timeout
        self._context = context
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._pending: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}

    async def ask(self, query: bytes) -> bytes | None:
        """The server's answer, under the id of the query; None where there is none.

        A connection that the server has closed meanwhile is made anew, once.
        """
        if len(query) < 12 or len(self._pending) >= MAX_PENDING:
            return None
        for _ in range(2):
            writer = None
            try:
                writer = await self._connection()
                return await self._exchange(writer, query)
            except (asyncio.TimeoutError, TimeoutError):
                await self.close()
                return None
            except (OSError, EOFError) as err:  # ssl.SSLError is an OSError
                if self._is_untrusted(err):
                    return None
                if writer is not None:  # the transport of Python 3.10 does not say that it is closing
                    self._lost(writer)
        return None

    def _is_untrusted(self, err: Exception) -> bool:
        """Whether it is the certificate, about which asking again changes nothing; counted and told then."""
        import ssl

        if not isinstance(err, ssl.SSLCertVerificationError):
            return False
        self.untrusted += 1
        if not self._told:
            self._told = True
            self._log(f"the name server {self.server} is not trusted: {err.verify_message}")
        return True

    async def _connection(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None and not self._writer.is_closing():
                return self._writer
            reader, writer = await asyncio.wait_for(self._connect(), self._timeout)
            self._writer = writer
            self.connections += 1
            self._told = False
            self._reader_task = asyncio.create_task(self._read(reader, writer))
            return writer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        sock = await self._dial(self.server.address, self.server.port)
        try:
            return await asyncio.open_connection(
                sock=sock, ssl=self._context, server_hostname=self.server.tls_name
            )
        except BaseException:
            sock.close()
            raise

    async def _exchange(self, writer: asyncio.StreamWriter, query: bytes) -> bytes:
        number = secrets.randbelow(65536)
        while number in self._pending:
            number = (number + 1) & 0xFFFF
        ours = number.to_bytes(2, "big") + query[2:]
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[number] = (ours, answer)
        try:
            writer.write(_LENGTH.pack(len(ours)) + ours)
            await writer.drain()
            return query[:2] + (await asyncio.wait_for(answer, self._timeout))[2:]
        finally:
            self._pending.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands each answer to the one who waits for it, until the connection ends or is idle."""
        try:
            while True:
                try:
                    head = await asyncio.wait_for(reader.readexactly(2), IDLE_SECONDS)
                except (asyncio.TimeoutError, TimeoutError):
                    if self._pending:
                        continue
                    return
                message = await asyncio.wait_for(reader.readexactly(_LENGTH.unpack(head)[0]), self._timeout)
                waiting = self._pending.get(int.from_bytes(message[:2], "big"))
                if waiting is not None and not waiting[1].done() and matches(waiting[0], message):
                    waiting[1].set_result(message)
        except (OSError, EOFError, asyncio.TimeoutError):
            pass
        finally:
            self._lost(writer)

    def _lost(self, writer: asyncio.StreamWriter) -> None:
        """Has done with a connection: the queries on it fail, unless another has taken its place."""
        writer.transport.abort()
        if self._writer is writer:
            self._writer = None
            for _, answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the server has closed the connection"))

    async def close(self) -> None:
        """Ends the connection; the next query makes another."""
        task, self._reader_task = self._reader_task, None
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
