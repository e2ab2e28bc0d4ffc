"""``netstack demo``: the whole, and what it says when something is wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from netstack.cli import demo as demo_module
from netstack.cli.demo_guest import STEPS, KernelEndpoint, Plan, take_steps
from netstack.cli.demo_host import HostServices

ROOT = Path(__file__).resolve().parents[2]


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netstack", "demo", "--seconds", "0.3", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("where", ["in a fresh namespace", "in memory"])
def test_every_step_works(where: str, request: pytest.FixtureRequest) -> None:
    if where == "in memory":
        done = demo("--memory")
    else:
        request.getfixturevalue("_sandboxes")
        done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("✓") == len(STEPS)
    assert "✗" not in done.stdout
    assert where in done.stdout
    assert "tcp_bytes_down" in done.stdout
    assert "Everything worked." in done.stdout


class LoopbackGuest:
    """A guest that is the host: what is wrong with it is what a test makes wrong."""

    def __init__(self, **wrong: Any) -> None:
        self._wrong = wrong

    def dhcp(self) -> dict[str, Any]:
        return {"address": "127.0.0.1", "prefix": 8, "router": "127.0.0.1", "dns": "none", "lease": 1}

    def resolve(self, name: str) -> str:
        return self._wrong.get("resolve", "127.0.0.1")

    def ping(self, address: str) -> float:
        if "ping" in self._wrong:
            raise self._wrong["ping"]
        return 0.001

    def connect(self, address: str, port: int) -> socket.socket:
        return socket.create_connection((address, port), 10)

    def udp(self) -> Any:
        endpoint = KernelEndpoint()
        spoil = self._wrong.get("udp")
        if spoil is not None:
            honest = endpoint.recvfrom
            endpoint.recvfrom = lambda: (spoil(honest()[0]), ("", 0))  # type: ignore[method-assign]
        return endpoint


def steps(services: HostServices, **wrong: Any) -> list[dict[str, Any]]:
    plan = Plan(
        "lo", "127.0.0.1", "127.0.0.1", "localhost",
        services.web_port, services.udp_port, services.bulk_port, 0.05,
    )  # fmt: skip
    return list(take_steps(LoopbackGuest(**wrong), plan))


@pytest.fixture
def services() -> Any:
    made = HostServices(0.05)
    made.start()
    yield made
    made.close()


def report(services: HostServices, result: dict[str, Any]) -> tuple[bool, str]:
    written = StringIO()
    console = Console(file=written, highlight=False, soft_wrap=True)
    return demo_module._report(console, services, result), written.getvalue()


def test_the_servers_and_the_steps(services: HostServices) -> None:
    results = steps(services)
    assert [result["step"] for result in results] == list(STEPS)
    for result in results:
        worked, text = report(services, result)
        assert worked, text
        assert text.startswith(" ✓")
    assert services.saw["udp"][0].startswith("7 datagrams from 127.0.0.1:")
    assert services.saw["download"][0].startswith("GET /payload from 127.0.0.1:")


@pytest.mark.parametrize(
    ("wrong", "last", "words"),
    [
        ({"resolve": "10.0.0.1"}, "resolve", "localhost resolves to 10.0.0.1, not to 127.0.0.1"),
        ({"ping": TimeoutError()}, "ping", "no answer"),
        ({"ping": OSError(101, "Network is unreachable")}, "ping", "Network is unreachable"),
        ({"udp": lambda data: data[:-1]}, "udp", "a datagram of 1 bytes came back altered"),
    ],
)
def test_a_step_that_fails_is_the_last(
    services: HostServices, wrong: dict[str, Any], last: str, words: str
) -> None:
    results = steps(services, **wrong)
    assert results[-1]["step"] == last
    worked, text = report(services, results[-1])
    assert not worked
    assert text.startswith(" ✗")
    assert words in text


@pytest.mark.parametrize(
    ("step", "lie", "words"),
    [
        ("download", lambda r: r | {"sha256": "00"}, "the checksum is 00"),
        ("down", lambda r: r | {"bytes": r["bytes"] - 1}, "the host"),
        ("up", lambda r: r | {"bytes": r["bytes"] + 1}, "the host"),
    ],
)
def test_the_host_has_its_own_account(
    services: HostServices, step: str, lie: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    (result,) = [result for result in steps(services) if result["step"] == step]
    assert report(services, result)[0]
    worked, text = report(services, lie(result))
    assert not worked
    assert words in text
