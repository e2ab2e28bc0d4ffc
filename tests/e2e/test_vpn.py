"""A VPN that comes and goes beside the host's network: routes, names, connections and its smaller MTU.

The tunnel is a VXLAN between the host and a concentrator behind the router; the kernel of the test machines may have no
WireGuard, and to the host's routing and resolver the one is as good as the other.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import time

import pytest
from programs import DNSMASQ

from netstack.config import Config
from netstack.errors import SandboxError
from netstack.testing.lab import ROUTER, WORLD, WORLD_HOST, Lab
from netstack.testing.namespace import Namespace, unavailable
from netstack.testing.servers import TcpServer

pytestmark = pytest.mark.netns

INSIDE = "10.8.0.1"  # the concentrator, its name server, and the host inside
TUNNEL_MTU = 1380
IP_MTU_DISCOVER, IP_MTU = 10, 14  # of Linux
DONT, DO = 0, 2


@pytest.fixture
def lab():
    if reason := unavailable():
        pytest.skip(reason)
    for program in ("dnsmasq", "dig"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    with Lab() as lab:
        yield lab


class Vpn:
    """The tunnel between the host and the world's namespace, with a resolver and a server behind it."""

    def __init__(self, lab: Lab, world: Namespace) -> None:
        self.lab, self.world = lab, world
        try:
            self._end(world, WORLD, WORLD_HOST, f"{INSIDE}/24")
        except SandboxError as err:
            pytest.skip(f"this kernel has no VXLAN: {err}")
        self.resolver = world.spawn(
            *DNSMASQ,
            *(
                f"--listen-address={INSIDE}",
                f"--host-record=db.corp.example,{INSIDE}",
                "--local=/corp.example/",
            ),
            *("--host-record=www.example,203.0.113.2", "--local-ttl=600"),
        )
        self.resolver.wait_listening(53)

    @staticmethod
    def _end(ns: Namespace, local: str, remote: str, address: str) -> None:
        ns.ip(
            *("link", "add", "vpn0", "mtu", str(TUNNEL_MTU), "type", "vxlan", "id", "8", "dstport", "4789"),
            *("local", local, "remote", remote),
        )
        ns.ip("address", "add", address, "dev", "vpn0")
        ns.ip("link", "set", "vpn0", "up")

    def up(self) -> None:
        self._end(self.lab.host, WORLD_HOST, WORLD, "10.8.0.2/24")
        self.lab.host.resolv_conf.write_text(f"nameserver {INSIDE}\n")

    def down(self) -> None:
        self.lab.host.ip("link", "del", "vpn0")
        self.lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")


def look_up(lab: Lab, name: str) -> str:
    done = lab.guest.run("dig", "+short", "+tries=1", "+time=5", name, "A", check=False)
    return done.stdout.strip()


def follows(lab: Lab, name: str, address: str, seconds: float = 10.0) -> None:
    """Asks until the answer is the one wanted; it comes within two seconds, the rest is for a busy machine."""
    end = time.monotonic() + seconds
    while (found := look_up(lab, name)) != address:
        assert time.monotonic() < end, f"{name} is still {found!r}"
        time.sleep(0.1)


