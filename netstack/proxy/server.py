"""The proxy on asyncio: a guest's pending connection becomes requests, a tunnel, or an ordinary flow."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import h11

from .exchange import MAX_HEAD, Exchange, GuestGone
from .http import Target, connect_request
from .plan import Plan
from .settings import ProxySettings, Upstream
from .sniff import HTTP, MORE, OPAQUE, TLS, alert, protocol_of, server_name
from .streams import Address, DialError, close_gently, connect, receive, resolve, send

__all__ = ["Conversation", "Flow", "ProxyServer"]

CONNECT_SECONDS = 30.0  # for a proxy or an origin to accept
TUNNEL_SECONDS = 60.0  # for a proxy to answer CONNECT
RESPONSE_SECONDS = 600.0  # for the first byte of a response, when the request is complete
HELLO_SECONDS = 30.0  # for the rest of a TLS ClientHello


class Flow(Protocol):
    """A guest's connection that waits for its host side (:class:`netstack.pending.PendingFlow`)."""

    @property
    def id(self) -> int: ...

    @property
    def peer(self) -> tuple[str, int]: ...


class ProxyServer:
    """What all conversations share.

    Args:
        plan: the virtual network.
        attach: gives a pending flow its descriptor (or -errno); False when it is gone.
        replace: exchanges the descriptor of an open flow (or -errno resets it); False when it is gone.
        prepare: is given each socket before it is connected, and the address it is for.
        dial_guest: a connected socket to a port of a guest.
        log: is told in one sentence what has failed.
    """

    def __init__(
        self,
        plan: Plan,
        attach: Callable[[int, int], bool],
        replace: Callable[[int, int], bool],
        prepare: Callable[[socket.socket, str], None],
        dial_guest: Callable[[str, int], Awaitable[socket.socket]],
        log: Callable[[str], None],
    ) -> None:
        self.plan = plan
        #: In ``Via``: unlike that of any other proxy, so that a request which comes back is known.
        self.pseudonym = b"netstack-" + os.urandom(4).hex().encode()
        self.settings = ProxySettings()
        self.counters = dict.fromkeys(("requests", "tunnels", "direct", "refused", "failed"), 0)
        self.connect_seconds = CONNECT_SECONDS
        self.tunnel_seconds = TUNNEL_SECONDS
        self.response_seconds = RESPONSE_SECONDS
        self.attach, self.replace, self.log = attach, replace, log
        self._prepare, self._dial_guest = prepare, dial_guest

    def count(self, what: str) -> None:
        self.counters[what] += 1

    async def serve(self, flow: Flow, explicit: bool) -> None:
        """Serves a pending flow to its end; ``explicit``: the guest speaks to us as a proxy."""
        settings = self.settings
        address, port = flow.peer
        if not explicit and settings.allowed is None and settings.no_proxy.matches(address, port):
            await self._straight(flow)  # its SYN is answered when the host has
            return
        try:
            ours, engines = socket.socketpair()
        except OSError:
            self.attach(flow.id, -errno.ECONNREFUSED)
            return
        ours.setblocking(False)
        engines.setblocking(False)
        if not self.attach(flow.id, engines.fileno()):
            ours.close()
            engines.close()
            return
        engines.detach()
        talk = Conversation(self, flow, ours, explicit)
        try:
            await talk.begin()
        except (OSError, GuestGone):
            ours.close()
        except BaseException:
            ours.close()
            raise
        else:
            await close_gently(ours)

    async def _straight(self, flow: Flow) -> None:
        try:
            sock = await self.dial_address(*flow.peer)
        except DialError as err:
            self.attach(flow.id, -err.errno)
            return
        self.count("direct")
        if self.attach(flow.id, sock.fileno()):
            sock.detach()
        else:
            sock.close()

    # --- dialling

    async def dial_address(self, address: str, port: int) -> socket.socket:
        """A socket to where the guest itself has dialled.

        Raises:
            DialError: it cannot be reached.
        """
        places = await resolve(address, port)
        return await connect(places, f"{address}:{port}", self.connect_seconds, self._prepare)

    async def dial(self, host: str, port: int) -> socket.socket:
        """A socket to a host that the guest has named: one of the virtual network, or of the world.

        Raises:
            DialError: it cannot be reached.
        """
        local = self.plan.local(host)
        if local == "":
            raise DialError(502, f"The name {host} cannot be found: nobody has it.", errno.EHOSTUNREACH)
        if local is not None and local == self.plan.alias:
            return await self.dial_address("127.0.0.1", port)
        if local is not None:
            if local == self.plan.gateway:
                raise DialError(502, f"{host}:{port} cannot be reached through the proxy: ask it straight.")
            try:
                return await asyncio.wait_for(self._dial_guest(local, port), self.connect_seconds)
            except asyncio.TimeoutError:
                raise DialError(504, f"{host}:{port} cannot be reached: it does not answer.") from None
            except OSError as err:
                why = (err.strerror or str(err)).lower()
                raise DialError(502, f"{host}:{port} cannot be reached: {why}.") from None
        found = await resolve(host, port)
        places = [(family, place) for family, place in found if not self.plan.forbidden(place[0])]
        if not places:
            raise DialError(403, f"The name {host} means a loopback, and no proxy leads there.")
        return await connect(places, f"{host}:{port}", self.connect_seconds, self._prepare)

    async def dial_upstream(self, upstream: Upstream) -> socket.socket:
        """A socket to a proxy.

        Raises:
            DialError: it cannot be reached.
        """
        try:
            places = await resolve(self.plan.on_host(upstream.host), upstream.port)
        except DialError as err:
            raise DialError(502, f"The proxy {upstream}: {err.sentence}", err.errno) from None
        return await connect(places, f"The proxy {upstream}", self.connect_seconds, self._prepare)

    async def connect_through(
        self, upstream: Upstream, target: Target, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> tuple[socket.socket, bytes]:
        """A tunnel through a proxy, and the bytes that have come out of it already.

        Raises:
            DialError: the proxy cannot be reached, refuses, or does not speak as it should.
        """
        sock = await self.dial_upstream(upstream)
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

        async def negotiate() -> h11.Response:
            request = (http.send(connect_request(target, upstream, headers)) or b"") + (
                http.send(h11.EndOfMessage()) or b""
            )
            await send(sock, request)
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await receive(sock))
                elif isinstance(event, h11.Response):
                    return event
                elif not isinstance(event, h11.InformationalResponse):
                    raise DialError(502, f"The proxy {upstream} has ended the connection without an answer.")

        try:
            response = await asyncio.wait_for(negotiate(), self.tunnel_seconds)
            if not 200 <= response.status_code < 300:
                status = response.status_code if response.status_code >= 400 else 502
                extra = tuple(
                    ("Proxy-Authenticate", v.decode("latin-1"))
                    for n, v in response.headers
                    if n == b"proxy-authenticate"
                )
                raise DialError(
                    status,
                    f"{self.refusal(upstream, response)} (asked for a tunnel to {target.authority.decode()})",
                    extra=extra,
                    refused=True,
                )
        except asyncio.TimeoutError:
            sock.close()
            raise DialError(504, f"The proxy {upstream} does not answer.", errno.ETIMEDOUT) from None
        except (h11.RemoteProtocolError, OSError) as err:
            sock.close()
            why = (
                "has ended the connection"
                if isinstance(err, OSError) or not http.trailing_data[0]
                else f"says {err}"
            )
            raise DialError(502, f"The proxy {upstream} gives no answer that HTTP knows: it {why}.") from None
        except BaseException:
            sock.close()
            raise
        return sock, http.trailing_data[0]

    def refusal(self, upstream: Upstream | None, response: h11.Response) -> str:
        """What an answer of a proxy means, in a sentence."""
        answer = f"{response.status_code} {response.reason.decode('latin-1')}".strip()
        if response.status_code == 407 and upstream is not None:
            asks = "asks for other credentials" if upstream.username is not None else "asks for credentials"
            return f"The proxy {upstream} {asks} ({answer}): set them as http://USER:PASSWORD@{upstream}"
        return f"The proxy {upstream} refuses: {answer}"


