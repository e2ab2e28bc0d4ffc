"""Settings of one virtual network: every default and unit stands here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import ConfigError

__all__ = ["Config"]

KiB = 1024
MiB = 1024 * KiB

SIZES = {"": 1, "B": 1} | {
    f"{letter}{suffix}": (1024 if suffix == "ib" else 1000) ** power
    for power, letter in enumerate("KMGT", 1)
    for suffix in ("", "b", "ib")
}
MAX_RING_FILES = 10000
MIN_RING_FILE = 64000
MAX_SNAPLEN = 262144

MAX_TRANSPARENT = 16  # ports of each kind that are taken to the proxy

_FLOWS = (1, 1 << 24, " flows")
_SECONDS = (0, 10**9, " seconds")
#: What numbers may be: the least, the most, and what they count.
RANGES: dict[str, tuple[int, int, str]] = {
    "mtu": (576, 65535, " bytes"),
    "names_ttl": (0, 86400, " seconds"),
    "lease_seconds": (1, 0xFFFFFFFF, " seconds"),
    "pcap_snaplen": (0, MAX_SNAPLEN, " bytes"),
    "max_tcp_flows": _FLOWS,
    "max_udp_flows": _FLOWS,
    "max_ping_flows": _FLOWS,
    "udp_idle_one_way": _SECONDS,
    "udp_idle_two_way": _SECONDS,
    "dns_timeout": _SECONDS,
    "dns_cache": (0, 1 << 20, " answers"),
    "busy_poll_us": (0, 1000, " µs"),
    "connect_timeout": _SECONDS,
    "tcp_buffer_max": (1, 1 << 30, " bytes"),
    "tcp_memory": (1, 1 << 50, " bytes"),
    "tcp_keepalive": _SECONDS,
    "outbound_mark": (0, 0xFFFFFFFF, ""),
}

#: By the numbers of ``tcp_congestion`` in tcp/block.pxd.
CONGESTION = {"cubic": 0, "reno": 1, "none": 2}

#: What a guest's source address must be: its own by a lease or a static one, not another live guest's, or anything.
SOURCE_RULES = {"any": 0, "first": 1, "held": 2}


@dataclass(frozen=True)
class Config:
    """One virtual network. Addresses are strings in the usual notation; the plan is VPNKit's.

    Raises:
        ConfigError: a value cannot be used; the message names the key and what it may be.
    """

    network: str = "192.168.65.0/24"  #: the virtual network, as a prefix
    gateway: str = "192.168.65.1"  #: gateway, DNS and DHCP server
    host_alias: str | None = "192.168.65.2"  #: stands for the host's loopback; None switches it off
    first_guest: str = "192.168.65.3"  #: first address of the guests' pool
    last_guest: str = "192.168.65.254"  #: last address of the pool, inclusive
    gateway_mac: str = "f6:16:36:bc:f9:c6"  #: the gateway's hardware address
    mtu: int = 1500  #: IP bytes, 576..65535
    domain: str = "internal"  #: DHCP option 15, and the zone of lease names
    gateway_names: tuple[str, ...] = ("gateway.internal",)  #: names of ``gateway``
    #: names of ``host_alias``
    host_names: tuple[str, ...] = ("host.internal", "host.docker.internal")
    #: name servers: ADDR, ADDR#PORT, tls://ADDR#NAME, each perhaps with ZONE= in front; None follows the host
    dns: tuple[str, ...] | None = None
    resolv_conf: str = "/etc/resolv.conf"  #: where the host's name servers stand, followed when it changes
    names: tuple[str, ...] = ()  #: NAME=ADDRESS[,ADDRESS] or NAME=TYPE VALUE
    zones: tuple[str, ...] = ()  #: in which no name exists but those given here
    hosts_file: str | None = None  #: more names, as in hosts(5), watched
    names_ttl: int = 0  #: seconds that guests may keep the gateway's own names
    search: tuple[str, ...] | None = None  #: search domains of guests besides ``domain``; None: the host's
    lease_seconds: int = 86400  #: how long an address is lent by DHCP, seconds
    dhcp_ntp: tuple[str, ...] = ()  #: addresses of time servers, DHCP option 42
    dhcp_routes: tuple[str, ...] = ()  #: PREFIX=ROUTER, DHCP option 121; the default route is added
    #: URL of a proxy auto-configuration file, DHCP option 252; None: the gateway's own while there is a proxy, "" none
    dhcp_wpad: str | None = None
    dhcp_captive_portal: str = (
        ""  #: https URL of a captive portal's API, DHCP option 114; "none": there is none
    )
    #: static (who, address, name or ""); who: a MAC, id:CLIENT-ID, or both with a comma between
    leases: tuple[tuple[str, str, str], ...] = ()
    state: str | None = None  #: directory where leases are kept across restarts
    pcap: str | None = None  #: capture file, "-" for standard output
    pcap_ring: str = ""  #: such as "10x64MB": a ring of files instead, of that size
    pcap_snaplen: int = 0  #: bytes of a frame that are kept; 0 = all
    pcap_filter: str = ""  #: pcap-filter expression; "" lets every frame pass
    pcap_wire_frames: bool = False  #: super-frames are cut to what the wire would carry
    max_tcp_flows: int = 65536  #: TCP connections at one time; a SYN beyond is refused
    max_udp_flows: int = 8192  #: UDP flows at one time; beyond, the one silent longest makes room
    max_ping_flows: int = 256  #: guests' pings (by identifier) at one time; one beyond is dropped
    udp_idle_one_way: float = 30.0  #: seconds without an answer
    udp_idle_two_way: float = 180.0  #: seconds after traffic both ways
    dns_timeout: float = (
        4.5  #: seconds until a query that no server answers fails; a resolver's patience is 5
    )
    dns_cache: int = 4096  #: answers of name servers kept, as long as their TTLs say; 0 = none
    #: µs that the engine looks for events before it sleeps, while they follow each other that fast; 0 = never
    busy_poll_us: int = 25
    connect_timeout: float = 127.0  #: seconds for the host's connect
    tcp_buffer_max: int = 16 * MiB  #: per connection and direction, bytes
    tcp_memory: int = 1024 * MiB  #: all connections together, bytes
    tcp_congestion: str = "cubic"  #: cubic, reno or none
    tcp_keepalive: float = 7200.0  #: seconds of silence before the first probe; 0 = never
    source_check: str = "first"  #: addresses a guest may speak from: held, first or any (iface/source)
    isolation: bool = False  #: guests see the gateway and not each other
    #: ports of the host led into guests, as Docker writes them (netstack.publish)
    publish: tuple[str, ...] = ()
    publish_source: str = "keep"  #: how their clients appear to guests: keep (their own address) or gateway
    #: proxies into the network (SOCKS 5 and 4a, HTTP): "ADDRESS:PORT", "PORT" on 127.0.0.1, or "unix:/path"
    socks: tuple[str, ...] = ()
    gateway_forwards: str | None = None  #: VPNKit's JSON file of ports of the gateway, watched
    forwards: str | None = None  #: VPNKit's JSON file of outgoing TCP that goes to Unix sockets, watched
    proxy: str = "auto"  #: auto: the host's proxy settings are found and followed; off
    http_proxy: str = ""  #: http://[USER:PASSWORD@]HOST:PORT for guests' HTTP, instead of what was found
    https_proxy: str = ""  #: the same for HTTPS
    no_proxy: str | None = None  #: hosts that are reached without it, such as ".corp.example,10/8"
    http_settings: str | None = None  #: VPNKit's JSON file of proxies, watched
    transparent_http_ports: tuple[int, ...] = (80,)  #: guests' connections to these are taken to the proxy
    transparent_https_ports: tuple[int, ...] = (443,)  #: the same, for the HTTPS proxy
    allow_host: tuple[str, ...] = ()  #: if any: the only hosts that guests reach by HTTP and HTTPS
    allow_url: tuple[str, ...] = ()  #: URLs that they reach besides, such as http://example.com/files
    #: bad path of every link, for what guests send: "loss=1%,delay=20ms±5ms,reorder=0.5%,rate=10mbit"; "" = good
    impair_up: str = ""
    impair_down: str = ""  #: the same for what guests receive
    outbound_mark: int = 0  #: SO_MARK of outgoing sockets
    outbound_interface: str = ""  #: SO_BINDTODEVICE of outgoing sockets, but for those to the loopback
    outbound_address: str = (
        ""  #: address of this host that outgoing sockets come from, with the same exception
    )

    def __post_init__(self) -> None:
        """Checks what can be checked without the network."""
        net = self._network()
        inside = {"gateway": self.gateway, "first_guest": self.first_guest, "last_guest": self.last_guest}
        if self.host_alias is not None:
            inside["host_alias"] = self.host_alias
        for key, text in inside.items():
            if self._address(key, text) not in net:
                raise ConfigError(f"{key} {text} is not inside network {self.network}")
        if self._address("first_guest", self.first_guest) > self._address("last_guest", self.last_guest):
            raise ConfigError(f"first_guest {self.first_guest} lies behind last_guest {self.last_guest}")
        if self.host_alias == self.gateway:
            raise ConfigError(f"host_alias and gateway are both {self.gateway}: they must differ")
        for key, (least, most, unit) in RANGES.items():
            value = getattr(self, key)
            if not least <= value <= most:  # so is what is not a number
                raise ConfigError(f"{key} {value} is out of range: it may be {least} to {most}{unit}")
        if self.tcp_congestion not in CONGESTION:
            *others, last = CONGESTION
            raise ConfigError(
                f"tcp_congestion {self.tcp_congestion!r} is unknown: use {', '.join(others)} or {last}"
            )
        if self.source_check not in SOURCE_RULES:
            raise ConfigError(f"source_check {self.source_check!r} is unknown: use held, first or any")
        self._check_capture()
        if self.publish_source not in ("keep", "gateway"):
            raise ConfigError(f"publish_source {self.publish_source!r} is unknown: use keep or gateway")
        if self.proxy not in ("auto", "off"):
            raise ConfigError(f"proxy {self.proxy!r} is unknown: use auto or off")
        for key in ("transparent_http_ports", "transparent_https_ports"):
            ports = getattr(self, key)
            if len(ports) > MAX_TRANSPARENT or not all(1 <= port <= 65535 for port in ports):
                raise ConfigError(f"{key} may be up to {MAX_TRANSPARENT} ports from 1 to 65535")
        if len(self.outbound_interface.encode()) > 15:
            raise ConfigError(f"outbound_interface {self.outbound_interface!r} is too long: 15 bytes at most")
        if self.outbound_address:
            self._address("outbound_address", self.outbound_address)
        parse_mac("gateway_mac", self.gateway_mac)

    def _check_capture(self) -> None:
        if self.pcap_ring:
            parse_ring(self.pcap_ring)
            if self.pcap == "-":
                raise ConfigError(
                    "a ring needs names for its files: give FILE instead of -, or leave out the ring"
                )
        for key in ("ring", "snaplen", "filter", "wire_frames"):
            if getattr(self, f"pcap_{key}") and not self.pcap:
                raise ConfigError(f"pcap_{key} is about a capture: give pcap (--pcap FILE) as well")

    def _network(self) -> ipaddress.IPv4Network:
        try:
            return ipaddress.IPv4Network(self.network)
        except ValueError as err:
            raise ConfigError(f"network {self.network!r} cannot be used: {err}") from None

    @staticmethod
    def _address(key: str, text: str) -> ipaddress.IPv4Address:
        try:
            return ipaddress.IPv4Address(text)
        except ValueError:
            raise ConfigError(f"{key} {text!r} is not an IPv4 address") from None

    def replace(self, **changes: Any) -> Config:
        """A copy with other values.

        Raises:
            ConfigError: a key is unknown or a value cannot be used.
        """
        known = {f.name for f in fields(self)}
        for key in changes:
            if key not in known:
                raise ConfigError(f"{key!r} is not a setting: see netstack.Config")
        return replace(self, **changes)


def parse_mac(key: str, text: str) -> bytes:
    """Six bytes from ``aa:bb:cc:dd:ee:ff``.

    Raises:
        ConfigError: not a unicast MAC address.
    """
    parts = text.replace("-", ":").split(":")
    try:
        mac = bytes(int(p, 16) for p in parts)
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1:
        raise ConfigError(f"{key} {text!r} is not a unicast MAC address like 02:00:00:00:00:01")
    return mac


def parse_size(text: str) -> int:
    """Bytes, of a text such as ``500k``, ``64MB`` or ``2GiB``.

    Raises:
        ConfigError: it is none.
    """
    unit = text.lstrip("0123456789")
    number = text[: len(text) - len(unit)]
    short = unit[:1].upper() + unit[1:].lower()
    if not number or short not in SIZES:
        raise ConfigError(f"{text!r} is not a size such as 500k, 64MB or 2GiB")
    size: int = int(number) * SIZES[short]
    return size


def parse_ring(text: str) -> tuple[int, int]:
    """How many files, and bytes of each, of a text such as ``10x64MB``.

    Raises:
        ConfigError: it is none, or out of range.
    """
    number, _, size = text.partition("x")
    if not number.isascii() or not number.isdecimal() or not size:
        raise ConfigError(f"ring {text!r} is not a number of files and their size, such as 10x64MB")
    files, each = int(number), parse_size(size)
    if not 1 <= files <= MAX_RING_FILES or not MIN_RING_FILE <= each <= 1 << 50:
        raise ConfigError(
            f"ring {text} is out of range: it may be 1 to {MAX_RING_FILES} files of {MIN_RING_FILE // 1000}kB at least"
        )
    return files, each
