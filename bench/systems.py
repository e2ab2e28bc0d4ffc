"""What is measured: netstack, its yardstick ``limit``, its peers, and the kernel's own cable as the ceiling.

Each system joins the same guest, a namespace with the kernel's TCP, to the host's namespace:

- ``netstack attach``, ``limit``, pasta and slirp4netns make a TAP in the guest themselves.
- QEMU's user network (libslirp) is joined to a TAP by QEMU's own hub, in a QEMU without a machine
  (``-machine none``): a guest whose processor QEMU emulates would measure the emulator. Its user network has an
  MTU of 1500 and no offload.
- gvproxy and vpnkit speak to virtual machines over a Unix socket. A ``netstack relay`` joins that to a TAP, as a
  virtual machine monitor would; its processor time and memory do not count for them.
- veth: the guest has a cable to the host, which routes. No user space takes part.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, TAP, Lab, python_environment
from netstack.testing.namespace import Process, ProgramError

from .programs import compiled, version_of

SLIRP_HOST, SLIRP_DNS, SLIRP_GUEST = "10.0.2.2", "10.0.2.3", "10.0.2.15"
PASTA_DNS = "192.0.2.53"  #: made up: queries to it go to the host's name server
GVPROXY_GATEWAY, GVPROXY_HOST, GVPROXY_GUEST = "192.168.127.1", "192.168.127.254", "192.168.127.10"
LOOPBACK = "127.0.0.1"

TCP_ONLY = frozenset({"bulk", "latency", "connect"})
EVERYTHING = TCP_ONLY | {"udp", "dns", "ports", "connections", "idle"}


@dataclass(frozen=True)
class Wanted:
    """What a measurement needs of a system."""

    mtu: int = 1500  #: of the guest's device
    ports: tuple[int, ...] = ()  #: TCP ports of the guest to be published on the host's loopback
    far: str | None = None  #: an address behind the host that the guest will talk to, instead of the host


@dataclass(frozen=True)
class Running:
    """A system at work: its processes, and where it leads."""

    processes: tuple[Process, ...]
    server: str  #: the address at which the guest reaches the host's loopback
    dns: str | None = None  #: the name server for the guest
    published: str = LOOPBACK  #: where published ports are, seen from the host

    def pids(self) -> list[int]:
        """Its processes, their children included."""
        return [pid for process in self.processes for pid in session(process.pid)]

    def cpu_seconds(self) -> float:
        """User and system time of the system so far, its child processes included."""
        return sum(cpu_of(pid) for pid in self.pids())


@dataclass(frozen=True)
class System:
    """One row of the tables."""

    name: str
    start: Callable[[Lab, Wanted], Running]
    missing: Callable[[], str | None]
    works: frozenset[str]  #: what it can do (names of kinds of work)
    version: Callable[[], str | None]
    largest_mtu: int = 65520
    peer: bool = True  #: what a user would pick instead of netstack
    label: str = ""  #: its name in tables, where that is another
    why_not: dict[str, str] = field(default_factory=dict)  #: reasons for what is not in ``works``


def session(leader: int) -> list[int]:
    """Processes of the session that ``leader`` began."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append(int(entry))
    return found


def cpu_of(pid: int) -> float:
    """User and system time of one process in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def needs(*programs: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        absent = [program for program in programs if shutil.which(program) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    return missing


def of_program(name: str) -> Callable[[], str | None]:
    return lambda: version_of(name)


def wait_for_route(lab: Lab, process: Process) -> None:
    """Until the system has configured the guest."""
    process.wait_until(lambda: "default" in lab.guest.ip("route"), "configure the guest")


def configure(lab: Lab, address: str, gateway: str, mtu: int) -> None:
    """Gives the guest's TAP an address and a default route."""
    lab.guest.ip("link", "set", TAP, "mtu", str(mtu))
    lab.guest.ip("address", "replace", f"{address}/24", "dev", TAP)
    lab.guest.ip("link", "set", TAP, "up")
    lab.guest.ip("route", "replace", "default", "via", gateway)


# --- netstack


def start_netstack(lab: Lab, wanted: Wanted) -> Running:
    ports = [word for port in wanted.ports for word in ("-p", f"{LOOPBACK}:{port}:{port}")]
    return Running((lab.attach(*ports, mtu=wanted.mtu),), HOST_ALIAS, GATEWAY)


