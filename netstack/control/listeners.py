"""Where guests come in: listening sockets, their handshakes, and descriptors that were inherited.

Runs on the control loop, in Python; once a guest's link is ready, its descriptor goes to the engine and is never
seen here again. A client that stalls in its handshake costs one of `HANDSHAKES` places for `HANDSHAKE_SECONDS` and
49 bytes of buffer, and nobody else waits for it: the engine serves those who are in, and the listener goes on
accepting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Protocol

from netstack.errors import ConfigError, NetstackError
from netstack.link.hyperkit import (
    Command,
    Disconnect,
    Entry,
    HandshakeError,
    ServerHandshake,
    UuidTable,
    Vif,
)
from netstack.link.spec import KINDS, LinkSpec

__all__ = ["HANDSHAKES", "HANDSHAKE_SECONDS", "Admission", "Listeners"]

log = logging.getLogger("netstack")

HANDSHAKE_SECONDS = 5.0
HANDSHAKES = 64  # under way at one time on one listener
PAUSE_SECONDS = 0.5  # after an accept that failed for want of descriptors
BACKLOG = 128


@dataclass
class Admission:
    """What a handshake has found out about a guest. ``closed`` is called when its link has gone.

    ``framing`` is that of its stream, where it is a stream.
    """

    label: str
    mac: bytes | None = None
    framing: str = ""
    closed: list[Callable[[], None]] = field(default_factory=list)


class Hub(Protocol):
    """The gateway, as far as listeners need it."""

    def admit_stream(self, fd: int, out_fd: int, framing: str, guest: Admission) -> int:
        """A link over a byte stream."""

    def admit_messages(self, fd: int, kind: str, guest: Admission) -> int:
        """A link over a socket with a frame in each message."""

    def address_within(self, address: IPv4Address) -> bool:
        """Whether it is one of the pool's."""

    def address_take(self, mac: bytes, address: IPv4Address | None) -> IPv4Address | None:
        """Ties an address to a MAC."""

    def address_give_back(self, mac: bytes) -> None:
        """Unties it."""


class _Addresses:
    def __init__(self, hub: Hub) -> None:
        self.within = hub.address_within
        self.take = hub.address_take
        self.give_back = hub.address_give_back


