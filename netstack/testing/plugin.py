"""The pytest plugin: captures as tests, and networks in memory as fixtures (docs/testing.md).

It is loaded wherever netstack is installed, so nothing of netstack is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netstack.config import Config
    from netstack.gateway import Gateway
    from netstack.replay.result import Result

    from .guest import Guest
    from .lab import Lab
    from .virtual import VirtualClock

SUFFIXES = {".pcap", ".pcapng", ".cap"}


# --- captures as tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--pcap-replay``."""
    parser.getgroup("netstack").addoption(
        "--pcap-replay",
        action="append",
        default=[],
        metavar="PATH",
        help="Replay each capture (.pcap, .pcapng, .cap) in this folder, or this one, as a test; a .toml beside it "
        "says what is expected.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The captures are collected beside what was named, or alone."""
    paths: list[str] = config.getoption("--pcap-replay")
    if not paths:
        return
    for path in paths:
        if not Path(config.invocation_params.dir, path).exists():
            raise pytest.UsageError(f"--pcap-replay {path}: no such file or folder")
    named = config.args_source == pytest.Config.ArgsSource.ARGS
    config.args = [*(config.args if named else []), *paths]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A capture under one of the paths."""
    paths = parent.config.getoption("--pcap-replay")
    if not paths or file_path.suffix not in SUFFIXES:
        return None
    roots = [Path(parent.config.invocation_params.dir, path).resolve() for path in paths]
    if not any(file_path.resolve().is_relative_to(root) for root in roots):
        return None
    return CaptureFile.from_parent(parent, path=file_path)


class CaptureFile(pytest.File):
    """One capture: one test."""

    def collect(self) -> Iterable[pytest.Item]:
        """The test."""
        yield CaptureItem.from_parent(self, name="replay")


class CaptureMismatch(Exception):
    """A capture that did not come to what was expected."""

    def __init__(self, complaints: list[str], result: Result) -> None:
        super().__init__("; ".join(complaints))
        self.complaints = complaints
        self.result = result


class CaptureItem(pytest.Item):
    """The replay of one capture, held against its expectations."""

    def runtest(self) -> None:
        """Replays and compares."""
        from netstack.replay import replay
        from netstack.replay.expectations import Expectations

        expected = Expectations.beside(self.path)
        result = replay(str(self.path), guests=expected.guests)
        complaints = expected.complaints(result)
        if complaints:
            raise CaptureMismatch(complaints, result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was not as expected, and what there was."""
        from netstack.errors import NetstackError

        error = excinfo.value
        if isinstance(error, CaptureMismatch):
            lines = [
                f"{self.path.name}: not as expected",
                *(f"  {text}" for text in error.complaints),
                "verdicts:",
            ]
            for v in error.result.verdicts:
                said = v.difference or "; ".join(v.notes)
                lines.append(f"  {v.verdict:8} {v.protocol:8} {v.flow}" + (f": {said}" if said else ""))
            return "\n".join(lines)
        if isinstance(error, NetstackError):
            return str(error)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it comes from."""
        return self.path, None, f"replay of {self.path.name}"


# --- networks in memory


@pytest.fixture
def netstack_config() -> Config:
    """The settings of the networks of the other fixtures. Override it to have others."""
    from netstack.config import Config

    return Config(dns=())


@pytest.fixture
def netstack_gateway(netstack_config: Config) -> Iterator[Gateway]:
    """A gateway at work, without guests. This host's loopback is ``netstack_config.host_alias`` for them."""
    from netstack.gateway import Gateway

    with Gateway(netstack_config) as gateway:
        yield gateway


@pytest.fixture
def guest(netstack_gateway: Gateway) -> Iterator[Guest]:
    """A guest in memory with an address: ``connect``, ``udp``, ``resolve``, ``ping``. No root, no device."""
    from . import memory_guest

    with memory_guest(netstack_gateway) as made:
        settled(made, netstack_gateway)
        yield made


@pytest.fixture
def impaired_guest(netstack_config: Config) -> Iterator[Callable[..., Guest]]:
    """A function that makes a guest behind a bad path, such as ``impaired_guest("loss=5%,delay=10ms")``.

    Each guest has a gateway of its own. ``up`` and ``down`` name the ways separately.
    """
    from contextlib import ExitStack

    from netstack.gateway import Gateway
    from netstack.link.impair import Impairment

    from . import memory_guest

    with ExitStack() as stack:

        def make(both: str = "", *, up: str = "", down: str = "", **options: Any) -> Guest:
            ways = [Impairment.parse(f"seed={seed},{text}") if text else None
                    for seed, text in ((1, up or both), (2, down or both))]  # fmt: skip
            gateway = stack.enter_context(Gateway(netstack_config))
            made = stack.enter_context(memory_guest(gateway, impair=tuple(ways), **options))
            settled(made, gateway)
            return made

        yield make


def settled(guest: Guest, gateway: Gateway) -> None:
    """Gives a guest the first address of its network, as a lease would."""
    config = gateway.config
    prefix = int(config.network.partition("/")[2] or 32)
    guest.configure(config.first_guest, prefix, config.gateway)


@pytest.fixture
def virtual_clock(netstack_config: Config) -> Iterator[VirtualClock]:
    """A network whose time passes only when the test says so: frames in, frames out, no thread and no waiting."""
    from .virtual import VirtualClock

    with VirtualClock(netstack_config) as clock:
        yield clock


@pytest.fixture
def namespace_guest(netstack_config: Config) -> Iterator[Lab]:
    """A guest in a network namespace of Linux, for real programs: ``namespace_guest.guest.run("curl", ...)``.

    The gateway's host side is the namespace ``namespace_guest.host``. Skipped where namespaces are not permitted.
    """
    from .lab import Lab
    from .namespace import unavailable

    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    with Lab() as lab, lab.gateway(netstack_config):
        yield lab