class Conversation:
    """One guest's connection, from its first byte to where it ends or becomes a tunnel."""

    def __init__(self, server: ProxyServer, flow: Flow, sock: socket.socket, explicit: bool) -> None:
        self.server, self.flow, self.sock, self.explicit = server, flow, sock, explicit
        self.dialled: Address = flow.peer

    async def begin(self) -> None:
        """Finds out what the guest speaks, and does accordingly."""
        data = b""
        kind = MORE
        while kind == MORE:
            more = await receive(self.sock)
            if not more:
                kind = OPAQUE
                if not data:
                    return
            data += more
            kind = protocol_of(data) if more else kind
        if kind == HTTP or self.explicit:
            await Exchange(self, data).run()
        elif kind == TLS:
            await self._tunnelled(*await self._hello(data))
        else:
            await self._tunnelled(data, None)

    async def _hello(self, data: bytes) -> tuple[bytes, str | None]:
        """A ClientHello, as far as it comes, and the name in it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + HELLO_SECONDS
        while True:
            complete, name = server_name(data)
            if complete:
                return data, name
            try:
                more = await asyncio.wait_for(receive(self.sock), max(0.0, end - loop.time()))
            except asyncio.TimeoutError:
                raise GuestGone from None
            if not more:
                return data, None
            data += more

    async def _tunnelled(self, data: bytes, name: str | None) -> None:
        """TLS, or what is no HTTP: a tunnel to the host that it names, or else to the address."""
        server, settings = self.server, self.server.settings
        address, port = self.dialled
        if name is None or server.plan.forbidden(name) or server.plan.local(name) is not None:
            name = address
        if not settings.permits("https", name, port, None):
            server.count("refused")
            server.log(f"{name}:{port} is not on the list of hosts that guests may reach")
            if data[:1] == b"\x16":
                await send(self.sock, alert())
            else:
                self.reset()
            return
        upstream = settings.route("https", name, port, address)
        try:
            if upstream is None:
                sock, surplus = await server.dial_address(address, port), b""
            else:
                sock, surplus = await server.connect_through(upstream, Target("https", name, port, b""))
        except DialError as err:
            self.failed(err.sentence)
            self.reset()  # a page would mean nothing to it
            return
        await self.tunnel(sock, data, surplus)

    def failed(self, sentence: str) -> None:
        """Notes what the guest was told."""
        self.server.count("failed")
        self.server.log(sentence)

    def reset(self) -> None:
        """The guest gets a RST."""
        self.server.replace(self.flow.id, -errno.ECONNRESET)

    async def tunnel(self, sock: socket.socket, up: bytes, down: bytes) -> None:
        """Joins the guest to ``sock`` and gets out of the way: the engine has the descriptor from here on.

        Args:
            sock: connected; closed here in any case.
            up: what the guest has said already and the other side has not heard.
            down: what the guest is still to hear first.
        """
        server = self.server
        with sock:
            try:
                await send(sock, up)
            except OSError:
                self.reset()
                return
            await send(self.sock, down)
            fd = os.dup(sock.fileno())
            if not server.replace(self.flow.id, fd):
                os.close(fd)
                return
            server.count("tunnels")
            try:
                while data := await receive(self.sock):  # what was on its way here
                    await send(sock, data)
            finally:
                self.sock.close()
