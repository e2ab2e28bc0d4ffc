"""The messages of the control API as types. What is sent, what is accepted and the schemas all come from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from netstack.services.added_names import KINDS

__all__ = [
    "AddName",
    "Capture",
    "CaptureState",
    "Connect",
    "Error",
    "Flow",
    "Flows",
    "Guest",
    "Guests",
    "Impairment",
    "Info",
    "Leases",
    "Link",
    "LogLevel",
    "Name",
    "Names",
    "Ping",
    "PingReply",
    "Port",
    "Ports",
    "Publish",
    "Reserve",
    "Route",
    "RouteDevice",
    "RouteOffer",
    "Routes",
    "StartCapture",
    "Stopping",
]


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON object with these keys and no others."""


class Error(Message):
    """What is wrong, in one sentence."""

    error: str


class Info(Message):
    """An instance. Times are in seconds, ``started`` since 1970; ``listen`` are the places where guests come in."""

    name: str
    pid: int
    version: str
    command: str
    network: str
    gateway: str
    host_alias: str | None
    mtu: int
    listen: list[str]
    started: float
    uptime: float


class Guest(Message):
    """An address that is given out. ``expires`` is in seconds since 1970, null for a lease that never ends."""

    address: str
    mac: str
    name: str
    state: str
    expires: float | None
    client_id: str  #: in hexadecimal with colons, "" for none


class Link(Message):
    """A connected link: its port of the virtual switch, and what it is called."""

    port: int
    link: str


class Guests(Message):
    """Leases, by address, and links."""

    guests: list[Guest]
    links: list[Link]


class Leases(Message):
    """The addresses given out, in their order."""

    leases: list[Guest]


class Reserve(Message):
    """An address (null: the one it has, or a free one) for a MAC, a client identifier or both, and a name for it."""

    mac: str = ""
    address: str | None = None
    name: str = ""
    client_id: str = ""


if TYPE_CHECKING:  # which knows literals only where they stand written
    RecordType = str
else:
    RecordType = Literal[KINDS]


class AddName(Message):
    """A DNS record in the text of zone files: ``10 mail.internal`` for MX, ``0 5 80 web.internal`` for SRV."""

    name: str
    type: RecordType
    value: str


class Name(Message):
    """A DNS record that the gateway answers. ``added``: over this API; others come from settings and leases."""

    name: str
    type: str
    value: str
    added: bool


class Names(Message):
    """The records by name; below a zone a name that has none does not exist."""

    names: list[Name]
    zones: list[str]


class StartCapture(Message):
    """A capture to a file: its absolute path, created and truncated. 0 is no limit of bytes or seconds; ``ring`` is
    such as 10x64MB, ``filter`` a pcap-filter expression."""

    path: Annotated[str, Meta(pattern="^/[^\\x00]*$", max_length=4096)]
    snaplen: Annotated[int, Meta(ge=0, le=262144)] = 0
    bytes: Annotated[int, Meta(ge=0, le=1 << 62)] = 1 << 30
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    ring: str = ""
    filter: str = ""
    wire_frames: bool = False


class Capture(Message):
    """A capture. ``since`` is in seconds since 1970; ``full``: it has come to its limit; ``error``: what ended it;
    ``files``: how many of a ring were begun."""

    target: str
    since: float
    frames: int
    lost: int
    bytes: int
    full: bool
    error: str
    files: int


class CaptureState(Message):
    """The capture that runs, and the one that has ended last; if any."""

    capture: Capture | None
    last: Capture | None = None


class Impairment(Message):
    """The path of the links from the guests and to them, such as ``loss=1%,delay=20ms``; empty is a good one."""

    up: str = ""
    down: str = ""


class LogLevel(Message):
    """The least that is logged."""

    level: Literal["debug", "info", "warning", "error"]


class Flow(Message):
    """A flow. Up is from the guest; ``age`` and ``rtt`` (0 = not measured) are in seconds, amounts in bytes."""

    id: int
    protocol: str
    state: str
    guest: str
    guest_port: int
    peer: str
    peer_port: int
    bytes_up: int
    bytes_down: int
    age: float
    rtt: float
    cwnd: int
    retransmits: int
    buffered_up: int
    buffered_down: int


class Flows(Message):
    """The flows at this moment."""

    flows: list[Flow]


class Publish(Message):
    """A port to be published, in Docker's notation such as 127.0.0.1:8080:80/tcp."""

    spec: str


class Port(Message):
    """A publication. ``addresses`` are those of the host's sockets; ``guest`` is empty for the only one."""

    id: int
    spec: str
    protocol: str
    guest: str
    guest_port: int
    count: int
    addresses: list[str]


class Ports(Message):
    """The publications, in the order they were made."""

    ports: list[Port]


class Ping(Message):
    """Echo requests to a guest, by name or address ("" for the only one); ``count`` is null for no end.

    ``size`` is in bytes of data; ``interval`` and ``timeout``, after which nothing is waited for, are in seconds.
    """

    guest: str
    count: Annotated[int, msgspec.Meta(ge=1)] | None = 1
    size: Annotated[int, msgspec.Meta(ge=0, le=65507)] = 56
    interval: Annotated[float, msgspec.Meta(ge=0.01, le=3600)] = 1.0
    timeout: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0


class PingReply(Message):
    """What became of an echo request: ``rtt`` is in seconds, null where no answer came in time."""

    seq: int
    address: str
    bytes: int
    rtt: float | None


class Connect(Message):
    """A TCP port of a guest, by name or address ("" for the only one); ``timeout`` is in seconds, null: TCP's own."""

    guest: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None


class Route(Message):
    """A route of the host to the guests: the host's device, and its address among them."""

    id: int
    device: str
    address: str
    network: str


class Routes(Message):
    """The routes, in the order they were made."""

    routes: list[Route]


class RouteOffer(Message):
    """How the device of a new route is to be set up; ``mtu`` is in IP bytes. The first message on the descriptor."""

    address: str
    network: str
    mac: str
    mtu: int


class RouteDevice(Message):
    """The device that was set up, whose descriptor comes with this message. The client's, on the descriptor."""

    device: str


class Stopping(Message):
    """The instance has been told to stop."""

    stopping: bool
