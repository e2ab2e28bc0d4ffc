"""VPNKit's control of ports over 9P, on a Unix socket of its own (``--port-9p``).

The protocol and the tree are `ninep`'s; here are the socket, the connections, and what a specification means. Closing
the file ctl, or the connection, frees the port, so a connection may be idle for as long as its ports are wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from netstack.control.instances import BACKLOG, listening
from netstack.control.loop import ControlLoop
from netstack.control.ninep import Malformed, Problem, Session, Tree, take
from netstack.control.vpnkit import port_spec, reason
from netstack.errors import NetstackError
from netstack.log import logger

if TYPE_CHECKING:
    from netstack.gateway import Gateway

__all__ = ["Port9pServer", "published"]

CONNECTIONS = 128
MESSAGE_SECONDS = 10.0  # for a message that has begun to be whole, and for an answer to be taken
FORMAT = (
    "tcp:<local IP>:<local port>:tcp:<remote IP>:<remote port> or "
    "udp:<local IP>:<local port>:udp:<remote IP>:<remote port>"
)


def published(gateway: Gateway, text: str) -> tuple[str, Callable[[], None]]:
    """Publishes what a specification says; what became of it, and what ends it.

    Raises:
        Problem: it cannot be understood or had.
    """
    parts = text.split(":")
    if parts[0] == "unix" and len(parts) == 4:
        raise Problem(
            "a Unix socket of the guest cannot be reached without an agent in the guest: give tcp or udp"
        )
    numbers = len(parts) == 6 and all(
        p.isascii() and p.isdecimal() and len(p) <= 5 for p in (parts[2], parts[5])
    )
    if not numbers or parts[0] not in ("tcp", "udp") or parts[3] != parts[0]:
        raise Problem(f"Failed to parse request [{text[:200]}], expected {FORMAT}")
    proto, out_ip, out_port, _, in_ip, in_port = parts
    try:
        spec = port_spec(proto, out_ip, int(out_port), in_ip, int(in_port))
    except NetstackError as err:
        raise Problem(str(err)) from None
    try:
        found = gateway.publish(spec)
    except (NetstackError, OSError) as err:
        raise Problem(reason(spec, err)) from None
    return f"{proto}:{out_ip}:{found.address[1]}:{proto}:{in_ip}:{in_port}", found.close


class Port9pServer:
    """Serves the tree of ports of one gateway; a context manager, to be stopped before the gateway is.

    Raises:
        InstanceError: the socket cannot be had.
    """

    def __init__(self, gateway: Gateway, path: str) -> None:
        self.path = os.path.abspath(path)
        self._tree = Tree(lambda text: published(gateway, text))
        self._socket = listening(self.path, "--port-9p")
        self._inode = os.stat(self.path).st_ino
        self._loop = ControlLoop("netstack-9p")
        self._connections = 0
        self._loop.spawn(self._accept())

    def stop(self) -> None:
        """Ends all connections, and the ports that they hold."""
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        self._loop.stop()
        self._socket.close()
        self._tree.close()

    def __enter__(self) -> Port9pServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def _accept(self) -> None:
        server = await asyncio.start_unix_server(self._serve, sock=self._socket, backlog=BACKLOG)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        session = Session(self._tree)
        try:
            await self._answer(session, reader, writer)
        except Malformed as err:
            logger().warning("a 9P client is disconnected: %s", err)
        except (OSError, asyncio.TimeoutError):
            pass  # it has gone, or stalled
        finally:
            self._connections -= 1
            writer.close()
            session.close()  # in this thread: also when the loop ends

    async def _answer(
        self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        buffer = bytearray()
        while True:
            message = take(buffer, session.limit)
            if message is None:
                wait = MESSAGE_SECONDS if buffer else None
                data = await asyncio.wait_for(reader.read(1 << 16), wait)
                if not data:
                    return
                buffer += data
                continue
            writer.write(await asyncio.to_thread(session.answer, message))
            await asyncio.wait_for(writer.drain(), MESSAGE_SECONDS)
