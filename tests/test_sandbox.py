"""netstack.sandbox with real namespaces; a few lines here stand in for the gateway."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("namespaces are Linux's", allow_module_level=True)

from netstack import sandbox
from netstack.errors import SandboxError
from netstack.sandbox import CommandError, Interface, Netns, Sandbox, open_tap_in, random_mac

ROOT = Path(__file__).resolve().parent.parent
RESOLV_CONF = "search internal\nnameserver 192.168.65.1\n"
VNET_HEADER = 12


def interface(**changes: object) -> Interface:
    plain = Interface("tap0", 1400, "02:00:00:00:00:05", "192.168.65.3", 24, "192.168.65.1")
    return plain._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    try:
        probe = Sandbox(["true"], interface(), RESOLV_CONF)
        try:
            os.close(probe.tap().fd)
        finally:
            probe.kill()
    except SandboxError as err:
        pytest.skip(str(err))


def output_of(*command: str, **changes: object) -> tuple[str, int]:
    """What a command in a sandbox writes to descriptor 3's pipe, and its status."""
    read_fd, write_fd = os.pipe()
    shell = ["sh", "-c", f'exec "$@" >/proc/self/fd/{write_fd}', "sh", *command]
    box = Sandbox(shell, interface(**changes), RESOLV_CONF, pass_fds=[write_fd])
    os.close(write_fd)
    try:
        tap = box.tap()
        box.go()
        with open(read_fd) as output:
            text = output.read()
        os.close(tap.fd)
        return text, box.wait()
    finally:
        box.kill()


def wait_until(true: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until, "it never came to pass"
        time.sleep(0.01)


class TestInside:
    def test_interface(self) -> None:
        text, status = output_of("sh", "-c", "cat /proc/net/dev /proc/net/route; cat /proc/net/fib_trie")
        assert status == 0
        assert "tap0:" in text
        assert "192.168.65.3" in text
        routes = [line.split() for line in text.splitlines() if line.startswith("tap0\t")]
        assert ["00000000", "0141A8C0"] in [r[1:3] for r in routes]  # default by 192.168.65.1
        assert "eth0" not in text

    def test_mtu_and_mac(self) -> None:
        code = (
            "import fcntl, socket, struct; s = socket.socket();"
            "r = struct.pack('16s16x', b'tap0');"
            "print(struct.unpack('16xi', fcntl.ioctl(s, 0x8921, r)[:20])[0]);"
            "print(fcntl.ioctl(s, 0x8927, r)[18:24].hex(':'))"
        )
        text, _ = output_of(sys.executable, "-c", code)
        assert text.split() == ["1400", "02:00:00:00:00:05"]

    def test_without_address_there_is_no_route(self) -> None:
        text, _ = output_of("cat", "/proc/net/route", address=None, router=None)
        assert "tap0" not in text

    def test_is_root_and_may_ping(self) -> None:
        text, _ = output_of("sh", "-c", "id -u; cat /proc/sys/net/ipv4/ping_group_range")
        uid, low, high = text.split()
        assert uid == "0"
        assert int(low) == 0 <= int(high)

    def test_resolv_conf_is_private(self) -> None:
        before = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").exists() else None
        text, _ = output_of("cat", "/etc/resolv.conf")
        assert text == RESOLV_CONF
        assert (Path("/etc/resolv.conf").read_bytes() if before is not None else None) == before
        assert "/etc" not in [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ]

    @pytest.mark.parametrize(
        "made",
        [
            "ln -s ../run/nowhere/resolv.conf /etc/resolv.conf",
            "true",
            "ln -s real /etc/resolv.conf; echo x >/etc/real",
        ],
    )
    def test_resolv_conf_that_is_none(self, made: str) -> None:
        """A dangling symlink, nothing at all, and a symlink to a file: in an /etc made for it."""
        script = (
            f'mount -t tmpfs tmpfs /etc && echo kept >/etc/marker && {made}; exec "{sys.executable}" -c "$0"'
        )
        inner = (
            "from netstack.sandbox import *\n"
            "command = ['cat', '/etc/resolv.conf', '/etc/marker']\n"
            f"box = Sandbox(command, Interface{tuple(interface())!r}, {RESOLV_CONF!r})\n"
            "tap = box.tap(); box.go(); raise SystemExit(box.wait())\n"
        )
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, inner],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.stdout, done.returncode) == (RESOLV_CONF + "kept\n", 0), done.stderr

    def test_signals_are_as_a_program_expects(self) -> None:
        text, _ = output_of("grep", "^Sig[BI]", "/proc/self/status")
        masks = {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}
        assert masks["SigBlk"] == 0
        assert not masks["SigIgn"] & (1 << (signal.SIGPIPE - 1))

    def test_blocked_signals_of_the_caller_stay_out(self) -> None:
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            read_fd, write_fd = os.pipe()
            box = Sandbox(
                ["sh", "-c", f"grep ^SigBlk /proc/self/status >/proc/self/fd/{write_fd}"],
                interface(),
                RESOLV_CONF,
                mask=old,
                pass_fds=[write_fd],
            )
            os.close(write_fd)
            tap = box.tap()
            box.go()
            box.wait()
            assert int(os.read(read_fd, 100).split()[1], 16) == 0
            os.close(read_fd)
            os.close(tap.fd)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def test_descriptors_stay_outside(self) -> None:
        ours = {int(name) for name in os.listdir("/proc/self/fd")}
        text, _ = output_of("ls", "-l", "/proc/self/fd")
        inside = {line.split(" -> ")[1] for line in text.splitlines() if " -> " in line}
        inherited = set()
        for fd in ours:
            with suppress(OSError):
                inherited |= {os.readlink(f"/proc/self/fd/{fd}")} if os.get_inheritable(fd) else set()
        extra = {x for x in inside - inherited if not x.startswith(("pipe:", "/proc/"))}
        assert not extra, "neither the TAP nor the channel to the parent"


