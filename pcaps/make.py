"""Makes the captures of this folder anew: Linux against Linux, over a cable that records (root, iproute2).

    python pcaps/make.py [NAME...]

Each scenario is a function below; its name is the capture's, its docstring what the capture shows. The ``.toml``
beside a capture is made with it. Programs that are missing leave their capture as it is.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from wire import Wire, every, rule  # noqa: E402

from netstack.testing.lab import Lab  # noqa: E402
from netstack.testing.namespace import Namespace  # noqa: E402

GUEST, HOST, FAR, FAR_HOST = "10.77.0.2", "10.77.0.1", "10.78.0.2", "10.78.0.1"
GUEST_MAC = "02:00:00:77:00:02"
HOST_MAC = "02:00:00:77:00:01"


class Run:
    """One scenario: a guest, a host, the cable between them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.guest: Namespace = lab.guest
        self.host: Namespace = lab.host
        self.snaplen = 0
        self.wire = Wire(self.guest, self.host)
        for ns, mac in ((self.guest, GUEST_MAC), (self.host, HOST_MAC)):
            ns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
            ns.sysctl("net.ipv4.tcp_no_metrics_save", "1")
            ns.ip("link", "set", "eth0", "address", mac)

    def address(self) -> None:
        """Gives both sides their addresses."""
        for ns, address in ((self.guest, GUEST), (self.host, HOST)):
            ns.ip("address", "add", f"{address}/24", "dev", "eth0")
            ns.ip("link", "set", "eth0", "up")
        self.guest.ip("route", "add", "default", "via", HOST)

    def pair(self, port: int = 8000, **options: int) -> tuple[socket.socket, socket.socket]:
        """A connection of the guest's to the host: (guest's end, host's end)."""
        server = self.host.listen(HOST, 0)
        for name, value in options.items():
            server.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        client = self.guest.connect(HOST, server.getsockname()[1])
        accepted, _ = server.accept()
        server.close()
        client.settimeout(10)
        accepted.settimeout(10)
        return client, accepted

    def far(self, mtu: int = 1500) -> Namespace:
        """A namespace behind the host, which routes."""
        far = self.lab.namespace("far")
        self.lab.veth((self.host, "far0", f"{FAR_HOST}/24"), (far, "near0", f"{FAR}/24"), mtu)
        self.host.sysctl("net.ipv4.ip_forward", "1")
        far.ip("route", "add", "default", "via", FAR_HOST)
        return far


def pour(out: socket.socket, into: socket.socket, size: int) -> bytes:
    """Sends that many bytes from one end to the other, and closes the direction; what came."""
    data = bytes(i * 7 & 255 for i in range(size))

    def send() -> None:
        out.sendall(data)
        out.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    came = bytearray()
    while part := into.recv(65536):
        came += part
    thread.join()
    assert came == data
    return bytes(came)


def settle(seconds: float = 0.1) -> None:
    time.sleep(seconds)


# --- TCP


def handshakes(run: Run) -> None:
    """Sixteen handshakes: with and without timestamps, SACK, window scaling and ECN."""
    run.address()
    keys = ("tcp_timestamps", "tcp_sack", "tcp_window_scaling", "tcp_ecn")
    for choice in itertools.product((0, 1), repeat=4):
        for key, value in zip(keys, choice, strict=True):
            run.guest.sysctl(f"net.ipv4.{key}", str(value))
        client, server = run.pair()
        client.sendall(b"hello " + repr(choice).encode())
        server.sendall(server.recv(100).upper())
        client.recv(100)
        client.close()
        settle(0.02)
        server.close()
        settle(0.02)


def old_peers(run: Run) -> None:
    """Handshakes of a guest with every option, with peers that have none, or only some, of them."""
    run.address()
    for key in ("tcp_timestamps", "tcp_sack", "tcp_window_scaling"):
        run.host.sysctl(f"net.ipv4.{key}", "0")
        client, server = run.pair()
        pour(client, server, 3000)
        pour(server, client, 3000)
        client.close()
        server.close()
        settle()


def loss(run: Run) -> None:
    """A download of 60 kB and an upload of 60 kB; every seventh segment is lost on the way."""
    run.address()
    client, server = run.pair()
    with rule(run.wire, every(7, False, ())):
        pour(server, client, 60_000)
    with rule(run.wire, every(7, True, ())):
        pour(client, server, 60_000)
    settle()


def reordering(run: Run) -> None:
    """Every fifth segment comes late, in both directions, and some come twice."""
    run.address()
    client, server = run.pair()
    with rule(run.wire, every(5, False, (0.003,))):
        pour(server, client, 50_000)
    with rule(run.wire, every(5, True, (0.003,))):
        pour(client, server, 50_000)
    settle()
    client, server = run.pair()
    with rule(run.wire, every(3, False, (0.0, 0.001))):
        pour(server, client, 20_000)
    client.close()
    settle()


