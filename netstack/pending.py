"""The part of the gateway that finds a host side for connections which the engine does not open itself."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .config import Config
from .log import logger

if TYPE_CHECKING:
    from .engine import Engine
    from .forwards import Forwards
    from .nameservice import NameService
    from .proxy.service import ProxyService
    from .reach import Listener, Reach

__all__ = ["Dialer", "PendingFlow", "PendingMethods"]

TUNNEL_SECONDS = 10.0  # for a Unix socket's server to accept a connection
FLOW_HEAD = struct.Struct("=Q16s16sHHI")  # of the engine's message (nat/context.pxd)

#: Gives a pending connection a connected stream socket, or None to refuse it.
Dialer = Callable[["PendingFlow"], "socket.socket | None"]


class PendingFlow:
    """A guest's connection that waits for its host side.

    Attributes:
        id: the flow's number.
        guest: address and port of the guest.
        peer: address and port that the guest dials.
    """

    __slots__ = ("guest", "id", "peer")

    def __init__(self, message: bytes) -> None:
        number, guest, peer, guest_port, peer_port, _ = FLOW_HEAD.unpack_from(message)
        self.id: int = number
        self.guest = (address_text(guest), guest_port)
        self.peer = (address_text(peer), peer_port)

    def __repr__(self) -> str:
        return f"<PendingFlow {self.id}: {self.guest[0]}:{self.guest[1]} to {self.peer[0]}:{self.peer[1]}>"


def address_text(raw: bytes) -> str:
    """The text of a 16-byte address, IPv4 where it is a mapped one."""
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


class PendingMethods:
    """The part of :class:`netstack.Gateway` that answers the engine's pending connections."""

    config: Config
    _engine: Engine
    _reach: Reach | None
    _forwards: Forwards | None
    dns: NameService
    _proxy: ProxyService | None

    def _begin_pending(self, dialer: Dialer | None) -> None:
        self._dialer = dialer
        self._loop: Any = None

    def _on_pending(self, flow: PendingFlow) -> None:
        """A connection to a service of the gateway, to a program that listens, to the proxy, or one for the dialer."""
        if flow.peer == (self.config.gateway, 53):
            self._serve_dns_stream(flow)
            return
        listener = self._reach.listener(flow.peer) if self._reach is not None else None
        if listener is not None:
            self._offer(flow, listener)
            return
        path = self._forwards.path_for(*flow.peer) if self._forwards is not None else None
        if path is not None:
            self._control_loop().spawn(self._tunnel(flow, path))
            return
        if self._proxy is not None and self._proxy.takes(flow.peer):
            self._control_loop().spawn(self._proxy.serve(flow))
            return
        sock = self._dialer(flow) if self._dialer is not None else None
        if sock is None:
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
        else:
            self._give(flow, sock)

    def _offer(self, flow: PendingFlow, listener: Listener) -> None:
        if listener.full():
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
            return
        ours, engines = socket.socketpair()
        if self._give(flow, engines):
            listener.offer(ours, flow.guest)
        else:
            ours.close()

    def _give(self, flow: PendingFlow, sock: socket.socket) -> bool:
        sock.setblocking(False)
        fd = sock.detach()
        if self._engine.attach(flow.id, fd):
            return True
        os.close(fd)
        return False

    async def _tunnel(self, flow: PendingFlow, path: str) -> None:
        import asyncio

        from .forwards import tunnel

        try:
            sock = await asyncio.wait_for(tunnel(path, flow.guest, flow.peer), TUNNEL_SECONDS)
        except (OSError, asyncio.TimeoutError) as err:
            logger().info("%r is refused: %s: %s", flow, path, err)
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
        else:
            self._give(flow, sock)

    def _control_loop(self) -> Any:
        from .control.loop import ControlLoop

        if self._loop is None:
            self._loop = ControlLoop()
        return self._loop

    def _serve_dns_stream(self, flow: PendingFlow) -> None:
        ours, engines = socket.socketpair()
        if self._give(flow, engines):
            self._control_loop().serve_dns(
                ours, lambda: self.dns.table, self.dns.stream_upstreams, self._engine
            )
        else:
            ours.close()