class TestFrames:
    def test_the_descriptor_is_the_guests_wire(self) -> None:
        """A datagram to the gateway brings an ARP request with the guest's addresses."""
        code = "from socket import *; socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('192.168.65.1', 9))"
        box = Sandbox([sys.executable, "-c", code], interface(), RESOLV_CONF)
        try:
            tap = box.tap()
            box.go()
            while True:
                assert select.select([tap.fd], [], [], 10)[0], "the guest sends no ARP request"
                frame = os.read(tap.fd, 70000)[VNET_HEADER if tap.granted & 32 else 0 :]
                if frame[12:14] == b"\x08\x06":
                    break
            assert frame[6:12] == bytes.fromhex("020000000005")
            assert frame[28:32] == socket.inet_aton("192.168.65.3")
            assert frame[38:42] == socket.inet_aton("192.168.65.1")
            os.close(tap.fd)
        finally:
            box.kill()


class TestEnd:
    @pytest.mark.parametrize(
        ("script", "status"), [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)]
    )
    def test_status(self, script: str, status: int) -> None:
        box = Sandbox(["sh", "-c", script], interface(), RESOLV_CONF)
        tap = box.tap()
        box.go()
        assert box.wait() == status
        assert box.poll() == status
        os.close(tap.fd)
        with pytest.raises(ChildProcessError):
            os.waitpid(box.pid, 0)

    @pytest.mark.parametrize(
        ("program", "code", "words"),
        [
            ("no-such-program", 127, "no-such-program: command not found"),
            ("/nowhere/at-all", 127, "/nowhere/at-all: command not found"),
            ("/etc/passwd", 126, "/etc/passwd cannot be executed: Permission denied"),
            ("/etc", 126, "/etc cannot be executed: Permission denied"),
        ],
    )
    def test_what_cannot_be_executed(self, program: str, code: int, words: str) -> None:
        box = Sandbox([program], interface(), RESOLV_CONF)
        os.close(box.tap().fd)
        with pytest.raises(CommandError, match=words) as caught:
            box.go()
        assert caught.value.exit_code == code
        assert box.wait() == code

    def test_kill(self) -> None:
        box = Sandbox(["sleep", "1000"], interface(), RESOLV_CONF)
        os.close(box.tap().fd)
        box.go()
        assert box.poll() is None
        box.kill()
        assert box.poll() == 128 + signal.SIGKILL

    def test_kill_before_it_runs(self) -> None:
        box = Sandbox(["sleep", "1000"], interface(), RESOLV_CONF)
        os.close(box.tap().fd)
        box.kill()
        assert box.poll() is not None

    def test_the_command_dies_with_us(self) -> None:
        code = (
            "from netstack.sandbox import *\n"
            f"box = Sandbox(['sleep', '1000'], Interface{tuple(interface())!r}, {RESOLV_CONF!r})\n"
            "tap = box.tap(); box.go(); print(box.pid, flush=True); box.wait()\n"
        )
        keeper = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
        keeper.kill()
        keeper.wait()
        keeper.stdout.close()

        def gone() -> bool:
            try:  # where nobody reaps orphans, it stays as a zombie
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except (FileNotFoundError, ProcessLookupError):
                return True

        wait_until(gone)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process with user and network namespaces of its own."""
    there = subprocess.Popen(["unshare", "-rn", "sleep", "1000"])
    wait_until(lambda: Path(f"/proc/{there.pid}/comm").read_text() == "sleep\n")
    yield there
    there.kill()
    there.wait()


class TestAttach:
    @pytest.mark.parametrize("form", ["{}", "/proc/{}/ns/net"])
    def test_opens_and_configures(self, process: subprocess.Popen[bytes], form: str) -> None:
        netns = Netns(form.format(process.pid))
        tap = open_tap_in(netns, interface(name="eth7"))
        assert tap.name == "eth7"
        assert "eth7:" in Path(f"/proc/{process.pid}/net/dev").read_text()
        assert "eth7\t00000000\t0141A8C0" in Path(f"/proc/{process.pid}/net/route").read_text()
        assert not netns.gone()
        process.kill()
        process.wait()
        assert netns.gone()
        os.close(tap.fd)
        netns.close()

    @pytest.mark.parametrize(
        "form", ["{}", "/proc/{}/ns/net", "/proc//{}/ns/net", "/proc/{0}/task/{0}/ns/net"]
    )
    def test_waits_for_the_end(self, process: subprocess.Popen[bytes], form: str) -> None:
        netns = Netns(form.format(process.pid))
        told = threading.Thread(target=netns.wait_gone, daemon=True)
        told.start()
        held = os.open(f"/proc/{process.pid}/ns", os.O_RDONLY)  # so that nothing else wakes who waits
        process.kill()
        process.wait()
        told.join(20)
        assert not told.is_alive()
        os.close(held)
        netns.close()

    def test_name_in_use(self, process: subprocess.Popen[bytes]) -> None:
        netns = Netns(str(process.pid))
        tap = open_tap_in(netns, interface())
        with pytest.raises(SandboxError, match="cannot open a TAP: an interface of that name is in use"):
            open_tap_in(netns, interface())
        os.close(tap.fd)
        netns.close()

    def test_mtu_that_the_kernel_refuses(self, process: subprocess.Popen[bytes]) -> None:
        netns = Netns(str(process.pid))
        with pytest.raises(SandboxError, match="cannot configure tap0"):
            open_tap_in(netns, interface(mtu=sandbox.MAX_MTU + 1))
        netns.close()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "no-such-name",
                "there is no network namespace no-such-name: /run/netns/no-such-name does not exist",
            ),
            ("/etc/passwd", "/etc/passwd is not a namespace file"),
            ("4194399", "there is no process 4194399"),
        ],
    )
    def test_no_such_namespace(self, text: str, words: str) -> None:
        with pytest.raises(SandboxError, match=words):
            Netns(text)


class TestCauses:
    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
            ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
            ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_"),
            ("none", "", "in a container"),
        ],
    )  # fmt: skip
    def test_unshare(self, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str) -> None:
        monkeypatch.setattr(sandbox, "_setting", lambda path: value if path == f"/proc/sys/{setting}" else "")
        assert words in sandbox._why_not_unshare(PermissionError(errno.EPERM, "Operation not permitted"))

    def test_a_refusal_in_the_child_reaches_the_caller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(sandbox.namespace, "open_tap", refuse)
        monkeypatch.setattr(os.path, "exists", lambda path: path != "/dev/net/tun")
        box = Sandbox(["true"], interface(), RESOLV_CONF)
        with pytest.raises(
            SandboxError, match="cannot open a TAP: /dev/net/tun is missing; run sudo modprobe tun"
        ):
            box.tap()
        assert box.wait() == 125

    def test_no_namespaces_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(flags: int) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(sandbox.namespace, "unshare", refuse)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(SandboxError, match="namespaces cannot be made") as caught:
            Sandbox(["true"], interface(), RESOLV_CONF)
        assert caught.value.exit_code == 125


def test_random_mac() -> None:
    macs = {random_mac() for _ in range(50)}
    assert len(macs) == 50
    assert all(bytes.fromhex(mac.replace(":", ""))[0] & 3 == 2 for mac in macs)