class Listeners:
    """All places where guests of one gateway come in.

    Args:
        hub: the gateway.
        spawn: runs a coroutine on the control loop.
        mtu: IP bytes, told to HyperKit's guests.
    """

    def __init__(self, hub: Hub, spawn: Callable[[Coroutine[Any, Any, None]], None], mtu: int) -> None:
        self._hub = hub
        self._spawn = spawn
        self._table = UuidTable(_Addresses(hub), mtu)
        self._sockets: list[socket.socket] = []
        self._paths: list[tuple[str, int]] = []

    def add(self, spec: LinkSpec) -> str:
        """Begins to listen, or takes an inherited link; the place as text, with the port that was chosen.

        Raises:
            NetstackError: the place cannot be had.
        """
        if spec.family == "stdio":
            self._begin(spec, None)
            return str(spec)
        try:
            sock = inherited(spec) if spec.family == "fd" else bound(spec)
        except FileNotFoundError:
            raise ConfigError(
                f"cannot listen at {spec}: there is no folder {os.path.dirname(spec.path)}"
            ) from None
        except OSError as err:
            raise NetstackError(f"cannot listen at {spec}: {err.strerror or err}") from None
        if spec.family == "unix":
            self._paths.append((spec.path, os.stat(spec.path).st_ino))
        if KINDS[spec.kind] == "message":
            kind = "learn" if sock.getsockname() and not _has_peer(sock) else "connected"
            self._hub.admit_messages(sock.detach(), kind, Admission(str(spec)))
            return str(spec)
        if spec.family == "fd" and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._begin(spec, sock)
            return str(spec)
        sock.setblocking(False)
        self._sockets.append(sock)
        self._spawn(self._accept(spec, sock))
        if spec.family == "tcp":
            host, port = sock.getsockname()[:2]
            return f"{spec.kind}+tcp:{host}:{port}"
        return str(spec)

    def close(self) -> None:
        """Stops listening and removes the sockets' files that are still ours.

        To be called when the loop has stopped.
        """
        for sock in self._sockets:
            sock.close()
        for path, inode in self._paths:
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._sockets.clear()
        self._paths.clear()

    def _begin(self, spec: LinkSpec, sock: socket.socket | None) -> None:
        async def serve() -> None:
            if sock is not None:
                await self._serve(spec, sock, "")
            else:
                await self._serve_stdio(spec)

        self._spawn(serve())

    # --- accepting

    async def _accept(self, spec: LinkSpec, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(HANDSHAKES)
        while True:
            await places.acquire()
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as err:
                places.release()
                if err.errno in (errno.EBADF, errno.EINVAL):
                    return
                log.warning("cannot accept a guest at %s: %s", spec, err.strerror or err)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._spawn(self._one(spec, sock, peer_text(peer), places))

    async def _one(self, spec: LinkSpec, sock: socket.socket, peer: str, places: asyncio.Semaphore) -> None:
        try:
            await self._serve(spec, sock, peer)
        finally:
            places.release()

    async def _serve(self, spec: LinkSpec, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        where = f"{spec} {peer}".rstrip()
        loop = asyncio.get_running_loop()

        async def receive(n: int) -> bytes:
            return await loop.sock_recv(sock, n)

        async def send(data: bytes) -> None:
            await loop.sock_sendall(sock, data)

        with sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            guest = await self._handshake(spec, where, receive, send)
            if guest is None:
                return
            fd = os.dup(sock.fileno())
            os.set_inheritable(fd, False)
        if KINDS[spec.kind] == "packet":
            self._give(guest, fd, lambda: self._hub.admit_messages(fd, "packets", guest))
        else:
            self._give(guest, fd, lambda: self._hub.admit_stream(fd, fd, guest.framing, guest))

    async def _serve_stdio(self, spec: LinkSpec) -> None:
        loop = asyncio.get_running_loop()

        async def receive(n: int) -> bytes:
            return await loop.run_in_executor(None, os.read, 0, n)

        async def send(data: bytes) -> None:
            await loop.run_in_executor(None, os.write, 1, data)

        guest = await self._handshake(spec, str(spec), receive, send)
        if guest is not None:
            fd, out_fd = os.dup(0), os.dup(1)
            self._give(guest, fd, lambda: self._hub.admit_stream(fd, out_fd, guest.framing, guest), out_fd)

    def _give(self, guest: Admission, fd: int, admit: Callable[[], int], out_fd: int = -1) -> None:
        try:
            admit()
        except (OSError, RuntimeError) as err:
            log.error("link %s refused: %s", guest.label, err)
            for forget in guest.closed:
                forget()

    # --- handshakes

    async def _handshake(
        self,
        spec: LinkSpec,
        where: str,
        receive: Callable[[int], Awaitable[bytes]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> Admission | None:
        """Who it is; None when the connection is to be closed."""
        if spec.kind != "hyperkit":
            return Admission(where, framing=spec.kind)
        found: list[tuple[Any, Entry]] = []

        def assign(command: Command) -> Vif | Disconnect:
            who, entry, answer = self._table.assign(command)
            if entry is not None:
                found.append((who, entry))
                self._table.connected(who)
            return answer

        state = ServerHandshake(assign)
        try:
            await asyncio.wait_for(drive(state, receive, send), HANDSHAKE_SECONDS)
        except (asyncio.TimeoutError, HandshakeError, OSError, EOFError) as err:
            reason = (
                f"it stalled for {HANDSHAKE_SECONDS:g} s" if isinstance(err, asyncio.TimeoutError) else err
            )
            log.warning("link %s refused: %s", where, reason or "it closed")
            for who, _ in found:
                self._table.disconnected(who)
            return None
        if isinstance(state.result, Disconnect):
            log.warning("link %s refused: %s", where, state.result.text)
            return None
        who, entry = found[0]
        guest = Admission(f"{where} {who}", entry.mac, "offload" if state.offload else "hyperkit")
        guest.closed.append(lambda: self._table.disconnected(who))
        return guest


async def drive(
    state: ServerHandshake,
    receive: Callable[[int], Awaitable[bytes]],
    send: Callable[[bytes], Awaitable[None]],
) -> None:
    """Runs a handshake over a stream, never reading a byte beyond it.

    Raises:
        HandshakeError: the client breaks the protocol.
        EOFError: it has gone.
    """
    while state.need:
        data = bytearray()
        while len(data) < state.need:
            piece = await receive(state.need - len(data))
            if not piece:
                raise EOFError("the client closed the connection in the handshake")
            data += piece
        await send(state.receive(bytes(data)))
    if state.error is not None:
        raise HandshakeError(state.error)


# --- sockets


def _has_peer(sock: socket.socket) -> bool:
    try:
        return bool(sock.getpeername()) or sock.family == socket.AF_UNIX
    except OSError:
        return False


def peer_text(peer: object) -> str:
    """What to call a client in a log."""
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else ""


def inherited(spec: LinkSpec) -> socket.socket:
    """The socket behind an inherited descriptor, owned from here on.

    Raises:
        ConfigError: there is none, or it cannot carry this kind.
    """
    try:
        sock = socket.socket(fileno=spec.port)
    except OSError as err:
        raise ConfigError(f"descriptor {spec.port} is not a socket: {err.strerror}") from None
    sock.set_inheritable(False)
    wanted = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET, "message": socket.SOCK_DGRAM}
    if sock.type != wanted[KINDS[spec.kind]]:
        sock.detach()
        raise ConfigError(f"descriptor {spec.port} is a socket of another type than {spec.kind} needs")
    return sock


def bound(spec: LinkSpec) -> socket.socket:
    """A socket bound to a place, listening where that is how guests come.

    Raises:
        OSError: it cannot be had.
        NetstackError: somebody else listens there, or something else than a socket lies there.
    """
    kind = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET, "message": socket.SOCK_DGRAM}[
        KINDS[spec.kind]
    ]
    if spec.family == "unix":
        clear(spec, kind)
        sock = socket.socket(socket.AF_UNIX, kind)
        where: Any = spec.path
    elif spec.family == "vsock":
        if not hasattr(socket, "AF_VSOCK"):
            raise NetstackError(f"{spec}: this system has no vsock")
        sock = socket.socket(socket.AF_VSOCK, kind)
        where = (int(spec.host) if spec.host else socket.VMADDR_CID_ANY, spec.port)
    else:
        info = socket.getaddrinfo(spec.host, spec.port, type=kind, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(info[0], kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        where = info[4]
    try:
        sock.bind(where)
        if spec.family == "unix":
            os.chmod(spec.path, 0o600)  # whoever may connect is on the network
        if KINDS[spec.kind] != "message":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def clear(spec: LinkSpec, kind: int) -> None:
    """Removes a socket file that nobody listens at any more.

    Raises:
        NetstackError: it is in use, or no socket.
    """
    try:
        mode = os.stat(spec.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{spec.path} exists and is not a socket: give another path")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(spec.path)
        except BlockingIOError:
            pass
        except OSError as err:
            if err.errno in (errno.ECONNREFUSED, errno.ENOENT):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spec.path)
                return
            raise
    raise NetstackError(f"{spec.path} is in use by another program: stop it, or give another path")