def zero_window(run: Run) -> None:
    """The guest does not read until its window is closed and has been probed; then it reads all."""
    run.address()
    server = run.host.listen(HOST, 0)
    client = run.guest.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((HOST, server.getsockname()[1]))
    accepted, _ = server.accept()
    thread = threading.Thread(target=lambda: (accepted.sendall(bytes(40_000)), accepted.close()))
    thread.start()
    time.sleep(1.0)
    while client.recv(4096):
        time.sleep(0.002)
    thread.join()
    client.close()
    settle()


def half_close(run: Run) -> None:
    """The guest ends its direction, and the answer comes afterwards; then the same the other way round."""
    run.address()
    client, server = run.pair()
    pour(client, server, 1000)
    settle(0.05)
    pour(server, client, 5000)
    settle(0.05)
    client, server = run.pair()
    pour(server, client, 1000)
    settle(0.05)
    pour(client, server, 5000)
    settle()


def resets(run: Run) -> None:
    """Refused; reset by the guest amid data; reset by the peer amid data."""
    run.address()
    for _ in range(2):
        refused = run.guest.socket()
        try:
            refused.connect((HOST, 9))
        except ConnectionRefusedError:
            refused.close()
    for ours in (True, False):
        client, server = run.pair()
        client.sendall(b"x" * 2000)
        server.recv(500)
        settle(0.02)
        one = client if ours else server
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        settle(0.05)


def simultaneous_close(run: Run) -> None:
    """Both ends close at the same moment, with a quarter of a second between them."""
    run.address()
    client, server = run.pair()
    client.sendall(b"ping")
    server.recv(10)
    with rule(run.wire, lambda up, frame: (0.12,)):
        client.close()
        server.close()
        time.sleep(0.6)


def inbound(run: Run) -> None:
    """The host connects to servers of the guest: one answers, one port is closed."""
    run.address()
    server = run.guest.listen(GUEST, 7000)
    client = run.host.connect(GUEST, 7000)
    accepted, _ = server.accept()
    pour(client, accepted, 2000)
    pour(accepted, client, 3000)
    client.close()
    accepted.close()
    closed = run.host.socket()
    try:
        closed.connect((GUEST, 7001))
    except ConnectionRefusedError:
        closed.close()
    settle()


def late_start(run: Run) -> None:
    """A conversation that was open when the capture began, and a new one behind it."""
    run.address()
    run.wire.recording = False
    client, server = run.pair()
    pour(client, server, 1000)
    run.wire.recording = True
    pour(server, client, 4000)
    client, server = run.pair()
    pour(client, server, 1000)
    settle()


def snap_length(run: Run) -> None:
    """An upload and a download of which the capture has 96 bytes of every frame."""
    run.snaplen = 96
    run.address()
    client, server = run.pair()
    pour(client, server, 10_000)
    pour(server, client, 10_000)
    settle()


def missing_frames(run: Run) -> None:
    """The capture misses frames of the peer's that the guest did get."""
    run.address()
    client, server = run.pair()
    pour(server, client, 20_000)
    pour(client, server, 100)
    settle()
    frames = run.wire.frames
    data = [i for i, (_, f) in enumerate(frames) if len(f) > 1000]
    for index in reversed(data[3:5]):
        del frames[index]


# --- the network layer


def path_mtu(run: Run) -> None:
    """A bottleneck of 1,280 bytes behind the router: ICMP tells the guest, over TCP and over UDP."""
    run.address()
    far = run.far(1280)
    server = far.listen(FAR, 0)
    client = run.guest.connect(FAR, server.getsockname()[1])
    accepted, _ = server.accept()
    pour(client, accepted, 8000)
    accepted.close()
    client.close()
    sock = run.guest.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(
        socket.IPPROTO_IP, 10, 3
    )  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE: DF, whatever the cache says
    sock.sendto(bytes(1400), (FAR, 9000))
    settle()


def fragments(run: Run) -> None:
    """UDP datagrams and pings longer than the MTU, there and back; once with the fragments in reverse."""
    run.address()
    echo = run.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind((HOST, 7))
    sock = run.guest.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in (1472, 1473, 4000, 9000):
        sock.sendto(bytes(i & 255 for i in range(size)), (HOST, 7))
        echo.sendto(*echo.recvfrom(10_000))
        sock.recvfrom(10_000)
    run.guest.run("ping", "-c", "2", "-i", "0.1", "-s", "4000", HOST)
    count = itertools.count()
    with rule(run.wire, lambda up, frame: (0.02 - 0.005 * (next(count) % 4),) if up else (0.0,)):
        sock.sendto(bytes(5000), (HOST, 7))
        echo.settimeout(3)
        echo.sendto(*echo.recvfrom(10_000))
    settle()


