"""VPNKit's port control over HTTP: the routes of its Go client, as vpnkit-expose-port and Docker's back end use it.

A port is JSON with ``proto``, ``out_ip``, ``out_port``, ``out_path``, ``in_ip``, ``in_port``, ``in_path`` and
``annotation``, each left out when empty. Exposing and unexposing are idempotent. What VPNKit forwards to an agent in
the guest goes to the guest's own address here, over the virtual Ethernet.

Unlike there: ports that were published in another way are in the list as well. The guest's loopback, and no address,
stand for the only guest, since the agent that VPNKit needs would have dialled there. A Unix socket of the guest cannot
be reached, but a Unix socket of the host may lead to a TCP port of the guest (``out_path`` with ``in_ip`` and
``in_port``).
"""

from __future__ import annotations

import errno
import ipaddress
import threading
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from netstack.control.refused import Refused
from netstack.control.routes import Route
from netstack.errors import NetstackError
from netstack.publish import PortSpec, PublishError

if TYPE_CHECKING:
    from netstack.gateway import Gateway
    from netstack.reach import Published

__all__ = ["ROUTES", "Operations", "port_spec", "reason"]

PortNumber = Annotated[int, Meta(ge=0, le=65535)]


class ForwardedPort(msgspec.Struct, frozen=True, omit_defaults=True):
    """A forwarded port, as VPNKit's Go package writes it."""

    proto: str = ""
    out_ip: str = ""
    out_port: PortNumber = 0
    out_path: str = ""
    in_ip: str = ""
    in_port: PortNumber = 0
    in_path: str = ""
    annotation: str = ""

    def __str__(self) -> str:
        note = f"{self.annotation} " if self.annotation else ""
        if self.proto == "unix":
            return f"{note}{self.proto} forward from {self.out_path} to {self.in_path or self._inside()}"
        return f"{note}{self.proto} forward from {self.out_ip}:{self.out_port} to {self._inside()}"

    def _inside(self) -> str:
        return f"{self.in_ip}:{self.in_port}"


class Problem(msgspec.Struct):
    """What went wrong, as echo and VPNKit write it."""

    message: str


ERRORS = {400: "The port cannot be had, or it cannot be understood", 408: "The request has not come in time"}


def _routes() -> tuple[Route, ...]:
    out = []
    for verb, methods in (("expose", ("PUT", "POST")), ("unexpose", ("DELETE", "POST"))):
        for what in ("port", "pipe"):
            for method in methods:
                out.append(
                    Route(
                        method,
                        f"/forwards/{verb}/{what}",
                        f"{verb}_{what}",
                        f"VPNKit: {verb} a {'port' if what == 'port' else 'Unix socket'}",
                        request=ForwardedPort,
                        errors=ERRORS,
                        error=Problem,
                        tag="vpnkit",
                        loose={},
                    )
                )
    out.append(
        Route(
            "GET",
            "/forwards/list",
            "list_ports",
            "VPNKit: the exposed ports",
            list[ForwardedPort] | None,
            tag="vpnkit",
        )
    )
    out.append(
        Route(
            "GET",
            "/forwards/dump",
            "dump",
            "VPNKit: what there is, as text",
            media="text/plain",
            tag="vpnkit",
        )
    )
    return tuple(out)


ROUTES = _routes()


def port_spec(
    proto: str, out_ip: str, out_port: int, in_ip: str, in_port: int, out_path: str = ""
) -> PortSpec:
    """What VPNKit's fields of a port mean here.

    Raises:
        NetstackError: they cannot be used.
    """
    if not 1 <= in_port <= 65535 or not 0 <= out_port <= 65535:
        raise NetstackError("the guest's port must be 1 to 65535, the host's 0 to 65535")
    guest = _address("the guest's address", in_ip)
    if guest is not None and guest.version == 6:
        raise NetstackError(f"the guest's address {in_ip} must be an IPv4 address")
    inside = "" if guest is None or guest.is_loopback or guest.is_unspecified else str(guest)
    if out_path:
        return PortSpec(in_port, guest=inside, path=out_path)
    outside = _address("the host's address", out_ip)
    if outside is None or (outside.version == 4 and outside.is_unspecified):
        return PortSpec(in_port, out_port, protocol=proto, guest=inside)
    return PortSpec(in_port, out_port, address=str(outside), protocol=proto, guest=inside)


