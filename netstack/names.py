"""The part of the gateway that gives guests addresses and names: DHCP, the table of names, the upstream resolvers."""

from __future__ import annotations

import ipaddress
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from .config import Config, parse_mac
from .errors import ConfigError
from .nameservice import NameService
from .services.added_names import record_text
from .services.dhcp4_options import service_options
from .services.dns_names import search_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .engine import Engine
    from .reach import Reach
    from .services.dhcp4 import DhcpServer, Lease

__all__ = ["NameMethods", "reserved_mac"]

BROADCAST_MAC = b"\xff" * 6
OPTION_SEARCH = 119  # RFC 3397
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

    def _begin_names(self) -> None:
        self._holders: dict[str, bytes] = {}  # address to MAC, as the engine knows it
        self._dhcp_spoofed = 0
        self._dhcp: DhcpServer | None = None  # made when a guest is first admitted or asks
        self._static: list[tuple[bytes, str, str]] = []  # guests admitted before that
        #: the names that the gateway answers, and the name servers and hooks that know the others
        self.dns = NameService(self.config, self._engine, self._control_loop)
        self._check_addresses()
        self._publish_names()

    def _check_addresses(self) -> None:
        """Options and static leases are checked at once, not when the first guest asks."""
        c = self.config
        self._dhcp_options = service_options(
            c.dhcp_ntp, c.dhcp_routes, c.dhcp_wpad, ipaddress.IPv4Address(c.gateway)
        )
        if self.config.leases:
            self._dhcp_server()
            self._tell_holders()

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
                )
            )
            for mac, address, name in self._static:
                self._dhcp.reserve(mac, address, name)
            self._static.clear()
        return self._dhcp

    def _search(self) -> tuple[str, ...]:
        """The search domains of guests besides their own."""
        search = self.dns.search if self.config.search is None else self.config.search
        return tuple(domain for domain in dict.fromkeys(search) if domain != self.config.domain)

    def leases(self) -> list[Any]:
        """The addresses given out."""
        with self._lock:
            return list(self._dhcp_server().leases())

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
        leases = self._dhcp.leases() if self._dhcp is not None else ()
        self.dns.publish((f"{x.name}.{self.config.domain}", str(x.address)) for x in leases if x.name)
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
        self.dns.change_added(lambda added: added.adding_all(records, zones, replace))

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

    def reserve(self, mac: str, address: str | None = None, name: str = "") -> Lease:
        """Ties an address (None: the one it has, or a free one) to a MAC for good, and a name to the address.

        Raises:
            ConfigError: it is not a MAC, an address or a name, or the address is another's.
        """
        raw = parse_mac("mac", mac)
        with self._lock:
            server = self._dhcp_server()
            for lease in server.leases(self._now()) if address is not None else ():
                if str(lease.address) == address and lease.mac != raw and lease.state in ("bound", "offered"):
                    raise ConfigError(
                        f"address {address} is leased to {lease.mac.hex(':') or 'another guest'}: release it first"
                    )
            taken = server.reserve(raw, address, name, self._now())
            self._leases_changed(-1, raw)
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
            return True

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
            before = server.generation
            reply = server.handle(message[DHCP_HEAD.size :], self._now(), mac)
            if server.generation != before:
                self._leases_changed(port, mac)
        if reply is None:
            return
        # The link tells who asked; a reply never goes to a MAC that the message merely claims.
        to = BROADCAST_MAC if reply.mac == BROADCAST_MAC else mac
        self._engine.send_udp(port, to, self.config.gateway, 67, reply.address, reply.port, reply.payload)

    def _now(self) -> float:
        return self._virtual_ns / 1e9 if self._virtual_ns else time.time()


def claims_another(message: bytes, mac: bytes) -> bool:
    """Whether a DHCP message is about another Ethernet address than the frame came from (relays apart)."""
    ethernet = len(message) >= 34 and message[1] == 1 and message[2] == 6
    return ethernet and message[24:28] == bytes(4) and message[28:34] != mac
