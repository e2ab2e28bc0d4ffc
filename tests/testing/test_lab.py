"""The laboratory itself, with the kernel in netstack's place."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from netstack.testing.lab import GATEWAY, HOST_ALIAS, UNREACHABLE, WORLD, Lab, python_environment
from netstack.testing.namespace import ProgramError, remove_stale

pytestmark = pytest.mark.netns


def names():
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()


def test_everything_goes_with_it():
    with Lab() as lab:
        lab.world()
        lab.wire_by_kernel()
        mine = [ns.name for ns in (lab.host, lab.guest)]
        sleeper = lab.guest.spawn("sh", "-c", "sleep 1000 & sleep 1000")
        assert set(mine) <= set(names())
        directory = lab.directory
    assert not set(mine) & set(names())
    assert sleeper.returncode is not None
    assert not directory.exists()


def test_programs_and_sockets_are_inside(lab):
    listener = lab.host.listen("127.0.0.1", 4321)
    with listener, lab.host.connect("127.0.0.1", 4321), pytest.raises(ConnectionRefusedError):
        lab.guest.connect("127.0.0.1", 4321)
    assert lab.guest.run("cat", "/etc/resolv.conf").stdout == f"nameserver {GATEWAY}\n"
    assert lab.host.run("sh", "-c", "cat; echo $0", "x", stdin=b"in").stdout == "in$0\n".replace("$0", "x")


def test_failures_say_what_was_printed(lab):
    with pytest.raises(ProgramError, match="oh no"):
        lab.host.run("sh", "-c", "echo oh no >&2; exit 3")
    assert lab.host.run("sh", "-c", "exit 3", check=False).returncode == 3
    with pytest.raises(ProgramError, match="longer than"):
        lab.host.run("sleep", "100", timeout=0.2)
    process = lab.host.spawn("sh", "-c", "echo bye")
    with pytest.raises(ProgramError, match="bye"):
        process.wait_for("hello")


def test_the_world_is_behind_a_router():
    with Lab() as lab:
        router, world = lab.world()
        with world.listen(WORLD, 80), lab.host.connect(WORLD, 80) as s:
            assert s.getpeername() == (WORLD, 80)
        with pytest.raises(OSError, match="No route to host"):
            lab.host.connect(UNREACHABLE, 80)
        assert router.sysctl("net.ipv4.ip_forward") == "1"


def test_the_kernel_may_stand_in(lab):
    lab.wire_by_kernel()
    with lab.host.listen(HOST_ALIAS, 80), lab.guest.connect(HOST_ALIAS, 80) as s:
        assert s.family == socket.AF_INET


def test_what_a_killed_run_left_is_removed():
    script = (
        "import os\n"
        "from netstack.testing.lab import Lab\n"
        "lab = Lab().__enter__()\n"
        "lab.host.spawn('sleep', '1000')\n"
        "print(lab.host.name, lab.directory, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=python_environment()
    )
    name, directory = done.stdout.split()
    assert name in names()
    remove_stale()
    assert name not in names()
    subprocess.run(["rm", "-r", directory], check=True)


def test_without_privilege():
    """The same in a user namespace of its own."""
    script = (
        "from netstack.testing.lab import Lab, WORLD\n"
        "with Lab() as lab:\n"
        "    _, world = lab.world()\n"
        "    with world.listen(WORLD, 80), lab.host.connect(WORLD, 80):\n"
        "        print('connected')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "netstack.testing.lab", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.stdout == "connected\n", done.stderr