def icmp_errors(run: Run) -> None:
    """Closed ports, time exceeded on the way, unreachable hosts, and pings that are answered."""
    run.address()
    far = run.far()
    run.host.ip("route", "add", "unreachable", "10.79.0.9/32")
    for address, port, ttl in ((FAR, 33434, 64), (FAR, 33435, 2), (FAR, 33436, 1), ("10.79.0.9", 5000, 64)):
        sock = run.guest.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.sendto(b"probe", (address, port))
        settle(0.05)
    run.guest.run("ping", "-c", "3", "-i", "0.1", FAR)
    run.guest.run("ping", "-c", "1", "-t", "1", "-W", "1", FAR, check=False)
    refused = run.guest.socket()
    try:
        refused.connect(("10.79.0.9", 80))
    except OSError:
        refused.close()
    assert far
    settle()


def address_resolution(run: Run) -> None:
    """ARP: the router is asked for and answers, an absent neighbour does not, and the guest announces itself."""
    run.address()
    run.guest.run("ping", "-c", "1", HOST)
    run.guest.run("ping", "-c", "1", "-W", "1", "10.77.0.99", check=False)
    mac = bytes.fromhex(GUEST_MAC.replace(":", ""))
    own = socket.inet_aton(GUEST)
    head = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mac
    run.wire.inject(head + own + bytes(6) + own)  # gratuitous
    run.wire.inject(head + bytes(4) + bytes(6) + own)  # a probe
    settle()


def dns(run: Run) -> None:
    """A and AAAA, names that are absent, a long TXT over UDP and TCP, and a refused query type."""
    run.address()
    run.host.spawn(
        "dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", f"--listen-address={HOST}",
        "--bind-interfaces", "--user=root", "--pid-file=", "--address=/one.test/192.0.2.1", "--local=/test/",
        "--txt-record=long.test," + ",".join("x" * 200 for _ in range(8)),
    )  # fmt: skip
    settle(0.5)
    for query in (["one.test"], ["AAAA", "one.test"], ["absent.test"], ["TXT", "long.test"], ["+tcp", "one.test"],
                  ["+noedns", "+ignore", "TXT", "long.test"]):  # fmt: skip
        run.guest.run("dig", f"@{HOST}", "+tries=1", "+time=2", *query, check=False)
    settle()


def dhcp(run: Run, *client: str) -> None:
    run.host.ip("address", "add", f"{HOST}/24", "dev", "eth0")
    run.host.ip("link", "set", "eth0", "up")
    run.guest.ip("link", "set", "eth0", "up")
    leases = run.lab.directory / "leases"
    run.host.spawn(
        "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--user=root",
        "--pid-file=", f"--dhcp-range={GUEST},{GUEST},1h", f"--dhcp-leasefile={leases}", "--no-ping",
        f"--dhcp-option=option:router,{HOST}", "--dhcp-authoritative",
    )  # fmt: skip
    settle(0.5)
    process = run.guest.spawn(*client)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and not any(b"\x35\x01\x05" in frame for _, frame in run.wire.frames):
        time.sleep(0.05)
    settle(0.3)
    process.stop()


def dhcp_udhcpc(run: Run) -> None:
    """udhcpc gets an address, and releases it."""
    dhcp(run, "udhcpc", "-f", "-R", "-i", "eth0", "-s", "/bin/true")


def dhcp_dhclient(run: Run) -> None:
    """dhclient gets an address."""
    place = run.lab.directory
    dhcp(run, "dhclient", "-d", "-1", "-sf", "/bin/true", "-lf", str(place / "dhclient.leases"), "-pf",
         str(place / "dhclient.pid"), "eth0")  # fmt: skip


def dhcp_dhcpcd(run: Run) -> None:
    """dhcpcd gets an address, with its ARP probes of it."""
    dhcp(run, "dhcpcd", "-B", "-4", "--oneshot", "-c", "/bin/true", "eth0")


