"""Requests of the control API that are more than a question and an answer.

``ping`` answers with a line of JSON for each echo request, for as long as the client reads. ``connect`` hands the
client a descriptor: the engine's end of a dialled connection is one end of a socket pair already, so the other end can
as well be the client's. It travels with the answer's head (``SCM_RIGHTS``, unix(7)), and from then on neither HTTP nor
Python stands between the client and the engine. ``route`` hands out one end of a pair of sockets in the same way, on
which the client gets told how to set its device up, and gives the device back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from netstack.control.answers import Error, PingReply, Route, RouteDevice, RouteOffer
from netstack.control.refused import Refused
from netstack.errors import NetstackError
from netstack.publish import host_port

if TYPE_CHECKING:
    from concurrent.futures import Future

    from netstack.control.answers import Connect, Ping
    from netstack.gateway import Gateway
    from netstack.host_route import HostRoutes, Offer

__all__ = ["Streams"]

DEVICE_SECONDS = 20.0  # for a client to set its device up
LOOK_SECONDS = 1.0  # how often a request that waits looks whether its client is still there
MOST_WAITING = 1024  # echo requests of one client that are not answered, or whose answers are not read
ICMP_HEADER = 8  # bytes
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: descriptor\r\n\r\n"


class ClientGone(ConnectionError):
    """Nobody waits for the answer any more."""


class Streams:
    """Answers these requests for one gateway, in the API's loop.

    Args:
        gateway: a started one.
        web: the module aiohttp.web.
        routes: the gateway's.
    """

    def __init__(self, gateway: Gateway, web: Any, routes: HostRoutes) -> None:
        self._gateway = gateway
        self._web = web
        self._routes = routes
        self._tasks: set[asyncio.Task[Any]] = set()

    async def end(self, app: object = None) -> None:
        """Ends what is under way."""
        for task in list(self._tasks):
            task.cancel()

    @contextlib.contextmanager
    def _under_way(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    # --- ping

    async def ping(self, request: Any, wanted: Ping) -> Any:
        """Sends echo requests, whether they are answered or not, until the client has gone or there were enough.

        Raises:
            Refused: no guest is meant.
        """
        address = self._address(wanted.guest)
        answer = self._web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        waiting: set[asyncio.Task[None]] = set()
        writing = asyncio.Lock()

        async def line(value: PingReply) -> None:
            async with writing:
                await answer.write(msgspec.json.encode(value) + b"\n")

        async def one(seq: int) -> None:
            value = PingReply(seq, address, wanted.size + ICMP_HEADER, None)
            with contextlib.suppress(asyncio.TimeoutError, OSError):
                sent_ns, answered = await asyncio.to_thread(self._gateway.ping_soon, address, wanted.size)
                back_ns = await asyncio.wait_for(asyncio.wrap_future(answered), wanted.timeout)
                value.rtt = (back_ns - sent_ns) / 1e9
            with contextlib.suppress(ConnectionError):
                await line(value)

        with self._under_way():
            await answer.prepare(request)
            loop = asyncio.get_running_loop()
            due, seq = loop.time(), 0
            try:
                while wanted.count is None or seq < wanted.count:
                    seq += 1
                    task = asyncio.create_task(one(seq))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                    due += wanted.interval
                    while len(waiting) >= MOST_WAITING:  # the client does not read
                        await asyncio.wait(waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                        still_there(request)
                    while seq != wanted.count and (wait := due - loop.time()) > 0:
                        await asyncio.sleep(min(wait, LOOK_SECONDS))
                        still_there(request)
                while waiting:
                    await asyncio.wait(waiting, timeout=LOOK_SECONDS)
                    still_there(request)
            except ClientGone:
                pass
            finally:
                for task in waiting:
                    task.cancel()
        return answer

    def _address(self, guest: str) -> str:
        address = self._gateway.guest_address(guest)
        if address is None:
            raise Refused(404, f"no guest has the name or address {guest!r}: see netstack guests")
        return address

    # --- connect

    async def connect(self, request: Any, wanted: Connect) -> Any:
        """Connects to a guest, and hands the socket over.

        Raises:
            Refused: it cannot be.
        """
        asked_for_descriptor(request)
        address = self._address(wanted.guest)
        with self._under_way():
            try:
                sock, connected = await asyncio.to_thread(self._gateway.dial_soon, address, wanted.port)
            except OSError as err:
                raise Refused(*why_not(err, address, wanted.port)) from None
            with sock:
                try:
                    await self._connected(request, connected, wanted.timeout)
                except OSError as err:
                    raise Refused(*why_not(err, address, wanted.port)) from None
                with contextlib.suppress(OSError):
                    hand_over(request, sock)
        return self._web.Response()  # to nobody: the connection is not aiohttp's any more

    async def _connected(self, request: Any, connected: Future[None], timeout: float | None) -> None:
        waiting = asyncio.wrap_future(connected)
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        try:
            while not waiting.done():
                left = LOOK_SECONDS if end is None else min(LOOK_SECONDS, end - loop.time())
                if left <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                await asyncio.wait({waiting}, timeout=left)
                still_there(request)
            waiting.result()
        finally:
            waiting.cancel()

    # --- routes

    async def route(self, request: Any) -> Any:
        """Makes a route out of a TAP that the client sets up as it is told, and hands over.

        Raises:
            Refused: there can be none.
        """
        asked_for_descriptor(request)
        with self._under_way():
            try:
                offer = await asyncio.to_thread(self._routes.offer)
            except NetstackError as err:
                raise Refused(409, str(err)) from None
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs:
                    hand_over(request, theirs)
            except OSError:
                ours.close()
                await asyncio.to_thread(self._routes.withdraw, offer.address)
            else:
                await asyncio.to_thread(self._settle, ours, offer)
        return self._web.Response()

    def _settle(self, channel: socket.socket, offer: Offer) -> None:
        """Tells what is offered, takes the device, and says how that went; if badly, the address is free again."""
        with channel:
            device = None
            try:
                channel.settimeout(DEVICE_SECONDS)
                channel.send(msgspec.json.encode(RouteOffer(*offer)))
                message, fds, _, _ = socket.recv_fds(channel, 4096, 1)
                if fds:
                    os.set_inheritable(fds[0], False)
                    device = self._routes.admit(offer, fds[0], named_device(message))
                    channel.send(msgspec.json.encode(Route(*device)))
            except OSError as err:
                with contextlib.suppress(OSError):
                    channel.send(
                        msgspec.json.encode(Error(f"the route cannot be served: {err.strerror or err}"))
                    )
            finally:
                if device is None:
                    self._routes.withdraw(offer.address)


def named_device(message: bytes) -> str:
    """The device's name in the client's message; what is no name is no reason to refuse its device."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(message, type=RouteDevice).device
    return "?"


