"""The loop of the services, and its end."""

from __future__ import annotations

import asyncio

from netstack.control.loop import ControlLoop


def test_stop_ends_what_a_service_has_begun_by_itself() -> None:
    loop = ControlLoop()
    begun: list[asyncio.Task[None]] = []

    async def service() -> None:
        begun.append(asyncio.create_task(asyncio.sleep(60)))

    loop.call(service())
    loop.stop()
    assert begun[0].cancelled()