def test_a_vpn_comes_and_goes(lab: Lab) -> None:
    _, world = lab.world()
    vpn = Vpn(lab, world)
    home = lab.host.spawn(
        *DNSMASQ,
        "--listen-address=127.0.0.1",
        *("--local=/example/", "--host-record=www.example,203.0.113.2", "--local-ttl=600"),
    )
    home.wait_listening(53)
    lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    with (
        lab.gateway() as gateway,
        TcpServer(world.listen(WORLD, 8000)) as outside,
        TcpServer(world.listen(INSIDE, 8001)) as inside,
    ):
        before = lab.guest.connect(WORLD, outside.port)
        exchange(before, b"before")
        assert look_up(lab, "www.example") == WORLD
        assert look_up(lab, "db.corp.example") == ""

        vpn.up()
        follows(lab, "db.corp.example", INSIDE)
        assert look_up(lab, "www.example") == WORLD
        through = lab.guest.connect(INSIDE, inside.port)
        exchange(through, b"through")
        exchange(before, b"still there")
        large = bytes(range(256)) * 4096  # a mebibyte each way, in segments of the guest's size
        assert hashlib.sha256(exchange(through, large)).digest() == hashlib.sha256(large).digest()

        vpn.down()
        through.settimeout(5)
        with pytest.raises(ConnectionResetError):  # at once, and not after a quarter of an hour
            through.recv(1)
        assert gateway.stats()["tcp_address_gone"] == 1
        follows(lab, "www.example", WORLD)
        assert look_up(lab, "db.corp.example") == ""
        exchange(before, b"to the end")
        vpn.up()
        follows(lab, "db.corp.example", INSIDE)
        before.close()
        through.close()


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Sends bytes to an echo server and has them back."""
    sock.settimeout(20)
    got = b""
    sent = 0
    sock.setblocking(True)
    sock.settimeout(20)
    while len(got) < len(data):
        if sent < len(data):
            sent += sock.send(data[sent : sent + 65536])
        piece = sock.recv(1 << 20)
        assert piece
        got += piece
    assert got == data
    return got


def learned(sender: socket.socket, size: int, fragments: int) -> int:
    """Sends until the guest's kernel knows that it is too much; the path's MTU that it has been told."""
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, fragments)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            sender.send(bytes(size))
        except OSError as err:
            if err.errno == errno.EMSGSIZE:
                return sender.getsockopt(socket.IPPROTO_IP, IP_MTU)
            raise
        time.sleep(0.05)
    raise AssertionError("nothing is too much")


def arrives(receiver: socket.socket, sender: socket.socket, size: int) -> tuple[str, int]:
    """A datagram of that size comes through whole; whose it is."""
    data = bytes(i % 251 for i in range(size))
    end = time.monotonic() + 10
    sent = 0
    while not sent:
        assert time.monotonic() < end
        try:
            sent = sender.send(data)
        except OSError as err:  # about one that was sent before, said late
            if err.errno != errno.EMSGSIZE:
                raise
    while time.monotonic() < end:
        got, address = receiver.recvfrom(65535)
        if got == data:
            return address
    raise AssertionError("it has not come")


def test_the_tunnels_mtu_reaches_the_guest(lab: Lab) -> None:
    """DF as the guest sets it: what the host knows to be too long, and what only a router finds out (RFC 1191)."""
    _, world = lab.world(mtu=1300)
    Vpn(lab, world).up()  # its own MTU, 1380, is more than the path below it carries; the VXLAN is cut there
    lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    with world.entered():
        inside, outside = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with lab.guest.entered():
        to_inside, to_outside = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with inside, outside, to_inside, to_outside, lab.gateway(Config(dns=())) as gateway:
        for server, client, address in ((inside, to_inside, INSIDE), (outside, to_outside, WORLD)):
            server.bind((address, 9000))
            server.settimeout(10)
            client.connect((address, 9000))
            client.settimeout(10)
        assert learned(to_inside, 1400, DO) == TUNNEL_MTU
        assert learned(to_outside, 1400, DO) == 1300
        arrives(inside, to_inside, TUNNEL_MTU - 28)
        address = arrives(outside, to_outside, 1300 - 28)
        outside.sendto(b"and back", address)
        assert to_outside.recv(100) == b"and back"
        for server, client in ((inside, to_inside), (outside, to_outside)):
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DONT)
            arrives(server, client, 1400)  # without DF it is cut
            arrives(server, client, 9000)
        done = lab.guest.run("ping", "-c1", "-W2", "-Mdo", "-s1400", "10.8.0.9", check=False)
        assert f"mtu = {TUNNEL_MTU}" in done.stdout or f"mtu={TUNNEL_MTU}" in done.stdout + done.stderr
        assert gateway.stats()["udp_send_failed"] >= 1


def test_a_published_port_answers_within_the_paths_mtu(lab: Lab) -> None:
    _, world = lab.world(mtu=1300)
    with world.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.guest.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, server, lab.gateway(Config(dns=(), publish=(f"{WORLD_HOST}:9000:9000/udp",))):
        server.bind(("0.0.0.0", 9000))
        server.settimeout(10)
        client.connect((WORLD_HOST, 9000))
        client.settimeout(10)
        client.send(b"?")
        server.connect(server.recvfrom(10)[1])
        assert learned(server, 1400, DO) == 1300
        arrives(client, server, 1300 - 28)


def test_going_out_from_an_address(lab: Lab) -> None:
    _, world = lab.world()
    lab.host.ip("address", "add", "198.51.100.77/24", "dev", "up0")
    lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    peers = []

    async def note(reader, writer):
        peers.append(writer.get_extra_info("peername")[0])
        writer.write(b"x")

    with (
        lab.gateway(Config(dns=(), outbound_address="198.51.100.77", outbound_interface="up0")),
        TcpServer(world.listen(WORLD, 8000), note) as server,
        TcpServer(lab.host.listen("127.0.0.1", 8000), note) as near,
    ):
        for address, port in ((WORLD, server.port), ("192.168.65.2", near.port)):
            with lab.guest.connect(address, port) as sock:
                sock.settimeout(10)
                assert sock.recv(1) == b"x"
    assert peers == ["198.51.100.77", "127.0.0.1"]


def test_a_mark_chooses_the_route(lab: Lab) -> None:
    """``ip rule`` sends what is marked by the router, and nothing else goes there."""
    _, world = lab.world()
    lab.host.ip("route", "del", "default")
    lab.host.ip("route", "add", "default", "via", ROUTER, "table", "100")
    lab.host.ip("rule", "add", "fwmark", "0x33", "lookup", "100")
    lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    with TcpServer(world.listen(WORLD, 8000)) as server:
        for mark in (0, 0x33):
            with lab.gateway(Config(dns=(), outbound_mark=mark)):
                if mark:
                    with lab.guest.connect(WORLD, server.port) as sock:
                        exchange(sock, b"by its mark")
                else:
                    with pytest.raises(OSError, match=r"unreachable|refused"):
                        lab.guest.connect(WORLD, server.port).recv(1)
