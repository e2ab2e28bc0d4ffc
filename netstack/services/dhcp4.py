"""A DHCPv4 server (RFC 2131, 2132), sans-IO: messages and the time go in, replies come out.

Who a client is: its client identifier (option 61), else its hardware address (RFC 2131 section 4.2). An
identifier that only repeats the hardware address is the same client. An address stays with its client after
the lease has ended, until the pool has no other left: a client that returns finds its old one.

The life of an address in the pool::

    free      DISCOVER -> offered
    offered   REQUEST -> bound        not taken in time, or another server chosen -> kept
    bound     RELEASE, or its time is over -> kept for the client that had it
    kept      the pool has no other address left -> free
    any       DECLINE -> declined     its time is over -> free

Every message moves exactly one counter of :attr:`DhcpServer.counters`.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from netstack.errors import ConfigError, WireError
from netstack.services.dhcp4_options import CLASSLESS_ROUTES, ROUTER
from netstack.wire.dhcp4 import (
    ACK,
    DECLINE,
    DISCOVER,
    INFORM,
    NAK,
    OFFER,
    RELEASE,
    REQUEST,
    DhcpMessage,
)

__all__ = ["DhcpReply", "DhcpServer", "DhcpSettings", "Lease"]

SERVER_PORT = 67
CLIENT_PORT = 68
BROADCAST = IPv4Address("255.255.255.255")
BROADCAST_MAC = b"\xff" * 6
ETHERNET = 1
SUBNET_MASK = 1
IP_AND_UDP = 28  # bytes of headers that option 57 counts in
SMALLEST_PACKET = 576  # what every client takes (RFC 2131 section 2)
MAX_ADDRESSES = 65536  # of the pool and the static ones together: what the tables may grow to

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


@dataclass(frozen=True)
class DhcpSettings:
    """What the server hands out. Addresses may be given as text.

    Raises:
        ConfigError: a value cannot be used; the message names it.
    """

    server: IPv4Address  #: our own address, option 54
    network: IPv4Network
    first: IPv4Address  #: pool, inclusive
    last: IPv4Address
    routers: tuple[IPv4Address, ...] = ()
    dns_servers: tuple[IPv4Address, ...] = ()
    domain: str = ""  #: empty: option 15 is not sent
    mtu: int = 1500  #: bytes; 0: option 26 is not sent
    lease_seconds: int = 86400
    offer_seconds: float = 60.0  #: how long an offer is held
    decline_seconds: float = 600.0  #: how long an address that somebody else uses stays out of the pool
    static: tuple[tuple[str, str, str], ...] = ()  #: (MAC, address, name or "")
    excluded: tuple[IPv4Address, ...] = ()  #: never given away, besides the server's own
    extra: tuple[tuple[int, bytes], ...] = ()  #: more options (code, data), sent when asked for

    def __post_init__(self) -> None:
        """Turns text into addresses and checks that they fit together."""

        def put(key: str, value: object) -> None:
            object.__setattr__(self, key, value)

        try:
            put("network", IPv4Network(self.network))
            for key in ("server", "first", "last"):
                put(key, IPv4Address(getattr(self, key)))
            for key in ("routers", "dns_servers", "excluded"):
                put(key, tuple(IPv4Address(a) for a in getattr(self, key)))
        except ValueError as err:
            raise ConfigError(f"DHCP settings: {err}") from None
        for key in ("server", "first", "last"):
            if getattr(self, key) not in self.network:
                raise ConfigError(f"DHCP {key} {getattr(self, key)} is not inside network {self.network}")
        if self.first > self.last:
            raise ConfigError(f"DHCP pool: {self.first} lies behind {self.last}")
        if int(self.last) - int(self.first) >= MAX_ADDRESSES:
            raise ConfigError(
                f"DHCP pool {self.first} to {self.last} holds more than {MAX_ADDRESSES} addresses"
            )
        if not 1 <= self.lease_seconds <= 0xFFFFFFFF:
            raise ConfigError(f"DHCP lease_seconds {self.lease_seconds} must be 1 to 4294967295")
        if self.mtu and not 68 <= self.mtu <= 0xFFFF:
            raise ConfigError(f"DHCP mtu {self.mtu} must be 0, or 68 to 65535")
        if not self.domain.isascii() or len(self.domain) > 253:
            raise ConfigError(f"DHCP domain {self.domain!r} must be ASCII of at most 253 characters")
        for code, _ in self.extra:
            if not 1 <= code <= 254 or code in (50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82):
                raise ConfigError(f"DHCP option {code} cannot be set")


@dataclass(frozen=True)
class DhcpReply:
    """A datagram to send from the server's address, port 67.

    ``mac`` is where the frame goes, BROADCAST_MAC or one machine; None when the address must be resolved by
    ARP (a relay agent whose hardware address is not known).
    """

    payload: bytes
    address: IPv4Address
    port: int
    mac: bytes | None


@dataclass(frozen=True)
class Lease:
    """One address of the server's table. ``expires`` is on the clock of ``handle``; None never ends."""

    address: IPv4Address
    mac: bytes  #: hardware address, or b"" where only the client identifier is known
    client_id: bytes
    name: str
    state: str  #: "static", "offered", "bound", "kept" (for a client that may return) or "declined"
    expires: float | None


