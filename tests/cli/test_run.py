"""``netstack run`` as a user runs it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netstack.cli.options import parse_plainly

ROOT = Path(__file__).resolve().parents[2]
NETSTACK = [sys.executable, "-m", "netstack"]

#: A program for the guest: prints what the web server at its argument says.
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NETSTACK, "run", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, **options
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*NETSTACK, "run", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.usefixtures("_sandboxes")
class TestCommand:
    @pytest.mark.parametrize(
        ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)]
    )
    def test_status_is_passed_on(self, script: str, status: int) -> None:
        done = run("--", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")

    def test_options_of_the_command_are_its_own(self) -> None:
        done = run("echo", "--verbose", "--help", "--", "-x")
        assert done.stdout == "--verbose --help -- -x\n"

    @pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
    def test_what_cannot_be_executed(self, program: str, status: int) -> None:
        done = run(program)
        assert done.returncode == status
        assert done.stdout == ""
        assert done.stderr.startswith(f"netstack: {program}")
        assert done.stderr.count("\n") == 1

    def test_standard_input(self) -> None:
        text = "".join(f"line {i}\n" for i in range(50_000))
        done = run("cat", input=text)
        assert done.stdout == text

    def test_environment_and_folder(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [*NETSTACK, "run", "sh", "-c", "pwd; echo $NETSTACK_TEST"],
            cwd=tmp_path,
            env=os.environ | {"NETSTACK_TEST": "kept", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == f"{tmp_path}\nkept\n"

    def test_resolv_conf(self) -> None:
        done = run("cat", "/etc/resolv.conf")
        assert done.stdout == "search internal\nnameserver 192.168.65.1\n"

    def test_network_option(self) -> None:
        done = run("--network", "10.9.0.0/16", "--mtu=9000", "cat", "/etc/resolv.conf", "/proc/net/fib_trie")
        assert "nameserver 10.9.0.1" in done.stdout
        assert "10.9.0.3" in done.stdout
        assert "192.168.65." not in done.stdout

    def test_nothing_is_left(self) -> None:
        before = set(os.listdir("/tmp"))
        assert run("true").returncode == 0
        left = set(os.listdir("/tmp")) - before
        assert not [name for name in left if "netstack" in name]


@pytest.mark.usefixtures("_sandboxes")
class TestSignals:
    LOOP = "echo ready; while :; do sleep 0.02; done"

    @pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "USR1", "USR2", "QUIT", "WINCH", "ALRM"])
    def test_reaches_the_command(self, name: str) -> None:
        process = start("sh", "-c", f"trap 'echo got {name}; exit 5' {name}; {self.LOOP}")
        assert first_line(process) == "ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        output, errors = process.communicate(timeout=20)
        assert (output, errors, process.returncode) == (f"got {name}\n", "", 5)

    def test_death_by_signal_is_a_status(self) -> None:
        process = start("sh", "-c", self.LOOP)
        assert first_line(process) == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM

    def test_interrupt_key_comes_once(self) -> None:
        """The terminal gives SIGINT to both; netstack must not give it again, and must not die of it."""
        code = (
            "import signal, sys, time; n = []\n"
            "signal.signal(signal.SIGINT, lambda *a: n.append(1))\n"
            "print('ready', sys.stdin.isatty(), flush=True)\n"
            "while not n: time.sleep(0.01)\n"
            "time.sleep(0.3); print('count', len(n), flush=True); sys.exit(9)"
        )
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [*NETSTACK, "run", sys.executable, "-c", code])
        output = b""
        while b"ready True" not in output:
            output += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"count" not in output or not output.endswith(b"\n"):
            output += os.read(terminal, 1000)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        assert b"count 1\r\n" in output
        assert os.waitstatus_to_exitcode(status) == 9

    def test_command_dies_with_netstack(self) -> None:
        process = start("sh", "-c", f"echo $$; {self.LOOP}")
        first_line(process)
        process.kill()
        # The end of file comes when the last holder of the pipe is gone: the command.
        process.communicate(timeout=20)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("_sandboxes")
class TestNetwork:
    @pytest.mark.parametrize("host", ["192.168.65.2", "host.internal", "host.docker.internal"])
    def test_host_loopback(self, web: int, host: str) -> None:
        done = run("--", sys.executable, "-c", FETCH, f"http://{host}:{web}/")
        assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr

    def test_no_host_loopback(self, web: int) -> None:
        connect = f"import socket; socket.create_connection(('192.168.65.2', {web}), 3)"
        assert run("--", sys.executable, "-c", connect).returncode == 0
        done = run("--no-host-loopback", "--", sys.executable, "-c", connect)
        assert done.returncode == 1
        names = run("--no-host-loopback", "--", sys.executable, "-c", FETCH, f"http://host.internal:{web}/")
        assert names.returncode == 1

    def test_own_loopback(self) -> None:
        """127.0.0.1 inside is the command's own."""
        code = (
            "import socket; s = socket.create_server(('127.0.0.1', 0));"
            "c = socket.create_connection(s.getsockname()); print(s.accept()[1] == c.getsockname())"
        )
        assert run(sys.executable, "-c", code).stdout == "True\n"

    def test_ping_without_privilege(self) -> None:
        code = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP);"
            "s.settimeout(10); s.sendto(b'\\x08' + bytes(7) + b'payload', ('192.168.65.1', 0));"
            "print(s.recv(100)[8:])"
        )
        assert run(sys.executable, "-c", code).stdout == "b'payload'\n"

    def test_pcap(self, web: int, tmp_path: Path) -> None:
        file = tmp_path / "all.pcap"
        done = run("--pcap", str(file), "--", sys.executable, "-c", FETCH, f"http://192.168.65.2:{web}/")
        assert done.stdout == "hello\n"
        captured = file.read_bytes()
        assert captured[:4] in (b"\x0a\x0d\x0d\x0a", b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
        assert b"GET / HTTP/1.1" in captured
        assert b"hello" in captured

    def test_pcap_that_cannot_be_written(self) -> None:
        done = run("--pcap", "/nowhere/at/all.pcap", "--", "true")
        assert done.returncode == 2
        assert "capture file /nowhere/at/all.pcap cannot be written" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_warnings_are_said_as_errors_are(self) -> None:
        done = run("--outbound-interface", "nosuch0", "--", "true")
        expected = "netstack: this host has no nosuch0: connections of guests fail until it has\n"
        assert (done.returncode, done.stderr) == (0, expected)

    def test_verbose(self, web: int) -> None:
        done = run("-v", "--", sys.executable, "-c", FETCH, f"http://192.168.65.2:{web}/")
        assert done.stdout == "hello\n"
        assert "at the end" in done.stderr
        counters = dict(line.split() for line in done.stderr.splitlines()[1:] if "=" not in line)
        assert int(counters["tcp_connected"]) == 1

    def test_two_at_once(self, web: int) -> None:
        both = [start("--", sys.executable, "-c", FETCH, f"http://192.168.65.2:{web}/") for _ in range(2)]
        for process in both:
            output, errors = process.communicate(timeout=60)
            assert (output, process.returncode) == ("hello\n", 0), errors


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["true"], {"argv": ("true",)}),
        (["--", "true"], {"argv": ("true",)}),
        (["--", "-x"], {"argv": ("-x",)}),
        (["a=b", "c"], {"argv": ("a=b", "c")}),
        (["--mtu", "9000", "true"], {"argv": ("true",), "mtu": 9000}),
        (["--impair", "loss=1%,delay=20ms±5ms", "x"], {"argv": ("x",), "impair": "loss=1%,delay=20ms±5ms"}),
        (["--mtu=9000", "true"], {"argv": ("true",), "mtu": 9000}),
        (["-v", "x", "-v"], {"argv": ("x", "-v"), "verbose": True}),
        (["--api", "on", "x"], {"argv": ("x",), "api": "on"}),
        (["-P", "x"], {"argv": ("x",), "publish_all": True}),
        (["--no-host-loopback", "x"], {"argv": ("x",), "no_host_loopback": True}),
        (["-p", "8080:80", "--publish=53/udp", "x"], {"argv": ("x",), "publish": ("8080:80", "53/udp")}),
        (["--dns=1.1.1.1", "--dns", "8.8.8.8#53", "--pcap", "f", "x"],
         {"argv": ("x",), "dns": ("1.1.1.1", "8.8.8.8#53"), "pcap": "f"}),
        (["--network", "10.0.0.0/8", "--", "--", "x"], {"argv": ("--", "x"), "network": "10.0.0.0/8"}),
    ],
)  # fmt: skip
def test_plain_options(arguments: list[str], changes: dict[str, Any]) -> None:
    """The quick way agrees with click, which everything else is left to."""
    from netstack.cli.run import command

    defaults = command().make_context("run", ["true"]).params
    assert parse_plainly(list(arguments)) == defaults | changes
    assert command().make_context("run", list(arguments)).params == defaults | changes


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--"],
        ["-v"],
        ["--help", "true"],
        ["-h"],
        ["--mtu", "true"],
        ["--mtu"],
        ["--mtu", "575", "true"],
        ["--mtu=65522", "true"],
        ["--mtu=-1", "true"],
        ["--verbose=1", "true"],
        ["--pcap", "--", "true"],
        ["--pcap=", "true"],
        ["--fly", "true"],
        ["-", "true"],
        ["--=x", "true"],
        ["-vv", "true"],
    ],
)
def test_what_is_left_to_click(arguments: list[str]) -> None:
    assert parse_plainly(arguments) is None
