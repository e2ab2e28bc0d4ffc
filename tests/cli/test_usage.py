"""The command line before any network: help, errors and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from netstack import __version__
from netstack.cli import main as entry
from netstack.errors import ConfigError, NetstackError, SandboxError
from netstack.testing.lab import Lab
from netstack.testing.namespace import unavailable

ROOT = Path(__file__).resolve().parents[2]


def netstack(
    *arguments: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netstack", *arguments],
        cwd=ROOT,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "attach", "demo", "Examples:", "192.168.65.2"]),
        (["run", "--help"], ["--mtu", "--pcap", "--no-host-loopback", "--verbose", "Examples:", "125"]),
        (
            ["attach", "--help"],
            ["--netns", "--ifname", "--no-configure", "--ready-fd", "--pcap", "Examples:"],
        ),
        (["demo", "--help"], ["--seconds"]),
        (["--version"], [f"netstack {__version__}"]),
    ],
)
def test_help(arguments: list[str], words: list[str]) -> None:
    done = netstack(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    for word in words:
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["fly"], 2, "No such command 'fly': see netstack --help"),
        (["--fly"], 2, "--fly"),
        (["run"], 2, "see netstack run --help"),
        (["run", "--mtu", "100", "--", "true"], 2, "576<=x<=65521"),
        (["run", "--mtu", "65522", "--", "true"], 2, "576<=x<=65521"),
        (["run", "--mtu", "many", "--", "true"], 2, "--mtu"),
        (["run", "--fly", "--", "true"], 2, "--fly"),
        (["run", "--proxy", "on", "--", "true"], 2, "use auto or off"),
        (["run", "--http-proxy", "socks5://x:1", "--", "true"], 2, "SOCKS5 is not supported"),
        (["run", "--no-proxy", "a:b", "--", "true"], 2, "has the port 'b'"),
        (["run", "--allow-url", "a.test", "--", "true"], 2, "is not like http://"),
        (["run", "--transparent-http-ports", "x", "--", "true"], 2, "no list of ports such as 80,8080"),
        (["run", "--network", "10.0.0.0/30", "true"], 2, "network 10.0.0.0/30 is too small"),
        (["run", "--network", "10.0.0.1/24", "true"], 2, "has host bits set"),
        (["run", "--network", "fd00::/64", "true"], 2, "network 'fd00::/64' cannot be used"),
        (["run", "--pcap"], 2, "--pcap"),
        (["attach"], 2, "--netns"),
        (["attach", "--netns", "x", "--ifname", "much-too-long-name"], 2, "not the name of an interface"),
        (["attach", "--netns", "x", "--ifname", "a/b"], 2, "not the name of an interface"),
        (["attach", "--netns", "x", "--ifname", "a:b"], 2, "not the name of an interface"),
        (["attach", "--netns", "x", "--ifname", ".."], 2, "not the name of an interface"),
        (["route", "add", "--device", "a b"], 2, "not the name of an interface"),
        (["relay", "tap:a:b", "--connect", "stdio"], 2, "is not tap:NAME"),
        (["attach", "--netns", "x", "--ready-fd", "977"], 2, "977 is not an open descriptor"),
        (["relay", "tap:t", "--connect", "stdio", "--ready-fd", "-1"], 2, "-1 is not an open descriptor"),
        (["relay", "tap:\udcff" * 9, "--connect", "stdio"], 2, "is not tap:NAME"),
        (["demo", "--seconds", "0"], 2, "--seconds"),
        (["demo", "--seconds", "nan"], 2, "'nan' is not a time in seconds"),
        (["dns", "rm", "--instance", "/no/where.sock", "a\udcff"], 2, "'a\\udcff' is not UTF-8"),
        (["run", "--outbound-interface", "\udcff", "--", "true"], 2, "is not UTF-8"),
        (["connect", "web:" + "9" * 5000], 2, "is not GUEST:PORT"),
        (["attach", "--netns", "no-such-name"], 125, "there is no network namespace no-such-name"),
        (["attach", "--netns", "4194399"], 125, "there is no process 4194399"),
        (["attach", "--netns", "/dev/null"], 125, "/dev/null is not a namespace file"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], status: int, words: str) -> None:
    done = netstack(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("netstack: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize("command", [["attach", "--netns", "x"], ["relay", "tap:t", "--connect", "stdio"]])
def test_a_ready_descriptor_that_cannot_be_written_to(command: list[str]) -> None:
    with open(os.devnull, "rb") as only_read:
        done = netstack(*command, "--ready-fd", "0", stdin=only_read)
    assert done.returncode == 2
    assert "descriptor 0 is not open for writing" in done.stderr


@pytest.mark.netns
def test_relay_says_where_nobody_is(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    place = f"qemu:{tmp_path}/q.sock"
    with Lab() as lab:
        done = lab.guest.run(
            sys.executable,
            "-m",
            "netstack",
            "relay",
            "tap:t",
            "--connect",
            place,
            "--once",
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert done.stderr == f"netstack: {place} cannot be reached: No such file or directory\n"


def test_nothing_asked_shows_help() -> None:
    done = netstack()
    assert done.returncode == 2
    assert "Examples:" in done.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NetstackError("it failed"), 1),
        (ConfigError("it failed"), 2),
        (SandboxError("it failed"), 125),
        (OSError(2, "it failed"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 1),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def fail(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(entry, "_dispatch", fail)
    streams = sys.stdout, sys.stderr
    try:
        assert entry.main([]) == status
    finally:
        sys.stdout, sys.stderr = streams
    expected = (
        "netstack: it failed\n" if status in (1, 2, 125) and not isinstance(error, BrokenPipeError) else ""
    )
    assert capsys.readouterr().err == expected


def test_output_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = netstack("--help", stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["config"], ["completion", "bash"], ["--help"]])
def test_output_that_finds_no_room(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = netstack(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "netstack: standard output: No space left on device\n"


def test_letters_that_the_terminal_does_not_have(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path / "frames") + b"\xff.pcap"
    with open(name, "wb") as file:
        file.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))  # of no frame
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"netstack", b"dissect", b"--stats", name],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b"frames\\udcff.pcap: 0 frames" in done.stdout


def test_start_up_imports_little() -> None:
    """What takes long to import, and what no command needs before it has been told what to do."""
    heavy = [
        "asyncio",
        "click",
        "rich",
        "msgspec",
        "numpy",
        "http",
        "ssl",
        "subprocess",
        "importlib.metadata",
    ]
    code = (
        "import sys, netstack.cli.main, netstack.cli.options, netstack.cli.run, netstack.sandbox\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_importing_netstack_imports_nothing_else() -> None:
    code = "import sys, netstack; print([m for m in sys.modules if m.startswith('netstack.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
