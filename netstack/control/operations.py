"""What the control API's requests are answered: each operation a method, called in a worker thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from netstack import __version__
from netstack.control import answers
from netstack.control.refused import Refused
from netstack.errors import NetstackError

if TYPE_CHECKING:
    from netstack.gateway import Gateway
    from netstack.host_route import HostRoutes
    from netstack.reach import Published
    from netstack.services.dhcp4 import Lease

__all__ = ["Operations"]


class Operations:
    """The operations of `routes.ROUTES` on one gateway.

    Args:
        gateway: a started one.
        name: the instance's.
        command: what started it: serve, run or attach.
        shutdown: called when a client asks the instance to stop.
        listen: the places where guests come in.
        routes: the host's routes to the guests.
        describe: gives the API's description of itself.
    """

    def __init__(
        self,
        gateway: Gateway,
        name: str,
        command: str,
        shutdown: Callable[[], None],
        listen: Sequence[str],
        routes: HostRoutes,
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self._gateway = gateway
        self.name = name
        self._command = command
        self._shutdown = shutdown
        self._listen = listen  # which may grow until the instance is ready
        self._routes = routes
        self._describe = describe
        self._started = time.time()
        self._began = time.monotonic()

    def info(self) -> answers.Info:
        """The instance itself."""
        c = self._gateway.config
        return answers.Info(
            name=self.name,
            pid=os.getpid(),
            version=__version__,
            command=self._command,
            network=c.network,
            gateway=c.gateway,
            host_alias=c.host_alias,
            mtu=c.mtu,
            listen=list(self._listen),
            started=self._started,
            uptime=time.monotonic() - self._began,
        )

    def stats(self) -> dict[str, int]:
        """The counters."""
        return self._gateway.stats()

    def flows(self) -> answers.Flows:
        """The flows."""
        return answers.Flows([answers.Flow(**flow) for flow in self._gateway.flows()])

    def guests(self) -> answers.Guests:
        """Leases and links."""
        leases = [guest_of(lease) for lease in self._gateway.leases()]
        links = [answers.Link(port, label) for port, label in sorted(self._gateway.links().items())]
        return answers.Guests(leases, links)

    def ports(self) -> answers.Ports:
        """The publications."""
        return answers.Ports([port_of(p) for p in self._gateway.published()])

    def publish(self, wanted: answers.Publish) -> answers.Port:
        """Publishes a port.

        Raises:
            NetstackError: it cannot be done.
            Refused: the system refuses it.
        """
        try:
            return port_of(self._gateway.publish(wanted.spec))
        except OSError as err:
            raise Refused(400, f"{wanted.spec} cannot be published: {err.strerror or err}") from None

    def release(self, number: str) -> None:
        """Releases a publication.

        Raises:
            Refused: there is none of that number.
        """
        for published in self._gateway.published():
            if str(published.id) == number:
                published.close()
                return
        raise Refused(404, f"no port is published as {number}: see netstack port list")

    def routes(self) -> answers.Routes:
        """The host's routes."""
        return answers.Routes([answers.Route(*route) for route in self._routes.all()])

    def unroute(self, number: str) -> None:
        """Takes a route away.

        Raises:
            Refused: there is none of that number.
        """
        if not (number.isdecimal() and self._routes.remove(int(number))):
            raise Refused(404, f"no route has the number {number}: see netstack route show")

    def leases(self) -> answers.Leases:
        """The leases."""
        return answers.Leases([guest_of(lease) for lease in self._gateway.leases()])

    def reserve(self, wanted: answers.Reserve) -> answers.Guest:
        """Ties an address to a client.

        Raises:
            ConfigError: it cannot be done.
        """
        who = [wanted.mac] * bool(wanted.mac) + [f"id:{wanted.client_id}"] * bool(wanted.client_id)
        return guest_of(self._gateway.reserve(",".join(who), wanted.address, wanted.name))

    def release_lease(self, address: str) -> None:
        """Frees an address.

        Raises:
            ConfigError: it is none.
            Refused: nobody has it.
        """
        if not self._gateway.release(address):
            raise Refused(404, f"nobody has the address {address}: see netstack leases")

    def names(self) -> answers.Names:
        """The DNS records."""
        return answers.Names(
            [answers.Name(*record) for record in self._gateway.names()], list(self._gateway.zones())
        )

    def add_name(self, wanted: answers.AddName) -> answers.Name:
        """Adds a DNS record.

        Raises:
            ConfigError: it cannot be.
        """
        self._gateway.add_names((wanted.name, wanted.type, wanted.value))
        return answers.Name(wanted.name, wanted.type, wanted.value, True)

    def remove_name(self, name: str, type: str | None = None, value: str | None = None) -> None:
        """Removes DNS records.

        Raises:
            ConfigError: the name, type or value cannot be.
            Refused: there are none, or a value without its type.
        """
        if value is not None and type is None:
            raise Refused(400, "a value needs its type as well, such as type=A")
        if not self._gateway.remove_names(name, type, value):
            what = " ".join(filter(None, (name, type, value)))
            raise Refused(404, f"no record {what} was added: see netstack dns list")

    def start_capture(self, wanted: answers.StartCapture) -> answers.Capture:
        """Captures to a file. Who ends it in time is `api`'s business.

        Raises:
            NetstackError: it cannot be written, or a capture is running.
            Refused: it has been stopped already.
        """
        self._gateway.start_capture(
            wanted.path,
            snaplen=wanted.snaplen,
            limit=0 if wanted.ring else wanted.bytes,
            ring=wanted.ring,
            filter=wanted.filter,
            wire_frames=wanted.wire_frames,
        )
        return self._running()

    def _running(self) -> answers.Capture:
        found = self._gateway.capture()
        if found is None:
            raise Refused(409, "the capture has been stopped already")
        return capture_of(found)

    def stop_capture(self) -> answers.Capture:
        """Ends the capture.

        Raises:
            Refused: there is none.
        """
        ended = self._gateway.stop_capture()
        if ended is None:
            raise Refused(404, "nothing is captured: see netstack capture --help")
        return capture_of(ended)

    def capture_state(self) -> answers.CaptureState:
        """The capture that runs, and the last one."""
        found, last = self._gateway.capture(), self._gateway.last_capture
        return answers.CaptureState(
            None if found is None else capture_of(found), None if last is None else capture_of(last)
        )

    def impairment(self) -> answers.Impairment:
        """The path of the links."""
        return answers.Impairment(*self._gateway.impairment())

    def impair(self, wanted: answers.Impairment) -> answers.Impairment:
        """Another path.

        Raises:
            ConfigError: it cannot be understood.
        """
        self._gateway.set_impairment(wanted.up, wanted.down)
        return wanted

    def repair(self) -> None:
        """A good path."""
        self._gateway.set_impairment()

    def log_level(self) -> answers.LogLevel:
        """The least that is logged."""
        from netstack.control.notify import log_level

        return msgspec.convert({"level": log_level()}, answers.LogLevel)

    def set_log_level(self, wanted: answers.LogLevel) -> answers.LogLevel:
        """Another level."""
        from netstack.control.notify import set_log_level

        set_log_level(wanted.level)
        return wanted

    def shutdown(self) -> answers.Stopping:
        """Stops the instance; this answer is still sent."""
        self._shutdown()
        return answers.Stopping(True)

    def metrics(self) -> bytes:
        """Prometheus' text.

        Raises:
            Refused: prometheus_client is missing.
        """
        from netstack.control.metrics import exposition

        try:
            return exposition(self._gateway)
        except NetstackError as err:
            raise Refused(503, str(err)) from None

    def openapi(self) -> dict[str, Any]:
        """The description."""
        return self._describe()


def guest_of(lease: Lease) -> answers.Guest:
    """A lease as the API shows it."""
    identifier = lease.client_id.hex(":")
    return answers.Guest(
        str(lease.address), lease.mac.hex(":"), lease.name, lease.state, lease.expires, identifier
    )


def capture_of(found: dict[str, Any]) -> answers.Capture:
    """A capture as the API shows it."""
    shown = {key: value for key, value in found.items() if key != "number"}
    return answers.Capture(**shown | {"error": os.strerror(found["error"]) if found["error"] else ""})


def port_of(published: Published) -> answers.Port:
    """A publication as the API shows it."""
    spec = published.spec
    return answers.Port(
        published.id, str(spec), spec.protocol, spec.guest, spec.guest_port, spec.count, published.places
    )
