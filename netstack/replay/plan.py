"""Who is a guest in a capture, and the network plan in which that guest can live."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netstack.config import Config
from netstack.errors import ConfigError, NetstackError, WireError
from netstack.wire.dhcp4 import DhcpMessage

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["Guest", "Plan", "find_guests", "plan_for"]

MAX_GUESTS = 16  # that a capture is replayed for; the rest is said not to have been
GATEWAY_MAC = "f6:16:36:bc:f9:c6"
OTHER_GATEWAY_MAC = "02:00:00:00:00:fe"
#: Of a guest whose capture has no Ethernet address for it, or one that no guest may have.
DEFAULT_MAC = b"\x02\x00\x00\x00\x00\x03"
PRIVATE = [
    ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
]
FOREVER = 86400.0 * 365  # seconds: what a scripted peer answers late is still an answer


@dataclass(frozen=True)
class Guest:
    """One host of a capture whose part is replayed.

    Attributes:
        address: IPv4 as an integer, 0 where it has none in the capture.
        mac: six bytes.
        why: how it was found, in words.
    """

    address: int
    mac: bytes
    why: str

    @property
    def hardware(self) -> bytes:
        """The MAC that it has in the replay."""
        return DEFAULT_MAC if self.mac[0] & 1 or not any(self.mac) else self.mac

    @property
    def text(self) -> str:
        """The address, or the MAC of a guest without one."""
        return str(ipaddress.IPv4Address(self.address)) if self.address else self.mac.hex(":")


@dataclass(frozen=True)
class Plan:
    """The network that a guest is put into."""

    config: Config
    network: int
    mask: int
    gateway: int


def possible(address: int) -> bool:
    """Whether a guest may have an address: unicast, and not the loopback (RFC 1122 3.2.1.3)."""
    return 0 < address >> 24 != 127 and address >> 28 < 14


def leased(trace: Trace) -> dict[bytes, tuple[int, int]]:
    """MAC of each DHCP client to (address that it was given, server), as integers."""
    found: dict[bytes, tuple[int, int]] = {}
    for _, _, _, payload, _ in trace.dhcp_messages():
        try:
            message = DhcpMessage.parse(payload)
        except (WireError, ValueError):
            continue
        if int(message.giaddr):
            continue  # its client lives behind a relay
        mac = bytes(message.chaddr[:6])
        if message.op == 1:
            found.setdefault(mac, (int(message.ciaddr), 0))
        elif int(message.yiaddr):
            found[mac] = (int(message.yiaddr), int(message.server_id or 0) or found.get(mac, (0, 0))[1])
    return found


def find_guests(trace: Trace, wanted: Sequence[str] = ()) -> list[Guest]:
    """The guests of a capture: those that are named, or those who open, ask and resolve.

    Every pair of hosts is to have one of them as its guest, so that everything in the capture is replayed.

    Args:
        wanted: addresses or MACs.

    Raises:
        ConfigError: what was named is neither, or is not in the capture.
    """
    clients = leased(trace)
    if wanted:
        return [named(trace, text, clients) for text in wanted]
    guests: list[Guest] = []
    for mac, (address, _) in clients.items():
        if not mac[0] & 1 and any(mac):
            guests.append(Guest(address if possible(address) else 0, mac, "it asked for an address by DHCP"))
    pairs = [list(pair) for pair in trace.conversations()]
    covered = {guest.address for guest in guests if guest.address}
    while len(guests) < MAX_GUESTS:
        signs: dict[int, int] = {}
        for a, b, frames, from_a, from_b in pairs:
            if a in covered or b in covered:
                continue
            for address, seen in ((a, from_a), (b, from_b)):
                if possible(address) and trace.hardware(address) is not None:
                    home = any(ipaddress.IPv4Address(address) in net for net in PRIVATE)
                    signs[address] = signs.get(address, 0) + 4 * seen + home + (frames > 1)
        if not signs:
            break
        best = max(signs, key=lambda address: (signs[address], -address))
        covered.add(best)
        guests.append(Guest(best, trace.hardware(best) or DEFAULT_MAC, "it opens conversations"))
    if not guests:
        station = trace.station()
        if station is not None:
            guests.append(Guest(0, station, "it sent the first frame"))
    return guests[:MAX_GUESTS]


def named(trace: Trace, text: str, clients: dict[bytes, tuple[int, int]]) -> Guest:
    try:
        address = int(ipaddress.IPv4Address(text))
    except ValueError:
        try:
            mac = bytes.fromhex(text.replace("-", ":").replace(":", ""))
        except ValueError:
            mac = b""
        if len(mac) != 6:
            raise ConfigError(f"--guest {text!r} is neither an IPv4 address nor a MAC address") from None
        return Guest(clients.get(mac, (0, 0))[0], mac, "it was named")
    hardware = trace.hardware(address) or next((m for m, (a, _) in clients.items() if a == address), None)
    if hardware is None:
        raise ConfigError(f"--guest {text}: no frame of {trace.path} comes from there")
    return Guest(address, hardware, "it was named")


def gateway_of(trace: Trace, guest: Guest) -> int:
    """The address that the gateway should have: that of the guest's DHCP server, name server or router; 0 = any."""
    server = leased(trace).get(guest.mac, (0, 0))[1]
    if server and server != guest.address:
        return server

    def near(counts: dict[int, int]) -> list[int]:
        inside = [a for a in counts if a >> 8 == guest.address >> 8 and a != guest.address and possible(a)]
        return sorted(inside, key=lambda a: (-counts[a], a))

    questions = near(trace.questions(guest.address))
    if questions:
        return questions[0]
    sought = near(trace.sought(guest.address))
    return sought[0] if sought else 0


def plan_for(trace: Trace, guest: Guest) -> Plan:
    """The smallest network that holds a guest and its gateway, neither of them as its first or last address."""
    address = guest.address if possible(guest.address) else int(ipaddress.IPv4Address("192.168.65.3"))
    wanted = gateway_of(trace, guest) if guest.address else 0
    peers = {a ^ b ^ address for a, b, *_ in trace.conversations() if address in (a, b)}
    gateway = 0
    for prefix in range(30, 7, -1):
        mask = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
        network = address & mask
        inner = range(network + 1, network + (1 << (32 - prefix)) - 1)
        if address not in inner or (wanted and wanted not in inner):
            continue
        if network in peers or inner[-1] + 1 in peers:
            continue  # a peer would be taken for the network's broadcast
        gateway = wanted or next((a for a in inner if a != address and a not in peers), 0)
        if gateway:
            break
    if not gateway:
        raise NetstackError(f"no network can be made around {guest.text}: choose another --guest")
    mac = GATEWAY_MAC if guest.hardware.hex(":") != GATEWAY_MAC else OTHER_GATEWAY_MAC
    host = str(ipaddress.IPv4Address(address))
    lease = ((guest.hardware.hex(":"), host, ""),)
    config = Config(
        network=f"{ipaddress.IPv4Address(network)}/{prefix}",
        gateway=str(ipaddress.IPv4Address(gateway)),
        host_alias=None,
        first_guest=host,
        last_guest=host,
        gateway_mac=mac,
        mtu=max(1500, trace.largest(guest.address)),
        gateway_names=(),
        host_names=(),
        dns=("192.0.2.53",),
        dns_cache=0,
        dns_timeout=60.0,
        proxy="off",
        leases=lease,
        udp_idle_one_way=FOREVER,
        udp_idle_two_way=FOREVER,
        tcp_congestion="none",
        tcp_keepalive=0.0,
        source_check="any",
    )
    return Plan(config, network, mask, gateway)