def http(run: Run) -> None:
    """curl fetches three pages from nginx over one connection."""
    run.address()
    root = run.lab.directory / "www"
    root.mkdir()
    for name, size in (("a", 100), ("b", 5000), ("c", 20_000)):
        (root / name).write_bytes(bytes(i % 61 + 48 for i in range(size)))
    config = run.lab.directory / "nginx.conf"
    config.write_text(
        f"daemon off; pid {run.lab.directory}/nginx.pid; error_log {run.lab.directory}/error.log; user root;"
        f"events {{}} http {{ access_log off; server {{ listen {HOST}:80; root {root}; }} }}"
    )
    run.host.spawn("nginx", "-p", str(run.lab.directory), "-c", str(config))
    settle(0.5)
    run.guest.run("curl", "-s", "-o", "/dev/null", f"http://{HOST}/a", "-o", "/dev/null", f"http://{HOST}/b",
                  "-o", "/dev/null", f"http://{HOST}/c")  # fmt: skip
    settle()


# --- what the network does not carry


def ipv6(run: Run) -> None:
    """IPv6 beside IPv4: neighbour discovery, pings and a connection that the interface drops, and one over IPv4."""
    for ns, address in ((run.guest, "fd77::2"), (run.host, "fd77::1")):
        ns.sysctl("net.ipv6.conf.all.disable_ipv6", "0")
        ns.sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")
        ns.ip("-6", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
    run.address()
    settle(1.0)
    run.guest.run("ping", "-6", "-c", "2", "-i", "0.1", "fd77::1", check=False)
    client, server = run.pair()
    pour(client, server, 500)
    settle()


def vlan(run: Run) -> None:
    """802.1Q and 802.1ad tags in front of good IPv4, and untagged pings between them."""
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

    run.address()
    ether = Ether(src=GUEST_MAC, dst=HOST_MAC)
    for tags in (Dot1Q(vlan=5), Dot1Q(vlan=0, prio=3), Dot1AD(vlan=7) / Dot1Q(vlan=5)):
        run.wire.inject(bytes(ether / tags / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=7) / b"tagged"))
        run.wire.inject(bytes(ether / tags / IP(src=GUEST, dst=HOST) / ICMP() / b"tagged"))
        run.guest.run("ping", "-c", "1", HOST)
    settle()


def malformed(run: Run) -> None:
    """Frames with one fault each, from the Ethernet header to TCP's options, and good ones between them."""
    from faults import faulty_frames

    run.address()
    for number, frame in enumerate(faulty_frames(GUEST_MAC, HOST_MAC, GUEST, HOST)):
        run.wire.inject(frame)
        if number % 10 == 0:
            run.guest.run("ping", "-c", "1", HOST)
    client, server = run.pair()
    pour(client, server, 100)
    settle()


SCENARIOS: list[Callable[[Run], None]] = [
    handshakes, old_peers, loss, reordering, zero_window, half_close, resets, simultaneous_close, inbound, late_start,
    snap_length, missing_frames, path_mtu, fragments, icmp_errors, address_resolution, dns, dhcp_udhcpc, dhcp_dhclient,
    dhcp_dhcpcd, http, ipv6, vlan, malformed,
]  # fmt: skip
NEEDS = {dns: "dig", dhcp_udhcpc: "udhcpc", dhcp_dhclient: "dhclient", dhcp_dhcpcd: "dhcpcd", http: "nginx"}
EXPECT = {
    vlan: "partly",
    malformed: "partly",
    late_start: "partly",
    snap_length: "partly",
    missing_frames: "partly",
}


def describe(scenario: Callable[[Run], None], frames: int) -> str:
    """The capture's .toml."""
    kernel = subprocess.run(["uname", "-sr"], capture_output=True, text=True, check=True).stdout.strip()
    verdict = EXPECT.get(scenario, "right")
    return (
        f'origin = "pcaps/make.py, {kernel} against itself"\n'
        f'shows = "{(scenario.__doc__ or "").strip()}"\n'
        f'guest = "{GUEST}"\n\n'
        f'[expect]\nverdict = "{verdict}"\nframes = {frames}\n'
    )


def make(scenario: Callable[[Run], None]) -> None:
    name = scenario.__name__.replace("_", "-")
    needs = NEEDS.get(scenario)
    if needs is not None and shutil.which(needs) is None:
        print(f"{name}: skipped, {needs} is not installed")
        return
    with Lab() as lab:
        run = Run(lab)
        try:
            scenario(run)
        finally:
            run.wire.close()
        path = HERE / f"{name}.pcapng"
        run.wire.write(path, run.snaplen)
    path.with_suffix(".toml").write_text(describe(scenario, len(run.wire.frames)))
    print(f"{name}: {len(run.wire.frames)} frames, {path.stat().st_size} bytes")


def main(wanted: list[str]) -> None:
    for scenario in SCENARIOS:
        if not wanted or scenario.__name__.replace("_", "-") in wanted:
            make(scenario)


if __name__ == "__main__":
    main(sys.argv[1:])
