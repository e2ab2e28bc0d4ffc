"""What moves between two looks at an instance: bytes a second of flows and guests, and counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from netstack.control.client import Client

__all__ = ["Guest", "Look", "Sampler", "bits"]

#: What every packet moves, and what is shown elsewhere.
ORDINARY = frozenset(
    {"up_bytes", "down_bytes", "up_frames", "down_frames", "tcp_bytes_up", "tcp_bytes_down", "engine_wakeups"}
)
REMEMBERED_SECONDS = 30.0  # how long a counter that has moved is shown
UNITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")


class Guest(NamedTuple):
    """One guest's part; rates are in bytes a second."""

    address: str
    name: str
    up: float
    down: float
    flows: int


class Look(NamedTuple):
    """An instance as it is, and what has moved in the ``interval`` (seconds) since the look before.

    Rates are in bytes a second. Flows are as the API has them, with ``up_rate`` and ``down_rate``, those that carry
    most first. ``moved`` are the counters that went up, by how much; ``recent`` those that did so lately, newest
    first.
    """

    time: float
    interval: float
    up: float
    down: float
    guests: list[Guest]
    flows: list[dict[str, Any]]
    moved: dict[str, int]
    recent: list[str]
    counters: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "time": self.time,
            "interval": self.interval,
            "up_rate": self.up,
            "down_rate": self.down,
            "guests": [
                {"guest": g.address, "name": g.name, "up_rate": g.up, "down_rate": g.down, "flows": g.flows}
                for g in self.guests
            ],
            "flows": self.flows,
            "counters": self.moved,
        }


class Sampler:
    """Looks at an instance again and again, and remembers what it saw.

    Args:
        client: the instance.
        clock: seconds, monotonic.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._then: float | None = None
        self._flows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._counters: dict[str, int] = {}
        self._moved_at: dict[str, float] = {}

    def look(self) -> Look:
        """What there is now. Before a second look nothing has a rate.

        Raises:
            InstanceError: the instance does not answer.
        """
        counters: dict[str, int] = self._client.ask("GET", "/v1/stats")
        found = self._client.ask("GET", "/v1/flows")["flows"]
        names = {g["address"]: g["name"] for g in self._client.ask("GET", "/v1/guests")["guests"]}
        now = self._clock()
        interval = 0.0 if self._then is None else max(now - self._then, 1e-3)

        def rate(amount: float) -> float:
            return amount / interval if interval else 0.0

        flows = {}
        for flow in found:
            # An id is used again for another flow, which then has other ends.
            key = (flow["id"], flow["guest"], flow["guest_port"], flow["peer"], flow["peer_port"])
            before = self._flows.get(key, {"bytes_up": 0, "bytes_down": 0})
            for way in ("up", "down"):
                moved = flow[f"bytes_{way}"] - before[f"bytes_{way}"]
                flow[f"{way}_rate"] = rate(max(0, moved))
            flows[key] = flow
        moved = {
            name: value - self._counters.get(name, 0)
            for name, value in counters.items()
            if interval and value > self._counters.get(name, 0)
        }
        self._moved_at |= dict.fromkeys(moved.keys() - ORDINARY, now)
        self._moved_at = {n: at for n, at in self._moved_at.items() if now - at < REMEMBERED_SECONDS}
        out = Look(
            time.time(),
            interval,
            rate(moved.get("up_bytes", 0)),
            rate(moved.get("down_bytes", 0)),
            guests_of(flows.values(), names),
            sorted(flows.values(), key=busiest, reverse=True),
            moved,
            sorted(self._moved_at, key=lambda name: (-self._moved_at[name], name)),
            counters,
        )
        self._then, self._flows, self._counters = now, flows, counters
        return out


def busiest(flow: dict[str, Any]) -> tuple[float, int]:
    """What flows are sorted by: their rate, then all they have carried."""
    return flow["up_rate"] + flow["down_rate"], flow["bytes_up"] + flow["bytes_down"]


def guests_of(flows: Any, names: dict[str, str]) -> list[Guest]:
    """The guests that have flows or leases, those that carry most first."""
    sums: dict[str, list[float]] = {address: [0.0, 0.0, 0] for address in names}
    for flow in flows:
        entry = sums.setdefault(flow["guest"], [0.0, 0.0, 0])
        entry[0] += flow["up_rate"]
        entry[1] += flow["down_rate"]
        entry[2] += 1
    guests = [Guest(a, names.get(a, ""), up, down, int(n)) for a, (up, down, n) in sums.items()]
    return sorted(guests, key=lambda g: (-(g.up + g.down), -g.flows, g.address))


def bits(bytes_a_second: float) -> str:
    """A rate in a few characters, in bits a second as is the custom for networks; "" for none."""
    rate = bytes_a_second * 8
    if rate < 1:
        return ""
    for unit in UNITS:
        if rate < 999.5 or unit == UNITS[-1]:
            return f"{rate:.1f} {unit}" if rate < 99.95 and unit != UNITS[0] else f"{rate:.0f} {unit}"
        rate /= 1000
    raise AssertionError(rate)
