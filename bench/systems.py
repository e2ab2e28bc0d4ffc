"""How each system is started so that a guest namespace reaches a server on the host's loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netstack.testing.lab import HOST_ALIAS, ROUTER, TAP, Lab
from netstack.testing.namespace import Process

SLIRP_HOST = "10.0.2.2"


@dataclass(frozen=True)
class Running:
    """A system at work: its process, and the address at which the guest reaches the host's loopback."""

    process: Process
    server: str

    def cpu_seconds(self) -> float:
        """User and system time of the system so far, its child processes included."""
        return sum(cpu_of(pid) for pid in session(self.process.pid))


@dataclass(frozen=True)
class System:
    """One row of the table."""

    name: str
    start: Callable[[Lab, int], Running]
    missing: Callable[[], str | None]


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


# --- netstack


def start_netstack(lab: Lab, mtu: int) -> Running:
    return Running(lab.attach(mtu=mtu), HOST_ALIAS)


# --- limit


def build_limit(directory: Path) -> Path:
    """Compiles bench/limit.c; the program."""
    source, program = Path(__file__).with_name("limit.c"), directory / "limit"
    # Headers lie at any alignment in a frame and are read through pointers.
    flags = ["-O3", "-march=native", "-fno-strict-aliasing", "-Wno-address-of-packed-member"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True)
    return program


def start_limit(lab: Lab, mtu: int) -> Running:
    process = lab.host.spawn(str(build_limit(lab.directory)), str(lab.guest.path), TAP, str(mtu))
    process.wait_for("^ready")
    lab.configure_guest(mtu=mtu)
    return Running(process, HOST_ALIAS)


# --- pasta


@cache
def pasta_help() -> str:
    done = subprocess.run(["pasta", "--help"], capture_output=True, text=True)
    return done.stdout + done.stderr


def start_pasta(lab: Lab, mtu: int) -> Running:
    # It copies the host's address and route to the guest; the gateway's address stands for the host's
    # loopback. No ports are forwarded: with them, traffic between loopbacks would be spliced and never see
    # the TAP.
    ports = [word for option in ("-t", "-u", "-T", "-U") for word in (option, "none")]
    runas = ["--runas", "0:0"] if os.geteuid() == 0 else []  # nobody may not enter the guest
    mapping = ["--map-host-loopback", ROUTER] if "--map-host-loopback" in pasta_help() else []
    process = lab.host.spawn(
        *("pasta", "-f", "-4", "--config-net", *runas, *ports, *mapping),
        *("-I", TAP, "-m", str(mtu), "--netns", str(lab.guest.path)),
    )
    wait_for_route(lab, process)
    lab.guest.ip("link", "set", TAP, "mtu", str(mtu))
    return Running(process, ROUTER)


# --- slirp4netns


def start_slirp4netns(lab: Lab, mtu: int) -> Running:
    process = lab.host.spawn(
        *("slirp4netns", "--configure", f"--mtu={mtu}", "--netns-type=path", str(lab.guest.path), TAP)
    )
    wait_for_route(lab, process)
    return Running(process, SLIRP_HOST)


def wait_for_route(lab: Lab, process: Process) -> None:
    """Until the system has configured the guest."""
    process.wait_until(lambda: "default" in lab.guest.ip("route"), "configure the guest")


SYSTEMS = {
    s.name: s
    for s in (
        System("limit", start_limit, needs("gcc")),
        System("netstack", start_netstack, lambda: None),
        System("pasta", start_pasta, needs("pasta")),
        System("slirp4netns", start_slirp4netns, needs("slirp4netns")),
    )
}
