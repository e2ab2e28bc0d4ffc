"""``netstack attach`` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"

pytestmark = pytest.mark.usefixtures("_sandboxes")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.01)


@pytest.fixture
def guest() -> Iterator[int]:
    """A process with user and network namespaces of its own."""
    process = subprocess.Popen(["unshare", "-rn", "sleep", "1000"])
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
    yield process.pid
    process.kill()
    process.wait()


def inside(pid: int, *command: str) -> subprocess.CompletedProcess[str]:
    enter = ["nsenter", "-t", str(pid), "-U", "-n", "--preserve-credentials"]
    return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60)


@contextmanager
def attach(netns: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Attached, and ready as it says itself."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "netstack", "attach", "--netns", netns, "--ready-fd", str(writer), *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[writer],
    )
    os.close(writer)
    try:
        with open(reader) as ready:  # to the end: it closes its descriptor
            line = ready.read()
        if line != "1\n":
            pytest.fail(f"not ready: {process.stderr.read()}")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def routes(pid: int) -> str:
    return Path(f"/proc/{pid}/net/route").read_text()


@pytest.mark.parametrize("form", ["{}", "/proc/{}/ns/net"])
def test_gives_a_network(guest: int, web: int, form: str) -> None:
    with attach(form.format(guest), "--ifname", "eth0") as process:
        done = inside(guest, sys.executable, "-c", FETCH, f"http://192.168.65.2:{web}/")
        assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr
        assert "eth0\t00000000\t0141A8C0" in routes(guest)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1] == ""
        assert process.returncode == 0
    assert "eth0" not in routes(guest)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_when_told(guest: int, number: signal.Signals) -> None:
    with attach(str(guest)) as process:
        process.send_signal(number)
        assert process.wait(20) == 0


@pytest.mark.parametrize("form", ["{}", "/proc/{}/ns/net"])
def test_stops_when_the_process_ends(form: str) -> None:
    process = subprocess.Popen(["unshare", "-rn", "sleep", "1000"])
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
    with attach(form.format(process.pid)) as attached:
        process.kill()
        process.wait()
        assert attached.wait(20) == 0


def test_stops_when_the_interface_goes(guest: int) -> None:
    with attach(str(guest)) as process:
        code = "from netstack.host import namespace; namespace.delete_interface('tap0')"
        done = inside(guest, "env", f"PYTHONPATH={ROOT}", sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
        assert process.wait(20) == 0


@pytest.mark.netns
def test_named_namespace() -> None:
    name = f"nsfront{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with attach(name) as process:
            shown = subprocess.run(["ip", "-n", name, "addr"], capture_output=True, text=True).stdout
            assert "192.168.65.3/24" in shown
            subprocess.run(["ip", "netns", "del", name], check=True)
            assert process.wait(20) == 0
    finally:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def test_no_configure(guest: int) -> None:
    with attach(str(guest), "--no-configure"):
        assert "tap0:" in Path(f"/proc/{guest}/net/dev").read_text()
        assert "tap0" not in routes(guest)


def test_mtu_and_verbose(guest: int) -> None:
    with attach(str(guest), "--mtu", "9000", "-v") as process:
        code = (
            "import fcntl, socket, struct; s = socket.socket();"
            "print(struct.unpack('16xi', fcntl.ioctl(s, 0x8921, struct.pack('16s16x', b'tap0'))[:20])[0])"
        )
        assert inside(guest, sys.executable, "-c", code).stdout == "9000\n"
        process.terminate()
        errors = process.communicate(timeout=20)[1]
        assert "its name server is 192.168.65.1" in errors
        assert "engine_wakeups" in errors


@pytest.mark.parametrize("name", ["tap0", "lo"])
def test_name_in_use(guest: int, name: str) -> None:
    with attach(str(guest)):
        done = subprocess.run(
            [sys.executable, "-m", "netstack", "attach", "--netns", str(guest), "--ifname", name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 125
        assert "an interface of that name is in use; choose another with --ifname" in done.stderr


def sleeps(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far."""
    threads = (Path(f"/proc/{pid}/task") / name / "status" for name in os.listdir(f"/proc/{pid}/task"))
    return sum(int(path.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0]) for path in threads)


def test_sleeps_while_there_is_nothing_to_do(guest: int) -> None:
    with attach(str(guest)) as process:
        for _ in range(20):  # the guest's kernel has something to say at first
            before = sleeps(process.pid)
            time.sleep(0.7)
            if sleeps(process.pid) == before:
                break
        else:
            pytest.fail("something wakes it again and again")
