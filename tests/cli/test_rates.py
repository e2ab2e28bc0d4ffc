"""What moves between two looks, of an instance that is made up."""

from __future__ import annotations

from typing import Any

import pytest

from netstack.cli.rates import Sampler, bits


class Instance:
    """Answers as it is told to; its clock goes a second a look."""

    def __init__(self) -> None:
        self.flows: list[dict[str, Any]] = []
        self.stats: dict[str, int] = {}
        self.seconds = 0.0

    def ask(self, method: str, path: str) -> Any:
        guests = [{"address": "10.0.0.3", "name": "web"}, {"address": "10.0.0.4", "name": ""}]
        return {
            "/v1/stats": dict(self.stats),
            "/v1/flows": {"flows": [dict(flow) for flow in self.flows]},
            "/v1/guests": {"guests": guests},
        }[path]

    def clock(self) -> float:
        self.seconds += 2.0
        return self.seconds


def flow(number: int, port: int, up: int, down: int, guest: str = "10.0.0.3") -> dict[str, Any]:
    return {
        "id": number,
        "guest": guest,
        "guest_port": port,
        "peer": "192.0.2.1",
        "peer_port": 80,
        "bytes_up": up,
        "bytes_down": down,
    }


@pytest.fixture
def instance() -> Instance:
    return Instance()


def test_rates_of_flows_and_guests(instance: Instance) -> None:
    sampler = Sampler(instance, instance.clock)  # type: ignore[arg-type]
    instance.flows = [flow(1, 1000, 50, 60), flow(2, 1001, 0, 0, "10.0.0.9")]
    first = sampler.look()
    assert (first.interval, first.up, first.moved) == (0, 0, {})
    assert [f["up_rate"] for f in first.flows] == [0, 0]
    instance.flows = [flow(1, 1000, 150, 60), flow(2, 1001, 0, 400, "10.0.0.9"), flow(3, 1002, 8, 8)]
    look = sampler.look()
    assert look.interval == 2
    assert [(f["id"], f["up_rate"], f["down_rate"]) for f in look.flows] == [
        (2, 0, 200),
        (1, 50, 0),
        (3, 4, 4),
    ]
    assert [(g.address, g.name, g.up, g.down, g.flows) for g in look.guests] == [
        ("10.0.0.9", "", 0, 200, 1),
        ("10.0.0.3", "web", 54, 4, 2),
        ("10.0.0.4", "", 0, 0, 0),
    ]


def test_an_id_that_is_used_again_is_another_flow(instance: Instance) -> None:
    sampler = Sampler(instance, instance.clock)  # type: ignore[arg-type]
    instance.flows = [flow(1, 1000, 5000, 0)]
    sampler.look()
    instance.flows = [flow(1, 2000, 6000, 0)]
    assert sampler.look().flows[0]["up_rate"] == 3000


def test_counters_that_move(instance: Instance) -> None:
    sampler = Sampler(instance, instance.clock)  # type: ignore[arg-type]
    instance.stats = {"up_bytes": 10, "ip_ttl": 7, "arp_bad": 0}
    assert sampler.look().recent == []
    instance.stats = {"up_bytes": 1010, "ip_ttl": 8, "arp_bad": 0}
    look = sampler.look()
    assert (look.up, look.moved, look.recent) == (500, {"up_bytes": 1000, "ip_ttl": 1}, ["ip_ttl"])
    instance.stats["arp_bad"] = 1
    look = sampler.look()
    assert (look.moved, look.recent) == ({"arp_bad": 1}, ["arp_bad", "ip_ttl"])
    instance.seconds += 60
    assert sampler.look().recent == []


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, ""),
        (0.1, ""),
        (1, "8 bit/s"),
        (124, "992 bit/s"),
        (125, "1.0 kbit/s"),
        (12_500, "100 kbit/s"),
        (12_493, "99.9 kbit/s"),
        (124_950, "1.0 Mbit/s"),
        (1.25e9, "10.0 Gbit/s"),
        (1.25e15, "10000 Tbit/s"),
    ],
)
def test_bits(rate: float, text: str) -> None:
    assert bits(rate) == text
