"""The part of the gateway that gives guests addresses and names: DHCP, the table of names, the upstream resolvers."""

from __future__ import annotations

import ipaddress
import math
import struct
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .config import Config
from .errors import ConfigError
from .host.boot import boot_time
from .log import logger
from .nameservice import NameService
from .services.added_names import record_text
from .services.dhcp4_options import WPAD, service_options
from .services.dns_names import search_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .engine import Engine
    from .lease_store import LeaseStore
    from .reach import Reach
    from .services.dhcp4 import DhcpServer, Lease

__all__ = ["NameMethods", "reserved_mac"]

BROADCAST_MAC = b"\xff" * 6
OPTION_SEARCH = 119  # RFC 3397
TELL_SECONDS = 60.0  # without a client that gets no address, until the next one is worth a line of the log
DHCP_HEAD = struct.Struct("=i6sHII")  # of the engine's message (nat/context.pxd)


def reserved_mac(address: ipaddress.IPv4Address) -> bytes:
    """The MAC under which an address is kept from guests: a locally administered one that says which."""
    return b"\x02\x00" + address.packed


class NameMethods:
    """The part of :class:`netstack.Gateway` that knows who has which address and name."""

    config: Config
    _engine: Engine
    _lock: threading.Lock
    _reach: Reach | None
    _virtual_ns: int
    if TYPE_CHECKING:

        def _control_loop(self) -> Any: ...

        def _wpad(self) -> str:
            """That of :class:`netstack.proxying.ProxyMethods`."""

    _store: LeaseStore | None = None  # closed also where the gateway cannot be made

    def _begin_names(self) -> None:
        self._holders: dict[str, bytes] = {}  # address to MAC, as the engine knows it
        self._dhcp_spoofed = 0
        self._dhcp: DhcpServer | None = None  # made when a guest is first admitted or asks
        self._static: list[tuple[bytes, str, str]] = []  # guests admitted before that
        self._clock = time.time() - boot_time()
        self._exhausted_told = -math.inf
        #: the names that the gateway answers, and the name servers and hooks that know the others
        self.dns = NameService(self.config, self._engine, self._control_loop)
        self._check_addresses()
        self._publish_names()

    def _check_addresses(self) -> None:
        """Options and static leases are checked at once, not when the first guest asks."""
        c = self.config
        self._dhcp_options = service_options(
            c.dhcp_ntp, c.dhcp_routes, c.dhcp_wpad, c.dhcp_captive_portal, ipaddress.IPv4Address(c.gateway)
        )
        if self.config.state is not None:
            self._restore_leases(self.config.state)
        elif self.config.leases:
            self._dhcp_server()
            self._tell_holders()

    def _restore_leases(self, directory: str) -> None:
        from .lease_store import LeaseStore

        server = self._dhcp_server()
        self._store = LeaseStore(directory, self._now, threaded=not self._virtual_ns)
        left_out = server.restore(self._store.leases(), self._now())
        if lost := [entry.address for entry in left_out if entry.state != "static"]:
            logger().warning(
                "%d leases in %s do not fit the settings and are left out: %s",
                len(lost),
                self._store.path,
                ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else ""),
            )
        # a static lease that the settings have no longer, or one of this program's own
        self._store.put({entry.address: None for entry in left_out if entry.state == "static"})
        self._tell_holders()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()

    def _dhcp_server(self) -> DhcpServer:
        """To be called with the lock held once there are threads."""
        if self._dhcp is None:
            from .services.dhcp4 import DhcpServer, DhcpSettings

            c = self.config
            gateway = ipaddress.IPv4Address(c.gateway)
            self._dhcp = DhcpServer(
                DhcpSettings(
                    server=gateway,
                    network=ipaddress.IPv4Network(c.network),
                    first=ipaddress.IPv4Address(c.first_guest),
                    last=ipaddress.IPv4Address(c.last_guest),
                    routers=(gateway,),
                    dns_servers=(gateway,),
                    domain=c.domain,
                    mtu=c.mtu,
                    lease_seconds=c.lease_seconds,
                    static=c.leases,
                    extra=(
                        (OPTION_SEARCH, search_option((c.domain, *self._search()))),
                        *self._dhcp_options,
                    ),
                    excluded=(ipaddress.IPv4Address(c.host_alias),) if c.host_alias else (),
                ),
                self._speakers,
            )
            for mac, address, name in self._static:
                self._dhcp.reserve(mac, address, name)
            self._static.clear()
        return self._dhcp

    def _speakers(self) -> dict[int, bytes]:
        """Who speaks from which address, by the engine's table of neighbours, whose links are there."""
        return {int(ipaddress.ip_address(a)): mac for a, mac, port in self._engine.neighbors() if port >= 0}

    def _search(self) -> tuple[str, ...]:
        """The search domains of guests besides their own."""
        search = self.dns.search if self.config.search is None else self.config.search
        return tuple(domain for domain in dict.fromkeys(search) if domain != self.config.domain)

    def leases(self) -> list[Any]:
        """The addresses given out; those that end say when, in seconds since 1970 (or on a clock that is stepped)."""
        with self._lock:
            now = self._now()
            ahead = 0.0 if self._virtual_ns else time.time() - now
            return [self._shown(lease, ahead) for lease in self._dhcp_server().leases(now)]

    @staticmethod
    def _shown(lease: Lease, ahead: float) -> Lease:
        return lease if lease.expires is None else replace(lease, expires=lease.expires + ahead)

    if TYPE_CHECKING:

        def _find_guest(self, name: str) -> str | None:
            """That of :class:`netstack.reach.ReachMethods`."""

    def guest_address(self, name: str) -> str | None:
        """The address of a guest by name, or by an address of the network; "" is the only one. None for nobody's."""
        address = self._find_guest(name)
        inside = address and ipaddress.IPv4Address(address) in ipaddress.IPv4Network(self.config.network)
        return address if inside else None

    def guest_addresses(self) -> list[ipaddress.IPv4Address]:
        """The addresses that guests have; not those that stand for this program or this host."""
        return [
            lease.address
            for lease in self.leases()
            if lease.state in ("static", "bound") and lease.mac != reserved_mac(lease.address)
        ]

    def _publish_names(self) -> None:
        # A name is of one address: a static one before what a client calls itself.
        leases = self._dhcp.leases() if self._dhcp is not None else []
        named = [x for x in leases if x.name and x.state != "declined"]
        named.sort(key=lambda x: x.state == "static")
        self.dns.publish((f"{x.name}.{self.config.domain}", str(x.address)) for x in named)
        if self._reach is not None:
            self._reach.guests_changed()

    def names(self) -> list[tuple[str, str, str, bool]]:
        """Every record that the gateway answers itself: name, type, value in text, and whether it was added."""
        table, added = self.dns.table, self.dns.added.records
        return [
            (name, kind, record_text(kind, data), (kind, data) in added.get(name, ()))
            for name, records in sorted(table.names.items())
            for kind, data in records
        ]

    def zones(self) -> tuple[str, ...]:
        """Below these a name that is not in the table does not exist, and nobody else is asked."""
        return self.dns.table.zones

    def add_names(
        self, *records: tuple[str, str, str], zones: Iterable[str] = (), replace: bool = False
    ) -> None:
        """Adds DNS records (name, type, value in text, such as ("mail.internal", "MX", "10 web.internal")), and zones.

        What is added stands in place of what the gateway would answer otherwise for that name and type. With
        ``replace``, records of the same name and type that were added before go.

        Raises:
            ConfigError: one of them cannot be; then none is added.
        """
        self.dns.change_added(lambda added: added.adding(records, zones, replace))

    def remove_names(self, name: str, kind: str | None = None, value: str | None = None) -> int:
        """Removes records that were added, those of a type or of a value only where given; how many there were.

        Raises:
            ConfigError: the name, the type or the value cannot be.
        """
        return -self.dns.change_added(lambda added: added.removing(name, kind, value))

    def address_within(self, address: ipaddress.IPv4Address) -> bool:
        """Whether an address is one of the guests' pool."""
        first, last = (ipaddress.IPv4Address(a) for a in (self.config.first_guest, self.config.last_guest))
        return first <= address <= last

    def address_take(self, mac: bytes, address: ipaddress.IPv4Address | None) -> ipaddress.IPv4Address | None:
        """Ties an address (None: the first that is free) to a MAC for good; None when it is taken, or none is left."""
        with self._lock:
            server = self._dhcp_server()
            if address is not None:
                for lease in server.leases(self._now()):
                    if lease.address == address and lease.mac != mac and lease.state != "kept":
                        return None
            try:
                taken = server.reserve(mac, address, now=self._now())
            except ConfigError:
                return None
            self._leases_changed(-1, mac)
            return taken

    def address_give_back(self, mac: bytes) -> None:
        """The address of a MAC is free again."""
        with self._lock:
            if self._dhcp_server().unreserve(mac):
                self._leases_changed(-1, mac)

    def reserve(self, who: str, address: str | None = None, name: str = "") -> Lease:
        """Ties an address to a client for good, and a name to the address; it is kept with the leases (``state``).

        Args:
            who: a MAC, id:CLIENT-ID, or both with a comma between (netstack.services.dhcp4_clients).
            address: None for the one it has, or a free one.
            name: its name in the network's domain, or "".

        Raises:
            ConfigError: nobody can be called so, it is not an address or a name, or the address is another's.
        """
        from .services.dhcp4_clients import parse_who

        client = parse_who(who)
        with self._lock:
            server = self._dhcp_server()
            for lease in server.leases(self._now()) if address is not None else ():
                its = lease.mac == client.mac if client.mac else lease.client_id in client.ids
                if str(lease.address) == address and not its and lease.state in ("bound", "offered"):
                    raise ConfigError(
                        f"address {address} is leased to {lease.mac.hex(':') or 'another guest'}: release it first"
                    )
            taken = server.reserve(who, address, name, self._now(), added=True)
            self._leases_changed(-1, client.mac)
            self._save()
            return next(lease for lease in server.leases() if lease.address == taken)

    def release(self, address: str) -> bool:
        """An address is free for others, whether it was leased or reserved; False when nobody has it.

        A guest that goes on using it learns of it when it renews its lease.

        Raises:
            ConfigError: it is not an address.
        """
        try:
            wanted = ipaddress.IPv4Address(address)
        except ValueError:
            raise ConfigError(f"{address!r} is not an IPv4 address") from None
        with self._lock:
            if not self._dhcp_server().release(wanted):
                return False
            self._leases_changed()
            self._save()
            return True

    def _save(self, reply: Callable[[], None] | None = None) -> None:
        """Stores what has changed where leases are stored, and sends the reply then; else at once."""
        changes = self._dhcp.take_changes() if self._dhcp is not None else {}
        if self._store is not None and changes:
            self._store.put(changes, reply)
        elif reply is not None:
            reply()

    def _leases_changed(self, port: int = -1, mac: bytes = b"") -> None:
        self._publish_names()
        self._tell_holders(port, mac)

    def _tell_holders(self, port: int = -1, mac: bytes = b"") -> None:
        """Tells the engine who holds which address, as far as that has changed; ``port`` is where ``mac`` was seen."""
        if self._dhcp is None:
            return
        now = {str(x.address): x.mac for x in self._dhcp.leases() if x.mac and x.state in ("static", "bound")}
        for address, holder in now.items():
            if self._holders.get(address) != holder:
                self._engine.hold(address, holder, port if holder == mac else -1)
        for address in self._holders.keys() - now.keys():
            self._engine.hold(address, None)
        self._holders = now

    def _on_dhcp(self, message: bytes) -> None:
        port, mac, _, _, _ = DHCP_HEAD.unpack_from(message)
        if self.config.source_check == "held" and claims_another(message[DHCP_HEAD.size :], mac):
            self._dhcp_spoofed += 1
            return
        with self._lock:
            server = self._dhcp_server()
            before, conflicts = server.generation, server.conflicts
            refused = server.counters["dropped_exhausted"]
            if self.config.dhcp_wpad is None:
                server.set_option(WPAD, self._wpad().encode())
            reply = server.handle(message[DHCP_HEAD.size :], self._now(), mac)
            if server.generation != before:
                self._leases_changed(port, mac)
            if server.conflicts != conflicts:
                logger().warning("DHCP passes over an address of its pool that a guest uses without a lease")
            if server.counters["dropped_exhausted"] != refused:
                self._tell_exhausted(mac)

            def send() -> None:
                if reply is not None:
                    # The link tells who asked; a reply never goes to a MAC that the message merely claims.
                    to = BROADCAST_MAC if reply.mac == BROADCAST_MAC else mac
                    self._engine.send_udp(
                        port, to, self.config.gateway, 67, reply.address, reply.port, reply.payload
                    )

            self._save(send)

    def _dhcp_counters(self) -> dict[str, int]:
        """What is counted besides the outcome of each message."""
        return {
            "dhcp_spoofed": self._dhcp_spoofed,
            "dhcp_conflicts": self._dhcp.conflicts if self._dhcp is not None else 0,
            "dhcp_state_failures": self._store.failures if self._store is not None else 0,
        }

    def _tell_exhausted(self, mac: bytes) -> None:
        if self._now() - self._exhausted_told >= TELL_SECONDS:
            c = self.config
            logger().warning(
                "DHCP has no address left for %s: all from %s to %s are leased; widen the pool (first_guest, "
                "last_guest) or shorten lease_seconds",
                mac.hex(":"),
                c.first_guest,
                c.last_guest,
                extra={"event": "dhcp_exhausted", "mac": mac.hex(":")},
            )
        self._exhausted_told = self._now()

    def _now(self) -> float:
        """Seconds since 1970 by a clock that goes on whatever becomes of the host's."""
        return self._virtual_ns / 1e9 if self._virtual_ns else self._clock + boot_time()


def claims_another(message: bytes, mac: bytes) -> bool:
    """Whether a DHCP message is about another Ethernet address than the frame came from (relays apart)."""
    ethernet = len(message) >= 34 and message[1] == 1 and message[2] == 6
    return ethernet and message[24:28] == bytes(4) and message[28:34] != mac
