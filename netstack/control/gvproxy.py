"""gvproxy's API (gvisor-tap-vsock), as its Go client, podman machine, CRC and Lima use it.

``/services/forwarder/{all,expose,unexpose}``, ``/services/dns/{all,add}``, ``/services/dhcp/leases``, ``/leases``,
``/cam`` and ``/stats``, with its field names, status codes and plain-text errors. Unlike there, no guest can reach
these routes: they are on the control socket and nowhere in the virtual network. Ports that were published in another
way are in the list as well, a remote without an address is the only guest's, and a record by regular expression is
refused, since the table of names has none.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from netstack.control.refused import Refused
from netstack.control.routes import Route
from netstack.errors import ConfigError, NetstackError
from netstack.publish import PortSpec, host_port

if TYPE_CHECKING:
    from netstack.gateway import Gateway
    from netstack.reach import Published

__all__ = ["POST_ONLY", "ROUTES", "Operations"]


class Expose(msgspec.Struct):
    """A forward: ``local`` is HOST:PORT or, with protocol unix, a path; ``remote`` HOST:PORT or tcp://HOST:PORT."""

    local: str = ""
    remote: str = ""
    protocol: str = ""


class Unexpose(msgspec.Struct):
    """The forward that is to end."""

    local: str = ""
    protocol: str = ""


class Forward(msgspec.Struct):
    """A forward in the list."""

    local: str
    remote: str
    protocol: str


class Record(msgspec.Struct, rename={"name": "Name", "ip": "IP", "regexp": "Regexp"}):
    """An address of a zone, by its name or by a regular expression."""

    name: str = ""
    ip: str = ""
    regexp: Any = None


class Zone(msgspec.Struct, rename={"name": "Name", "records": "Records", "default_ip": "DefaultIP"}):
    """A zone: names that are not in it do not exist, or have its default address."""

    name: str = ""
    records: list[Record] = []
    default_ip: str = ""


class ListedRecord(msgspec.Struct, rename={"name": "Name", "ip": "IP"}):
    """An address of a zone in the list."""

    name: str
    ip: str


class ListedZone(msgspec.Struct, rename={"name": "Name", "records": "Records", "default_ip": "DefaultIP"}):
    """A zone in the list."""

    name: str
    records: list[ListedRecord] | None
    default_ip: str


class Counts(msgspec.Struct, rename="pascal"):
    """Bytes since the start, and packets by what became of them. What this stack does not count is left out."""

    bytes_sent: int
    bytes_received: int
    dropped_packets: int


ZONE_KEYS = {
    "name": "Name", "records": "Records", "defaultip": "DefaultIP", "ip": "IP", "regexp": "Regexp",
}  # fmt: skip
WRONG = {400: "The request cannot be understood", 408: "The request has not come in time"}
POST_ONLY = ("/services/forwarder/expose", "/services/forwarder/unexpose", "/services/dns/add")


def _route(method: str, path: str, handler: str, summary: str, answer: Any = None, **more: Any) -> Route:
    return Route(method, path, handler, f"gvproxy: {summary}", answer, error=str, tag="gvproxy", **more)


ROUTES = (
    _route("GET", "/services/forwarder/all", "forwards", "the forwards", list[Forward]),
    _route(
        "POST",
        "/services/forwarder/expose",
        "expose",
        "begin a forward",
        request=Expose,
        errors=WRONG | {500: "The port cannot be had"},
        loose={},
    ),
    _route(
        "POST",
        "/services/forwarder/unexpose",
        "unexpose",
        "end a forward",
        request=Unexpose,
        errors=WRONG | {500: "There is no such forward"},
        loose={},
    ),
    _route("GET", "/services/dns/all", "zones", "the zones", list[ListedZone]),
    _route(
        "POST", "/services/dns/add", "add_zone", "add a zone", request=Zone, errors=WRONG, loose=ZONE_KEYS
    ),
    _route("GET", "/services/dhcp/leases", "leases", "addresses and MACs", dict[str, str]),
    _route("GET", "/leases", "all_leases", "addresses and MACs", dict[str, str]),
    _route("GET", "/cam", "cam", "MACs and the links they were seen on", dict[str, int]),
    _route("GET", "/stats", "stats", "bytes and packets", Counts),
)