@dataclass(slots=True)
class _Binding:
    address: int
    key: bytes  # of the client; b"" where there is none (declined)
    mac: bytes
    state: str
    expires: float
    name: str = ""


@dataclass(slots=True)
class _Reservation:
    address: int
    mac: bytes
    name: str
    seen: str = field(default="")  # the name that the client itself gave


OUTCOMES = (
    "offered",
    "acked_selecting",
    "acked_init_reboot",
    "acked_renewing",
    "acked_inform",
    "refused_selecting",
    "refused_init_reboot",
    "refused_renewing",
    "declined",
    "released",
    "ignored_other_server",
    "ignored_unknown_client",
    "dropped_malformed",
    "dropped_not_request",
    "dropped_no_type",
    "dropped_unexpected_type",
    "dropped_no_client",
    "dropped_contradictory",
    "dropped_exhausted",
)


class DhcpServer:
    """The server of one network: give it messages with :meth:`handle`, send what it returns.

    Attributes:
        counters: outcome to count; the keys never change.
        generation: moves when an address gets or loses a client or a name: :meth:`leases` has changed.
    """

    def __init__(self, settings: DhcpSettings) -> None:
        """An empty table but for the static leases.

        Raises:
            ConfigError: a static lease cannot be used.
        """
        self.settings = settings
        self.counters = dict.fromkeys(OUTCOMES, 0)
        self.generation = 0
        self._bindings: dict[int, _Binding] = {}  # by address
        self._clients: dict[bytes, _Binding] = {}  # by client, never a declined one
        self._reserved: dict[bytes, _Reservation] = {}  # by hardware address
        self._reserved_addresses: dict[int, _Reservation] = {}
        self._ending: list[tuple[float, int]] = []  # heap of (expires, address), stale entries among them
        self._next = int(settings.first)  # no address from here to the end of the pool was ever given
        self._excluded = frozenset(
            int(a)
            for a in (
                settings.server,
                settings.network.network_address,
                settings.network.broadcast_address,
                *settings.excluded,
            )
        )
        for mac, address, name in settings.static:
            self.reserve(mac, address, name)

    # ------------------------------------------------------------------ static leases

    def reserve(
        self,
        mac: bytes | str,
        address: IPv4Address | str | None = None,
        name: str = "",
        now: float = 0.0,
    ) -> IPv4Address:
        """Ties an address to a hardware address for good, for a guest that is configured without DHCP too.

        Without ``address`` the guest keeps the one it has, or gets a free one of the pool.

        Raises:
            ConfigError: not a MAC or name, an address outside the network, taken, or none left.
        """
        mac = _mac(mac)
        if name and not _HOST_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is not a host name: letters, digits and hyphens, at most 63")
        old = self._reserved.get(mac)
        if address is None:
            held = self._clients.get(_hardware_key(mac))
            if old is not None:
                wanted = old.address
            elif held is not None:
                wanted = held.address
            else:
                free = self._free_address(now)
                if free is None:
                    raise ConfigError(f"no address is left for {mac.hex(':')}: widen the pool")
                wanted = free
        else:
            try:
                wanted = int(IPv4Address(address))
            except ValueError:
                raise ConfigError(f"{address!r} is not an IPv4 address") from None
        text = IPv4Address(wanted)
        if text not in self.settings.network or wanted in self._excluded:
            raise ConfigError(
                f"address {text} cannot be given to {mac.hex(':')}: it is not a guest's to have"
            )
        owner = self._reserved_addresses.get(wanted)
        if owner is not None and owner.mac != mac:
            raise ConfigError(f"address {text} already belongs to {owner.mac.hex(':')}")
        if old is None and len(self._reserved) >= MAX_ADDRESSES:
            raise ConfigError(f"more than {MAX_ADDRESSES} static leases")
        self._forget(self._bindings.get(wanted))
        self._vacate(self._clients.get(_hardware_key(mac)))
        if old is not None:
            del self._reserved_addresses[old.address]
        entry = _Reservation(wanted, mac, name)
        self._reserved[mac] = self._reserved_addresses[wanted] = entry
        if old is not None:
            self._return(old.address)
        self.generation += 1
        return text

    def unreserve(self, mac: bytes | str) -> bool:
        """Gives a static address back to the pool; False when there was none."""
        entry = self._reserved.pop(_mac(mac), None)
        if entry is None:
            return False
        del self._reserved_addresses[entry.address]
        self._return(entry.address)
        self.generation += 1
        return True

    def release(self, address: IPv4Address) -> bool:
        """Takes an address from its client, or a declined one back; False when it is nobody's."""
        reserved = self._reserved_addresses.get(int(address))
        if reserved is not None:
            return self.unreserve(reserved.mac)
        held = self._bindings.get(int(address))
        if held is None or (held.state == "kept" and not held.key):
            return False
        self._vacate(held)
        self.generation += 1
        return True

    def leases(self, now: float | None = None) -> list[Lease]:
        """Every address in the table, by address. With ``now``, a lease that has ended shows as ``kept``."""
        out = [
            Lease(IPv4Address(r.address), r.mac, b"", r.name or r.seen, "static", None)
            for r in self._reserved.values()
        ]
        for b in self._bindings.values():
            if b.state == "kept" and not b.key:
                continue
            over = now is not None and b.expires <= now and b.state in ("offered", "bound")
            identifier = b"" if b.key == _hardware_key(b.mac) else b.key
            state = "kept" if over else b.state
            out.append(Lease(IPv4Address(b.address), b.mac, identifier, b.name, state, b.expires))
        return sorted(out, key=lambda lease: lease.address)

    # ------------------------------------------------------------------ messages

    def handle(
        self, message: bytes | bytearray | memoryview, now: float, source_mac: bytes | None = None
    ) -> DhcpReply | None:
        """The reply to one message from a client or relay, or None.

        Args:
            message: payload of a UDP datagram to port 67.
            now: seconds on any clock that does not run backwards.
            source_mac: where the frame came from; a relay agent is answered there.
        """
        try:
            outcome, reply = self._handle(message, now, source_mac)
        except WireError:
            outcome, reply = "dropped_malformed", None
        self.counters[outcome] += 1
        return reply

    def _handle(
        self, data: bytes | bytearray | memoryview, now: float, source_mac: bytes | None
    ) -> tuple[str, DhcpReply | None]:
        request = DhcpMessage.parse(data)
        if request.op != 1:
            return "dropped_not_request", None
        kind = request.message_type
        if kind is None:
            return "dropped_no_type", None
        server = request.server_id
        wanted = request.requested_address
        limit = request.max_message_size
        client_id = request.client_id
        chaddr = request.chaddr
        if client_id is None and (not any(chaddr) or (request.htype == ETHERNET and len(chaddr) != 6)):
            return "dropped_no_client", None
        if request.htype == ETHERNET and len(chaddr) == 6 and chaddr[0] & 1:
            return "dropped_no_client", None
        mac = chaddr if request.htype == ETHERNET and len(chaddr) == 6 else b""
        key = client_id if client_id is not None else bytes([request.htype]) + chaddr
        reserved = self._reserved.get(mac) if mac else None
        client = _Client(key, mac, reserved, request, server, wanted, limit, now, source_mac)
        if kind == DISCOVER:
            return self._discover(client)
        if kind == REQUEST:
            return self._request(client)
        if kind == DECLINE:
            return self._decline(client), None
        if kind == RELEASE:
            return self._release(client), None
        if kind == INFORM:
            return self._inform(client)
        return "dropped_unexpected_type", None

    def _discover(self, c: _Client) -> tuple[str, DhcpReply | None]:
        if c.reserved is not None:
            address = c.reserved.address
            self._note_name(c)
            return "offered", self._reply(c, OFFER, address)
        held = self._clients.get(c.key)
        if held is not None and not self._may_have(held.address, c.key, c.now):
            held = None
        if held is not None:
            address = held.address
        elif c.wanted is not None and self._may_have(int(c.wanted), c.key, c.now):
            address = int(c.wanted)
        else:
            free = self._free_address(c.now)
            if free is None:
                return "dropped_exhausted", None
            address = free
        if held is None or held.state != "bound" or held.expires <= c.now:
            self._bind(c, address, "offered", c.now + self.settings.offer_seconds)
        return "offered", self._reply(c, OFFER, address)

    def _request(self, c: _Client) -> tuple[str, DhcpReply | None]:
        ciaddr = int(c.request.ciaddr)
        if c.server is not None and c.server != self.settings.server:
            held = self._clients.get(c.key)
            if held is not None and held.state == "offered":
                held.state = "kept"
                held.expires = c.now
                self._keep(held)
            return "ignored_other_server", None
        if ciaddr and (c.wanted is None or int(c.wanted) == ciaddr):
            return self._renew(c, ciaddr)
        if ciaddr or c.wanted is None:
            return "dropped_contradictory", None  # RFC 2131 table 4: exactly one of the two
        wanted = int(c.wanted)
        if c.server is not None:
            if self._grant(c, wanted):
                return "acked_selecting", self._reply(c, ACK, wanted)
            return "refused_selecting", self._nak(c, "address is not available")
        # INIT-REBOOT: a client that remembers its address
        if c.wanted not in self.settings.network:
            return "refused_init_reboot", self._nak(c, "wrong network")
        held = self._clients.get(c.key)
        known = c.reserved.address if c.reserved is not None else held.address if held is not None else None
        if known is None:
            return "ignored_unknown_client", None
        if known == wanted and self._grant(c, wanted):
            return "acked_init_reboot", self._reply(c, ACK, wanted)
        return "refused_init_reboot", self._nak(c, "address belongs to another lease")

    def _renew(self, c: _Client, address: int) -> tuple[str, DhcpReply | None]:
        """RENEWING, REBINDING. A client unknown since we were restarted keeps an address that is free."""
        if self._grant(c, address):
            return "acked_renewing", self._reply(c, ACK, address)
        return "refused_renewing", self._nak(c, "address is not available")

    def _decline(self, c: _Client) -> str:
        if c.server is not None and c.server != self.settings.server:
            return "ignored_other_server"
        if c.wanted is None:
            return "dropped_contradictory"
        held = self._clients.get(c.key)
        if held is None or held.address != int(c.wanted):
            # A static address has no other to go to: it stays.
            known = c.reserved is not None and c.reserved.address == int(c.wanted)
            return "declined" if known else "ignored_unknown_client"
        self._forget(held)
        self._keep(_Binding(held.address, b"", held.mac, "declined", c.now + self.settings.decline_seconds))
        self.generation += 1
        return "declined"

    def _release(self, c: _Client) -> str:
        if c.server is not None and c.server != self.settings.server:
            return "ignored_other_server"
        address = int(c.request.ciaddr)
        if c.reserved is not None and c.reserved.address == address:
            return "released"
        held = self._clients.get(c.key)
        if held is None or held.address != address:
            return "ignored_unknown_client"
        if held.state == "bound":
            self.generation += 1
        held.state = "kept"
        held.expires = c.now
        self._keep(held)
        return "released"

    def _inform(self, c: _Client) -> tuple[str, DhcpReply | None]:
        if not int(c.request.ciaddr):
            return "dropped_contradictory", None
        return "acked_inform", self._reply(c, ACK, 0)

    # ------------------------------------------------------------------ addresses

    def _in_pool(self, address: int) -> bool:
        return (
            int(self.settings.first) <= address <= int(self.settings.last) and address not in self._excluded
        )

    def _may_have(self, address: int, key: bytes, now: float) -> bool:
        """Whether a client without a static lease can get this address."""
        if not self._in_pool(address) or address in self._reserved_addresses:
            return False
        held = self._bindings.get(address)
        return held is None or (held.key == key and held.key != b"") or held.expires <= now

    def _grant(self, c: _Client, address: int) -> bool:
        if c.reserved is not None:
            if address != c.reserved.address:
                return False
            self._note_name(c)
            return True
        held = self._clients.get(c.key)
        if (held is not None and held.address != address) or not self._may_have(address, c.key, c.now):
            return False
        self._bind(c, address, "bound", c.now + self.settings.lease_seconds)
        return True

    def _bind(self, c: _Client, address: int, state: str, expires: float) -> None:
        held = self._clients.get(c.key)
        name = _client_name(c.request) or (held.name if held is not None else "")
        if held is not None and held.address == address:
            if (held.state == "bound") != (state == "bound") or held.name != name or held.mac != c.mac:
                self.generation += 1
        else:
            self._vacate(held)
            self._forget(self._bindings.get(address))
            self.generation += 1
        self._keep(_Binding(address, c.key, c.mac, state, expires, name))

    def _keep(self, b: _Binding) -> None:
        self._bindings[b.address] = b
        if b.key:
            self._clients[b.key] = b
        heapq.heappush(self._ending, (b.expires, b.address))
        if len(self._ending) > 2 * len(self._bindings) + 64:
            self._ending = [(x.expires, x.address) for x in self._bindings.values()]
            heapq.heapify(self._ending)

    def _forget(self, b: _Binding | None) -> None:
        if b is not None:
            self._bindings.pop(b.address, None)
            if self._clients.get(b.key) is b:
                del self._clients[b.key]

    def _vacate(self, b: _Binding | None) -> None:
        """Takes an address from its client and gives it back to the pool."""
        if b is not None:
            self._forget(b)
            self._return(b.address)

    def _return(self, address: int) -> None:
        if address in self._reserved_addresses or not self._in_pool(address):
            return
        if address < self._next:  # else the walk through the untouched part of the pool finds it
            self._keep(_Binding(address, b"", b"", "kept", -math.inf))

    def _free_address(self, now: float) -> int | None:
        """One that nobody ever had, else the one whose lease ended longest ago; None when all are in use."""
        while self._next <= int(self.settings.last):
            address = self._next
            self._next += 1
            taken = address in self._bindings or address in self._reserved_addresses
            if not taken and self._in_pool(address):
                return address
        while self._ending:
            expires, address = self._ending[0]
            held = self._bindings.get(address)
            if held is None or held.expires != expires:
                heapq.heappop(self._ending)
                continue
            if expires > now:
                return None
            heapq.heappop(self._ending)
            self._forget(held)
            return address
        return None

    def _note_name(self, c: _Client) -> None:
        name = _client_name(c.request)
        if c.reserved is not None and name and name != c.reserved.seen:
            c.reserved.seen = name
            self.generation += 1

    # ------------------------------------------------------------------ replies

    def _reply(self, c: _Client, kind: int, address: int) -> DhcpReply:
        s = self.settings
        request = c.request
        reply = self._echo(c)
        reply.yiaddr = IPv4Address(address)
        reply.siaddr = s.server
        if kind == ACK:
            reply.ciaddr = request.ciaddr
        reply.message_type = kind
        reply.server_id = s.server
        if address:
            reply.lease_time = s.lease_seconds
            reply.renewal_time = s.lease_seconds // 2
            reply.rebinding_time = s.lease_seconds * 7 // 8
        extra = DhcpMessage()
        extra.subnet_mask = s.network.netmask
        extra.routers = s.routers
        extra.dns_servers = s.dns_servers
        extra.broadcast_address = s.network.broadcast_address
        if c.reserved is not None and c.reserved.name:
            extra.hostname = c.reserved.name
        if s.domain:
            extra.domain = s.domain
        if s.mtu:
            extra.mtu = s.mtu
        extra.options.update(s.extra)
        # A client that names no options, like VPNKit's, gets them all.
        asked: Iterable[int] = request.parameter_list or tuple(extra.options)
        # The mask before any router (RFC 2132 section 3.3), and routes before the router that they stand for.
        asked = sorted(asked, key=lambda code: (code != SUBNET_MASK, code != CLASSLESS_ROUTES))
        room = self._room(c) - len(reply.build(minimum=0)) - _echoed_size(request)
        for code in asked:
            data = extra.options.pop(code, None)
            if data is None:
                continue
            if code == ROUTER and request.parameter_list and CLASSLESS_ROUTES in reply.options:
                continue  # RFC 3442: not both, to a client that asks for both
            size = len(data) + 2 * max(1, -(-len(data) // 255))
            if size <= room:
                reply.options[code] = data
                room -= size
        _echo_options(request, reply)
        return self._addressed(c, reply)

    def _nak(self, c: _Client, why: str) -> DhcpReply:
        reply = self._echo(c)
        reply.message_type = NAK
        reply.server_id = self.settings.server
        reply.message = why
        _echo_options(c.request, reply)
        if int(c.request.giaddr):
            reply.broadcast = True  # RFC 2131 section 4.3.2: the relay shall broadcast it
            return self._addressed(c, reply)
        return DhcpReply(reply.build(), BROADCAST, CLIENT_PORT, BROADCAST_MAC)

    def _echo(self, c: _Client) -> DhcpMessage:
        r = c.request
        return DhcpMessage(2, r.xid, r.chaddr, giaddr=r.giaddr, flags=r.flags, htype=r.htype)

    def _room(self, c: _Client) -> int:
        """Bytes of the largest message that the client takes, and that a packet on this network carries."""
        limit = max(SMALLEST_PACKET, c.limit or 0)
        if self.settings.mtu:
            limit = min(limit, max(SMALLEST_PACKET, self.settings.mtu))
        return limit - IP_AND_UDP

    def _addressed(self, c: _Client, reply: DhcpMessage) -> DhcpReply:
        """RFC 2131 section 4.1: relay, else the address the client has, else broadcast or the new address."""
        payload = reply.build()
        request = c.request
        mac = c.mac or BROADCAST_MAC
        if int(request.giaddr):
            return DhcpReply(payload, request.giaddr, SERVER_PORT, c.source_mac)
        if int(request.ciaddr):
            return DhcpReply(payload, request.ciaddr, CLIENT_PORT, mac)
        if request.broadcast or not c.mac:
            return DhcpReply(payload, BROADCAST, CLIENT_PORT, BROADCAST_MAC)
        return DhcpReply(payload, reply.yiaddr, CLIENT_PORT, mac)


@dataclass(slots=True)
class _Client:
    """Who sent the message at hand, and what the message says."""

    key: bytes
    mac: bytes
    reserved: _Reservation | None
    request: DhcpMessage
    server: IPv4Address | None
    wanted: IPv4Address | None
    limit: int | None
    now: float
    source_mac: bytes | None


def _hardware_key(mac: bytes) -> bytes:
    return bytes([ETHERNET]) + mac


def _mac(mac: bytes | str) -> bytes:
    text = mac
    if isinstance(mac, str):
        try:
            mac = bytes(int(part, 16) for part in mac.replace("-", ":").split(":"))
        except ValueError:
            mac = b""
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise ConfigError(f"{text!r} is not a unicast MAC address like 02:00:00:00:00:01")
    return bytes(mac)


def _client_name(request: DhcpMessage) -> str:
    """The first label of the name that the client gives itself (option 12), "" where it is no host name."""
    name = (request.hostname or "").split(".", 1)[0]
    return name if _HOST_NAME.fullmatch(name) else ""


def _echo_options(request: DhcpMessage, reply: DhcpMessage) -> None:
    """Client identifier (RFC 6842) and, last, what a relay agent added (RFC 3046 section 2.2) go back."""
    for code in (61, 82):
        if code in request.options:
            reply.options[code] = request.options[code]


def _echoed_size(request: DhcpMessage) -> int:
    return sum(
        len(request.options[c]) + 2 * (len(request.options[c]) // 255 + 1)
        for c in (61, 82)
        if c in request.options
    )
