"""What a kind of work is, and the place in which a system does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from netstack.testing.lab import Lab
from netstack.testing.namespace import Namespace, ProgramError

from ..far import FAR_HOST, FAR_SERVER, far_server
from ..systems import Running, System, Wanted

FAR_NOBODY = "198.51.100.254"
GUESTS_NETWORK = "192.168.65.0/24"

Values = dict[str, "float | list[tuple[float, float]]"]  #: figures of one case: a number, or a curve


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    seconds: float = 2.0  #: length of one measurement
    quick: bool = False  #: the cheapest cases only
    mtus: tuple[int, ...] = (1500, 9000, 65520)
    rtts: tuple[int, ...] = (0, 20, 100)  #: ms
    streams: tuple[int, ...] = (1, 4, 16)
    ways: tuple[str, ...] = ("up", "down", "both")
    connections: tuple[int, ...] = (10_000, 50_000)


@dataclass(frozen=True)
class Turn:
    """One system's turn at one kind of work: where it takes place, and what it has found."""

    system: System
    options: Options
    found: Callable[[str, Values], None]
    failed: Callable[[str, str], None]

    def measure(self, case: str, function: Callable[[], Values]) -> None:
        """Runs one case. Where a program fails, the reason stands in place of the figures, and the turn goes on."""
        try:
            values = function()
        except ProgramError as err:
            self.failed(case, _sentence(err))
        else:
            self.found(case, values)


@dataclass(frozen=True)
class Work:
    """A kind of work."""

    name: str
    title: str
    needs: tuple[str, ...]  #: programs
    groups: Callable[[Options], Sequence[Group]]


@dataclass(frozen=True)
class Group:
    """Cases that are measured in one place: the system is started once for all of them."""

    cases: tuple[str, ...]
    run: Callable[[Turn], None]
    mtu: int = 1500
    systems: Callable[[System], bool] = field(default=lambda system: True)


def _sentence(error: Exception) -> str:
    """What a program said last, where that is a sentence of its own; else the first line of the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return (lines[-1] if ": " in lines[-1] else lines[0])[:200]


@dataclass(frozen=True)
class Place:
    """The laboratory of one turn, with the system running in it."""

    lab: Lab
    running: Running
    server_side: Namespace  #: where servers run
    server: str  #: their address, for the guest


@contextlib.contextmanager
def place(system: System, wanted: Wanted, rtt: int = 0) -> Iterator[Place]:
    """Makes it: the host with a network behind it, or, with a round trip in ms, with a server that far away."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
        where = _far(lab, stack, rtt) if rtt else lab.host
        if not rtt:
            lab.world()
        for ns in {lab.guest, lab.host, where}:
            _settle(ns)
        asked = Wanted(wanted.mtu, wanted.ports, FAR_SERVER if rtt else None)
        running = system.start(lab, asked)
        yield Place(lab, running, where, FAR_SERVER if rtt else running.server)


def _settle(ns: Namespace) -> None:
    """As many ports as there are, and nothing learned of one run for the next; no traffic but what is measured."""
    ns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    ns.sysctl("net.ipv4.tcp_no_metrics_save", "1")
    with contextlib.suppress(OSError):
        ns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
        ns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")


def _far(lab: Lab, stack: contextlib.ExitStack, rtt: int) -> Namespace:
    """A server ``rtt`` ms away from the host. Nobody has the address of the host's default route: it is only there
    for systems that ask the host which interface leads out."""
    server = far_server(lab, stack, {"delay": rtt / 2})
    lab.host.ip("route", "add", "default", "via", FAR_NOBODY)
    server.ip("route", "add", GUESTS_NETWORK, "via", FAR_HOST)
    return server


def cpu(values: Values, running: Running, seconds: float, amount: float, name: str) -> None:
    """Adds a figure of processor time for an amount, where the system has a process."""
    if running.processes and amount > 0:
        values[name] = seconds / amount
