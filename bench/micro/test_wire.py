"""Parsing and building headers against scapy and dpkt, and the checksum by size against numpy.

The Python faces are measured, which cost about 100 ns of call and object beside the C below them:

    pytest bench/micro/test_wire.py --benchmark-group-by=group
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dpkt
import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from netstack.wire.arp import ArpPacket
from netstack.wire.checksum import checksum
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.icmp4 import ICMPv4Message
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.ipv6 import IPv6Header
from netstack.wire.tcp import TCPHeader
from netstack.wire.udp import UDPHeader

SRC, DST = "192.0.2.1", "192.0.2.2"
MACS = {"dst": "02:00:00:00:00:01", "src": "02:00:00:00:00:02"}
SYN = {"mss": 1460, "sack_permitted": True, "timestamps": (1, 2), "wscale": 7}
SCAPY_SYN = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]

PARSE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], bytes]] = {
    "ethernet": (EthernetHeader.parse, Ether, bytes(Ether(**MACS, type=0x88B5))),
    "arp": (ArpPacket.parse, ARP, bytes(ARP(psrc=SRC, pdst=DST, hwsrc=MACS["src"]))),
    "ipv4": (IPv4Header.parse, IP, bytes(IP(src=SRC, dst=DST, proto=253))),
    "ipv6": (IPv6Header.parse, IPv6, bytes(IPv6(src="fd00::1", dst="fd00::2", nh=59))),
    "icmp4": (ICMPv4Message.parse, ICMP, bytes(ICMP(id=1, seq=2))),
    "udp": (UDPHeader.parse, UDP, bytes(UDP(sport=1, dport=2))),
    "tcp": (TCPHeader.parse, TCP, bytes(TCP(sport=1, dport=2))),
    "tcp timestamps": (
        TCPHeader.parse,
        TCP,
        bytes(TCP(options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))])),
    ),
    "tcp syn": (TCPHeader.parse, TCP, bytes(TCP(flags="S", options=SCAPY_SYN))),
}
BUILD: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "ethernet": (
        lambda: EthernetHeader(MACS["dst"], MACS["src"], 0x0800).build(),
        lambda: bytes(Ether(**MACS, type=0x0800)),
    ),
    "arp": (
        lambda: ArpPacket(1, MACS["src"], SRC, MACS["dst"], DST).build(),
        lambda: bytes(ARP(op=1, hwsrc=MACS["src"], psrc=SRC, hwdst=MACS["dst"], pdst=DST)),
    ),
    "ipv4": (
        lambda: IPv4Header(SRC, DST, 17, ident=1).build(b"payload"),
        lambda: bytes(IP(src=SRC, dst=DST, proto=17, id=1) / b"payload"),
    ),
    "ipv6": (
        lambda: IPv6Header("fd00::1", "fd00::2", 17).build(b"payload"),
        lambda: bytes(IPv6(src="fd00::1", dst="fd00::2", nh=17) / b"payload"),
    ),
    "icmp4": (
        lambda: ICMPv4Message.echo(1, 2, b"payload").build(),
        lambda: bytes(ICMP(id=1, seq=2) / b"payload"),
    ),
    "udp": (
        lambda: UDPHeader(1, 2).build(b"payload"),
        lambda: bytes(UDP(sport=1, dport=2, chksum=0) / b"payload"),
    ),
    "tcp": (
        lambda: TCPHeader(1, 2, flags=16).build(b"payload"),
        lambda: bytes(TCP(sport=1, dport=2, flags=16, chksum=0) / b"payload"),
    ),
    "tcp syn": (
        lambda: TCPHeader(1, 2, flags=2, **SYN).build(),  # type: ignore[arg-type]
        lambda: bytes(TCP(sport=1, dport=2, flags=2, chksum=0, options=SCAPY_SYN)),
    ),
}


# dpkt leaves options as bytes: "tcp syn" is compared with what reads them.
DPKT_PARSE: dict[str, Callable[[Any], Any]] = {
    "ethernet": dpkt.ethernet.Ethernet,
    "arp": dpkt.arp.ARP,
    "ipv4": dpkt.ip.IP,
    "ipv6": dpkt.ip6.IP6,
    "icmp4": dpkt.icmp.ICMP,
    "udp": dpkt.udp.UDP,
    "tcp": dpkt.tcp.TCP,
    "tcp timestamps": lambda data: dpkt.tcp.parse_opts(dpkt.tcp.TCP(data).opts),
    "tcp syn": lambda data: dpkt.tcp.parse_opts(dpkt.tcp.TCP(data).opts),
}
MAC_BYTES = {name: bytes.fromhex(mac.replace(":", "")) for name, mac in MACS.items()}
V4, V6 = {"src": b"\xc0\0\2\1", "dst": b"\xc0\0\2\2"}, {"src": bytes(16), "dst": bytes(16)}
DPKT_BUILD: dict[str, Callable[[], Any]] = {
    "ethernet": lambda: bytes(dpkt.ethernet.Ethernet(**MAC_BYTES, type=0x88B5)),
    "arp": lambda: bytes(dpkt.arp.ARP(sha=MAC_BYTES["src"], spa=V4["src"], tpa=V4["dst"])),
    "ipv4": lambda: bytes(dpkt.ip.IP(**V4, p=253, id=1, data=b"payload")),
    "ipv6": lambda: bytes(dpkt.ip6.IP6(**V6, nxt=59, plen=7, data=b"payload")),
    "icmp4": lambda: bytes(dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=1, seq=2, data=b"payload"))),
    "udp": lambda: bytes(dpkt.udp.UDP(sport=1, dport=2, ulen=15, data=b"payload")),
    "tcp": lambda: bytes(dpkt.tcp.TCP(sport=1, dport=2, flags=16, data=b"payload")),
    "tcp syn": lambda: bytes(dpkt.tcp.TCP(sport=1, dport=2, flags=2, opts=SYN_OPTIONS, off=10)),
}
SYN_OPTIONS = bytes(TCP(options=SCAPY_SYN))[20:]
LIBRARIES = ["netstack", "scapy", "dpkt"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("protocol", PARSE)
def test_parse(benchmark: Any, protocol: str, library: str) -> None:
    benchmark.group = f"parse {protocol}"
    ours, theirs, data = PARSE[protocol]
    function = {"netstack": ours, "scapy": theirs, "dpkt": DPKT_PARSE[protocol]}[library]
    assert function(data)
    benchmark(function, data)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("protocol", BUILD)
def test_build(benchmark: Any, protocol: str, library: str) -> None:
    benchmark.group = f"build {protocol}"
    ours, theirs = BUILD[protocol]
    function = {"netstack": ours, "scapy": theirs, "dpkt": DPKT_BUILD[protocol]}[library]
    assert function()
    benchmark(function)


@pytest.mark.parametrize("protocol", ["ipv4", "tcp timestamps", "tcp syn"])
def test_write_into_a_buffer(benchmark: Any, protocol: str) -> None:
    """The cost of x_write itself, less the call: no objects are made."""
    benchmark.group = "write into a buffer"
    headers: dict[str, Any] = {
        "ipv4": IPv4Header(SRC, DST, 17),
        "tcp timestamps": TCPHeader(1, 2, timestamps=(1, 2)),
        "tcp syn": TCPHeader(1, 2, flags=2, **SYN),  # type: ignore[arg-type]
    }
    benchmark(headers[protocol].write, bytearray(60))


def numpy_checksum(data: bytes) -> int:
    total = int(np.frombuffer(data, ">u2").sum(dtype=np.uint64))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@pytest.mark.parametrize("library", ["netstack", "numpy"])
@pytest.mark.parametrize("size", [20, 64, 256, 1460, 8960, 65536, 1 << 20])
def test_checksum(benchmark: Any, size: int, library: str) -> None:
    benchmark.group = f"checksum of {size:7} bytes"
    data = np.random.default_rng(1).bytes(size)
    assert checksum(data) == numpy_checksum(data)
    benchmark(checksum if library == "netstack" else numpy_checksum, data)
    benchmark.extra_info["GB/s"] = (
        round(size / benchmark.stats.stats.min / 1e9, 2) if benchmark.stats else None
    )
