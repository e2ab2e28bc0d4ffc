"""Every open port of guests published (``-P``): what comes and goes is looked for, and published and released.

Who says which ports are open is an argument: a namespace's sockets (`NamespacePorts`), or the ports that were named
beforehand, for each guest that has an address (`ExposedPorts`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import ConfigError, NetstackError
from .host.sock_diag import open_ports
from .log import logger
from .publish import PortSpec, PublishError

if TYPE_CHECKING:
    import ipaddress
    import socket
    from collections.abc import Iterable, Sequence

    from .gateway import Gateway
    from .reach import Published

__all__ = ["ExposedPorts", "NamespacePorts", "PublishAll", "parse_exposed"]

LOOK_SECONDS = 0.25
MOST = 1024  # publications
TRIES = 8  # for a port that is free on IPv4 and IPv6 alike
DHCP_CLIENT = 68


def parse_exposed(text: str) -> PortSpec:
    """``PORT[-PORT][/udp]``, as ``--expose`` has it.

    Raises:
        ConfigError: it is not that.
    """
    spec = None
    with contextlib.suppress(ConfigError):
        spec = PortSpec.parse(text)
    if spec is None or spec != PortSpec(spec.guest_port, count=spec.count, protocol=spec.protocol):
        raise ConfigError(
            f"the exposed port {text!r} cannot be used: it is written PORT, PORT/udp or PORT-PORT"
        )
    return spec


class NamespacePorts:
    """What is open in the only guest's network namespace, and can be reached from outside.

    UDP ports that the kernel has chosen are their programs' own (a client waits there for an answer), and so is that
    of a DHCP client.

    Args:
        sock: as `netstack.host.sock_diag.open_socket` gives it, opened in the namespace; closed with this.
        ephemeral: the ports that the kernel chooses from (net.ipv4.ip_local_port_range).
        address: of the guest at this moment, or None.
    """

    def __init__(self, sock: socket.socket, ephemeral: range, address: Callable[[], str | None]) -> None:
        self._sock = sock
        self._ephemeral = ephemeral
        self._address = address

    def __call__(self) -> set[PortSpec]:
        """The ports that should be published now."""
        reachable = {"0.0.0.0", self._address()}
        return {
            PortSpec(found.port, protocol=found.protocol)
            for found in open_ports(self._sock)
            if found.address in reachable
            and not (found.protocol == "udp" and (found.port in self._ephemeral or found.port == DHCP_CLIENT))
        }

    def close(self) -> None:
        """Lets the namespace go."""
        self._sock.close()


class ExposedPorts:
    """These ports of every guest that has an address.

    Args:
        addresses: of the guests at this moment.
        exposed: the ports.
    """

    def __init__(
        self, addresses: Callable[[], Iterable[ipaddress.IPv4Address]], exposed: Sequence[PortSpec]
    ) -> None:
        self._addresses = addresses
        self._exposed = exposed

    def __call__(self) -> set[PortSpec]:
        """The ports that should be published now."""
        return {replace(spec, guest=str(address)) for address in self._addresses() for spec in self._exposed}

    def close(self) -> None:
        """Nothing is held."""


class PublishAll:
    """Publishes what is open, in a thread of its own, from ``start`` to ``close``; a context manager.

    Args:
        gateway: a started one.
        look: says what is open.
        say: told of each port that is published or released, in one sentence.
    """

    def __init__(
        self, gateway: Gateway, look: NamespacePorts | ExposedPorts, say: Callable[[str], None]
    ) -> None:
        self._gateway = gateway
        self._look = look
        self._say = say
        self._published: dict[PortSpec, Published] = {}
        self._before: dict[PortSpec, int] = {}  # the host's port that one had before it was closed
        self._told: set[PortSpec] = set()  # those that could not be published, which is said once
        self._full = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="netstack-publish", daemon=True)

    def __enter__(self) -> PublishAll:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases everything."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for published in self._published.values():
            published.close()
        self._published.clear()
        self._look.close()

    def _run(self) -> None:
        while True:
            try:
                self.step()
            except OSError as err:
                logger().debug("open ports cannot be told: %s", err)
            except NetstackError:  # the gateway has been stopped
                return
            except Exception:
                logger().exception("ports cannot be published")
            if self._stop.wait(LOOK_SECONDS):
                return

    def step(self) -> None:
        """Looks once, and does what is to be done.

        Raises:
            OSError: what is open cannot be found out.
        """
        wanted = self._look()
        for spec in sorted(self._published.keys() - wanted, key=str):
            published = self._published.pop(spec)
            published.close()
            self._before[spec] = published.address[1]
            if len(self._before) > MOST:
                del self._before[next(iter(self._before))]
            self._say(f"{named(spec)} is closed, and not published any more")
        others = [p.spec for p in self._gateway.published() if p not in self._published.values()]
        for spec in sorted(wanted - self._published.keys(), key=str):
            if any(self._covers(other, spec) for other in others):
                continue
            if len(self._published) >= MOST:
                if not self._full:
                    self._say(f"no more than {MOST} ports are published: publish the others by -p")
                self._full = True
                return
            self._publish(spec)
        self._told &= wanted

    def _covers(self, other: PortSpec, spec: PortSpec) -> bool:
        """Whether a publication leads to all these ports already."""
        return (
            other.protocol == spec.protocol
            and other.guest_port <= spec.guest_port
            and spec.guest_port + spec.count <= other.guest_port + other.count
            and self._gateway.guest_address(other.guest) == self._gateway.guest_address(spec.guest)
        )

    def _publish(self, spec: PortSpec) -> None:
        before = self._before.pop(spec, 0)
        for attempt in range(TRIES):
            try:
                published = self._gateway.publish(replace(spec, host_port=0 if attempt else before))
            except PublishError as err:
                if attempt == TRIES - 1 and spec not in self._told:
                    self._told.add(spec)
                    self._say(f"{named(spec)} is not published: {err}")
            else:
                self._published[spec] = published
                self._say(f"{named(spec)} is published at {' and '.join(published.places)}")
                return


def named(spec: PortSpec) -> str:
    """The port in words."""
    last = f" to {spec.guest_port + spec.count - 1}" if spec.count > 1 else ""
    what = f"{spec.protocol.upper()} port{'s' * (spec.count > 1)} {spec.guest_port}{last}"
    return f"{what} of {spec.guest or 'the guest'}"
