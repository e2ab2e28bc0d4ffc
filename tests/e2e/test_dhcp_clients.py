"""Real DHCP clients through the states of RFC 2131 figure 5: busybox, ISC, dhcpcd and systemd-networkd.

All four live on one bridge behind one TAP. networkd runs without systemd: its own mounts give it a /run, and where /sys
is read-only it does not wait for udev. What a client does is seen in its messages as the gateway gets them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netstack.config import Config
from netstack.gateway import Gateway
from netstack.testing.lab import GATEWAY, GUEST, TAP, Lab
from netstack.testing.namespace import Namespace, Process, unavailable
from netstack.wire.dhcp4 import DECLINE, DISCOVER, RELEASE, REQUEST, DhcpMessage

pytestmark = pytest.mark.netns

HEAD = struct.Struct("=i6sHII")  # before a message: link, MAC, and the packet's addresses
NETWORKD = "/lib/systemd/systemd-networkd"
LEASE = 20  # seconds, the least that dhcpcd takes; busybox makes it 120 for itself
PATIENCE = 60.0
NOBODY = "02:00:00:00:99:99"

UDHCPC = """#!/bin/sh
[ "$1" = deconfig ] && ip -4 address flush dev eth0
[ -n "$ip" ] && ip address replace $ip/24 dev eth0
exit 0
"""
DHCLIENT = """#!/bin/sh
case $reason in
PREINIT) exit 0;;
EXPIRE|FAIL|RELEASE|STOP) ip -4 address flush dev eth0; exit 0;;
esac
[ "$old_ip_address" = "$new_ip_address" ] || ip -4 address flush dev eth0
ip address replace $new_ip_address/24 dev eth0
"""
UNIT = """[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


class Seen(NamedTuple):
    """A message of a client."""

    kind: int
    unicast: bool
    message: DhcpMessage

    @property
    def rebooting(self) -> bool:
        m = self.message
        return self.kind == REQUEST and m.requested_address is not None and m.server_id is None


class Wire:
    """A gateway whose guests are namespaces on a bridge, and the messages that it has got by the client's MAC."""

    def __init__(self, lab: Lab, gateway: Gateway) -> None:
        self.lab, self.gateway = lab, gateway
        self.messages: dict[str, list[Seen]] = {}
        handle = gateway._on_dhcp

        def on_dhcp(mail: bytes) -> None:
            _, mac, _, _, to = HEAD.unpack_from(mail)
            message = DhcpMessage.parse(mail[HEAD.size :])
            seen = Seen(message.message_type or 0, str(IPv4Address(to)) == GATEWAY, message)
            self.messages.setdefault(mac.hex(":"), []).append(seen)
            handle(mail)

        gateway._on_dhcp = on_dhcp  # type: ignore[method-assign]
        guest = lab.guest
        guest.ip("link", "add", "br0", "type", "bridge")
        for device in ("br0", TAP):
            guest.ip("link", "set", device, "up")
        guest.ip("link", "set", TAP, "master", "br0")
        self._made = 0

    def machine(self) -> Namespace:
        """A namespace with eth0 on the bridge."""
        n, self._made = self._made, self._made + 1
        machine = self.lab.namespace(f"m{n}")
        self.lab.veth((self.lab.guest, f"v{n}", ""), (machine, "eth0", ""))
        self.lab.guest.ip("link", "set", f"v{n}", "master", "br0")
        return machine

    def counted(self, name: str) -> int:
        return self.gateway.stats()[f"dhcp_{name}"]


@contextlib.contextmanager
def wire(**settings: Any) -> Iterator[Wire]:
    with Lab() as lab, lab.gateway(Config(dns=(), **settings), configure=False) as gateway:
        yield Wire(lab, gateway)


@pytest.fixture(autouse=True)
def namespaces() -> None:
    if reason := unavailable():
        pytest.skip(reason)


@pytest.fixture
def short_leases() -> Iterator[Wire]:
    with wire(lease_seconds=LEASE) as made:
        yield made


class Client:
    """A client in a machine of its own, with its files in a directory of its own."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.machine = wire.machine()
        self.files = wire.lab.directory / f"{type(self).__name__}-{self.machine.name}"
        self.files.mkdir()
        text = self.machine.ip("-o", "link", "show", "eth0")
        self.mac = re.search(r"link/ether (\S+)", text)[1]  # type: ignore[index]
        self.process: Process | None = None

    def script(self, text: str) -> str:
        path = self.files / "script"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def argv(self) -> Sequence[str]:
        raise NotImplementedError

    def mounted(self, mounts: dict[str, str], setup: str, *argv: str) -> Sequence[str]:
        """A command with a /run of its own and directories of ours in the place of the machine's."""
        lines = ["mount -t tmpfs tmpfs /run"]
        for name, place in mounts.items():
            (self.files / name).mkdir(exist_ok=True)
            lines.append(f"mkdir -p {place} && mount --bind {self.files / name} {place}")
        return ("unshare", "-m", "sh", "-c", " && ".join([*lines, setup, 'exec "$@"']), "sh", *argv)

    def start(self) -> None:
        self.process = self.machine.spawn(*self.argv())

    def crash(self) -> None:
        assert self.process is not None
        self.process.signal(9)
        self.process.wait()

    def renew(self) -> None:
        """Has it renew soon: others do so by themselves when T1 comes."""

    def release(self) -> None:
        raise NotImplementedError

    @property
    def address(self) -> str:
        """What it has by the server's table, "" for nothing."""
        held = [
            x
            for x in self.wire.gateway.leases()
            if x.state in ("bound", "static") and x.mac.hex(":") == self.mac
        ]
        return str(held[-1].address) if held else ""

    @property
    def seen(self) -> list[Seen]:
        return self.wire.messages.get(self.mac, [])

    def said(self, test: Callable[[Seen], bool], since: int = 0) -> bool:
        return any(map(test, self.seen[since:]))

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({self.process.text[-1500:] if self.process else 'not started'})"


class Busybox(Client):
    def argv(self) -> Sequence[str]:
        return (
            "udhcpc",
            "-f",
            "-a",
            "-t",
            "20",
            "-T",
            "1",
            "-A",
            "1",
            "-i",
            "eth0",
            "-s",
            self.script(UDHCPC),
        )

    def renew(self) -> None:
        assert self.process is not None
        self.process.signal(10)  # SIGUSR1

    def release(self) -> None:
        assert self.process is not None
        self.process.signal(12)  # SIGUSR2


class Isc(Client):
    def argv(self, *options: str) -> Sequence[str]:
        # it would wait ten seconds before it asks again, and so miss the time between T2 and the lease's end
        config = self.files / "dhclient.conf"
        config.write_text("initial-interval 1;\nbackoff-cutoff 1;\n")
        files = ("-cf", str(config), "-lf", str(self.files / "leases"), "-pf", str(self.files / "pid"))
        return ("dhclient", *(options or ("-d",)), "-sf", self.script(DHCLIENT), *files, "eth0")

    def release(self) -> None:
        self.machine.run(*self.argv("-r"))


class Dhcpcd(Client):
    def argv(self) -> Sequence[str]:
        return self.mounted(
            {"lib": "/var/lib/dhcpcd"}, "true", "dhcpcd", "-B", "-4", "-c", "/bin/true", "eth0"
        )

    def release(self) -> None:
        assert self.process is not None
        self.process.signal(14)  # SIGALRM


class Networkd(Client):
    keep = "KeepConfiguration=dhcp\n"  # it asks for the address that it finds on the interface

    def argv(self) -> Sequence[str]:
        (self.files / "network").mkdir(exist_ok=True)
        (self.files / "network" / "eth0.network").write_text(UNIT + self.keep)
        setup = (
            "mkdir -p /run/systemd/netif/leases /run/systemd/netif/links /run/systemd/netif/lldp"
            " && chown -R systemd-network /run/systemd/netif && mount -t sysfs -o ro sysfs /sys"
        )
        mounts = {"network": "/run/systemd/network", "netif": "/run/systemd/netif"}
        return self.mounted(mounts, setup, NETWORKD)

    def release(self) -> None:
        self.keep = ""  # with what it keeps it would release nothing
        self.crash()
        self.start()
        assert self.process is not None
        self.process.wait_for("DHCPv4 address .* acquired")
        self.process.signal(15)


def wait(clients: Sequence[Client], true: Callable[[Client], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while late := [client for client in clients if not true(client)]:
        assert time.monotonic() < end, f"{what}: not {late}"
        time.sleep(0.05)


def bound(client: Client) -> bool:
    return bool(client.address) and f" {client.address}/24 " in client.machine.ip(
        "-o", "-4", "address", "show"
    )


def renewal(seen: Seen) -> bool:
    return seen.kind == REQUEST and int(seen.message.ciaddr) != 0


@pytest.mark.slow
def test_every_state_of_every_client(short_leases: Wire) -> None:
    """INIT, SELECTING, BOUND, RENEWING, REBINDING, a NAK, INIT-REBOOT, and RELEASE."""
    need("udhcpc", "dhclient", "dhcpcd", NETWORKD)
    gateway = short_leases.gateway
    clients = [kind(short_leases) for kind in (Busybox, Isc, Dhcpcd, Networkd)]
    busybox = clients[0]
    for client in clients:
        client.start()
    wait(clients, bound, "an address")
    first = {client: client.address for client in clients}
    assert len(set(first.values())) == 4
    assert short_leases.counted("acked_selecting") >= 4

    busybox.renew()
    wait(clients, lambda c: c.said(lambda s: renewal(s) and s.unicast), "renewed by unicast")
    assert short_leases.counted("acked_renewing") >= 4

    for client in clients:  # unicasts go nowhere
        client.machine.ip("neigh", "replace", GATEWAY, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0")
    asked = {client: len(client.seen) for client in clients}
    busybox.renew()
    wait(clients, lambda c: c.said(lambda s: renewal(s) and not s.unicast, asked[c]), "rebound by broadcast")
    assert {client: client.address for client in clients} == first, "nobody has lost its address over it"
    assert short_leases.counted("refused_renewing") == 0
    for client in clients:
        client.machine.ip("neigh", "del", GATEWAY, "dev", "eth0")

    for n, client in enumerate(clients):
        gateway.release(first[client])
        gateway.reserve(f"02:00:00:00:ee:{n:02x}", first[client])
    busybox.renew()
    wait(clients, lambda c: bound(c) and c.address != first[c], "another address after a NAK")
    assert short_leases.counted("refused_renewing") >= 4

    # busybox does not remember its lease
    remembering = clients[1:]
    second = {client: client.address for client in remembering}
    asked = {client: len(client.seen) for client in remembering}
    for client in remembering:
        client.crash()
        client.start()
    wait(remembering, lambda c: c.said(lambda s: s.rebooting, asked[c]), "INIT-REBOOT")
    wait(remembering, bound, "the same address")
    assert {client: client.address for client in remembering} == second
    assert short_leases.counted("acked_init_reboot") >= 3

    for client in clients:
        client.release()
    wait(clients, lambda c: c.said(lambda s: s.kind == RELEASE) and not c.address, "released")
    assert short_leases.counted("released") >= 4
    assert short_leases.counted("dropped_malformed") == 0
    assert short_leases.counted("dropped_contradictory") == 0


@pytest.mark.slow
def test_addresses_that_another_machine_has_are_declined(short_leases: Wire) -> None:
    """Clients that look, by ARP, before they use what they are given.

    networkd 252 looks, too, but cannot send DECLINE: without an address it has no route to the server.
    """
    need("udhcpc", "dhcpcd")
    squatter = short_leases.machine()
    for kind, taken, other in ((Busybox, 3, 4), (Dhcpcd, 5, 6)):  # the server gives the lowest that is free
        squatter.ip("address", "add", f"192.168.65.{taken}/24", "dev", "eth0")
        client = kind(short_leases)
        client.start()
        wait([client], lambda c: c.said(lambda s: s.kind == DECLINE), "declined")
        wait([client], bound, "another address")
        assert client.address == f"192.168.65.{other}"
    assert short_leases.counted("declined") == 2
    declined = {str(x.address) for x in short_leases.gateway.leases() if x.state == "declined"}
    assert declined == {"192.168.65.3", "192.168.65.5"}


@pytest.mark.slow
def test_busybox_finds_its_address_in_use_and_releases_another() -> None:
    need("udhcpc")
    with wire() as short:
        squatter = short.machine()
        squatter.ip("address", "add", f"{GUEST}/24", "dev", "eth0")
        client = Busybox(short)
        client.start()
        wait([client], bound, "an address")
        assert client.said(lambda s: s.kind == DECLINE)
        assert client.address == "192.168.65.4"
        client.renew()
        wait([client], lambda c: short.counted("acked_renewing") == 1, "renewed")
        client.release()
        wait([client], lambda c: short.counted("released") == 1, "released")


def test_a_squatter_that_has_spoken_is_known() -> None:
    need("udhcpc")
    with wire() as net:
        squatter = net.machine()
        squatter.ip("address", "add", f"{GUEST}/24", "dev", "eth0")
        squatter.run("ping", "-c1", "-W5", GATEWAY)
        client = Busybox(net)
        client.start()
        wait([client], bound, "an address")
        assert client.address == "192.168.65.4"
        assert not client.said(lambda s: s.kind == DECLINE), "nobody had to look"
        assert net.counted("conflicts") == 1


def test_a_pool_that_is_exhausted(caplog: pytest.LogCaptureFixture) -> None:
    need("udhcpc")
    with wire(last_guest=GUEST) as net, caplog.at_level(logging.WARNING, "netstack"):
        first, second = Busybox(net), Busybox(net)
        argv = ("udhcpc", "-f", "-q", "-n", "-t", "2", "-T", "1", "-A", "1", "-i", "eth0", "-s")
        assert first.machine.run(*argv, first.script(UDHCPC)).returncode == 0
        done = second.machine.run(*argv, second.script(UDHCPC), check=False)
        assert done.returncode == 1
        assert [s.kind for s in second.seen] == [DISCOVER, DISCOVER]
        assert net.counted("dropped_exhausted") == 2
        assert len([r for r in caplog.records if "DHCP has no address left" in r.message]) == 1


def test_an_identifier_has_its_address_and_name(tmp_path: Path) -> None:
    """One that text names, sent by busybox; and a restart keeps what a client of no reservation has."""
    need("udhcpc")
    state = str(tmp_path / "state")
    argv = ("udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "eth0")
    with wire(leases=(("id:db-1", "192.168.65.50", "db"),), state=state) as net:
        client = Busybox(net)
        script = client.script(UDHCPC)
        client.machine.run(*argv, "-C", "-x", "0x3d:" + b"\0db-1".hex(), "-s", script)
        assert bound(client)
        assert client.address == "192.168.65.50"
        assert net.gateway.dns.table.names["db.internal"]
        other = Busybox(net)
        other.machine.run(*argv, "-x", "hostname:web", "-s", other.script(UDHCPC))
        assert other.address == GUEST
        mac = other.mac
    with wire(state=state) as again:
        (kept,) = again.gateway.leases()
        assert (str(kept.address), kept.mac.hex(":"), kept.name, kept.state) == (GUEST, mac, "web", "bound")
        client = Busybox(again)
        client.machine.run(*argv, "-s", client.script(UDHCPC))
        assert client.address == "192.168.65.4"


@pytest.mark.slow
def test_dhcping_and_nmap() -> None:
    need("dhcping", "nmap", "udhcpc")
    with wire(dhcp_ntp=("192.168.65.9",)) as net:
        client = Busybox(net)
        argv = ("udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "eth0")
        client.machine.run(*argv, "-s", client.script(UDHCPC))
        done = client.machine.run("dhcping", "-v", "-s", GATEWAY, "-c", client.address, "-h", client.mac)
        assert "Got answer from: 192.168.65.1" in done.stdout
        script = "broadcast-dhcp-discover"
        found = client.machine.run("nmap", "--script", script, "-e", "eth0").stdout
        assert "DHCP Message Type: DHCPOFFER" in found
        assert f"Server Identifier: {GATEWAY}" in found
        assert f"Router: {GATEWAY}" in found
        assert "NTP Servers: 192.168.65.9" in found
