"""One guest's connection that speaks HTTP: each of its requests passed on, answered here, or turned into a tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import TYPE_CHECKING, Any

import h11

from .http import (
    BadRequest,
    Target,
    has_passed,
    hops_left,
    passed_request,
    passed_response,
    target_of,
    upgrade_of,
    via_of,
)
from .pac import PATHS, pac_page
from .pages import Page, last_page, page
from .streams import DialError, has_gone, receive, send

if TYPE_CHECKING:
    from .server import Conversation
    from .settings import ProxySettings, Upstream

__all__ = ["Exchange", "GuestGone"]

MAX_HEAD = 1 << 16  # bytes of a request's or response's header section
IDLE_SECONDS = 30.0  # a connection to an upstream is kept for the guest's next request
LOOK_SECONDS = 1.0  # how often it is looked whether a waiting guest is still there
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
MAY_BE_REPEATED = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 9.2.2


class GuestGone(Exception):
    """The guest has ended its connection in the middle."""


class UpstreamFailed(Exception):
    """The upstream has ended in the middle, or does not speak HTTP; ``unheard`` when it has not said anything."""

    def __init__(self, sentence: str, unheard: bool = False) -> None:
        super().__init__(sentence)
        self.sentence, self.unheard = sentence, unheard


class Link:
    """A connection to an upstream (``key``: which one), used for one request after the other."""

    def __init__(self, key: object, sock: socket.socket) -> None:
        self.key, self.sock = key, sock
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.used = False

    def reusable(self, key: object) -> bool:
        """Whether the next request for ``key`` can go over it: idle, and not ended by the other side."""
        if self.key != key or self.http.our_state is not h11.IDLE:
            return False
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return not poller.poll(0)

    async def event(self) -> Any:
        """The next event of the response.

        Raises:
            UpstreamFailed: there is none.
        """
        while True:
            unheard = self.http.their_state is h11.SEND_RESPONSE and not self.http.trailing_data[0]
            try:
                event = self.http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                data = await receive(self.sock)
            except OSError:
                data = b""
            except h11.RemoteProtocolError as err:
                if unheard or self.http.trailing_data[1]:
                    raise UpstreamFailed(
                        "has ended the connection before its answer was complete", unheard
                    ) from None
                raise UpstreamFailed(f"does not answer as HTTP asks for ({err})") from None
            self.http.receive_data(data)


class Exchange:
    """The requests of one connection, in their order.

    Args:
        conversation: the guest's side, and who knows the settings.
        first: bytes that were read already.
    """

    def __init__(self, conversation: Conversation, first: bytes) -> None:
        self.talk = conversation
        self.guest = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.guest.receive_data(first)
        self.raw: bytearray | None = bytearray(first)  # all that was read, up to the first request's decision
        self.link: Link | None = None

    async def run(self) -> None:
        """Serves until the connection ends or has become a tunnel."""
        try:
            while await self._one() and self.guest.our_state is self.guest.their_state is h11.DONE:
                self.guest.start_next_cycle()
        finally:
            self._drop_link()

    # --- the guest's side

    async def _read(self) -> None:
        try:
            data = await receive(self.talk.sock)
        except OSError:
            raise GuestGone from None
        if self.raw is not None:
            self.raw += data
        self.guest.receive_data(data)

    async def _next_request(self) -> Any:
        """A request, or ConnectionClosed."""
        while True:
            event = self.guest.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.link is None:
                await self._read()
                continue
            reading = asyncio.ensure_future(self._read())
            try:
                done, _ = await asyncio.wait({reading}, timeout=IDLE_SECONDS)
                if not done:
                    self._drop_link()
                await reading
            finally:
                reading.cancel()

    async def _say(self, event: Any) -> None:
        try:
            await send(self.talk.sock, self.guest.send(event))
        except OSError:
            raise GuestGone from None

    async def _answer(self, answer: Page) -> bool:
        """An answer of our own, with which the connection ends."""
        if self.guest.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(GuestGone):
                await self._say(
                    h11.Response(
                        status_code=answer.status, headers=list(answer.headers), reason=answer.reason
                    )
                )
                if not self._head:
                    await self._say(h11.Data(data=answer.body))
                await self._say(h11.EndOfMessage())
        return False

    # --- one request

    async def _one(self) -> bool:
        """Serves the next request; whether there may be another."""
        try:
            request = await self._next_request()
        except h11.RemoteProtocolError as err:
            return await self._answer(page(err.error_status_hint or 400, f"This is no request: {err}."))
        if not isinstance(request, h11.Request):
            return False
        talk = self.talk
        settings = talk.server.settings
        self._head = request.method == b"HEAD"
        if (
            talk.explicit
            and request.method in (b"GET", b"HEAD")
            and request.target.partition(b"?")[0] in PATHS
        ):
            return await self._answer(pac_page(settings, talk.server.plan))
        try:
            target = target_of(request, None if talk.explicit else talk.dialled)
            if has_passed(request, talk.server.pseudonym):
                talk.server.count("refused")
                raise BadRequest(
                    508,
                    f"This request for {target.host} has been here before: the proxy's settings lead back to it.",
                )
            self._check(settings, target)
            if target.scheme == "https":
                return await self._connect(settings, target, request)
            return await self._pass_on(settings, target, request)
        except BadRequest as bad:
            return await self._answer(page(bad.status, bad.sentence))
        except DialError as err:
            talk.failed(err.sentence)
            if self.guest.our_state is h11.SEND_BODY and self.guest.their_http_version == b"1.0":
                talk.reset()  # an end of file would say that this was all
            return await self._answer(page(err.status, err.sentence, err.extra))

    def _check(self, settings: ProxySettings, target: Target) -> None:
        server = self.talk.server
        if self.talk.explicit and not target.host:
            raise BadRequest(400, "The request names no host.")
        path = target.path.decode("latin-1") if target.scheme == "http" else None
        if not settings.permits(target.scheme, target.host, target.port, path):
            server.count("refused")
            template = settings.allowed.message if settings.allowed else ""
            raise BadRequest(
                403,
                template.replace("%s", target.host)
                if template
                else f"This network does not allow {target.host}: it is not on the list of what guests may reach.",
            )
        if server.plan.forbidden(target.host) and (target.host, target.port) != self.talk.dialled:
            server.count("refused")
            alias = f" (the host's loopback is {server.plan.alias})" if server.plan.alias else ""
            raise BadRequest(403, f"{target.host} is this guest's own, and no proxy leads there{alias}.")

    def _route(self, settings: ProxySettings, target: Target) -> Upstream | None:
        if self.talk.server.plan.local(target.host) is not None:
            return None
        address = None if self.talk.explicit else self.talk.dialled[0]
        return settings.route(target.scheme, target.host, target.port, address)

    async def _connect(self, settings: ProxySettings, target: Target, request: h11.Request) -> bool:
        talk = self.talk
        upstream = self._route(settings, target)
        if upstream is None:
            sock, surplus = await talk.server.dial(target.host, target.port), b""
        else:
            headers = [*request.headers, via_of(request, talk.server.pseudonym)]
            sock, surplus = await talk.server.connect_through(upstream, target, headers)
        self.guest.next_event()  # CONNECT has no body: what follows is the tunnel's
        await talk.tunnel(sock, self.guest.trailing_data[0], ESTABLISHED + surplus)
        return False

    async def _pass_on(self, settings: ProxySettings, target: Target, request: h11.Request) -> bool:
        talk = self.talk
        upstream = self._route(settings, target)
        raw, self.raw = self.raw, None
        if upstream is None and raw is not None and not talk.explicit and settings.allowed is None:
            # nothing stands between the guest and the host that it has dialled: out of the way
            await talk.tunnel(await talk.server.dial_address(*talk.dialled), bytes(raw), b"")
            return False
        if hops_left(request) == 0:
            return await self._answer(last_page(request))
        upgrade = upgrade_of(request)
        if (
            upgrade == b"websocket"
            and upstream is not None
            and await self._websocket(upstream, target, request)
        ):
            return False
        talk.server.count("requests")
        for attempt in (1, 2):
            link = await self._link(upstream, target)
            fresh = not link.used
            try:
                passed = passed_request(request, target, upstream, upgrade, talk.server.pseudonym)
                return await self._relay(link, passed, upstream)
            except UpstreamFailed as failed:
                self._drop_link()
                # a kept connection may have been ended by the other side just as it was used again (RFC 9112 9.3.1)
                if fresh or attempt == 2 or not failed.unheard or not self._repeatable(request):
                    who = f"The proxy {upstream}" if upstream else f"{target.host}:{target.port}"
                    raise DialError(502, f"{who} {failed.sentence}.") from None
        return False

    def _repeatable(self, request: h11.Request) -> bool:
        return request.method in MAY_BE_REPEATED and self.guest.their_state is h11.DONE and not self._had_body

    async def _websocket(self, upstream: Upstream, target: Target, request: h11.Request) -> bool:
        """Tries a tunnel, as WebSocket's clients do that know of the proxy (RFC 6455 4.1); False: it is refused."""
        talk = self.talk
        try:
            sock, surplus = await talk.server.connect_through(upstream, target, request.headers)
        except DialError as err:
            if err.refused:
                return False
            raise
        passed = passed_request(request, target, None, upgrade_of(request), talk.server.pseudonym)
        head = h11.Connection(h11.CLIENT).send(passed)
        self.guest.next_event()
        await talk.tunnel(sock, (head or b"") + self.guest.trailing_data[0], surplus)
        return True

    # --- the upstream's side

    async def _link(self, upstream: Upstream | None, target: Target) -> Link:
        key = upstream if upstream is not None else (target.host, target.port)
        if self.link is not None and self.link.reusable(key):
            self.link.used = True
            return self.link
        self._drop_link()
        server = self.talk.server
        if upstream is not None:
            sock = await server.dial_upstream(upstream)
        elif self.talk.explicit:
            sock = await server.dial(target.host, target.port)
        else:
            sock = await server.dial_address(*self.talk.dialled)
        self.link = Link(key, sock)
        return self.link

    def _drop_link(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.sock.close()

    async def _relay(self, link: Link, request: h11.Request, upstream: Upstream | None) -> bool:
        """Passes a request and its response on, both at one time; whether the guest's connection goes on."""
        data = link.http.send(request) or b""
        # a request that is repeated has been read to its end
        event: Any = h11.EndOfMessage() if self.guest.their_state is h11.DONE else self.guest.next_event()
        self._had_body = not isinstance(event, h11.EndOfMessage)
        up: asyncio.Task[None] | None = None
        if not self._had_body:
            data += link.http.send(event) or b""
            event = None
        with contextlib.suppress(OSError):  # its answer, or its end, is read below
            await send(link.sock, data)
        if event is not None:
            up = asyncio.ensure_future(self._body_up(link, event))
        down = asyncio.ensure_future(self._response_down(link, upstream))
        try:
            await self._both(up, down)
            going_on = down.result()
        finally:
            for task in (up, down):
                if task is not None:
                    task.cancel()
            await asyncio.gather(*(task for task in (up, down) if task is not None), return_exceptions=True)
        if not going_on:
            return False
        if link.http.our_state is link.http.their_state is h11.DONE:
            link.http.start_next_cycle()
        else:
            self._drop_link()
        return True

    async def _both(self, up: asyncio.Task[None] | None, down: asyncio.Task[bool]) -> None:
        """Until request and response are complete, the guest has gone, or it takes too long.

        Raises:
            GuestGone, DialError, or what the response's task raises.
        """
        loop = asyncio.get_running_loop()
        server = self.talk.server
        begun = loop.time()
        while True:
            if up is not None and up.done():
                up.result()
                up, begun = None, loop.time()
            if down.done():
                down.result()
                if up is None or self._cut_short:
                    return
            waited = {task for task in (up, down) if task is not None and not task.done()}
            done, _ = await asyncio.wait(waited, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if done:
                continue
            if has_gone(self.talk.sock):
                raise GuestGone
            if up is None and self._silent and loop.time() - begun > server.response_seconds:
                raise DialError(504, f"No answer has come for {server.response_seconds:.0f} seconds.")

    async def _body_up(self, link: Link, event: Any) -> None:
        while True:
            if event is h11.NEED_DATA:
                await self._read()
            elif isinstance(event, h11.ConnectionClosed):
                raise GuestGone
            else:
                try:
                    await send(link.sock, link.http.send(event))
                except (OSError, h11.LocalProtocolError):
                    return  # it takes no more; its answer says why
                if isinstance(event, h11.EndOfMessage):
                    return
            try:
                event = self.guest.next_event()
            except h11.RemoteProtocolError:
                raise GuestGone from None

    async def _response_down(self, link: Link, upstream: Upstream | None) -> bool:
        self._silent, self._cut_short = True, False
        while True:
            event = await link.event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    await self._switch(link, event)
                    return False
                if self.guest.their_http_version != b"1.0":
                    headers = [*event.headers.raw_items(), via_of(event, self.talk.server.pseudonym)]
                    await self._say(h11.InformationalResponse(status_code=event.status_code, headers=headers))
            elif isinstance(event, h11.Response):
                self._silent = False
                if event.status_code == 407 and not self.talk.explicit:
                    raise DialError(407, self.talk.server.refusal(upstream, event), extra=_challenge(event))
                answer = passed_response(event, self.talk.explicit, self.talk.server.pseudonym)
                if self.guest.their_state is h11.SEND_BODY and (
                    self.guest.they_are_waiting_for_100_continue or _closes(event)
                ):
                    # nobody wants the rest of the request, and so it will not be read
                    self._cut_short = True
                    headers = [*answer.headers.raw_items(), (b"Connection", b"close")]
                    answer = h11.Response(
                        status_code=answer.status_code, headers=headers, reason=answer.reason
                    )
                await self._say(answer)
            elif isinstance(event, h11.Data):
                await self._say(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._say(event)
                return True
            else:
                raise UpstreamFailed("has ended the connection without an answer", unheard=True)

    async def _switch(self, link: Link, event: h11.InformationalResponse) -> None:
        """101: what follows in both directions is no HTTP."""
        headers = [*event.headers.raw_items(), via_of(event, self.talk.server.pseudonym)]
        data = self.guest.send(
            h11.InformationalResponse(status_code=101, headers=headers, reason=event.reason)
        )
        self.link = None
        await self.talk.tunnel(
            link.sock, self.guest.trailing_data[0], (data or b"") + link.http.trailing_data[0]
        )

    _head = False  # the request wants no body of the answer
    _silent = True  # nothing of the response has come yet
    _had_body = False
    _cut_short = False  # the answer has come, and the rest of the request is not wanted


def _closes(response: h11.Response) -> bool:
    return any(n == b"connection" and b"close" in v.lower() for n, v in response.headers)


def _challenge(response: h11.Response) -> tuple[tuple[str, str], ...]:
    return tuple(
        ("Proxy-Authenticate", value.decode("latin-1"))
        for name, value in response.headers
        if name == b"proxy-authenticate"
    )
