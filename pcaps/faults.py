"""Frames with one fault each."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether


def faulty_frames(guest_mac: str, host_mac: str, guest: str, host: str) -> Iterator[bytes]:
    """Every frame that an interface must refuse, or ignore in part, without harm."""
    ether = Ether(src=guest_mac, dst=host_mac)
    ip = IP(src=guest, dst=host)
    udp = UDP(sport=4000, dport=9)
    good = bytes(ether / ip / udp / b"payload!")
    syn = ether / ip / TCP(sport=4001, dport=9, seq=1, flags="S")
    # Ethernet
    yield good[:10]
    yield good[:14]
    yield bytes(Ether(src="01:00:5e:00:00:01", dst=host_mac) / ip / udp)
    yield bytes(Ether(src=guest_mac, dst=host_mac, type=0x1234) / b"what is this")
    # IPv4
    for length in (15, 20, 30, 33):
        yield good[:length]
    for first in (0x44, 0x41, 0x65, 0x05, 0x4F):
        yield good[:14] + bytes([first]) + good[15:]
    for total in (0, 10, 19, 21, 27, 60, 65535):
        yield bytes(ether / IP(src=guest, dst=host, len=total) / udp / b"payload!")
    yield bytes(ether / IP(src=guest, dst=host, chksum=0x1234) / udp)
    yield bytes(ether / IP(src=guest, dst=host, ttl=0) / udp)
    yield bytes(ether / IP(src=guest, dst="0.0.0.0") / udp)
    yield bytes(ether / IP(src=guest, dst="127.0.0.1") / udp)
    yield bytes(ether / IP(src=guest, dst="250.1.1.1") / udp)
    yield bytes(ether / IP(src=guest, dst="224.0.0.5") / udp)
    yield bytes(ether / IP(src=guest, dst=host, flags=1, frag=0) / (b"\x01" * 7))  # a middle of 7 bytes
    yield bytes(ether / IP(src=guest, dst=host, frag=8189) / (b"\x01" * 64))  # ends beyond 65535
    # UDP
    for length in (0, 7, 8, 500, 65535):
        yield bytes(ether / ip / UDP(sport=4000, dport=9, len=length, chksum=0) / b"payload!")
    yield bytes(ether / ip / UDP(sport=4000, dport=9, chksum=0x1234) / b"payload!")
    # ICMP
    yield bytes(ether / ip / ICMP(chksum=0x1234) / b"payload!")
    yield bytes(ether / ip / ICMP(type=40) / b"payload!")
    yield bytes(ether / ip / ICMP(type=3, code=3) / b"\x45")
    yield bytes(ether / ip / ICMP(type=3, code=4) / (b"\x4f" + bytes(30)))
    yield bytes(ether / IP(src=guest, dst=host, proto=1) / b"\x08")
    # TCP
    for offset in (0, 4, 15):
        yield bytes(ether / ip / TCP(sport=4001, dport=9, flags="S", dataofs=offset))
    yield bytes(ether / IP(src=guest, dst=host, proto=6) / bytes(12))
    yield bytes(ether / ip / TCP(sport=4001, dport=9, flags="S", chksum=0x1234))
    for options in (
        b"\x02\x00",
        b"\x02\x01\x00\x00",
        b"\x08\x0a\x00\x00",
        b"\x03\x28\x00\x00",
        b"\xfe\xff\x00\x00",
    ):
        raw = bytearray(bytes(syn))
        raw[16:18] = (40 + len(options)).to_bytes(2, "big")
        raw[46] = (20 + len(options) + 3) // 4 << 4
        yield reckon(bytes(raw) + options)
    yield bytes(ether / ip / TCP(sport=0, dport=9, flags="S"))
    yield bytes(ether / ip / TCP(sport=4001, dport=0, flags="S"))
    for flags in ("", "SF", "SR", "FPU", "SAFRPU"):
        yield bytes(ether / ip / TCP(sport=4002, dport=9, flags=flags))
    # ARP
    arp = bytes(ether / ARP(hwsrc=guest_mac, psrc=guest, pdst=host))
    yield arp[:20]
    yield arp[:18] + b"\x08" + arp[19:]
    yield bytes(ether / ARP(hwsrc=host_mac, psrc=guest, pdst=host))


def reckon(frame: bytes) -> bytes:
    """The frame with good IPv4 and TCP checksums over what it has."""
    whole = bytearray(frame)
    whole[24:26] = b"\x00\x00"
    whole[24:26] = complement(bytes(whole[14:34]))
    whole[50:52] = b"\x00\x00"
    segment = bytes(whole[34:])
    pseudo = bytes(whole[26:34]) + b"\x00\x06" + len(segment).to_bytes(2, "big")
    whole[50:52] = complement(pseudo + segment)
    return bytes(whole)


def complement(data: bytes) -> bytes:
    """The Internet checksum of some bytes."""
    data += b"\x00" * (len(data) & 1)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
