"""Captures over the control API: one that is streamed to a client, and the end of one that goes to a file.

The capture's own thread writes into a pipe: what a slow client leaves there fills the queue behind the engine, and is
then lost, and counted. A capture ends when
its time is over, when it has come to its limit, when its client goes, or when anybody stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.gateway import Gateway

__all__ = ["MEDIA", "Captures"]

MEDIA = "application/x-pcapng"
LOOK_SECONDS = 0.2  # how often it is looked whether a capture is over
PIPE_BYTES = 1 << 20  # between the engine and the client, where the system grants it


class Captures:
    """Streams captures of one gateway, in the API's loop.

    Args:
        gateway: a started one.
        web: the module aiohttp.web.
    """

    def __init__(self, gateway: Gateway, web: Any) -> None:
        self._gateway = gateway
        self._web = web
        self._ending = False
        self._streamed: tuple[Any, int] | None = None  #: the request that a capture goes to, and its number

    async def end(self, app: object = None) -> None:
        """Ends what is under way."""
        self._ending = True

    async def capture(
        self,
        request: Any,
        snaplen: int = 0,
        seconds: float = 0.0,
        bytes: int = 0,
        filter: str = "",
        wire_frames: int = 0,
    ) -> Any:
        """Sends every frame as pcapng.

        Raises:
            BusyError: a capture is running.
            ConfigError: the filter cannot be used.
        """
        await self.end_of_gone()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            number = await asyncio.to_thread(
                self._gateway.start_capture,
                writing,
                snaplen=snaplen,
                limit=bytes,
                filter=filter,
                wire_frames=bool(wire_frames),
            )
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        self._streamed = request, number
        watch = asyncio.create_task(self._stop_when_over(number, seconds, request))
        stream = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
        )
        response = self._web.StreamResponse(headers={"Content-Type": MEDIA})
        try:
            with contextlib.suppress(ConnectionError):  # the client has gone
                await response.prepare(request)
                while chunk := await stream.read(1 << 16):
                    await response.write(chunk)
                await response.write_eof()
        finally:
            if self._streamed == (request, number):  # else another one has begun
                self._streamed = None
            watch.cancel()
            pipe.close()
            self._gateway.stop_capture(number)  # its pipe is closed: there is nothing to wait for
        return response

    async def end_of_gone(self) -> None:
        """Ends the stream whose client has gone, not only at the next look: another one need not be refused."""
        if self._streamed is not None and _has_gone(self._streamed[0]):
            await asyncio.to_thread(self._gateway.stop_capture, self._streamed[1])

    async def end_in_time(self, seconds: float) -> None:
        """Ends the capture that has just begun when its time is over (0: never), or at its limit."""
        found = self._gateway.capture()
        if found is not None:
            await self._stop_when_over(found["number"], seconds)

    async def _stop_when_over(self, number: int, seconds: float, request: Any = None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds if seconds else None
        while True:
            await asyncio.sleep(LOOK_SECONDS if end is None else max(0, min(LOOK_SECONDS, end - loop.time())))
            found = self._gateway.capture()
            if found is None or found["number"] != number:
                return
            gone = request is not None and _has_gone(request)
            over = end is not None and loop.time() >= end
            stopping = request is not None and self._ending
            if gone or over or stopping or found["full"] or found["error"]:
                await asyncio.to_thread(self._gateway.stop_capture, number)
                return


def _has_gone(request: Any) -> bool:
    """Whether the client has closed its connection."""
    return request.transport is None or request.transport.is_closing()
