"""A guest, netstack as its network, a host, a router and a world: one for each test module.

With NETSTACK_STANDIN=kernel the kernel routes in netstack's place. That tests these tests: what fails then,
apart from what only a NAT or netstack's services can do, is wrong in the test and not in netstack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netstack.testing.lab import HOST_ALIAS, Lab
from netstack.testing.namespace import Namespace, Process, unavailable

STANDIN = os.environ.get("NETSTACK_STANDIN")


@dataclass(frozen=True)
class Network:
    """Where a test's programs run. ``netstack`` is the running command, None when a stand-in plays it."""

    lab: Lab
    guest: Namespace
    host: Namespace
    router: Namespace
    world: Namespace
    netstack: Process | None
    loopback: str = "127.0.0.1"  #: where the host's servers wait; the guest reaches it at HOST_ALIAS

    @property
    def files(self) -> Path:
        """A directory that goes with the laboratory."""
        return self.lab.directory


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        router, world = lab.world()
        if STANDIN == "kernel":
            lab.wire_by_kernel()
            router.ip("route", "add", "192.168.65.0/24", "via", "198.51.100.1")
            process, loopback = None, HOST_ALIAS
        else:
            process, loopback = lab.attach(), "127.0.0.1"
        yield Network(lab, lab.guest, lab.host, router, world, process, loopback)
        if process is not None:
            assert process.running, f"netstack ended during the tests; it printed:\n{process.text}"
            assert process.stop() == 0, process.text


@pytest.fixture
def netstack_only() -> None:
    """For tests of what a kernel in netstack's place cannot do."""
    if STANDIN:
        pytest.skip(f"the stand-in {STANDIN} cannot do this")
