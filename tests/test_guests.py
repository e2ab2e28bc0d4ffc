"""Several guests on one gateway: who may speak from where, who sees whom, links that are full, and how guests come in."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.l2 import Dot1Q
from stack import ARP, GATEWAY_MAC, HOST, ICMP, IP, SECOND, TCP, UDP, Ether, GuestTcp, Packet, Raw, Stack

import netstack
from netstack.control import listeners
from netstack.errors import NetstackError
from netstack.gateway import Gateway
from netstack.link.hyperkit import ClientHandshake, Command, Init
from netstack.link.memory import MemoryLink

BROADCAST = "ff:ff:ff:ff:ff:ff"
MACS = [f"02:00:00:00:00:{n:02x}" for n in range(10)]


class Network:
    """Guests on links in memory, stepped by hand."""

    def __init__(self, guests: int = 2, **config: Any) -> None:
        self.now = SECOND
        self.gateway = Gateway(netstack.Config(dns=(), **config), now_ns=self.now)
        self.links = [MemoryLink() for _ in range(guests)]
        self.ports = [self.gateway.add_memory(link) for link in self.links]
        self.before = self.gateway.stats()

    def send(self, guest: int, frame: Packet) -> list[list[bytes]]:
        """What each guest gets of a frame that one sends."""
        self.links[guest].inject(bytes(frame))
        self.now += 1000
        self.gateway.step(self.now)
        return [[data for data, _ in link.drain()] for link in self.links]

    def moved(self, name: str) -> int:
        return self.gateway.stats()[name] - self.before[name]


@pytest.fixture
def network() -> Iterator[Callable[..., Network]]:
    made: list[Network] = []

    def make(*args: Any, **config: Any) -> Network:
        made.append(Network(*args, **config))
        return made[-1]

    yield make
    for n in made:
        n.gateway.stop()


def ping(mac: str, src: str, dst: str, to: str = GATEWAY_MAC) -> Packet:
    return Ether(src=mac, dst=to) / IP(src=src, dst=dst) / ICMP(id=1, seq=1)


def arp(mac: str, src: str, target: str = "192.168.65.9", **fields: Any) -> Packet:
    return Ether(src=mac, dst=BROADCAST) / ARP(
        hwsrc=fields.pop("hwsrc", mac), psrc=src, pdst=target, **fields
    )


def dhcp(mac: str, kind: str, chaddr: str | None = None, **options: Any) -> Packet:
    raw = bytes.fromhex((chaddr or mac).replace(":", ""))
    options_list = [("message-type", kind), *options.items(), "end"]
    return (
        Ether(src=mac, dst=BROADCAST)
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=raw, xid=1, flags=0x8000)
        / DHCP(options=options_list)
    )


def lease(n: Network, guest: int) -> str:
    """The address that a guest gets by DHCP."""
    offer = Ether(n.send(guest, dhcp(MACS[guest], "discover"))[guest][0])
    address = offer[BOOTP].yiaddr
    answer = n.send(guest, dhcp(MACS[guest], "request", requested_addr=address, server_id="192.168.65.1"))
    assert dict(o for o in Ether(answer[guest][0])[DHCP].options if isinstance(o, tuple))["message-type"] == 5
    return str(address)


# --- sources


def test_only_from_addresses_held(network: Callable[..., Network]) -> None:
    n = network(source_check="held")
    assert n.send(0, ping(MACS[0], "192.168.65.3", "192.168.65.1")) == [[], []]
    assert n.moved("ip_spoofed") == 1
    addresses = [lease(n, 0), lease(n, 1)]
    assert len(n.send(0, ping(MACS[0], addresses[0], "192.168.65.1"))[0]) == 1
    for src in (addresses[1], "192.168.65.77", "10.0.0.1"):
        n.before = n.gateway.stats()
        assert n.send(0, ping(MACS[0], src, "192.168.65.1")) == [[], []]
        assert n.moved("ip_spoofed") == 1
        assert n.send(0, arp(MACS[0], src)) == [[], []], "a false ARP reached the other guest"
        assert n.moved("arp_spoofed") == 1
    assert n.send(0, arp(MACS[0], addresses[0], hwsrc=MACS[1])) == [[], []]
    assert len(n.send(0, arp(MACS[0], addresses[0]))[1]) == 1


def test_a_mac_belongs_to_its_link(network: Callable[..., Network]) -> None:
    n = network(source_check="held")
    addresses = [lease(n, 0), lease(n, 1)]
    assert n.send(0, ping(MACS[1], addresses[1], "192.168.65.1")) == [[], []]
    assert n.moved("frame_spoofed") + n.moved("ip_spoofed") == 1
    assert len(n.send(1, ping(MACS[1], addresses[1], "192.168.65.1"))[1]) == 1, "its owner was cut off"


def test_a_mac_given_by_the_handshake_may_have_two_links(network: Callable[..., Network]) -> None:
    n = network(source_check="held")
    address = lease(n, 0)
    n.gateway._engine.set_port_mac(n.ports[1], bytes.fromhex(MACS[0].replace(":", "")))
    assert len(n.send(1, ping(MACS[0], address, "192.168.65.1"))[1]) == 1
    n.gateway._engine.set_port_mac(n.ports[0], bytes.fromhex(MACS[0].replace(":", "")))
    assert len(n.send(0, ping(MACS[0], address, "192.168.65.1"))[0]) == 1


def test_the_lease_follows_when_the_link_has_gone(network: Callable[..., Network]) -> None:
    n = network(3, source_check="held")
    address = lease(n, 0)
    n.gateway.remove(n.ports[0])
    n.gateway.step(n.now + 1)
    assert len(n.send(1, ping(MACS[0], address, "192.168.65.1"))[1]) == 1


def test_first_come(network: Callable[..., Network]) -> None:
    n = network(source_check="first")
    assert len(n.send(0, ping(MACS[0], "192.168.65.3", "192.168.65.1"))[0]) == 1
    assert n.send(1, ping(MACS[1], "192.168.65.3", "192.168.65.1")) == [[], []]
    assert n.moved("ip_spoofed") == 1


def test_any(network: Callable[..., Network]) -> None:
    n = network(source_check="any")
    n.send(0, ping(MACS[0], "192.168.65.3", "192.168.65.1"))
    assert len(n.send(1, ping(MACS[1], "192.168.65.3", "192.168.65.1"))[1]) == 1


def test_static_leases_are_held(network: Callable[..., Network]) -> None:
    n = network(source_check="held", leases=((MACS[0], "192.168.65.7", "web"),))
    assert len(n.send(0, ping(MACS[0], "192.168.65.7", "192.168.65.1"))[0]) == 1
    assert n.send(1, ping(MACS[1], "192.168.65.7", "192.168.65.1")) == [[], []]


def test_dhcp_for_another_is_not_heard(network: Callable[..., Network]) -> None:
    n = network(source_check="held")
    lease(n, 0)
    assert n.send(1, dhcp(MACS[1], "release", chaddr=MACS[0]))[1] == []
    assert n.gateway.stats()["dhcp_spoofed"] == 1
    assert n.gateway.stats()["dhcp_released"] == 0


def test_tagged_frames_cannot_hide_an_address(network: Callable[..., Network]) -> None:
    n = network(source_check="held")
    frame = Ether(src=MACS[0], dst=BROADCAST) / Dot1Q(vlan=1) / ARP(hwsrc=MACS[0], psrc="192.168.65.9")
    assert n.send(0, frame) == [[], []]
    assert n.moved("frame_vlan") == 1


@pytest.mark.parametrize("isolation", [False, True])
def test_isolation(network: Callable[..., Network], isolation: bool) -> None:
    n = network(isolation=isolation)
    n.send(1, arp(MACS[1], "192.168.65.4"))
    broadcast = n.send(0, arp(MACS[0], "192.168.65.3", "192.168.65.4"))
    unicast = n.send(0, ping(MACS[0], "192.168.65.3", "192.168.65.4", MACS[1]))
    assert [len(broadcast[1]), len(unicast[1])] == ([0, 0] if isolation else [1, 1])
    assert len(n.send(0, ping(MACS[0], "192.168.65.3", "192.168.65.1"))[0]) == 1
    assert len(n.send(0, arp(MACS[0], "192.168.65.3", "192.168.65.1"))[0]) == 1


# --- a link that is full


def test_tcp_waits_for_a_full_link() -> None:
    """A guest that does not read its socket: nothing is dropped, nothing is sent twice, and all arrives when it reads."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stack = Stack()
    stack.gateway.remove(1)
    stack.run()
    fd = ours.detach()
    stack.gateway._engine.add_stream(fd, fd, "qemu", 1500)
    pending = bytearray()

    def drain() -> list[Packet]:
        theirs.setblocking(False)
        try:
            while piece := theirs.recv(1 << 20):
                pending.extend(piece)
        except BlockingIOError:
            pass
        out = []
        while len(pending) >= 4:
            (n,) = struct.unpack_from(">I", pending)
            if len(pending) < 4 + n:
                break
            out.append(Ether(bytes(pending[4 : 4 + n])))
            del pending[: 4 + n]
        return out

    def give(frame: Packet) -> None:
        raw = bytes(frame)
        theirs.setblocking(True)
        theirs.sendall(struct.pack(">I", len(raw)) + raw)

    guest = GuestTcp(stack, options=[("MSS", 1460), ("WScale", 10)], window=60000)
    give(guest.segment("S", options=guest.options))
    stack.run()
    (answer,) = drain()
    guest.seq += 1
    guest.ack = answer[TCP].seq + 1
    give(guest.segment("A"))
    stack.run()
    data = os.urandom(8 << 20)
    sent, received = 0, bytearray()
    stack.peers[0].setblocking(False)
    reading = False
    for step in range(20000):
        if sent < len(data):
            try:
                sent += stack.peers[0].send(data[sent : sent + (1 << 18)])
            except BlockingIOError:
                pass
        stack.run(0.001)
        reading = reading or step > 50  # for a while nobody reads
        if reading:
            for p in drain():
                if TCP in p and p[TCP].seq == guest.ack and Raw in p:
                    payload = bytes(p[TCP].payload)[: p[IP].len - 20 - p[TCP].dataofs * 4]
                    received += payload
                    guest.ack = (guest.ack + len(payload)) & 0xFFFFFFFF
            give(guest.segment("A"))
        if len(received) == len(data):
            break
    assert received == data
    stats = stack.gateway.stats()
    assert stats["link_full"] == 0
    assert stats["tcp_retransmits"] == 0
    theirs.close()
    stack.close()


