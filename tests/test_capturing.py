"""What a gateway's capture says of its frames: interfaces, drops, decisions, names."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pcapng
import pytest
from scapy.layers.dns import DNS, DNSQR
from stack import (
    GATEWAY,
    GATEWAY_MAC,
    GUEST,
    HOST,
    ICMP,
    IP,
    MAC,
    TCP,
    UDP,
    Ether,
    GuestTcp,
    Raw,
    Stack,
    arp_who_has,
)

import netstack
from netstack.capturing import BusyError
from netstack.errors import ConfigError
from netstack.link.memory import MemoryLink


def captured(stack: Stack, path: Path, bad: int = 0) -> pcapng.File:
    """What the capture holds, which ends; tshark must like it."""
    ended = stack.gateway.stop_capture()
    assert ended is not None
    file = pcapng.read(path)
    assert ended["frames"] == len(file.frames)
    pcapng.accepted(path, len(file.frames), bad)
    return file


def comments(file: pcapng.File) -> list[tuple[bool, list[str]]]:
    return [(frame.outbound, frame.comments) for frame in file.frames]


def test_drops_and_answers(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "x"
    stack.gateway.start_capture(str(path))
    at = stack.now
    bad = stack.ip(UDP(sport=1, dport=53, chksum=7) / Raw(b"x"))
    stack.send(
        arp_who_has(GATEWAY),
        stack.ip(ICMP(), dst=GATEWAY),
        bad,
        stack.ip(UDP(sport=1, dport=9) / Raw(b"x"), dst="192.168.65.77"),
        stack.ip(TCP(sport=1, dport=9, flags="A")),
        Ether(src=MAC, dst=GATEWAY_MAC) / IP(src=GUEST, dst=HOST, ttl=0) / UDP(),
        stack.ip(UDP(sport=9, dport=53) / DNS(rd=1, qd=DNSQR(qname="gateway.internal")), dst=GATEWAY),
    )
    file = captured(stack, path, bad=1)
    assert comments(file) == [
        (False, []),
        (True, []),
        (False, ["answered by the gateway (echo_replies)"]),
        (True, []),
        (False, ["dropped: udp_bad_checksum"]),
        (False, ["dropped: udp_no_port"]),
        (True, []),
        (False, ["dropped: tcp_no_connection"]),
        (True, []),
        (False, ["dropped: ip_ttl"]),
        (False, ["answered from the gateway's names (dns_answered)"]),
        (True, []),
    ]
    assert {frame.time_ns for frame in file.frames} == {at}  # virtual time
    (interface,) = file.interfaces
    assert interface.name == "link1"
    assert interface.options[6] == [bytes.fromhex(MAC.replace(":", ""))]
    assert (interface.statistics[4], interface.statistics[5]) == (12, 0)


def test_names_of_the_network(tmp_path: Path) -> None:
    stack = Stack(netstack.Config(dns=(), names=("web.corp=10.0.0.9",)))
    path = tmp_path / "x"
    stack.gateway.start_capture(str(path))
    stack.send(arp_who_has(GATEWAY))
    stack.gateway.dns.set("late.corp", "10.0.0.10")
    stack.send(arp_who_has(GATEWAY))
    names = captured(stack, path).names
    stack.close()
    for pair in (
        ("gateway.internal", GATEWAY),
        ("host.internal", HOST),
        ("web.corp", "10.0.0.9"),
        ("late.corp", "10.0.0.10"),
    ):
        assert pair in names


def test_tcp_decisions(tmp_path: Path) -> None:
    stack = Stack(dial=False)
    path = tmp_path / "x"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stack.gateway.start_capture(str(path))
        GuestTcp(stack, port).open()
        client, _ = server.accept()
    stack.send(GuestTcp(stack, port, sport=41000).segment("S"))  # nothing listens any more
    file = captured(stack, path)
    stack.close()
    client.close()
    connects = f"new flow: the host connects to 127.0.0.1 port {port} (translated)"
    assert [c for c in comments(file) if c[1]] == [
        (False, [connects]),
        (False, [connects]),
        (True, ["the host's connection: Connection refused"]),
    ]


def test_a_proxied_or_dialled_flow(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "x"
    stack.gateway.start_capture(str(path))
    GuestTcp(stack, dst="10.9.9.9").open()
    stack.accept = False
    stack.send(GuestTcp(stack, sport=41000, dst="10.9.9.9").segment("S"))
    file = captured(stack, path)
    assert [c for c in comments(file) if c[1]] == [
        (False, ["new flow: given to a proxy, a forward or a program of the host"]),
        (False, ["new flow: given to a proxy, a forward or a program of the host"]),
        (True, ["the host's connection: Connection refused"]),
    ]


def test_udp_decisions(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "x"
    stack.gateway.start_capture(str(path))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = server.getsockname()[1]
        stack.send(stack.ip(UDP(sport=7, dport=port) / Raw(b"one")))
        _, (_, local) = server.recvfrom(10)
        stack.send(stack.ip(UDP(sport=7, dport=port) / Raw(b"two")))
    assert comments(captured(stack, path)) == [
        (False, [f"new flow: from port {local} of the host to 127.0.0.1 port {port} (translated)"]),
        (False, []),
    ]


def test_guests_come_and_go(tmp_path: Path) -> None:
    stack = Stack(netstack.Config(dns=(), source_check="any"))
    path = tmp_path / "x"
    stack.gateway.start_capture(str(path))
    macs = [f"02:00:00:00:00:{n:02x}" for n in (0x11, 0x12)]
    for n, mac in enumerate(macs):
        link = MemoryLink()
        port = stack.gateway.add_memory(link, address=f"192.168.65.{20 + n}", mac=mac, name=f"guest{n}")
        link.inject(bytes(Ether(src=mac, dst=MAC) / IP(src=f"192.168.65.{20 + n}", dst=GUEST) / UDP()))
        stack.send(arp_who_has(GATEWAY))
        stack.gateway.remove(port)
        stack.run()
    file = captured(stack, path)
    stack.close()
    assert sorted(i.name for i in file.interfaces) == ["guest0", "guest1", "link1"]
    for n, mac in enumerate(macs):
        (found,) = [i for i in file.interfaces if i.name == f"guest{n}"]
        assert found.options[6] == [bytes.fromhex(mac.replace(":", ""))]
        assert found.options[4] == [bytes([192, 168, 65, 20 + n, 255, 255, 255, 0])]
        assert found.statistics[4] > 0
    # A frame from one guest to another is seen on both links.
    seen = [
        (file.interfaces[f.interface].name, f.outbound) for f in file.frames if f.data[12:14] == b"\x08\0"
    ]
    assert seen.count(("link1", True)) == 2
    assert seen.count(("guest0", False)) == seen.count(("guest1", False)) == 1


def test_the_settings_of_a_capture(tmp_path: Path) -> None:
    config = netstack.Config(
        dns=(),
        pcap=str(tmp_path / "x.pcapng"),
        pcap_ring="2x64kB",
        pcap_snaplen=40,
        pcap_filter="arp",
        pcap_wire_frames=True,
    )
    stack = Stack(config)
    stack.send(arp_who_has(GATEWAY), stack.ip(ICMP(), dst=GATEWAY))
    with pytest.raises(BusyError, match=r"x\.pcapng is running since \d\d:"):
        stack.gateway.start_capture(str(tmp_path / "y"))
    running = stack.gateway.capture()
    assert running is not None
    assert running["files"] == 1
    stack.close()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("x_00001_2")
    file = pcapng.read(path)
    assert [len(f.data) for f in file.frames] == [40, 40]
    assert stack.gateway.last_capture is not None
    assert stack.gateway.last_capture["frames"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "-", "ring": "2x64kB"}, "a ring needs names"),
        ({"ring": "x64kB"}, "such as 10x64MB"),
        ({"ring": "0x64MB"}, "out of range"),
        ({"ring": "10x1kB"}, "out of range"),
        ({"ring": "10x64QB"}, "'64QB' is not a size"),
        ({"filter": "tcp porto 80"}, "filter 'tcp porto 80' cannot be used"),
        ({"target": "/nowhere/x"}, "cannot be written"),
    ],
)
def test_what_cannot_be(stack: Stack, tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        stack.gateway.start_capture(**{"target": str(tmp_path / "x"), **options})  # type: ignore[arg-type]
    assert stack.gateway.capture() is None
    assert stack.gateway.stop_capture() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pcap_ring": "10x64MB"}, "pcap_ring is about a capture: give pcap"),
        ({"pcap_filter": "tcp"}, "pcap_filter is about a capture"),
        ({"pcap": "x", "pcap_snaplen": -1}, "pcap_snaplen -1 is out of range"),
        ({"pcap": "x", "pcap_ring": "10"}, "such as 10x64MB"),
        ({"pcap": "-", "pcap_ring": "10x64MB"}, "a ring needs names"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        netstack.Config(**options)  # type: ignore[arg-type]


def test_a_full_disk_stops_the_capture_and_nothing_else(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "netstack"):
        stack.gateway.start_capture("/dev/full")
        for _ in range(1000):
            assert len(stack.send(stack.ip(ICMP(), dst=GATEWAY))) == 1
            if caplog.records:
                break
    assert (
        "the capture to /dev/full has ended after 0 frames: No space left on device; the network goes on"
        in caplog.text
    )
    assert len(stack.send(stack.ip(ICMP(), dst=GATEWAY))) == 1
    lost = stack.gateway.stats()["pcap_lost"]
    ended = stack.gateway.stop_capture()
    assert ended is not None
    assert ended["lost"] == lost > 0


def test_a_reader_that_does_not_read_costs_records_and_no_traffic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    stack = Stack(netstack.Config(dns=(), mtu=65000))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with caplog.at_level(logging.WARNING, "netstack"):
        stack.gateway.start_capture(str(path))
        ping = bytes(stack.ip(ICMP() / Raw(bytes(60000)), dst=GATEWAY))
        answers = 0
        for _ in range(20):
            for _ in range(30):
                stack.link.inject(ping)
            stack.gateway.step(stack.now)
            answers += len(stack.link.drain())
        assert answers == 20 * 30
        lost = stack.gateway.stats()["pcap_lost"]
        assert 0 < lost < 2 * answers
        os.close(reader)
        ended = stack.gateway.stop_capture()
    stack.close()
    assert ended is not None
    assert ended["frames"] + ended["lost"] == 2 * answers
    assert caplog.text.count("does not keep up") == 1


def test_a_fifo_that_nobody_reads(stack: Stack, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="a FIFO that nobody reads: start its reader first"):
        stack.gateway.start_capture(str(tmp_path / "fifo"))
