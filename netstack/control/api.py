"""The control API of a running instance: HTTP and JSON, served by aiohttp over a Unix socket.

A thread and a loop of its own serve it. Each request is answered in a worker thread, since some ask the engine and
wait for its next round, or bind sockets. Described to clients by GET /v1/openapi.json, to people by
docs/control-api.md. What it can do is data (`routes`, `vpnkit`, `gvproxy`); here is how requests come in and go out,
and what one client may cost (`guard`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from netstack.capturing import BusyError
from netstack.control import answers, gvproxy, routes, vpnkit
from netstack.control.captures import Captures
from netstack.control.guard import Guard
from netstack.control.instances import BACKLOG, InstanceError, listening, place
from netstack.control.loop import ControlLoop
from netstack.control.operations import Operations
from netstack.control.refused import Refused
from netstack.control.routes import Route, folded
from netstack.control.streams import Streams
from netstack.errors import NetstackError
from netstack.host_route import HostRoutes

if TYPE_CHECKING:
    from netstack.gateway import Gateway

__all__ = ["ROUTES", "ApiServer"]

MAX_BODY = 1 << 16  # bytes of a request
GRACE_SECONDS = 2.0  # for requests under way when the instance stops
BODY_SECONDS = 10.0  # for a request's body to arrive
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

#: Every operation, ours and those of other programs' clients.
ROUTES: tuple[Route, ...] = (*routes.ROUTES, *vpnkit.ROUTES, *gvproxy.ROUTES)


class ApiServer:
    """The control API of one gateway, a context manager; to be stopped before the gateway is.

    Args:
        gateway: a started one.
        where: "on" for the default socket, the name of an instance, or a path.
        command: what started it: serve, run or attach.
        shutdown: called, in a worker thread, when a client asks the instance to stop.
        listen: the places where guests come in.

    Raises:
        InstanceError: aiohttp is not installed, or the socket cannot be had.
    """

    def __init__(
        self,
        gateway: Gateway,
        where: str,
        command: str,
        shutdown: Callable[[], None],
        listen: Sequence[str] = (),
    ) -> None:
        try:
            import aiohttp.web
        except ImportError:
            raise InstanceError(
                "the control API needs aiohttp: install it with pip install 'netstack[api]', or give --api off"
            ) from None
        self._web: Any = aiohttp.web
        self._gateway = gateway
        self._stopped = False
        self.name, self.path = place(where)
        self._routes = HostRoutes(gateway)
        self._operations = {
            "netstack": Operations(gateway, self.name, command, shutdown, listen, self._routes, described),
            "vpnkit": vpnkit.Operations(gateway),
            "gvproxy": gvproxy.Operations(gateway),
        }
        self._socket = listening(self.path)
        self._inode = os.stat(self.path).st_ino
        self._loop = ControlLoop("netstack-api")
        self._guard = Guard()
        self._runner: Any = None
        self._streams = Streams(gateway, self._web, self._routes)
        self._captures = Captures(gateway, self._web)
        try:
            self._loop.call(self._serve())
        except BaseException:
            self.stop()
            raise

    async def _serve(self) -> None:
        web = self._web

        async def in_json(
            request: Any, handler: Any
        ) -> Any:  # aiohttp marks it, which a method does not allow
            return await self._in_json(request, handler)

        app = web.Application(client_max_size=MAX_BODY, middlewares=[web.middleware(in_json)])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        app.on_shutdown.append(self._streams.end)
        app.on_shutdown.append(self._captures.end)
        for path in gvproxy.POST_ONLY:
            app.router.add_route("*", path, self._post_only)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE_SECONDS)
        await self._runner.setup()
        server = self._runner.server
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: self._guard.wrap(server()), sock=self._socket, backlog=BACKLOG
        )
        self._loop.spawn(self._guard.watch())

    def stop(self) -> None:
        """Ends requests under way, in 2 s at most, and removes the socket. Harmless when called again."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        if self._runner is not None:
            self._loop.call(self._end())
        self._loop.stop()
        self._socket.close()

    async def _end(self) -> None:
        self._server.close()
        await self._runner.cleanup()

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- requests

    async def _in_json(self, request: Any, handler: Any) -> Any:
        """Errors, aiohttp's own among them, are JSON with one sentence."""
        self._guard.begins(request.transport)
        try:
            return await handler(request)
        except self._web.HTTPException as err:
            text = f"{request.method} {request.path} cannot be served: {err.reason}"
            answer = self._json(answers.Error(text), err.status)
            if "Allow" in err.headers:
                answer.headers["Allow"] = err.headers["Allow"]
            return answer
        finally:
            self._guard.ends(request.transport)

    def _json(self, value: Any, status: int) -> Any:
        return self._web.Response(
            body=msgspec.json.encode(value), status=status, content_type="application/json"
        )

    def _refusal(self, route: Route, status: int, text: str) -> Any:
        """An error in the form that the clients of a route expect."""
        if route.error is str:
            return self._web.Response(text=text + "\n", status=status)
        return self._json(route.error(text), status)

    async def _post_only(self, request: Any) -> Any:
        return self._web.Response(text="post only\n", status=400)

    def _handler(self, route: Route) -> Any:
        work: Any
        if route.stream:
            work = getattr(self._captures if route.handler == "capture" else self._streams, route.handler)
        else:
            work = getattr(self._operations[route.tag], route.handler)

        async def answer(request: Any) -> Any:
            try:
                given = list(request.match_info.values())
                if route.request is not None:
                    given.append(decoded(route, await asyncio.wait_for(request.read(), BODY_SECONDS)))
                options = parameters(route, request.query)
                if route.stream:
                    self._guard.streams(request.transport)
                    return await work(request, *given, **options)
                if route.handler == "start_capture":
                    await self._captures.end_of_gone()
                value = await asyncio.to_thread(work, *given, **options)
                if route.handler == "start_capture":
                    self._loop.spawn(self._captures.end_in_time(given[-1].seconds))
            except Refused as err:
                return self._refusal(route, err.status, str(err))
            except BusyError as err:
                return self._refusal(route, 409, str(err))
            except NetstackError as err:
                return self._refusal(route, 400, str(err))
            except asyncio.TimeoutError:
                return self._refusal(
                    route, 408, f"the request's body has not come in {BODY_SECONDS:.0f} seconds"
                )
            if route.answer is not None:
                return self._json(value, route.status)
            if route.media is None:
                return self._web.Response(body=value, status=route.status)
            media = PROMETHEUS if route.path == "/metrics" else f"{route.media}; charset=utf-8"
            return self._web.Response(body=value, status=route.status, headers={"Content-Type": media})

        return answer


def described() -> dict[str, Any]:
    """The API's description of itself."""
    from netstack.control.openapi import describe

    return describe(ROUTES)


def decoded(route: Route, body: bytes) -> Any:
    """A request's body as the type that its route takes.

    Raises:
        Refused: it is none.
    """
    try:
        if route.loose is None:
            return msgspec.json.decode(body, type=route.request)
        return msgspec.convert(folded(msgspec.json.decode(body), route.loose), type=route.request)
    except (msgspec.DecodeError, RecursionError) as err:
        raise Refused(400, f"the request cannot be understood: {err}") from None


def parameters(route: Route, query: Any) -> dict[str, Any]:
    """The parameters behind the question mark.

    Raises:
        Refused: one is not the route's, or has no value that it may have.
    """
    out = {}
    for name in query if route.query else ():
        values = query.getall(name)
        if name not in route.query or len(values) != 1:
            raise Refused(400, f"{route.method} {route.path} has no parameter {name!r}, or only one of it")
        try:
            out[name] = msgspec.convert(values[0], type=route.query[name], strict=False)
        except msgspec.ValidationError as err:
            raise Refused(400, f"the parameter {name} cannot be {values[0]!r}: {err}") from None
    return out
