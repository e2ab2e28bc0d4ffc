"""Which client has which address: the table behind the DHCPv4 server, without messages and without I/O.

An address stays with its client after the lease has ended, until the pool has no other left: a client that returns
finds its old one. The life of an address in the pool::

    free      DISCOVER -> offered
    offered   REQUEST -> bound        not taken in time, or another server chosen -> kept
    bound     RELEASE, or its time is over -> kept for the client that had it
    kept      the pool has no other address left -> free
    any       DECLINE -> declined     its time is over -> free

A client is what it says it is (:mod:`.dhcp4_clients`). Where one and the same hardware address comes with an identifier
after it came without one, or the other way round, as a machine does that boots from the network and then runs its
system, that is the same client: it keeps its address. Two different identifiers are two clients.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from netstack.errors import ConfigError
from netstack.services.dhcp4_clients import HOST_NAME, Who, hardware_key, parse_who

__all__ = ["Binding", "DhcpSettings", "Lease", "LeaseTable", "Reservation", "StoredLease"]

MAX_ADDRESSES = 65536  # of the pool and the static ones together: what the tables may grow to
OF_THE_SERVER = frozenset((50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82))  # options that nobody may set


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
    lease_seconds: int = 86400  #: and the most that a client gets that asks for another time
    offer_seconds: float = 60.0  #: how long an offer is held
    decline_seconds: float = 600.0  #: how long an address that somebody else uses stays out of the pool
    static: tuple[tuple[str, str, str], ...] = ()  #: (who, see dhcp4_clients; address; name or "")
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
            if not 1 <= code <= 254 or code in OF_THE_SERVER:
                raise ConfigError(f"DHCP option {code} cannot be set")


@dataclass(frozen=True)
class Lease:
    """One address of the server's table. ``expires`` is on the clock of ``handle``; None never ends."""

    address: IPv4Address
    mac: bytes  #: hardware address, or b"" where only the client identifier is known
    client_id: bytes  #: b"" where it only repeats the hardware address
    name: str
    state: str  #: "static", "offered", "bound", "kept" (for a client that may return) or "declined"
    expires: float | None


@dataclass(frozen=True)
class StoredLease:
    """One address as it outlives the server: what :meth:`LeaseTable.take_changes` gives and ``restore`` takes."""

    address: str
    state: str  #: "bound", "kept", "declined"; of static ones "static" (by settings) or "reserved" (while it ran)
    key: bytes  #: of the client (RFC 2131 section 4.2)
    sent: bool  #: the client sends an identifier
    mac: bytes
    name: str
    who: str  #: of a static one, see dhcp4_clients
    expires: float  #: on the clock of the server; infinite for one that never ends


@dataclass(slots=True)
class Binding:
    """An address of the pool that somebody has, had or declined."""

    address: int
    key: bytes  # of the client; b"" where there is none (declined, or given back)
    mac: bytes
    state: str
    expires: float
    name: str = ""
    sent: bool = False  # the client sent an identifier


@dataclass(slots=True)
class Reservation:
    """A static lease."""

    address: int
    who: Who
    mac: bytes  # of whoever has it now, as far as that is known
    name: str
    added: bool  # while the server ran
    seen: str = ""  # the name that the client itself gave