def _address(what: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise NetstackError(f"{what} {text!r} is none") from None
    mapped = found.ipv4_mapped if found.version == 6 else None  # how Go may write an IPv4 address
    return mapped or found


def reason(spec: PortSpec, error: Exception) -> str:
    """Why a port cannot be had in VPNKit's words, some of which Docker's tools look for."""
    code = error.errno if isinstance(error, PublishError | OSError) else 0
    place = spec.path or f"{spec.address or '0.0.0.0'}:{spec.host_port}"
    if code == errno.EADDRINUSE:
        return f"Bind for {place} failed: port is already allocated"
    if code == errno.EADDRNOTAVAIL:
        return f"listen {spec.protocol} {place}: bind: cannot assign requested address"
    if code in (errno.EACCES, errno.EPERM):
        return f"Bind for {place} failed: permission denied"
    return str(error)


def _check_port(port: ForwardedPort) -> None:
    if port.proto not in ("tcp", "udp"):
        raise Refused(400, "exposed ports can only be TCP or UDP")


def _check_pipe(port: ForwardedPort) -> None:
    if port.proto != "unix":
        raise Refused(400, "exposed pipes can only have proto=Unix")


class Operations:
    """What those routes do on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._exposed: dict[
            ForwardedPort, tuple[ForwardedPort, Published]
        ] = {}  # what was asked for: what it became

    def _current(self) -> dict[ForwardedPort, tuple[ForwardedPort, Published]]:
        """Those that nobody has released in another way. With the lock held."""
        ids = {published.id for published in self._gateway.published()}
        self._exposed = {key: value for key, value in self._exposed.items() if value[1].id in ids}
        return self._exposed

    def expose_port(self, port: ForwardedPort) -> None:
        """Exposes a TCP or UDP port.

        Raises:
            Refused: it cannot be had.
        """
        _check_port(port)
        self._expose(port)

    def expose_pipe(self, port: ForwardedPort) -> None:
        """Exposes a Unix socket.

        Raises:
            Refused: it cannot be had.
        """
        _check_pipe(port)
        if port.in_path:
            raise Refused(
                400,
                f"the guest's Unix socket {port.in_path} cannot be reached without an agent in the guest: "
                "give in_ip and in_port instead of in_path",
            )
        if not port.out_path.startswith("/"):
            raise Refused(400, f"out_path {port.out_path!r} must be an absolute path")
        self._expose(port)

    def _expose(self, port: ForwardedPort) -> None:
        with self._lock:
            if port in self._current():
                return
            path = port.out_path if port.proto == "unix" else ""
            try:
                spec = port_spec(port.proto, port.out_ip, port.out_port, port.in_ip, port.in_port, path)
            except NetstackError as err:
                raise Refused(400, str(err)) from None
            try:
                published = self._gateway.publish(spec)
            except (NetstackError, OSError) as err:
                raise Refused(400, reason(spec, err)) from None
            became = port if path else msgspec.structs.replace(port, out_port=published.address[1])
            self._exposed[port] = became, published

    def unexpose_port(self, port: ForwardedPort) -> None:
        """Releases a port; harmless when it is not exposed.

        Raises:
            Refused: it is no port.
        """
        _check_port(port)
        self._unexpose(port)

    def unexpose_pipe(self, port: ForwardedPort) -> None:
        """Releases a Unix socket; harmless when it is not exposed.

        Raises:
            Refused: it is none.
        """
        _check_pipe(port)
        self._unexpose(port)

    def _unexpose(self, port: ForwardedPort) -> None:
        with self._lock:
            for key, (became, published) in list(self._current().items()):
                if port in (key, became):
                    del self._exposed[key]
                    published.close()
                    return
        for published in self._gateway.published():  # such as those of the command line
            if port in ports_of(published):
                published.close()
                return

    def list_ports(self) -> list[ForwardedPort] | None:
        """The ports; None, which is null, where there are none."""
        with self._lock:
            exposed = list(self._current().values())
        ids = {published.id for _, published in exposed}
        others = [p for p in self._gateway.published() if p.id not in ids]
        out = [became for became, _ in exposed]
        return out + [port for published in others for port in ports_of(published)] or None

    def dump(self) -> bytes:
        """Ports and flows, a line each."""
        lines = [str(port) for port in self.list_ports() or ()]
        for f in self._gateway.flows():
            ends = f"{f['guest']}:{f['guest_port']} {f['peer']}:{f['peer_port']}"
            lines.append(
                f"{f['protocol']} {ends} {f['state']} up={f['bytes_up']} down={f['bytes_down']}".strip()
            )
        return "".join(f"{line}\n" for line in lines).encode()


def ports_of(published: Published) -> list[ForwardedPort]:
    """A publication as VPNKit would list it: a range is many."""
    spec: Any = published.spec
    if spec.path:
        return [ForwardedPort("unix", out_path=spec.path, in_ip=spec.guest, in_port=spec.guest_port)]
    first = published.address[1]
    return [
        ForwardedPort(
            spec.protocol, spec.address or "0.0.0.0", first + i, "", spec.guest, spec.guest_port + i
        )
        for i in range(spec.count)
    ]
