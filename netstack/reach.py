"""Reaching into a virtual network, and being a host on it: published ports, dials, listeners, pings.

Everything here is made of three things that the engine does: it serves a socket (a published port), it opens a
connection to a guest whose other end is a descriptor (a dial), and it asks for a descriptor when a guest dials an
address where a program listens. A dialled connection is an ordinary socket: one end of a socket pair.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, NetstackError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from .config import Config
    from .engine import Engine
    from .publish import PortSpec
    from .services.dhcp4 import DhcpServer

__all__ = ["DatagramSocket", "Listener", "Published", "Reach", "ReachMethods", "StreamServer"]

MAIL_DIALED, MAIL_ECHO_REPLY = 16, 17  # nat/context.pxd: mail_kind, mail_dialed, mail_echo
DIALED = struct.Struct("=QiI")
ECHO = struct.Struct("=QIHHII")
TCP, UDP = 6, 17

Client = Callable[["asyncio.StreamReader", "asyncio.StreamWriter"], Awaitable[None]]


class Published:
    """A published port, or a range of them. A context manager; :meth:`close` frees it at once.

    Attributes:
        id: its number, which no other publication of the gateway ever has.
        spec: what was asked for.
        address: the host's (address, port) of the first socket, or the path of a Unix socket.
        addresses: of every socket.
    """

    def __init__(self, reach: Reach, rule: int, spec: PortSpec, addresses: list[Any]) -> None:
        self._reach = reach
        self.id = rule
        self.spec = spec
        self.addresses = addresses
        self.address: Any = addresses[0]

    @property
    def places(self) -> list[str]:
        """The addresses as text: ADDRESS:PORT, [ADDRESS]:PORT, or a path."""
        from .publish import host_port

        return [a if isinstance(a, str) else host_port(*a[:2]) for a in self.addresses]

    def close(self) -> None:
        """Closes the sockets. Connections that are open go on. Harmless when called again."""
        self._reach.unpublish(self.id)

    def __enter__(self) -> Published:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Published {self.spec} at {self.address}>"


class DatagramSocket(socket.socket):
    """Datagrams to one port of a guest and back: a connected socket. The guest sees them come from the gateway."""

    _release: Callable[[], None] | None = None

    def close(self) -> None:
        """Closes the socket, and ends its mapping."""
        super().close()
        if self._release is not None:
            self._release()


class Listener:
    """Connections that guests make to an address and port of the virtual network. A context manager.

    Attributes:
        address: (address, port) that guests dial.
    """

    def __init__(self, reach: Reach, address: tuple[str, int], backlog: int) -> None:
        self._reach = reach
        self.address = address
        self._backlog = backlog
        self._waiting: deque[tuple[socket.socket, tuple[str, int]]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def accept(self, timeout: float | None = None) -> tuple[socket.socket, tuple[str, int]]:
        """The next connection: a connected socket, and the guest's address and port.

        Args:
            timeout: seconds to wait; None waits for ever, 0 only looks.

        Raises:
            TimeoutError: none has come.
            OSError: the listener is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout)
            if self._waiting:
                return self._waiting.popleft()
        if self._closed:
            raise OSError(errno.EBADF, "the listener is closed")
        raise TimeoutError("no guest has connected")

    def offer(self, sock: socket.socket, guest: tuple[str, int]) -> None:
        """Takes a new connection (from the control thread)."""
        with self._changed:
            if not self._closed:
                self._waiting.append((sock, guest))
                self._changed.notify()
                return
        sock.close()

    def full(self) -> bool:
        """True where no more connections may wait."""
        return self._closed or len(self._waiting) >= self._backlog

    def close(self) -> None:
        """Nothing listens here any more; connections that wait are closed. Harmless when called again."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for sock, _ in waiting:
            sock.close()
        self._reach.unlisten(self)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StreamServer(Listener):
    """A listener whose connections are served by coroutines, each with a reader and a writer."""

    def __init__(
        self, reach: Reach, address: tuple[str, int], backlog: int, client: Client, options: dict[str, Any]
    ) -> None:
        import asyncio

        super().__init__(reach, address, backlog)
        self._client = client
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, sock: socket.socket, guest: tuple[str, int]) -> None:
        """Serves a new connection in the loop that the server was made in."""
        try:
            self._loop.call_soon_threadsafe(self._begin, sock)
        except RuntimeError:  # the loop has ended
            sock.close()

    def _begin(self, sock: socket.socket) -> None:
        task = self._loop.create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        import asyncio

        reader, writer = await asyncio.open_connection(sock=sock, **self._options)
        try:
            await self._client(reader, writer)
        finally:
            writer.close()

    async def wait_closed(self) -> None:
        """Waits until every connection has been served."""
        import asyncio

        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def __aenter__(self) -> StreamServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        self.close()
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.wait_closed()


class Reach:
    """What a gateway's methods of the same names do.

    Args:
        engine: the data path.
        keep_source: clients of published ports keep their address; else they appear as the gateway.
        find: the address of a guest by its name, "" for the only one; None while it is not known.
        reserve: keeps an address of the network from being given to guests (True) or gives it back (False).
    """

    def __init__(
        self,
        engine: Engine,
        keep_source: bool,
        find: Callable[[str], str | None],
        reserve: Callable[[str, bool], None],
    ) -> None:
        self._engine = engine
        self._keep_source = keep_source
        self._find = find
        self._reserve = reserve
        self._lock = threading.Lock()
        self._next_rule = 0
        self._rules: dict[int, PortSpec] = {}
        self._published: dict[int, Published] = {}
        self._dials: dict[int, Future[None]] = {}
        self._pings: dict[int, Future[int]] = {}
        self._next_ping = 0
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._closed = False

    # --- published ports

    def publish(self, spec: PortSpec) -> Published:
        from .publish import bind

        sockets = bind(spec)
        addresses = [sock.getsockname()[:2] if not spec.path else spec.path for sock, _ in sockets]
        with self._lock:
            self._next_rule += 1
            rule = self._next_rule
            self._rules[rule] = spec
        guest = self._find(spec.guest)
        protocol = TCP if spec.protocol == "tcp" else UDP
        try:
            while sockets:
                sock, port = sockets[-1]
                self._engine.forward(sock.fileno(), protocol, rule, guest, port, not self._keep_source)
                sock.detach()
                sockets.pop()
        except BaseException:
            for sock, _ in sockets:
                sock.close()
            self.unpublish(rule)
            raise
        published = Published(self, rule, spec, addresses)
        with self._lock:
            if rule in self._rules:  # not unless the gateway has stopped meanwhile
                self._published[rule] = published
        return published

    def published(self) -> list[Published]:
        with self._lock:
            return list(self._published.values())

    def unpublish(self, rule: int) -> None:
        with self._lock:
            spec = self._rules.pop(rule, None)
            self._published.pop(rule, None)
        if spec is None:
            return
        if not self._closed:
            self._engine.unforward(rule)
        if spec.path:
            with contextlib.suppress(OSError):
                os.unlink(spec.path)

    def guests_changed(self) -> None:
        """Names may mean other addresses now."""
        with self._lock:
            rules = list(self._rules.items())
        for rule, spec in rules:
            self._engine.retarget(rule, self._find(spec.guest))

    # --- out of the host, into a guest

    def _guest(self, guest: str) -> str:
        address = self._find(guest)
        if address is None:
            raise OSError(errno.EHOSTUNREACH, f"no guest is named {guest!r}")
        return address

    def dial_soon(self, guest: str, port: int) -> tuple[socket.socket, Future[None]]:
        address = self._guest(guest)
        ours, engines = socket.socketpair()
        try:
            engines.setblocking(False)
            done = self._dial(engines, address, port)
        except BaseException:
            ours.close()
            engines.close()
            raise
        return ours, done

    def _dial(
        self, sock: socket.socket, address: str, port: int, to_host: bytes = b"", to_guest: bytes = b""
    ) -> Future[None]:
        from concurrent.futures import Future

        done: Future[None] = Future()
        with self._lock:  # so that the answer finds it
            number = self._engine.dial(sock.fileno(), address, port, to_host=to_host, to_guest=to_guest)
            sock.detach()
            self._dials[number] = done
        return done

    def hand_over(
        self, sock: socket.socket, address: str, port: int, to_host: bytes, to_guest: bytes
    ) -> Future[None]:
        """Makes a copy of a socket the host side of a connection to a guest, both sides being told something first.

        The caller's own copy stays open: when the future fails, it may still say why; else it is to be closed.
        """
        with sock.dup() as copy:
            return self._dial(copy, address, port, to_host, to_guest)

    def new_rule(self) -> int:
        """A number for sockets that the engine serves."""
        with self._lock:
            self._next_rule += 1
            return self._next_rule

    def release(self, rule: int) -> None:
        """Closes the engine's sockets of a number."""
        if not self._closed:
            self._engine.unforward(rule)

    def dial(self, guest: str, port: int, timeout: float | None) -> socket.socket:
        sock, done = self.dial_soon(guest, port)
        try:
            done.result(timeout)
        except BaseException as err:
            sock.close()
            if isinstance(err, TimeoutError) and not isinstance(
                err, OSError
            ):  # concurrent.futures' own, before 3.11
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            raise
        sock.settimeout(timeout)
        return sock

    async def open_connection(
        self, guest: str, port: int, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        import asyncio

        sock, done = self.dial_soon(guest, port)
        try:
            await asyncio.wrap_future(done)
            return await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise

    def open_datagram(self, guest: str, port: int) -> DatagramSocket:
        address = self._guest(guest)
        with self._lock:
            self._next_rule += 1
            rule = self._next_rule
            from .publish import PortSpec

            self._rules[rule] = PortSpec(port, protocol="udp", guest=guest)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            pair[1].setblocking(False)
            self._engine.forward(pair[1].fileno(), UDP, rule, address, port, True)
            pair[1].detach()
        except BaseException:
            for sock in pair:
                sock.close()
            with self._lock:
                del self._rules[rule]
            raise
        ours = DatagramSocket(socket.AF_UNIX, socket.SOCK_DGRAM, fileno=pair[0].detach())
        ours._release = weakref.finalize(ours, self.unpublish, rule)
        return ours

    def ping_soon(self, guest: str, size: int) -> tuple[int, Future[int]]:
        """(sent at, the answer's time)."""
        from concurrent.futures import Future

        address = self._guest(guest)
        done: Future[int] = Future()
        with self._lock:
            self._next_ping = (self._next_ping + 1) & 0xFFFF
            number = self._next_ping
            self._pings[number] = done
        done.add_done_callback(lambda _: self._pings.pop(number, None))
        try:
            return self._engine.ping(address, number, size), done
        except BaseException:
            self._pings.pop(number, None)
            raise

    # --- being a host

    def listen(self, address: str, port: int, backlog: int) -> Listener:
        return self._listening(Listener(self, (_v4(address), _port(port)), backlog))

    async def start_server(
        self, client: Client, address: str, port: int, backlog: int, options: dict[str, Any]
    ) -> StreamServer:
        server = StreamServer(self, (_v4(address), _port(port)), backlog, client, options)
        self._listening(server)
        return server

    def _listening(self, listener: Listener) -> Listener:
        address, port = listener.address
        with self._lock:
            taken = listener.address in self._listeners
            if not taken:
                self._listeners[listener.address] = listener
        try:
            if taken:
                raise OSError(errno.EEXIST, "")
            self._engine.divert(address, port, TCP)
        except OSError as err:
            if not taken:
                del self._listeners[listener.address]
            if err.errno == errno.EEXIST:
                raise NetstackError(
                    f"something listens at {address}:{port} of the virtual network already: choose another port"
                ) from None
            if err.errno == errno.EADDRNOTAVAIL:
                raise NetstackError(f"the address {address} belongs to a guest: choose another") from None
            raise
        try:
            self._reserve(address, True)
        except ConfigError:
            self._engine.undivert(address, port, TCP)
            del self._listeners[listener.address]
            raise
        return listener

    def unlisten(self, listener: Listener) -> None:
        with self._lock:
            if self._listeners.get(listener.address) is not listener:
                return
            del self._listeners[listener.address]
            last = all(address != listener.address[0] for address, _ in self._listeners)
        if self._closed:
            return
        self._engine.undivert(*listener.address, TCP)
        if last:
            self._reserve(listener.address[0], False)

    def listener(self, address: tuple[str, int]) -> Listener | None:
        """Who listens there."""
        return self._listeners.get(address)

    def listens_at(self, address: str) -> bool:
        """Whether anybody listens at any port of an address."""
        return any(listened == address for listened, _ in list(self._listeners))

    # --- the engine's answers

    def handle(self, kind: int, message: bytes) -> bool:
        """Takes a message from the engine; False when it is none of these."""
        if kind == MAIL_DIALED:
            number, error, _ = DIALED.unpack(message)
            with self._lock:
                done = self._dials.pop(number, None)
            if done is not None and done.set_running_or_notify_cancel():
                if error:
                    done.set_exception(OSError(error, os.strerror(error)))
                else:
                    done.set_result(None)
        elif kind == MAIL_ECHO_REPLY:
            now_ns, _, _, sequence, _, _ = ECHO.unpack(message)
            answered = self._pings.get(sequence)
            if answered is not None and answered.set_running_or_notify_cancel():
                answered.set_result(now_ns)
        else:
            return False
        return True

    def close(self) -> None:
        """The gateway has stopped."""
        self._closed = True
        for rule in list(self._rules):
            self.unpublish(rule)
        for listener in list(self._listeners.values()):
            listener.close()
        with self._lock:
            waiting: list[Future[Any]] = [*self._dials.values(), *self._pings.values()]
            self._dials.clear()
        for done in waiting:
            if not done.done() and done.set_running_or_notify_cancel():
                done.set_exception(ConnectionAbortedError(errno.ECONNABORTED, "the gateway has stopped"))


class ReachMethods:
    """The part of :class:`netstack.Gateway` that reaches into its network, and makes this program a host on it."""

    config: Config
    _engine: Engine
    _dhcp: DhcpServer | None
    _lock: threading.Lock
    _making: threading.Lock  # of _reach
    _reach: Reach | None = None  # made when something is first published, dialled or listened for
    _fixed: str = ""  # address of the first guest that was admitted with one
    _stopped: bool

    def _dhcp_server(self) -> DhcpServer:
        raise NotImplementedError

    def _reaching(self) -> Reach:
        if self._stopped:
            raise NetstackError("this gateway has been stopped")
        with self._making:
            if self._reach is None:
                self._reach = Reach(
                    self._engine,
                    self.config.publish_source == "keep",
                    self._find_guest,
                    self._reserve_address,
                )
        return self._reach

    def _find_guest(self, name: str) -> str | None:
        """The address of a guest by name or address; "" is the only guest, or the first.

        Whoever has taken a lease counts before those whose addresses are only fixed in the settings.
        """
        if name:
            with contextlib.suppress(ValueError):
                return str(ipaddress.IPv4Address(name))
        leases = list(self._dhcp.leases()) if self._dhcp is not None else []
        name = name.removesuffix(f".{self.config.domain}")
        if name:
            return next((str(lease.address) for lease in leases if lease.name == name), None)
        for state in ("bound", "static"):
            if not self._fixed and (found := [lease.address for lease in leases if lease.state == state]):
                return str(found[0])
        return self._fixed or self.config.first_guest

    def _reserve_address(self, address: str, keep: bool) -> None:
        """An address where a program listens is not given to guests."""
        raw = ipaddress.IPv4Address(address)
        own = {self.config.gateway, self.config.host_alias}
        if address in own or raw not in ipaddress.IPv4Network(self.config.network):
            return
        with self._lock:
            server, mac = self._dhcp_server(), b"\x02\x00" + raw.packed
            if not keep:
                server.unreserve(mac)
            elif all(lease.address != raw or lease.mac == mac for lease in server.leases()):
                server.reserve(mac, address)
            else:
                raise ConfigError(f"the address {address} is leased to a guest: choose another")

    def publish(self, spec: str | PortSpec) -> Published:
        """Publishes a port of the host, or a range, into a guest.

        Args:
            spec: Docker's notation (see :mod:`netstack.publish`), such as "127.0.0.1:8080:80/tcp".

        Returns:
            An object with ``address``, and with ``close()``, which frees the port at once.

        Raises:
            ConfigError: the notation is wrong.
            PublishError: in use, not permitted, or no such address; the message says what to do.
        """
        from .publish import PortSpec

        return self._reaching().publish(PortSpec.parse(spec) if isinstance(spec, str) else spec)

    def published(self) -> list[Published]:
        """What is published at this moment, in the order it was."""
        return self._reach.published() if self._reach is not None else []

    def dial(self, address: str, port: int, timeout: float | None = None) -> socket.socket:
        """A connected socket to a port of a guest, which sees the gateway as its peer.

        It is one end of a socket pair and works wherever a socket does (ssl, http.client, select).

        Args:
            address: of the guest, or its name.
            timeout: seconds to wait for the guest, and the socket's time-out afterwards; None leaves it to TCP.

        Raises:
            ConnectionRefusedError: the guest refuses.
            TimeoutError: it does not answer.
            OSError: it has no MAC (EHOSTUNREACH), or no descriptor is left.
        """
        return self._reaching().dial(address, port, timeout)

    def dial_soon(self, address: str, port: int) -> tuple[socket.socket, Future[None]]:
        """As :meth:`dial`, without waiting: the socket, and a future that tells when it is connected, or why not.

        Close the socket to give up. This is the way for a gateway that is stepped by hand.
        """
        return self._reaching().dial_soon(address, port)

    async def open_connection(
        self, address: str, port: int, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As :meth:`dial`, as streams of the running loop; options as for :func:`asyncio.open_connection`."""
        return await self._reaching().open_connection(address, port, **options)

    def open_datagram(self, address: str, port: int) -> DatagramSocket:
        """A connected datagram socket to a UDP port of a guest."""
        return self._reaching().open_datagram(address, port)

    def listen(self, address: str, port: int, backlog: int = 128) -> Listener:
        """Accepts the connections that guests make to an address of the virtual network: this program is a host on it.

        Args:
            address: any but a guest's: a free one of the network (ARP is answered for it from now on), the
                gateway's, the host alias's, or one beyond the network.
            backlog: connections that may wait for ``accept``; more are refused.

        Raises:
            NetstackError: something listens there, or a guest has the address.
        """
        return self._reaching().listen(address, port, backlog)

    async def start_server(
        self, client: Client, address: str, port: int, backlog: int = 1024, **options: Any
    ) -> StreamServer:
        """As :meth:`listen`, each connection served by ``client(reader, writer)`` in the running loop."""
        return await self._reaching().start_server(client, address, port, backlog, options)

    def ping_soon(self, address: str, size: int = 56) -> tuple[int, Future[int]]:
        """As :meth:`ping`, without waiting: when it was sent, and a future with the time of the answer (ns).

        Cancel the future to give up.
        """
        return self._reaching().ping_soon(address, size)

    def ping(self, address: str, timeout: float = 1.0, size: int = 56) -> float | None:
        """Sends an echo request from the gateway to a guest.

        Args:
            timeout: seconds to wait.
            size: bytes of data, 0 to 65507.

        Returns:
            Seconds until the answer, or None when there was none.
        """
        from concurrent.futures import TimeoutError as FutureTimeout

        sent_ns, answered = self._reaching().ping_soon(address, size)
        try:
            return (answered.result(timeout) - sent_ns) / 1e9
        except FutureTimeout:
            answered.cancel()
            return None


def _v4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ConfigError(f"{text!r} is not an IPv4 address of the virtual network") from None


def _port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise ConfigError(f"port {port} is out of range: it may be 1 to 65535")
    return port
