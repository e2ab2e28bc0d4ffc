"""The control API of a running instance: HTTP and JSON, served by aiohttp over a Unix socket.

A thread and a loop of its own serve it. Each request is answered in a worker thread, since some ask the engine and
wait for its next round, or bind sockets. Described to clients by GET /v1/openapi.json, to people by
docs/control-api.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from netstack import __version__
from netstack.control import answers
from netstack.control.instances import InstanceError, listening, place
from netstack.control.loop import ControlLoop
from netstack.control.refused import Refused
from netstack.control.streams import Streams
from netstack.errors import NetstackError
from netstack.host_route import HostRoutes

if TYPE_CHECKING:
    from netstack.gateway import Gateway
    from netstack.reach import Published

__all__ = ["ROUTES", "ApiServer", "Route"]

MAX_BODY = 1 << 16  # bytes of a request
GRACE_SECONDS = 2.0  # for requests under way when the instance stops
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Route(NamedTuple):
    """One operation: what `ApiServer` method answers it, with which type, and how it can fail."""

    method: str
    path: str
    handler: str
    summary: str
    answer: Any = None  #: type of the answer, None where it is not JSON
    status: int = 200
    request: Any = None  #: type of the request's body
    media: str | None = None  #: of an answer that is not JSON
    errors: dict[int, str] = {}  # noqa: RUF012  # never changed
    stream: bool = False  #: answered by `Streams` instead, on the connection itself


ROUTES = (
    Route("GET", "/v1/info", "info", "What this instance is", answers.Info),
    Route("GET", "/v1/stats", "stats", "All counters by name", dict[str, int]),
    Route("GET", "/v1/flows", "flows", "The flows at this moment", answers.Flows),
    Route("GET", "/v1/guests", "guests", "Leases and links", answers.Guests),
    Route("GET", "/v1/ports", "ports", "The published ports", answers.Ports),
    Route(
        "POST",
        "/v1/ports",
        "publish",
        "Publish a port",
        answers.Port,
        201,
        answers.Publish,
        errors={400: "The notation is wrong, or the port cannot be had"},
    ),
    Route(
        "DELETE",
        "/v1/ports/{id}",
        "release",
        "Release a published port; open connections go on",
        status=204,
        errors={404: "There is no such publication"},
    ),
    Route(
        "POST",
        "/v1/ping",
        "ping",
        "Send echo requests to a guest; each answer is a line of JSON (PingReply) as it comes",
        request=answers.Ping,
        media="application/x-ndjson",
        errors={404: "There is no such guest"},
        stream=True,
    ),
    Route(
        "POST",
        "/v1/connect",
        "connect",
        "Connect to a TCP port of a guest; the connected socket comes as a descriptor (SCM_RIGHTS) with the answer",
        status=101,
        request=answers.Connect,
        errors={
            404: "There is no such guest",
            426: "The request does not say Upgrade: descriptor",
            502: "The guest refuses, or cannot be reached",
            504: "The guest does not answer",
        },
        stream=True,
    ),
    Route("GET", "/v1/routes", "routes", "The host's routes to the guests", answers.Routes),
    Route(
        "POST",
        "/v1/routes",
        "route",
        "Make a route: a descriptor comes with the answer, for a RouteOffer, a RouteDevice with its TAP, and a Route",
        status=101,
        errors={
            409: "Guests are isolated, or no address is free",
            426: "The request does not say Upgrade: descriptor",
        },
        stream=True,
    ),
    Route(
        "DELETE",
        "/v1/routes/{id}",
        "unroute",
        "Take a route away, and its device",
        status=204,
        errors={404: "There is no such route"},
    ),
    Route("POST", "/v1/shutdown", "shutdown", "Stop the instance", answers.Stopping, 202),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Counters and gauges for Prometheus",
        media="text/plain",
        errors={503: "prometheus_client is not installed"},
    ),
    Route("GET", "/v1/openapi.json", "openapi", "This description", dict[str, Any]),
)


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
        self._command = command
        self._shutdown = shutdown
        self._listen = list(listen)
        self._started = time.time()
        self._began = time.monotonic()
        self._stopped = False
        self.name, self.path = place(where)
        self._socket = listening(self.path)
        self._inode = os.stat(self.path).st_ino
        self._loop = ControlLoop("netstack-api")
        self._runner: Any = None
        self._routes = HostRoutes(gateway)
        self._streams = Streams(gateway, self._web, self._routes)
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
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    def stop(self) -> None:
        """Ends requests under way, in 2 s at most, and removes the socket. Harmless when called again."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        if self._runner is not None:
            self._loop.call(self._runner.cleanup())
        self._loop.stop()
        self._socket.close()

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- requests

    async def _in_json(self, request: Any, handler: Any) -> Any:
        """Errors, aiohttp's own among them, are JSON with one sentence."""
        try:
            return await handler(request)
        except self._web.HTTPException as err:
            status, text = err.status, f"{request.method} {request.path} cannot be served: {err.reason}"
        except Refused as err:
            status, text = err.status, str(err)
        return self._json(answers.Error(text), status)

    def _json(self, value: Any, status: int) -> Any:
        return self._web.Response(
            body=msgspec.json.encode(value), status=status, content_type="application/json"
        )

    def _handler(self, route: Route) -> Any:
        work = getattr(self._streams if route.stream else self, route.handler)

        async def answer(request: Any) -> Any:
            given: list[Any] = list(request.match_info.values())
            if route.request is not None:
                try:
                    given.append(msgspec.json.decode(await request.read(), type=route.request))
                except msgspec.DecodeError as err:
                    raise Refused(400, f"the request cannot be understood: {err}") from None
            if route.stream:
                return await work(request, *given)
            value = await asyncio.to_thread(work, *given)
            if route.answer is not None:
                return self._json(value, route.status)
            headers = {"Content-Type": PROMETHEUS} if route.media else None
            return self._web.Response(body=value, status=route.status, headers=headers)

        return answer

    # --- what they are answered

    def info(self) -> answers.Info:
        """The instance itself."""
        c = self._gateway.config
        return answers.Info(
            name=self.name,
            pid=os.getpid(),
            version=__version__,
            command=self._command,
            network=c.network,
            gateway=c.gateway,
            host_alias=c.host_alias,
            mtu=c.mtu,
            listen=self._listen,
            started=self._started,
            uptime=time.monotonic() - self._began,
        )

    def stats(self) -> dict[str, int]:
        """The counters."""
        return self._gateway.stats()

    def flows(self) -> answers.Flows:
        """The flows."""
        return answers.Flows([answers.Flow(**flow) for flow in self._gateway.flows()])

    def guests(self) -> answers.Guests:
        """Leases and links."""
        leases = [
            answers.Guest(str(x.address), x.mac.hex(":"), x.name, x.state, x.expires)
            for x in self._gateway.leases()
        ]
        links = [answers.Link(port, label) for port, label in sorted(self._gateway.links().items())]
        return answers.Guests(leases, links)

    def ports(self) -> answers.Ports:
        """The publications."""
        return answers.Ports([port_of(p) for p in self._gateway.published()])

    def publish(self, wanted: answers.Publish) -> answers.Port:
        """Publishes a port.

        Raises:
            Refused: it cannot be done.
        """
        try:
            return port_of(self._gateway.publish(wanted.spec))
        except NetstackError as err:
            raise Refused(400, str(err)) from None
        except OSError as err:
            raise Refused(400, f"{wanted.spec} cannot be published: {err.strerror or err}") from None

    def release(self, number: str) -> None:
        """Releases a publication.

        Raises:
            Refused: there is none of that number.
        """
        for published in self._gateway.published():
            if str(published.id) == number:
                published.close()
                return
        raise Refused(404, f"no port is published as {number}: see netstack port list")

    def routes(self) -> answers.Routes:
        """The host's routes."""
        return answers.Routes([answers.Route(*route) for route in self._routes.all()])

    def unroute(self, number: str) -> None:
        """Takes a route away.

        Raises:
            Refused: there is none of that number.
        """
        if not (number.isdecimal() and self._routes.remove(int(number))):
            raise Refused(404, f"no route has the number {number}: see netstack route show")

    def shutdown(self) -> answers.Stopping:
        """Stops the instance; this answer is still sent."""
        self._shutdown()
        return answers.Stopping(True)

    def metrics(self) -> bytes:
        """Prometheus' text.

        Raises:
            Refused: prometheus_client is missing.
        """
        from netstack.control.metrics import exposition

        try:
            return exposition(self._gateway)
        except NetstackError as err:
            raise Refused(503, str(err)) from None

    def openapi(self) -> dict[str, Any]:
        """The description."""
        from netstack.control.openapi import describe

        return describe(ROUTES)


def port_of(published: Published) -> answers.Port:
    """A publication as the API shows it."""
    spec = published.spec
    return answers.Port(
        published.id, str(spec), spec.protocol, spec.guest, spec.guest_port, spec.count, published.places
    )