def netstack_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("netstack")
    except PackageNotFoundError:
        return "in place"


# --- limit


def start_limit(lab: Lab, wanted: Wanted) -> Running:
    far = [wanted.far] if wanted.far else []
    program = compiled("limit", lab.directory)
    process = lab.host.spawn(str(program), str(lab.guest.path), TAP, str(wanted.mtu), *far)
    process.wait_for("^ready")
    lab.configure_guest(mtu=wanted.mtu)
    return Running((process,), HOST_ALIAS)


# --- pasta


@cache
def pasta_help() -> str:
    done = subprocess.run(["pasta", "--help"], capture_output=True, text=True)
    return done.stdout + done.stderr


def start_pasta(lab: Lab, wanted: Wanted) -> Running:
    # It copies the host's address and route to the guest; the gateway's address stands for the host's
    # loopback. Only ports that are asked for are forwarded: with others, traffic between loopbacks would be
    # spliced and never see the TAP.
    inwards = ",".join(f"{LOOPBACK}/{port}" for port in wanted.ports) or "none"
    ports = ("-t", inwards, "-u", "none", "-T", "none", "-U", "none")
    runas = ("--runas", "0:0") if os.geteuid() == 0 else ()  # nobody may not enter the guest
    gateway = lab.host.ip("route", "show", "default").split()[2]
    mapping = ("--map-host-loopback", gateway) if "--map-host-loopback" in pasta_help() else ()
    dns = ("--dns-forward", PASTA_DNS)
    process = lab.host.spawn(
        *("pasta", "-f", "-4", "--config-net", *runas, *ports, *mapping, *dns),
        *("-I", TAP, "-m", str(wanted.mtu), "--netns", str(lab.guest.path)),
    )
    wait_for_route(lab, process)
    lab.guest.ip("link", "set", TAP, "mtu", str(wanted.mtu))
    return Running((process,), gateway, PASTA_DNS)


# --- slirp4netns


def start_slirp4netns(lab: Lab, wanted: Wanted) -> Running:
    api = lab.directory / "slirp.sock"
    process = lab.host.spawn(
        *("slirp4netns", "--configure", f"--mtu={wanted.mtu}", "--api-socket", str(api)),
        *("--netns-type=path", str(lab.guest.path), TAP),
    )
    wait_for_route(lab, process)
    process.wait_until(api.exists, "make its API socket")
    for port in wanted.ports:
        arguments = {"proto": "tcp", "host_addr": LOOPBACK, "host_port": port, "guest_port": port}
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(api))
            sock.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(4096)
        if b"error" in answer:
            raise ProgramError(f"slirp4netns: {answer.decode()}")
    return Running((process,), SLIRP_HOST, SLIRP_DNS)


# --- QEMU's user network


def start_qemu(lab: Lab, wanted: Wanted) -> Running:
    from netstack.host.namespace import open_tap

    forwards = "".join(f",hostfwd=tcp:{LOOPBACK}:{port}-{SLIRP_GUEST}:{port}" for port in wanted.ports)
    with lab.guest.entered():
        fd, _, _ = open_tap(TAP, 0)
    try:
        process = lab.host.spawn(
            *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"),
            *("-netdev", f"user,id=user{forwards}", "-netdev", f"tap,id=tap,fd={fd}"),
            *("-netdev", "hubport,id=one,hubid=0,netdev=user"),
            *("-netdev", "hubport,id=other,hubid=0,netdev=tap"),
            pass_fds=[fd],
        )
    finally:
        os.close(fd)
    configure(lab, SLIRP_GUEST, SLIRP_HOST, wanted.mtu)
    reached(lab, process, SLIRP_HOST)
    return Running((process,), SLIRP_HOST, SLIRP_DNS)


def reached(lab: Lab, process: Process, address: str) -> None:
    """Until the guest knows where its gateway is."""

    def answered() -> bool:
        with contextlib.suppress(OSError), lab.guest.socket(kind=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (address, 9))
        time.sleep(0.05)
        return "lladdr" in lab.guest.ip("neigh", "show", address)

    process.wait_until(answered, f"answer for {address}")


# --- gvproxy and vpnkit, behind a relay