def asked_for_descriptor(request: Any) -> None:
    """Raises `Refused` when the client does not say that it can receive one."""
    if request.headers.get("Upgrade", "").lower() != "descriptor":
        raise Refused(426, "the answer is a descriptor: ask for it with the header Upgrade: descriptor")


def hand_over(request: Any, sock: socket.socket) -> None:
    """Answers with a descriptor, and ends the connection.

    Raises:
        OSError: the client has gone.
    """
    still_there(request)
    with socket.socket(fileno=os.dup(request.transport.get_extra_info("socket").fileno())) as channel:
        request.transport.close()
        socket.send_fds(channel, [SWITCHING], [sock.fileno()])


def still_there(request: Any) -> None:
    """Raises `ClientGone` when the client has closed its connection."""
    if request.transport is None or request.transport.is_closing():
        raise ClientGone


def why_not(err: OSError, address: str, port: int) -> tuple[int, str]:
    """Status and sentence for a guest that cannot be connected to."""
    where = host_port(address, port)
    if err.errno == errno.ECONNREFUSED:
        return 502, f"{where} refuses the connection: nothing listens there"
    if err.errno == errno.ETIMEDOUT:
        return 504, f"{where} does not answer"
    if err.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return 502, f"{where} cannot be reached: no guest has this address (see netstack guests)"
    return 502, f"{where} cannot be connected to: {err.strerror or err}"
