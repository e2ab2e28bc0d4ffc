"""The proxy into a virtual network: a listener on the host that speaks SOCKS 5, SOCKS 4a and HTTP.

A client's request is read here, in the control loop. Then its own socket goes to the engine as the host side of a
connection into the guest, and nothing of it passes through Python any more; the engine says "connected" when the guest
has accepted (nat/opening). Datagrams of an association are the engine's from the first on.

Only the virtual network can be reached: its guests, and the addresses where a program of the gateway's own listens.
Never the host, its loopback behind the host alias included, and never the world beyond: who may connect to the proxy
may talk to guests and to nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..log import logger
from ..publish import PortSpec, bind, host_port
from ..services.dns_lookup import lookup
from ..services.socks import (
    END_OF_HEAD,
    MAX_HEAD,
    Reason,
    Refused,
    Request,
    SocksHandshake,
    http_refused,
    http_request,
    is_http,
    is_socks,
)

if TYPE_CHECKING:
    from ..config import Config
    from ..engine import Engine
    from ..reach import Reach
    from ..services.dns_table import DnsTable
    from .loop import ControlLoop

__all__ = ["Network", "SocksServer"]

HANDSHAKE_SECONDS = 10.0
MAX_CLIENTS = 1024  # that are not connected yet, on one proxy
MAX_ASSOCIATIONS = 256  # each has a UDP socket
GOODBYE_SECONDS = 2.0  # that a refused client may take to read why
PAUSE_SECONDS = 0.5  # after an accept that failed for want of descriptors

REASONS = {
    errno.ECONNREFUSED: (Reason.CONNECTION_REFUSED, "refuses the connection"),
    errno.EHOSTUNREACH: (Reason.UNREACHABLE, "is no guest that answers ARP"),
    errno.ETIMEDOUT: (Reason.TIMED_OUT, "does not answer"),
}


class SocksServer:
    """A proxy that listens. A context manager.

    Attributes:
        address: (address, port) of the host, or the path of a Unix socket.
        closed: it listens no more.
    """

    def __init__(self, network: Network, spec: PortSpec, loop: ControlLoop) -> None:
        ((self._socket, _),) = bind(spec)
        self._network = network
        self._path = spec.path
        self._loop = loop
        self.address: Any = spec.path or self._socket.getsockname()[:2]
        if spec.path:
            os.chmod(spec.path, 0o600)  # who may connect is on the network
        self._main: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: dict[asyncio.Task[Any], None] = {}  # those whose request has not come, oldest first
        self._associations = 0
        self.closed = False
        # where guests would find it: the host alias is 127.0.0.1
        self._hidden = self._socket.getsockname()[1] if spec.address in ("127.0.0.1", "0.0.0.0") else 0
        if self._hidden:
            network.hide(self._hidden, True)
        loop.spawn(self._serve())

    @property
    def place(self) -> str:
        """The address as text."""
        return f"unix:{self._path}" if self._path else host_port(*self.address)

    def close(self) -> None:
        """Stops listening, and ends the associations; connections that are open go on. Harmless when called again."""
        if self.closed:
            return
        self.closed = True
        self._loop.call(self._end())
        self._socket.close()
        if self._hidden:
            self._network.hide(self._hidden, False)
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def __enter__(self) -> SocksServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SocksServer at {self.place}>"

    async def _end(self) -> None:
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)

    async def _serve(self) -> None:
        self._main = asyncio.current_task()
        try:
            await self._accept()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(self._socket)
            except OSError as err:
                logger().warning("the proxy at %s cannot accept: %s", self.place, err.strerror or err)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if len(self._tasks) - self._associations >= MAX_CLIENTS:
                if not self._reading:
                    sock.close()
                    continue
                oldest = next(iter(self._reading))
                del self._reading[oldest]
                oldest.cancel()
            task = loop.create_task(self._client(sock, peer))
            self._tasks.add(task)
            self._reading[task] = None
            task.add_done_callback(functools.partial(self._gone, sock))

    def _gone(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()  # here, for a task that is cancelled before it has begun
        self._tasks.discard(task)
        self._reading.pop(task, None)
        if not task.cancelled() and (err := task.exception()) is not None:
            logger().error("a client of the proxy at %s could not be served", self.place, exc_info=err)

    async def _client(self, sock: socket.socket, peer: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        try:
            request = await asyncio.wait_for(read_request(sock), HANDSHAKE_SECONDS)
            self._reading.pop(task, None)
            if request.associate:
                await self._associate(sock, peer, request)
            else:
                await self._connect(sock, peer, request)
        except Refused as err:
            logger().debug("a client of the proxy at %s is refused: %s", self.place, err)
            self._reading[task] = None  # it may make room for others again
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(goodbye(sock, err.reply), GOODBYE_SECONDS)
        except (OSError, EOFError, asyncio.TimeoutError):
            pass  # it has gone, or stalls

    async def _connect(self, sock: socket.socket, peer: Any, request: Request) -> None:
        address = self._network.find(request)
        place = f"{request.host}:{request.port}"
        try:
            listener = self._network.listener(address, request.port)
            if listener is not None:
                await self._offer(sock, peer, request, listener)
                return
            if not self._network.is_guest(address):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
            await asyncio.wrap_future(
                self._network.dial(sock, address, request.port, request.granted(), request.to_guest)
            )
        except OSError as err:
            reason, why = REASONS.get(
                err.errno or 0, (Reason.FAILED, f"cannot be reached: {err.strerror or err}")
            )
            raise request.refused(reason, f"{place} {why}") from None

    async def _offer(self, sock: socket.socket, peer: Any, request: Request, listener: Any) -> None:
        """A program of this process listens there: it gets the client's socket itself."""
        if request.to_guest:
            raise request.refused(
                Reason.COMMAND,
                f"{request.host}:{request.port} is reached by CONNECT only (curl --proxytunnel)",
            )
        if listener.full():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "too many wait")
        await asyncio.get_running_loop().sock_sendall(sock, request.granted())
        given = sock.dup()
        given.setblocking(True)
        listener.offer(given, peer[:2] if isinstance(peer, tuple) else ("", 0))

    async def _associate(self, sock: socket.socket, peer: Any, request: Request) -> None:
        """RFC 1928 section 7: the association lasts as long as this connection does."""
        if sock.family == socket.AF_UNIX:
            raise request.refused(Reason.COMMAND, "there are no datagrams behind a Unix socket")
        if self._associations >= MAX_ASSOCIATIONS:
            raise request.refused(Reason.FAILED, f"more than {MAX_ASSOCIATIONS} associations")
        loop = asyncio.get_running_loop()
        with socket.socket(sock.family, socket.SOCK_DGRAM) as relay:
            relay.setblocking(False)
            name = sock.getsockname()
            relay.bind((name[0], 0, *name[2:]))
            address = relay.getsockname()[:2]
            port = request.port if request.host == peer[0] else 0
            release = self._network.relay(relay, peer[0], port)
        self._associations += 1
        try:
            await loop.sock_sendall(sock, request.granted(address))
            while await loop.sock_recv(sock, 4096):
                pass  # nothing belongs here
        finally:
            self._associations -= 1
            release()


