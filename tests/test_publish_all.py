"""What is published of what is open, step by step, with a gateway that only takes notes."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest

from netstack.errors import ConfigError
from netstack.host.sock_diag import OpenPort
from netstack.publish import PortSpec, PublishError
from netstack.publish_all import MOST, ExposedPorts, NamespacePorts, PublishAll, parse_exposed


class Published:
    def __init__(self, gateway: Gateway, spec: PortSpec) -> None:
        self.gateway = gateway
        self.spec = spec
        self.address = ("0.0.0.0", spec.host_port or next(gateway.free))
        self.places = [f"0.0.0.0:{self.address[1]}"]

    def close(self) -> None:
        self.gateway.all.remove(self)


class Gateway:
    def __init__(self) -> None:
        self.all: list[Published] = []
        self.free = iter(range(40000, 65536))
        self.refused: dict[int, str] = {}

    def publish(self, spec: PortSpec) -> Published:
        if (spec.host_port or spec.guest_port) in self.refused:
            raise PublishError(self.refused[spec.host_port or spec.guest_port])
        self.all.append(Published(self, spec))
        return self.all[-1]

    def published(self) -> list[Published]:
        return list(self.all)

    def guest_address(self, name: str) -> str | None:
        return {"": "10.0.0.3", "web": "10.0.0.4"}.get(name, name)

    def ports(self) -> list[tuple[str, int, int]]:
        return sorted((p.spec.protocol, p.spec.guest_port, p.address[1]) for p in self.all)


class Open:
    """What is open, as a test says."""

    def __init__(self) -> None:
        self.now: set[PortSpec] = set()
        self.closed = False

    def __call__(self) -> set[PortSpec]:
        return self.now

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def world() -> tuple[Gateway, Open, list[str], PublishAll]:
    gateway, look, said = Gateway(), Open(), []
    return gateway, look, said, PublishAll(gateway, look, said.append)  # type: ignore[arg-type]


World = tuple[Gateway, Open, list[str], PublishAll]


def test_ports_come_and_go(world: World) -> None:
    gateway, look, said, every = world
    look.now = {PortSpec(80), PortSpec(53, protocol="udp")}
    every.step()
    every.step()
    assert gateway.ports() == [("tcp", 80, 40001), ("udp", 53, 40000)]
    assert said == [
        "UDP port 53 of the guest is published at 0.0.0.0:40000",
        "TCP port 80 of the guest is published at 0.0.0.0:40001",
    ]
    look.now = {PortSpec(80)}
    every.step()
    assert gateway.ports() == [("tcp", 80, 40001)]
    assert said[2:] == ["UDP port 53 of the guest is closed, and not published any more"]
    every.close()
    assert gateway.all == []
    assert look.closed


def test_a_port_that_comes_back_is_where_it_was(world: World) -> None:
    gateway, look, _, every = world
    for now in ({PortSpec(80)}, set(), {PortSpec(443)}, {PortSpec(443), PortSpec(80)}):
        look.now = now
        every.step()
    assert gateway.ports() == [("tcp", 80, 40000), ("tcp", 443, 40001)]
    look.now = set()
    every.step()
    gateway.refused[40000] = "in use"
    look.now = {PortSpec(80)}
    every.step()
    assert gateway.ports() == [("tcp", 80, 40002)]


def test_what_is_published_already_is_left_alone(world: World) -> None:
    gateway, look, _, every = world
    by_hand = [
        gateway.publish(PortSpec(80, 8080)),
        gateway.publish(PortSpec(7000, 7000, count=10, guest="web")),
    ]
    look.now = {
        PortSpec(80),
        PortSpec(80, protocol="udp"),
        PortSpec(80, guest="10.0.0.4"),
        PortSpec(7005, guest="10.0.0.4"),
        PortSpec(7005, guest="10.0.0.3"),
        PortSpec(7005, count=6, guest="10.0.0.4"),
    }
    every.step()
    new = [p.spec for p in gateway.all if p not in by_hand]
    assert set(new) == look.now - {PortSpec(80), PortSpec(7005, guest="10.0.0.4")}
    by_hand[0].close()
    every.step()
    assert PortSpec(80) in [p.spec for p in gateway.all]


def test_what_cannot_be_published_is_said_once(world: World) -> None:
    gateway, look, said, every = world
    gateway.refused[80] = "no descriptors are left"
    look.now = {PortSpec(80), PortSpec(81)}
    for _ in range(3):
        every.step()
    assert [text for text in said if "port 80 " in text] == [
        "TCP port 80 of the guest is not published: no descriptors are left"
    ]
    gateway.refused.clear()
    every.step()
    assert {p.spec.guest_port for p in gateway.all} == {80, 81}


def test_a_guest_cannot_have_everything_published(world: World) -> None:
    gateway, look, said, every = world
    look.now = {PortSpec(port) for port in range(1, 65536)}
    every.step()
    every.step()
    assert len(gateway.all) == MOST
    assert len([text for text in said if "no more than" in text]) == 1
    look.now = {PortSpec(port) for port in range(30000, 65536)}  # what it remembers is limited as well
    for _ in range(3):
        every.step()
    assert len(gateway.all) == MOST
    assert len(every._before) <= MOST


def namespace(monkeypatch: pytest.MonkeyPatch, *found: OpenPort) -> set[PortSpec]:
    monkeypatch.setattr("netstack.publish_all.open_ports", lambda sock: set(found))
    with socket.socket() as sock:
        return NamespacePorts(sock, range(32768, 61000), lambda: "10.0.0.3")()


def test_what_can_be_reached_in_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        OpenPort("tcp", "0.0.0.0", 80),
        OpenPort("tcp", "0.0.0.0", 40000),
        OpenPort("tcp", "10.0.0.3", 81),
        OpenPort("tcp", "10.9.9.9", 82),
        OpenPort("tcp", "127.0.0.1", 83),
        OpenPort("udp", "0.0.0.0", 53),
        OpenPort("udp", "0.0.0.0", 68),
        OpenPort("udp", "0.0.0.0", 40000),
        OpenPort("udp", "127.0.0.53", 54),
    ]
    assert namespace(monkeypatch, *found) == {
        PortSpec(80),
        PortSpec(40000),
        PortSpec(81),
        PortSpec(53, protocol="udp"),
    }


def test_exposed_ports_of_each_guest() -> None:
    guests = [ipaddress.IPv4Address("10.0.0.3")]
    look = ExposedPorts(lambda: guests, [parse_exposed("80"), parse_exposed("7000-7009/udp")])
    assert {str(spec) for spec in look()} == {"0:10.0.0.3:80", "0:10.0.0.3:7000-7009/udp"}
    guests.append(ipaddress.IPv4Address("10.0.0.9"))
    assert len(look()) == 4
    guests.clear()
    assert look() == set()


@pytest.mark.parametrize(
    "text", ["", "0", "x", "80/sctp", "8080:80", "127.0.0.1::80", "web:80", "unix:/x:80", "9-8"]
)
def test_what_cannot_be_exposed(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"the exposed port .* cannot be used: it is written PORT, PORT/udp"
    ):
        parse_exposed(text)


def test_a_look_that_fails_is_no_end() -> None:
    looks: list[Callable[[], set[PortSpec]]] = []

    def fail() -> set[PortSpec]:
        raise OSError("not now")

    class Failing(Open):
        def __call__(self) -> set[PortSpec]:
            return looks.pop(0)() if looks else {PortSpec(80)}

    looks.append(fail)
    gateway = Gateway()
    done: list[Any] = []
    with PublishAll(gateway, Failing(), done.append):  # type: ignore[arg-type]
        for _ in range(400):
            if done:
                break
            __import__("time").sleep(0.02)
    assert done == ["TCP port 80 of the guest is published at 0.0.0.0:40000"]
