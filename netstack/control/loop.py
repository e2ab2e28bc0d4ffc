"""The asyncio loop of the control plane, in a thread of its own, started when something first needs it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ..services.dns_stream import Cache, Upstream, serve_dns_stream
from ..services.dns_table import DnsTable

T = TypeVar("T")


class ControlLoop:
    """Runs the services that speak over streams, in a thread of this name."""

    def __init__(self, name: str = "netstack-services") -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def serve_dns(
        self,
        sock: socket.socket,
        names: Callable[[], DnsTable],
        upstreams: Callable[[bytes], Sequence[Upstream]],
        cache: Cache,
    ) -> None:
        """Answers DNS queries on a connected stream socket until the client has ended; owns the socket."""
        sock.setblocking(False)

        async def serve() -> None:
            reader, writer = await asyncio.open_connection(sock=sock)
            await serve_dns_stream(reader, writer, names, upstreams, cache=cache)

        self.spawn(serve())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine on the loop until it ends or the loop is stopped. From any thread."""
        self._loop.call_soon_threadsafe(self._keep, work)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and waits for what it returns or raises. From any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancels what is under way and joins the thread."""

        async def cancel() -> None:
            this = asyncio.current_task()
            tasks = [
                task for task in asyncio.all_tasks() if task is not this
            ]  # also those that services have begun
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # what they have closed is closed in the next round

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