class Operations:
    """What those routes do on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._forwards: dict[tuple[str, str], tuple[str, Published]] = {}  # (protocol, local): (remote, ...)
        self._zones: dict[str, ListedZone] = {}

    # --- forwards

    def _current(self) -> dict[tuple[str, str], tuple[str, Published]]:
        """All forwards, those that were published in another way among them. With the lock held."""
        published = {p.id: p for p in self._gateway.published()}
        self._forwards = {key: value for key, value in self._forwards.items() if value[1].id in published}
        found = dict(self._forwards)
        for _, one in self._forwards.values():
            del published[one.id]
        for one in published.values():
            spec = one.spec
            inside = f"{spec.guest}:{spec.guest_port}"
            key = ("unix", spec.path) if spec.path else (spec.protocol, host_port(*one.address))
            found[key] = (f"tcp://{inside}" if spec.path else inside, one)
        return found

    def forwards(self) -> list[Forward]:
        """The forwards, by place."""
        with self._lock:
            found = self._current()
        return [
            Forward(local, remote, protocol)
            for (protocol, local), (remote, _) in sorted(found.items(), key=_by_place)
        ]

    def expose(self, wanted: Expose) -> None:
        """Begins a forward.

        Raises:
            Refused: it cannot be understood (400), or had (500).
        """
        protocol = wanted.protocol or "tcp"
        if protocol in ("tcp", "udp"):
            guest, port = _split(wanted.remote)
            spec = _outside(wanted.local, PortSpec(port, protocol=protocol, guest=guest))
        elif protocol == "unix":
            spec = _unix(wanted.local, wanted.remote)
        else:
            raise Refused(500, f"unknown protocol {protocol}")
        with self._lock:
            if (protocol, wanted.local) in self._current():
                raise Refused(500, f"proxy already running for {protocol} on {wanted.local}")
            try:
                published = self._gateway.publish(spec)
            except (NetstackError, OSError) as err:
                raise Refused(500, str(err)) from None
            self._forwards[protocol, wanted.local] = wanted.remote, published

    def unexpose(self, wanted: Unexpose) -> None:
        """Ends a forward.

        Raises:
            Refused: there is none.
        """
        key = wanted.protocol or "tcp", wanted.local
        with self._lock:
            found = self._current().get(key)
            if found is None:
                raise Refused(500, "proxy not found")
            self._forwards.pop(key, None)
            found[1].close()

    # --- names

    def zones(self) -> list[ListedZone]:
        """The zones that were added here."""
        with self._lock:
            return list(self._zones.values())

    def add_zone(self, wanted: Zone) -> None:
        """Adds a zone, or records to one.

        Raises:
            Refused: an address or a name cannot be, or a record has a regular expression.
        """
        name = wanted.name.rstrip(".").lower()
        if not name:
            raise Refused(400, "a zone needs a name")
        records = []
        for record in wanted.records:
            if record.regexp:
                raise Refused(
                    400, f"records by regular expression ({record.regexp!r}) are not supported: name them"
                )
            records.append((f"{record.name}.{name}" if record.name else name, _kind(record.ip), record.ip))
        if wanted.default_ip:
            records.append((f"*.{name}", _kind(wanted.default_ip), wanted.default_ip))
        with self._lock:
            before = self._zones.get(name, ListedZone(name, None, ""))
            try:
                self._gateway.add_names(*records, zones=[name], replace=True)
            except ConfigError as err:
                raise Refused(400, str(err)) from None
            if before.default_ip and not wanted.default_ip:
                self._gateway.remove_names(f"*.{name}")
            listed = [ListedRecord(record.name, record.ip) for record in wanted.records]
            named = {record.name for record in listed}
            listed += [record for record in before.records or () if record.name not in named]
            self._zones[name] = ListedZone(wanted.name, listed or None, wanted.default_ip)

    # --- what there is to know

    def leases(self) -> dict[str, str]:
        """Address to MAC of those that are given out."""
        return {
            str(lease.address): lease.mac.hex(":")
            for lease in self._gateway.leases()
            if lease.mac and lease.state in ("static", "bound")
        }

    def all_leases(self) -> dict[str, str]:
        """The same with the gateway's own addresses."""
        c = self._gateway.config
        own = {c.gateway: c.gateway_mac}
        return own | ({c.host_alias: c.gateway_mac} if c.host_alias else {}) | self.leases()

    def cam(self) -> dict[str, int]:
        """MAC to the number of its link."""
        return {mac.hex(":"): port for _, mac, port in self._gateway.neighbors()}

    def stats(self) -> Counts:
        """Sent is to the guests."""
        counters = self._gateway.stats()
        dropped = sum(value for name, value in counters.items() if name in DROPS)
        return Counts(counters["down_bytes"], counters["up_bytes"], dropped)


#: Counters of packets that were thrown away on the links and before any flow.
DROPS = ("link_full", "link_down", "link_refused", "frame_not_ours", "frame_spoofed", "switch_full")


def _by_place(item: tuple[tuple[str, str], Any]) -> tuple[str, str]:
    (protocol, local), _ = item
    return local, protocol


def _kind(address: str) -> str:
    try:
        return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
    except ValueError:
        raise Refused(400, f"{address!r} is not an IP address") from None


def _split(text: str, wrong: int = 400) -> tuple[str, int]:
    """HOST and PORT of HOST:PORT, an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise Refused(wrong, f"address {text}: missing port in address")
    if not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise Refused(wrong, f"address {text}: invalid port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked(make: Callable[[], PortSpec], code: int) -> PortSpec:
    try:
        return make()
    except NetstackError as err:
        raise Refused(code, str(err)) from None


def _outside(local: str, spec: PortSpec) -> PortSpec:
    """With the host's side of a forward."""
    host, port = _split(local, 500)
    outside = "" if host in ("", "0.0.0.0") else f"[{host}]" if ":" in host else host
    text = ":".join(filter(None, (outside, str(port), spec.guest, str(spec.guest_port))))
    return _checked(lambda: PortSpec.parse(f"{text}/{spec.protocol}"), 500)


def _unix(local: str, remote: str) -> PortSpec:
    url = urlsplit(remote)
    if url.scheme != "tcp":
        raise Refused(500, f"remote protocol for unix forwarder is not implemented: {url.scheme}")
    guest, port = _split(url.netloc, 500)
    path = local.removeprefix("unix://")
    if not path.startswith("/"):
        raise Refused(500, f"{local!r} must be the absolute path of a socket")
    return _checked(lambda: PortSpec.parse(f"unix:{path}:{f'{guest}:' if guest else ''}{port}"), 500)
