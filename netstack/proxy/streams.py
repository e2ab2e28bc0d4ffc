"""Sockets of the proxy, on asyncio: dialled, read, and closed so that nothing on its way is lost."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import select
import socket
from collections.abc import Callable, Sequence

__all__ = ["DialError", "close_gently", "connect", "has_gone", "receive", "resolve", "send"]

PIECE = 1 << 16  # bytes of one read
LINGER_SECONDS = 5.0  # for the guest to read what was said last

Address = tuple[str, int]


class DialError(Exception):
    """A host or a proxy that cannot be reached: what it means in HTTP, as an errno, and in a sentence.

    ``extra`` are header fields for the guest; ``refused`` when it was a proxy's own decision.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        number: int = errno.ECONNREFUSED,
        *,
        extra: tuple[tuple[str, str], ...] = (),
        refused: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.errno = status, sentence, number
        self.extra, self.refused = extra, refused


async def receive(sock: socket.socket) -> bytes:
    """Some bytes, b"" at the end of file."""
    return await asyncio.get_running_loop().sock_recv(sock, PIECE)


async def send(sock: socket.socket, data: bytes | None) -> None:
    """All of it."""
    if data:
        await asyncio.get_running_loop().sock_sendall(sock, data)


def has_gone(sock: socket.socket) -> bool:
    """Whether the other end of a socket pair is closed altogether: the guest has reset its connection."""
    poller = select.poll()
    poller.register(sock, 0)
    return bool(poller.poll(0))


async def close_gently(sock: socket.socket) -> None:
    """Ends a socket: what was sent is read by the other side before the socket goes.

    A socket that is closed with unread bytes resets its peer, which then loses what it has not read.
    """
    if sock.fileno() < 0:
        return

    async def drain() -> None:
        while await receive(sock):
            pass

    try:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            sock.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(drain(), LINGER_SECONDS)
    finally:
        sock.close()


async def resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """(family, address) of a name in the order of the host's resolver, or of an address.

    Raises:
        DialError: there is no such name, or the resolver does not answer.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [(socket.AF_INET if address.version == 4 else socket.AF_INET6, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as err:
        why = getattr(err, "strerror", None) or str(err)
        raise DialError(502, f"The name {host} cannot be found: {why}.", errno.EHOSTUNREACH) from None
    return [(family, (str(address[0]), port)) for family, _, _, _, address in found]


async def connect(
    places: Sequence[tuple[int, Address]],
    what: str,
    seconds: float,
    prepare: Callable[[socket.socket, str], None],
) -> socket.socket:
    """A connected socket to the first of these addresses that accepts.

    Raises:
        DialError: none does, with the reason of the last.
    """
    loop = asyncio.get_running_loop()
    error: OSError = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    end = loop.time() + seconds
    for number, (family, address) in enumerate(places):
        share = (end - loop.time()) / (len(places) - number)
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            prepare(sock, address[0])
            await asyncio.wait_for(loop.sock_connect(sock, address), max(share, 0.01))
        except BaseException as err:
            if sock is not None:
                sock.close()
            if isinstance(err, asyncio.TimeoutError) and not (isinstance(err, OSError) and err.errno):
                error = OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            elif isinstance(err, OSError):
                error = err
            else:
                raise
        else:
            return sock
    late = error.errno == errno.ETIMEDOUT
    why = "it does not answer" if late else (error.strerror or str(error)).lower()
    raise DialError(
        504 if late else 502, f"{what} cannot be reached: {why}.", error.errno or errno.ECONNREFUSED
    )
