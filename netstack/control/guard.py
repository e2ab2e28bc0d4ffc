"""What one client of the control API may cost: connections, and time on them.

aiohttp bounds a request's head and body in bytes; here they are bounded in time. A connection that has no complete
request for `IDLE_SECONDS`, or whose answer is not taken in `ANSWER_SECONDS`, is closed; of more than `CONNECTIONS`
each new one is closed at once. So whoever holds connections open without asking anything keeps others out for a
quarter of a minute at most.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["ANSWER_SECONDS", "CONNECTIONS", "IDLE_SECONDS", "Guard"]

CONNECTIONS = 128
IDLE_SECONDS = 15.0
ANSWER_SECONDS = 60.0
LOOK_SECONDS = 1.0


class Guard:
    """The connections of one server, each with the time at which it is closed."""

    def __init__(self) -> None:
        self._ends: dict[Any, float] = {}  # transport to the loop's time

    def wrap(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """A protocol that is that one as long as there is room for another connection."""
        return _Guarded(self, protocol)

    def comes(self, transport: Any) -> bool:
        """A new connection; False where there are too many."""
        if len(self._ends) >= CONNECTIONS:
            return False
        self._give(transport, IDLE_SECONDS)
        return True

    def goes(self, transport: Any) -> None:
        """The connection is closed."""
        self._ends.pop(transport, None)

    def begins(self, transport: Any) -> None:
        """A whole head of a request has come."""
        self._give(transport, ANSWER_SECONDS, known=True)

    def streams(self, transport: Any) -> None:
        """The answer to the request may go on for ever."""
        self._give(transport, float("inf"), known=True)

    def ends(self, transport: Any) -> None:
        """The request has been answered, as far as its handler is concerned: the client is to take it, or ask again."""
        self._give(transport, IDLE_SECONDS, known=True)

    def _give(self, transport: Any, seconds: float, known: bool = False) -> None:
        if not known or transport in self._ends:
            self._ends[transport] = asyncio.get_running_loop().time() + seconds

    async def watch(self) -> None:
        """Closes those whose time is over, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            for transport in [t for t, end in self._ends.items() if end <= now]:
                del self._ends[transport]
                transport.abort()


class _Guarded(asyncio.Protocol):
    """Passes a connection's events on, if it is let in."""

    def __init__(self, guard: Guard, inner: Any) -> None:
        self._guard = guard
        self._inner = inner
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._guard.comes(transport):
            self._transport = transport
            self._inner.connection_made(transport)
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._guard.goes(self._transport)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> Any:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