# --- how guests come in


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(netstack.Config(dns=(), source_check="held")) as gw:
        yield gw


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return sock


def exactly(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def shake(sock: socket.socket, state: ClientHandshake) -> None:
    sock.sendall(state.begin())
    while state.need:
        sock.sendall(state.receive(exactly(sock, state.need)))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_hyperkit_guest_and_the_bare_discover(gateway: Gateway, tmp_path: Path) -> None:
    """A hand-built DISCOVER without checksums and with one option only, as the Go client of the protocol sends it."""
    gateway.listen_for_guests(f"hyperkit:{tmp_path}/eth")
    with connect(tmp_path / "eth") as sock:
        state = ClientHandshake()
        shake(sock, state)
        assert state.vif is not None
        mac = state.vif.mac.hex(":")
        frame = bytearray(
            bytes(
                Ether(src=mac, dst=BROADCAST)
                / IP(src="0.0.0.0", dst="255.255.255.255", chksum=0)
                / UDP(sport=68, dport=67, chksum=0)
                / BOOTP(chaddr=state.vif.mac, xid=0x01000000, flags=0x8000)
                / DHCP(options=[("message-type", "discover"), "end"])
            )
        )
        sock.sendall(len(frame).to_bytes(2, "little") + frame)
        n = int.from_bytes(exactly(sock, 2), "little")
        offer = Ether(exactly(sock, n))
        assert offer[BOOTP].yiaddr == "192.168.65.3"
        assert sorted(gateway.links()) == [1]
    until(lambda: not gateway.links())


def test_a_client_that_stalls_harms_nobody(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "HANDSHAKE_SECONDS", 0.3)
    gateway.listen_for_guests(f"hyperkit:{tmp_path}/eth")
    with caplog.at_level(logging.INFO, "netstack"):
        stalled = [connect(tmp_path / "eth") for _ in range(20)]
        for i, sock in enumerate(stalled):
            sock.sendall(Init().build()[:i])
        with connect(tmp_path / "eth") as good:
            shake(good, ClientHandshake())
        for sock in stalled:
            with pytest.raises(EOFError):
                exactly(sock, 1)
            sock.close()
    assert caplog.text.count("stalled") == 20


def test_bad_clients_are_closed(gateway: Gateway, tmp_path: Path) -> None:
    gateway.listen_for_guests(f"hyperkit:{tmp_path}/eth")
    init = Init().build()
    for data in (init[:5] + b"\x01\0\0\0" + init[9:], init + b"\x06" + bytes(40), os.urandom(4096)):
        with connect(tmp_path / "eth") as sock:
            sock.sendall(data)
            exactly(sock, 49)
            with pytest.raises((EOFError, ConnectionError)):
                exactly(sock, 1)
    assert gateway.links() == {}


def test_the_same_uuid_twice_at_once(gateway: Gateway, tmp_path: Path) -> None:
    gateway.listen_for_guests(f"hyperkit:{tmp_path}/eth")
    who = Command.parse(b"\x01d1d9cd61-d0dc-4715-9bb3-4c11da7ad7a5\0\0\0\0").uuid
    states = [ClientHandshake(who), ClientHandshake(who), ClientHandshake()]
    socks = [connect(tmp_path / "eth") for _ in states]
    for sock, state in zip(socks, states, strict=True):
        shake(sock, state)
    macs = [state.vif.mac for state in states if state.vif]
    assert macs[0] == macs[1] != macs[2]
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("kind", ["qemu", "bess"])
def test_guests_without_a_handshake(gateway: Gateway, tmp_path: Path, kind: str) -> None:
    gateway.listen_for_guests(f"{kind}:{tmp_path}/s")
    with socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM if kind == "qemu" else socket.SOCK_SEQPACKET
    ) as sock:
        sock.connect(str(tmp_path / "s"))
        until(lambda: bool(gateway.links()))
    until(lambda: not gateway.links())


def test_tcp_and_inherited(gateway: Gateway) -> None:
    (place,) = gateway.listen_for_guests("qemu+tcp:127.0.0.1:0")
    port = int(place.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        until(lambda: len(gateway.links()) == 1)
        ours, theirs = socket.socketpair()
        gateway.listen_for_guests(f"fd:qemu:{ours.detach()}")
        until(lambda: len(gateway.links()) == 2)
        theirs.close()
        until(lambda: len(gateway.links()) == 1)


def test_a_place_in_use(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "s"
    gateway.listen_for_guests(f"qemu:{path}")
    with pytest.raises(NetstackError, match="in use"):
        gateway.listen_for_guests(f"qemu:{path}")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NetstackError, match="not a socket"):
        gateway.listen_for_guests(f"qemu:{tmp_path}/file")
    assert (path.stat().st_mode & 0o777) == 0o600
    gateway.stop()
    assert not path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with Gateway(netstack.Config(dns=())) as again:
        again.listen_for_guests(f"qemu:{path}")