def relay(lab: Lab, place: str, process: Process, *options: str) -> None:
    """Joins a TAP of the guest to the Unix socket of a system."""
    import sys

    path = Path(place.partition(":")[2])
    process.wait_until(path.exists, "make its socket")
    joined = lab.guest.spawn(
        *(sys.executable, "-m", "netstack", "relay", f"tap:{TAP}", "--connect", place, *options),
        env=python_environment(),
    )
    joined.wait_until(lambda: TAP in lab.guest.ip("link"), "make its TAP")


def start_gvproxy(lab: Lab, wanted: Wanted) -> Running:
    place, services = lab.directory / "gvproxy.sock", lab.directory / "gvproxy.api"
    process = lab.host.spawn(
        *("gvproxy", "-listen-qemu", f"unix://{place}", "-services", f"unix://{services}"),
        *("-mtu", str(wanted.mtu), "-ssh-port", "-1"),
    )
    relay(lab, f"qemu:{place}", process, "--mtu", str(wanted.mtu))
    configure(lab, GVPROXY_GUEST, GVPROXY_GATEWAY, wanted.mtu)
    reached(lab, process, GVPROXY_GATEWAY)
    for port in wanted.ports:
        expose = {"local": f"{LOOPBACK}:{port}", "remote": f"{GVPROXY_GUEST}:{port}", "protocol": "tcp"}
        body = json.dumps(expose).encode()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(services))
            head = f"POST /services/forwarder/expose HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            answer = sock.recv(4096)
        if b" 200 " not in answer.partition(b"\r\n")[0]:
            raise ProgramError(f"gvproxy: {answer.decode(errors='replace')}")
    return Running((process,), GVPROXY_HOST, GVPROXY_GATEWAY)


def start_vpnkit(lab: Lab, wanted: Wanted) -> Running:
    place = lab.directory / "vpnkit.sock"
    process = lab.host.spawn(
        *("vpnkit", "--ethernet", str(place), "--mtu", str(wanted.mtu)),
        *("--gateway-ip", GATEWAY, "--host-ip", HOST_ALIAS, "--lowest-ip", GUEST),
    )
    relay(lab, f"hyperkit:{place}", process, "--address", GUEST)
    lab.configure_guest(mtu=wanted.mtu)
    reached(lab, process, GATEWAY)
    return Running((process,), HOST_ALIAS, GATEWAY)


# --- the kernel


def start_veth(lab: Lab, wanted: Wanted) -> Running:
    lab.wire_by_kernel()
    for ns, device in ((lab.guest, TAP), (lab.host, "guest0")):
        ns.ip("link", "set", device, "mtu", str(wanted.mtu))
    return Running(
        (), GATEWAY, GATEWAY, GUEST
    )  # the first of its addresses: datagrams are answered from that


NO_UDP = {"udp": "TCP only", "dns": "TCP only", "ports": "TCP from the guest only"}
SYSTEMS = {
    s.name: s
    for s in (
        System(
            "veth",
            start_veth,
            needs("ip"),
            EVERYTHING - {"idle"},
            lambda: os.uname().release,
            peer=False,
            why_not={"idle": "it has no process"},
        ),
        System(
            "limit",
            start_limit,
            needs("gcc"),
            TCP_ONLY,
            lambda: "",
            peer=False,
            why_not={**NO_UDP, "connections": "holds 256", "idle": "does nothing but bulk TCP"},
        ),
        System(
            "netstack", start_netstack, lambda: None, EVERYTHING | {"start"}, netstack_version, peer=False
        ),
        System("pasta", start_pasta, needs("pasta"), EVERYTHING | {"start"}, of_program("pasta")),
        System("slirp4netns", start_slirp4netns, needs("slirp4netns"), EVERYTHING, of_program("slirp4netns")),
        System(
            "qemu",
            start_qemu,
            needs("qemu-system-x86_64"),
            EVERYTHING,
            of_program("qemu-system-x86_64"),
            largest_mtu=1500,
            label="QEMU user net",
        ),
        System("gvproxy", start_gvproxy, needs("gvproxy"), EVERYTHING, of_program("gvproxy")),
        System(
            "vpnkit",
            start_vpnkit,
            needs("vpnkit"),
            EVERYTHING - {"ports"},
            of_program("vpnkit"),
            why_not={"ports": "publishes over 9P only"},
        ),
    )
}
PEERS = tuple(name for name, system in SYSTEMS.items() if system.peer)
