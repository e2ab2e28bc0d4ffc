"""What a test pays for its network: a gateway and a guest in memory, made and stopped."""

from __future__ import annotations

from typing import Any

from netstack import Config, Gateway
from netstack.testing import memory_guest
from netstack.testing.plugin import settled


def test_guest_in_memory(benchmark: Any) -> None:
    """The fixture ``guest``: a network with threads of its own, ready for the first connection."""

    def made() -> None:
        with Gateway(Config(dns=())) as gateway, memory_guest(gateway) as guest:
            settled(guest, gateway)

    benchmark.pedantic(made, rounds=50, warmup_rounds=2)