class LeaseTable:
    """The addresses of one network and who has them.

    Args:
        settings: what may be given to whom.
        in_use: tells, by address as a number, the MACs that are seen to speak from addresses at present. One that is
            another's by this is not given away (RFC 2131 section 2.2).

    Attributes:
        generation: moves when an address gets or loses a client or a name: :meth:`leases` has changed.
        conflicts: how often an address was found to be in use by somebody whom it was not given to.

    Raises:
        ConfigError: a static lease cannot be used.
    """

    def __init__(
        self, settings: DhcpSettings, in_use: Callable[[], Mapping[int, bytes]] | None = None
    ) -> None:
        self.settings = settings
        self.generation = 0
        self.conflicts = 0
        self._in_use = in_use
        self._bindings: dict[int, Binding] = {}  # by address
        self._clients: dict[bytes, Binding] = {}  # by client, never a declined one
        self._macs: dict[bytes, set[int]] = {}  # addresses of clients by hardware address
        self._reserved: dict[bytes, Reservation] = {}  # by each key of a client
        self._reserved_addresses: dict[int, Reservation] = {}
        self._ending: list[tuple[float, int]] = []  # heap of (expires, address), stale entries among them
        self._next = int(settings.first)  # no address from here to the end of the pool was ever given
        self._changed: set[int] = set()
        self._excluded = frozenset(
            int(a)
            for a in (
                settings.server,
                settings.network.network_address,
                settings.network.broadcast_address,
                *settings.excluded,
            )
        )
        for who, address, name in settings.static:
            self.reserve(who, address, name)

    # ------------------------------------------------------------------ static leases

    def reserve(
        self,
        who: bytes | str,
        address: IPv4Address | str | None = None,
        name: str = "",
        now: float = 0.0,
        *,
        added: bool = False,
    ) -> IPv4Address:
        """Ties an address to a client for good, for a guest that is configured without DHCP too.

        Args:
            who: a MAC's six bytes, or text (:mod:`.dhcp4_clients`).
            address: without it the client keeps the one it has, or gets a free one of the pool.
            name: that the address gets.
            now: as in ``handle``.
            added: it is to be stored (:class:`StoredLease`).

        Raises:
            ConfigError: nobody can be called so, an address outside the network, taken, or none left.
        """
        client = parse_who(who)
        if name and not HOST_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is not a host name: letters, digits and hyphens, at most 63")
        old = {id(r): r for key in client.keys if (r := self._reserved.get(key)) is not None}.values()
        wanted = self._wanted(client, address, old, now)
        text = IPv4Address(wanted)
        if text not in self.settings.network or wanted in self._excluded:
            raise ConfigError(f"address {text} cannot be given to {client}: it is not a guest's to have")
        owner = self._reserved_addresses.get(wanted)
        if owner is not None and all(owner is not r for r in old):
            raise ConfigError(
                f"address {text} already belongs to {owner.who} (where both are one machine, write MAC,id:CLIENT-ID)"
            )
        if not old and len(self._reserved_addresses) >= MAX_ADDRESSES:
            raise ConfigError(f"more than {MAX_ADDRESSES} static leases")
        former = self._bindings.get(wanted)
        mac = client.mac
        for key in client.keys:
            held = self._clients.get(key)
            mac = mac or (held.mac if held is not None else b"")
            if held is not former:
                self._vacate(held)
        self._forget(former)
        for r in old:
            mac = mac or r.mac
            self._drop(r)
        entry = Reservation(wanted, client, mac, name, added)
        self._reserved.update(dict.fromkeys(client.keys, entry))
        self._reserved_addresses[wanted] = entry
        for r in old:
            self._return(r.address, r.mac)
        self._changed.add(wanted)
        self.generation += 1
        return text

    def _wanted(
        self, client: Who, address: IPv4Address | str | None, old: Iterable[Reservation], now: float
    ) -> int:
        if address is not None:
            try:
                return int(IPv4Address(address))
            except ValueError:
                raise ConfigError(f"{address!r} is not an IPv4 address") from None
        had = [r.address for r in old]
        had += [held.address for key in client.keys if (held := self._clients.get(key)) is not None]
        if had:
            return had[0]
        free = self._free_address(now, client.mac)
        if free is None:
            raise ConfigError(f"no address is left for {client}: widen the pool")
        return free

    def unreserve(self, who: bytes | str) -> bool:
        """Gives a static address back to the pool; False when there was none."""
        entry = next((r for key in parse_who(who).keys if (r := self._reserved.get(key)) is not None), None)
        if entry is None:
            return False
        self._drop(entry)
        self._return(entry.address, entry.mac)
        self.generation += 1
        return True

    def release(self, address: IPv4Address) -> bool:
        """Takes an address from its client, or a declined one back; False when it is nobody's."""
        reserved = self._reserved_addresses.get(int(address))
        if reserved is not None:
            return self.unreserve(str(reserved.who))
        held = self._bindings.get(int(address))
        if held is None or (held.state == "kept" and not held.key):
            return False
        self._vacate(held)
        self.generation += 1
        return True

    def _drop(self, entry: Reservation) -> None:
        for key in entry.who.keys:
            if self._reserved.get(key) is entry:
                del self._reserved[key]
        self._reserved_addresses.pop(entry.address, None)
        self._changed.add(entry.address)

    def _reservation(self, key: bytes, mac: bytes, sent: bool) -> Reservation | None:
        """That of a client: by what it sends, then by its hardware address, whatever identifier it sends."""
        found = self._reserved.get(key) or (self._reserved.get(hardware_key(mac)) if mac else None)
        if found is None and mac and not sent and not self._macs.get(mac):
            # the system of this machine sends an identifier; what it boots with does not
            same = [r for r in self._reserved_addresses.values() if r.mac == mac]
            found = same[0] if len(same) == 1 else None
        return found

    def leases(self, now: float | None = None) -> list[Lease]:
        """Every address in the table, by address. With ``now``, a lease that has ended shows as ``kept``."""
        out = [
            Lease(IPv4Address(r.address), r.mac, (*r.who.ids, b"")[0], r.name or r.seen, "static", None)
            for r in self._reserved_addresses.values()
        ]
        for b in self._bindings.values():
            if b.state == "kept" and not b.key:
                continue
            over = now is not None and b.expires <= now and b.state in ("offered", "bound")
            identifier = b"" if b.key == hardware_key(b.mac) else b.key
            state = "kept" if over else b.state
            out.append(Lease(IPv4Address(b.address), b.mac, identifier, b.name, state, b.expires))
        return sorted(out, key=lambda lease: lease.address)

    # ------------------------------------------------------------------ what outlives the server

    def take_changes(self) -> dict[str, StoredLease | None]:
        """What has changed since the last call, by address; None where there is nothing left to store."""
        changed, self._changed = self._changed, set()
        return {str(IPv4Address(address)): self._stored(address) for address in changed}

    def _stored(self, address: int) -> StoredLease | None:
        text = str(IPv4Address(address))
        r = self._reserved_addresses.get(address)
        if r is not None:
            state = "reserved" if r.added else "static"
            key = r.who.keys[0]
            return StoredLease(text, state, key, False, r.mac, r.name or r.seen, str(r.who), math.inf)
        b = self._bindings.get(address)
        if b is None or b.state == "offered" or (b.state == "kept" and not b.key):
            return None
        return StoredLease(text, b.state, b.key, b.sent, b.mac, b.name, "", b.expires)

    def restore(self, stored: Iterable[StoredLease], now: float) -> list[StoredLease]:
        """Takes up what was stored; what cannot be, since the settings are others now, is returned."""
        left_out = []
        for entry in stored:
            try:
                done = self._restore(entry, now)
            except (ConfigError, ValueError):
                done = False
            if not done:
                left_out.append(entry)
        self._changed.clear()
        self.generation += 1
        return left_out

    def _restore(self, entry: StoredLease, now: float) -> bool:
        address = int(IPv4Address(entry.address))
        reserved = self._reserved_addresses.get(address)
        if entry.state == "reserved":
            if reserved is not None:
                return str(reserved.who) == entry.who
            if any(key in self._reserved for key in parse_who(entry.who).keys):
                return False
            self.reserve(entry.who, entry.address, entry.name, now, added=True)
            reserved = self._reserved_addresses[address]
            reserved.mac = reserved.mac or entry.mac
            return True
        if reserved is not None:
            if str(reserved.who) != entry.who:
                return False
            reserved.mac = reserved.mac or entry.mac
            reserved.seen = "" if reserved.name else entry.name
            return True
        if entry.state == "static":
            return False
        if not self._in_pool(address) or entry.key in self._reserved or entry.key in self._clients:
            return False
        over = entry.state == "bound" and entry.expires <= now
        if entry.state == "declined" and entry.expires <= now:
            return True
        state = "kept" if over else entry.state
        self._keep(Binding(address, entry.key, entry.mac, state, entry.expires, entry.name, entry.sent))
        return True

    # ------------------------------------------------------------------ addresses

    def _in_pool(self, address: int) -> bool:
        return (
            int(self.settings.first) <= address <= int(self.settings.last) and address not in self._excluded
        )

    def _may_have(self, address: int, key: bytes, mac: bytes, now: float) -> bool:
        """Whether a client without a static lease can get this address."""
        if not self._in_pool(address) or address in self._reserved_addresses:
            return False
        held = self._bindings.get(address)
        if held is not None and held.key == key and held.key != b"":
            return True
        if held is not None and held.expires > now:
            return False
        return not self._found_in_use(address, held.mac if held is not None else b"", mac, now)

    def _found_in_use(self, address: int, former: bytes, mac: bytes, now: float) -> bool:
        """Whether somebody else speaks from a free address. Who had it before is not meant: its time is over."""
        other = None if self._in_use is None else self._in_use().get(address)
        if other is None or other in (former, mac):
            return False
        self._forget(self._bindings.get(address))
        self._keep(Binding(address, b"", other, "declined", now + self.settings.decline_seconds))
        self.conflicts += 1
        self.generation += 1
        return True

    def _adopt(self, key: bytes, mac: bytes, sent: bool) -> None:
        """A client that is unknown by its key has the address of the same machine with, or without, an identifier."""
        if not mac or key in self._clients:
            return
        at = [self._bindings[address] for address in self._macs.get(mac, ())]
        if sent:
            at = [b for b in at if not b.sent]
        if len(at) == 1:
            (held,) = at
            self._forget(held)
            self._keep(replace(held, key=key, sent=sent))
            self.generation += 1

    def _bind(
        self, key: bytes, mac: bytes, sent: bool, name: str, address: int, state: str, expires: float
    ) -> None:
        held = self._clients.get(key)
        name = name or (held.name if held is not None else "")
        if held is not None and held.address == address:
            if (held.state == "bound") != (state == "bound") or held.name != name or held.mac != mac:
                self.generation += 1
        else:
            self._vacate(held)
            self._forget(self._bindings.get(address))
            self.generation += 1
        self._keep(Binding(address, key, mac, state, expires, name, sent))

    def _keep(self, b: Binding) -> None:
        self._unlist(self._bindings.get(b.address))
        self._bindings[b.address] = b
        if b.key:
            self._clients[b.key] = b
            if b.mac:
                self._macs.setdefault(b.mac, set()).add(b.address)
        if b.state != "offered":
            self._changed.add(b.address)
        heapq.heappush(self._ending, (b.expires, b.address))
        if len(self._ending) > 2 * len(self._bindings) + 64:
            self._ending = [(x.expires, x.address) for x in self._bindings.values()]
            heapq.heapify(self._ending)

    def _unlist(self, b: Binding | None) -> None:
        if b is None:
            return
        at = self._macs.get(b.mac)
        if at is not None:
            at.discard(b.address)
            if not at:
                del self._macs[b.mac]

    def _forget(self, b: Binding | None) -> None:
        if b is not None:
            self._unlist(b)
            self._bindings.pop(b.address, None)
            self._changed.add(b.address)
            if self._clients.get(b.key) is b:
                del self._clients[b.key]

    def _vacate(self, b: Binding | None) -> None:
        """Takes an address from its client and gives it back to the pool."""
        if b is not None:
            self._forget(b)
            self._return(b.address, b.mac)

    def _return(self, address: int, mac: bytes) -> None:
        if address in self._reserved_addresses or not self._in_pool(address):
            return
        if address < self._next:  # else the walk through the untouched part of the pool finds it
            self._keep(Binding(address, b"", mac, "kept", -math.inf))

    def _free_address(self, now: float, mac: bytes = b"") -> int | None:
        """One that nobody ever had, else the one whose lease ended longest ago; None when all are in use."""
        while (found := self._next_free(now)) is not None:
            address, former = found
            if not self._found_in_use(address, former, mac, now):
                return address
        return None

    def _next_free(self, now: float) -> tuple[int, bytes] | None:
        while self._next <= int(self.settings.last):
            address = self._next
            self._next += 1
            taken = address in self._bindings or address in self._reserved_addresses
            if not taken and self._in_pool(address):
                return address, b""
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
            return address, held.mac
        return None
