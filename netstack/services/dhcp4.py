"""A DHCPv4 server (RFC 2131, 2132), sans-IO: messages and the time go in, replies come out.

Who a client is: its client identifier (option 61), else its hardware address (RFC 2131 section 4.2). An
identifier that only repeats the hardware address is the same client. Who has which address is in
:mod:`.dhcp4_leases`. What a message is (RFC 2131 table 4)::

    DISCOVER                                              -> OFFER, or silence when no address is left
    REQUEST   server identifier, requested address        SELECTING     -> ACK, NAK
              requested address                           INIT-REBOOT   -> ACK, NAK, silence for an unknown client
              ciaddr (by unicast or broadcast)            RENEWING, REBINDING -> ACK, NAK
    DECLINE   server identifier, requested address        somebody else uses it
    RELEASE   server identifier, ciaddr
    INFORM    ciaddr                                      -> ACK without a lease

A client may ask for a shorter lease (option 51), down to two minutes. T1 and T2 are half and seven eighths of it.
Every message moves exactly one counter of :attr:`DhcpServer.counters`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from netstack.errors import WireError
from netstack.services.dhcp4_clients import ETHERNET, client_name
from netstack.services.dhcp4_leases import Binding, DhcpSettings, Lease, LeaseTable, Reservation
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
SUBNET_MASK = 1
IP_AND_UDP = 28  # bytes of headers that option 57 counts in
SMALLEST_PACKET = 576  # what every client takes (RFC 2131 section 2)
SHORTEST_LEASE = 120  # seconds, for a client that asks for less, unless all leases are shorter


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


class DhcpServer(LeaseTable):
    """The server of one network: give it messages with :meth:`handle`, send what it returns.

    Arguments as of :class:`~netstack.services.dhcp4_leases.LeaseTable`.

    Attributes:
        counters: outcome to count; the keys never change.
    """

    def __init__(
        self, settings: DhcpSettings, in_use: Callable[[], Mapping[int, bytes]] | None = None
    ) -> None:
        super().__init__(settings, in_use)
        self.counters = dict.fromkeys(OUTCOMES, 0)
        self._extra = dict(settings.extra)

    def set_option(self, code: int, data: bytes) -> None:
        """An option that clients get from now on; empty for none."""
        if data:
            self._extra[code] = data
        else:
            self._extra.pop(code, None)

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
        sent = client_id is not None
        key = client_id if client_id is not None else bytes([request.htype]) + chaddr
        reserved = self._reservation(key, mac, sent)
        if reserved is None and kind in (DISCOVER, REQUEST):
            self._adopt(key, mac, sent)
        client = _Client(
            key,
            mac,
            sent,
            reserved,
            request,
            server,
            wanted,
            limit,
            self._lease_seconds(request),
            now,
            source_mac,
        )
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

    def _lease_seconds(self, request: DhcpMessage) -> int:
        """What the client asks for, within limits (RFC 2131 section 4.3.1)."""
        longest = self.settings.lease_seconds
        asked = request.lease_time
        return longest if asked is None else max(min(asked, longest), min(SHORTEST_LEASE, longest))

    def _discover(self, c: _Client) -> tuple[str, DhcpReply | None]:
        if c.reserved is not None:
            address = c.reserved.address
            self._note_name(c.reserved, c)
            return "offered", self._reply(c, OFFER, address)
        held = self._clients.get(c.key)
        if held is not None and not self._may_have(held.address, c.key, c.mac, c.now):
            held = None
        if held is not None:
            address = held.address
        elif c.wanted is not None and self._may_have(int(c.wanted), c.key, c.mac, c.now):
            address = int(c.wanted)
        else:
            free = self._free_address(c.now, c.mac)
            if free is None:
                return "dropped_exhausted", None
            address = free
        if held is None or held.state != "bound" or held.expires <= c.now:
            until = c.now + self.settings.offer_seconds
            self._bind(c.key, c.mac, c.sent, client_name(c.request), address, "offered", until)
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
        self._keep(Binding(held.address, b"", held.mac, "declined", c.now + self.settings.decline_seconds))
        self.generation += 1
        return "declined"

    def _release(self, c: _Client) -> str:
        if c.server is not None and c.server != self.settings.server:
            return "ignored_other_server"
        address = int(c.request.ciaddr)
        if c.reserved is not None and c.reserved.address == address:
            if c.reserved.mac != c.reserved.who.mac:  # of whoever had it until now
                c.reserved.mac = c.reserved.who.mac
                self._changed.add(address)
                self.generation += 1
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

    def _grant(self, c: _Client, address: int) -> bool:
        if c.reserved is not None:
            if address != c.reserved.address:
                return False
            self._note_name(c.reserved, c)
            if c.mac and c.reserved.mac != c.mac:
                c.reserved.mac = c.mac
                self._changed.add(address)
                self.generation += 1
            return True
        held = self._clients.get(c.key)
        if held is not None and held.address != address:
            return False
        if not self._may_have(address, c.key, c.mac, c.now):
            return False
        self._bind(c.key, c.mac, c.sent, client_name(c.request), address, "bound", c.now + c.lease_seconds)
        return True

    def _note_name(self, reserved: Reservation, c: _Client) -> None:
        name = client_name(c.request)
        if name and name != reserved.seen:
            reserved.seen = name
            self._changed.add(reserved.address)
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
            reply.lease_time = c.lease_seconds
            reply.renewal_time = c.lease_seconds // 2
            reply.rebinding_time = c.lease_seconds * 7 // 8
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
        extra.options.update(self._extra)
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
    sent: bool  # key is the identifier that it sends
    reserved: Reservation | None
    request: DhcpMessage
    server: IPv4Address | None
    wanted: IPv4Address | None
    limit: int | None
    lease_seconds: int
    now: float
    source_mac: bytes | None


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
