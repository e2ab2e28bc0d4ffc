"""The servers of a soak: every connection begins with an order, a letter and a number of bytes.

``python -m bench.soak.server ADDRESS PORT`` is the one that dies.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

__all__ = ["ORDER", "PATTERN", "PERIOD", "order", "serve"]

ORDER = struct.Struct(">cI")
PERIOD = 251  #: of the pattern, a prime, so that no loss of whole blocks goes unseen
PIECE = 1 << 16
HANG_SECONDS = 3.0
ORDER_SECONDS = 30.0  #: for the order of a client that may have gone
PATTERN = bytes(range(PERIOD)) * (PIECE // PERIOD + 2)


def order(what: bytes, count: int = 0) -> bytes:
    """The beginning of a connection.

    E: everything comes back, until the client's end. S: so many bytes of the pattern, and the end. R: so many bytes
    are read, and counted in the answer. A: the same as S, but a reset when half has been sent. H: nothing is read for
    some seconds.
    """
    return ORDER.pack(what, count)


async def send_pattern(writer: asyncio.StreamWriter, count: int) -> None:
    """Bytes of the pattern from its beginning."""
    at = 0
    while at < count:
        size = min(PIECE, count - at)
        writer.write(PATTERN[at % PERIOD : at % PERIOD + size])
        await writer.drain()
        at += size


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        what, count = ORDER.unpack(await asyncio.wait_for(reader.readexactly(ORDER.size), ORDER_SECONDS))
    except (asyncio.IncompleteReadError, asyncio.TimeoutError):
        return
    if what == b"E":
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    elif what == b"S":
        await send_pattern(writer, count)
    elif what == b"R":
        left = count
        while left and (data := await reader.read(min(left, PIECE))):
            left -= len(data)
        writer.write(struct.pack(">I", count - left))
        await writer.drain()
    elif what == b"A":
        await send_pattern(writer, count // 2)
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif what == b"H":
        await asyncio.sleep(HANG_SECONDS)


async def _forever(address: str, port: int) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, address, port, reuse_address=True)
    print("listens", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_forever(sys.argv[1], int(sys.argv[2])))
