"""The zones of systemd-resolved: the daemon itself with a bus of its own, told by resolvectl as VPN programs do.

`./dev test` only unpacks it, below build/: installed, it would take over this machine's resolv.conf.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import DNSMASQ

from netstack import nameservice
from netstack.config import Config
from netstack.testing.lab import GATEWAY, Lab
from netstack.testing.namespace import unavailable

pytestmark = pytest.mark.netns
UNPACKED = Path(__file__).resolve().parents[2] / "build" / "unpacked"
BUS = """<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""
CAPABILITIES = "+setpcap,+net_raw,+net_bind_service"
# resolved knows its folders by heart; they are given to it in a mount namespace of its own
START = f"""
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolve /run/etc && mount --bind "$0" /run/systemd/resolve
printf '[Resolve]\\nDNSStubListener=no\\nLLMNR=no\\nMulticastDNS=no\\nDNS=192.0.2.1\\n' > /run/etc/resolved.conf
mount --bind /run/etc /etc/systemd
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps={CAPABILITIES} --ambient-caps={CAPABILITIES} "$@"
"""


def daemon() -> tuple[Path, Path] | None:
    """systemd-resolved and resolvectl, installed or unpacked."""
    for root in (Path("/"), UNPACKED):
        found = root / "lib" / "systemd" / "systemd-resolved", root / "usr" / "bin" / "resolvectl"
        # unpacked, it may lack its library
        if all(
            path.exists() and subprocess.run([path, "--version"], capture_output=True).returncode == 0
            for path in found
        ):
            return found
    return None


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    if reason := unavailable():
        pytest.skip(reason)
    programs = daemon()
    for program in ("dbus-daemon", "setpriv", "dnsmasq", "dig"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    if programs is None:
        pytest.skip("systemd-resolved is missing")
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[:2] != ["0", "0"]:
        pytest.skip("systemd-resolved wants to run as another user: needs root")
    with Lab() as made:
        folder, bus = made.directory / "resolve", made.directory / "bus"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        for outer in made.directory.parents[:-1]:  # the other user has to get there
            assert outer.stat().st_mode & 1
        made.directory.chmod(0o755)
        (made.directory / "bus.conf").write_text(BUS.format(bus))
        address = f"unix:path={bus}"
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        monkeypatch.setenv("PATH", f"{programs[1].parent}:{os.environ['PATH']}")
        monkeypatch.setattr(nameservice, "RESOLVED", f"{folder}/")
        monkeypatch.setattr(nameservice, "RESOLVED_STATES", (f"{folder}/netif",))
        for device in ("eth9", "vpn0"):
            made.host.ip("link", "add", device, "type", "veth", "peer", "name", f"{device}p")
            for end in (device, f"{device}p"):
                made.host.ip("link", "set", end, "up")
        made.host.ip("address", "add", "192.0.2.9/24", "dev", "eth9")
        made.host.ip("address", "add", "10.8.0.1/24", "dev", "vpn0")
        made.host.spawn("dbus-daemon", f"--config-file={made.directory}/bus.conf", "--nofork", "--nopidfile")
        wait(bus.exists)
        made.host.spawn("sh", "-c", START, str(folder), str(programs[0]))
        wait(lambda: (folder / "resolv.conf").exists())
        made.host.resolv_conf.unlink()
        made.host.resolv_conf.symlink_to(folder / "resolv.conf")
        wait(lambda: made.host.run("resolvectl", "dns", "eth9", "192.0.2.9", check=False).returncode == 0)
        yield made


def wait(true: object, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.05)


def test_a_vpns_zone_is_asked_of_its_own_server(lab: Lab) -> None:
    """Also when the only change is a routing domain, of which resolved's resolv.conf says nothing."""
    for address, answer in (("192.0.2.9", "198.51.100.1"), ("10.8.0.1", "10.8.0.77")):
        lab.host.spawn(
            *DNSMASQ,
            *(f"--listen-address={address}", f"--address=/#/{answer}"),
        ).wait_listening(53)

    def asked(name: str) -> str:
        return lab.guest.run("dig", f"@{GATEWAY}", "+short", "+tries=1", "+time=5", name, check=False).stdout

    with lab.gateway(Config(dns_cache=0)) as gateway:
        wait(lambda: asked("db.corp.example") == "198.51.100.1\n")
        lab.host.run("resolvectl", "dns", "vpn0", "10.8.0.1")
        lab.host.run("resolvectl", "domain", "vpn0", "corp.example")
        wait(lambda: asked("db.corp.example") == "10.8.0.77\n")
        assert asked("www.example") == "198.51.100.1\n"
        assert gateway.dns.search == ("corp.example",)
        lab.host.run("resolvectl", "domain", "vpn0", "corp.example", "~lab.example")
        wait(lambda: asked("x.lab.example") == "10.8.0.77\n")
        assert "lab.example" not in (lab.directory / "resolve" / "resolv.conf").read_text()
        lab.host.ip("link", "del", "vpn0")
        wait(lambda: asked("db.corp.example") == "198.51.100.1\n")