# --- a client's bytes


async def readable(sock: socket.socket) -> None:
    """Waits until there is something to read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def come() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, come)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def read_request(sock: socket.socket) -> Request:
    """What a client wants, not a byte beyond it taken.

    Raises:
        Refused: it says something else.
        EOFError: it goes.
    """
    await readable(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    if not first:
        raise EOFError
    if is_socks(first[0]):
        return await read_socks(sock)
    if is_http(first[0]):
        return http_request(await read_head(sock))
    raise Refused(b"", "neither SOCKS nor HTTP")


async def read_socks(sock: socket.socket) -> Request:
    loop = asyncio.get_running_loop()
    state = SocksHandshake()
    while state.need:
        data = b""
        while len(data) < state.need:
            piece = await loop.sock_recv(sock, state.need - len(data))
            if not piece:
                raise EOFError
            data += piece
        if answer := state.receive(data):
            await loop.sock_sendall(sock, answer)
    assert state.request is not None
    return state.request


async def read_head(sock: socket.socket) -> bytes:
    """A request of HTTP up to its empty line, which is looked for before it is taken."""
    head = b""
    while True:
        await readable(sock)
        seen = sock.recv(MAX_HEAD, socket.MSG_PEEK)
        if not seen:
            raise EOFError
        end = END_OF_HEAD.search(head + seen, max(0, len(head) - 2))
        take = len(seen) if end is None else end.end() - len(head)
        head += sock.recv(take)
        if len(head) > MAX_HEAD:
            raise http_refused(Reason.TOO_LONG, f"the request's head is longer than {MAX_HEAD} bytes")
        if end is not None:
            return head


async def goodbye(sock: socket.socket, reply: bytes) -> None:
    """Sends the last word, and reads on until the client ends: a close on top of unread bytes would reset it away."""
    loop = asyncio.get_running_loop()
    if reply:
        await loop.sock_sendall(sock, reply)
        sock.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(sock, 65536):
            pass


# --- the gateway's part


class Network:
    """The virtual network as a proxy sees it.

    Args:
        config: the network's settings.
        engine: the data path.
        reach: what dials.
        names: gives the table of names of this moment.
    """

    def __init__(self, config: Config, engine: Engine, reach: Reach, names: Callable[[], DnsTable]) -> None:
        self._config = config
        self._engine = engine
        self._net = ipaddress.IPv4Network(config.network)
        self._reach = reach
        self._names = names

    def find(self, request: Request) -> str:
        """The address that a request means.

        Raises:
            Refused: there is no such name, or the address is not of this network.
        """
        host = request.host
        try:
            address: Any = ipaddress.ip_address(host)
        except ValueError:
            found = lookup(self._names(), host, self._config.domain)
            if found is None:
                raise request.refused(
                    Reason.NO_SUCH_NAME, f"{host} is no name of the virtual network"
                ) from None
            address = ipaddress.IPv4Address(found)
        if address.version != 4:
            raise request.refused(Reason.ADDRESS_TYPE, "the virtual network has no IPv6")
        text = str(address)
        if text == self._config.host_alias:
            raise request.refused(
                Reason.NOT_ALLOWED, f"{host} is this host itself: connect to it without the proxy"
            )
        if address not in self._net and not self._reach.listens_at(text):
            raise request.refused(
                Reason.NOT_ALLOWED,
                f"{host} is not of the virtual network {self._net}, which is all that can be reached",
            )
        return text

    def is_guest(self, address: str) -> bool:
        """Whether there may be a guest at an address of the network."""
        parsed = ipaddress.IPv4Address(address)
        ends = (self._net.network_address, self._net.broadcast_address)
        return address != self._config.gateway and parsed not in ends

    def hide(self, port: int, hide: bool) -> None:
        """Keeps guests from the proxy: behind the host alias they find its port closed."""
        self._engine.hide_port(port, hide)

    def listener(self, address: str, port: int) -> Any:
        """Who listens there in this process."""
        return self._reach.listener((address, port))

    def dial(
        self, sock: socket.socket, address: str, port: int, to_host: bytes, to_guest: bytes
    ) -> Future[None]:
        """Makes a client's socket the host side of a connection to a guest."""
        return self._reach.hand_over(sock, address, port, to_host, to_guest)

    def relay(self, sock: socket.socket, client: str, port: int) -> Callable[[], None]:
        """Serves the datagrams of one client; what ends it."""
        rule = self._reach.new_rule()
        own = sock.getsockname()[1]
        self._engine.relay_socks(sock.fileno(), own, rule, client, port, self._config.domain)
        sock.detach()
        return lambda: self._reach.release(rule)
