"""Every program in examples/ runs, says what it should, and is short."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

#: What each prints, as a regular expression for the whole of it; None: another test below.
SAYS: dict[str, str | None] = {
    "two_tcp_connections.py": r".*server DataReceived\(data=b'hello over.*client DataReceived\(data=b'HELLO OVER.*",
    "python_host.py": (
        r"the guest's address: 192\.168\.65\.3\nthe guest reads: hello, 192\.168\.65\.3\n"
        r"the guest answers a ping: True\nit answers a datagram: ANYBODY THERE\?\n"
    ),
    "dns_zone.py": (
        r"web\.corp: 10\.0\.0\.5\nanything\.dev\.corp: 10\.0\.0\.9\nweb\.corp after the change: 10\.0\.0\.6\n"
        r"web\.corp when it is gone: web\.corp has no address: .*says NXDOMAIN\n"
        r"api\.svc\.test: 10\.0\.0\.21\napi\.svc\.test after it has moved: 10\.0\.0\.22\n"
    ),
    "capture_to_plot.py": r"\d+ frames, 2,\d{3},\d{3} bytes, [1-9]\d* sent again\n",
    "test_http_under_loss.py": r".*1 passed.*",
    "qemu_machine.py": None,
}


#: What shell examples print, some of it.
SHELL = {
    "command.sh": "Directory listing",
    "publish.sh": "Directory listing",
    "dissect.sh": "right. 37 frames",
}


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_is_known_here_and_short() -> None:
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == set(SAYS) | set(SHELL)
    for path in EXAMPLES.glob("*.??"):
        assert len(path.read_text().splitlines()) < 60


@pytest.mark.parametrize("name", [name for name, says in SAYS.items() if says])
def test_it_runs(name: str, tmp_path: Path) -> None:
    if name == "capture_to_plot.py":
        pytest.importorskip("matplotlib")
    pytest_runs = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "netstack.testing.plugin"]
    out = run([*(pytest_runs if name.startswith("test_") else []), str(EXAMPLES / name)], tmp_path)
    assert re.fullmatch(SAYS[name] or "", out, re.DOTALL), out
    if name == "capture_to_plot.py":
        assert (tmp_path / "capture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.netns
@pytest.mark.parametrize("name", SHELL)
def test_shell(name: str, tmp_path: Path) -> None:
    """In a namespace of its own, so that the ports of this host are left alone."""
    if name != "dissect.sh" and shutil.which("curl") is None:
        pytest.skip("curl is missing")
    if name == "dissect.sh":
        pytest.importorskip("numpy")
    program = tmp_path / "netstack"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m netstack "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["unshare", "-rnm", "sh", "-c", f"ip link set lo up && exec sh {EXAMPLES / name}"],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SHELL[name] in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_machine_is_driven(tmp_path: Path) -> None:
    """The machine fetches the program's page, and goes down; the example ends with it."""
    if reason := machine.missing():
        pytest.skip(reason)
    found = machine.kernel()
    assert found is not None
    assert shutil.which("qemu-system-x86_64")
    image = tmp_path / "initramfs"
    image.write_bytes(machine.initramfs())
    process = subprocess.Popen(
        [
            *(sys.executable, "-u", str(EXAMPLES / "qemu_machine.py")),
            *("-accel", "tcg", "-cpu", "max", "-m", "384", "-nodefaults"),
            *("-serial", "mon:stdio", "-no-reboot"),
            *("-kernel", str(found[0]), "-initrd", str(image)),
            *("-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        commands = (
            "udhcpc -i eth0 -n -q -f -t 8 -T 1 -s /lease; "
            "while ! wget -q -O - http://192.168.65.200/; do sleep 1; done; poweroff -f\n"
        )
        assert process.stdout is not None
        assert process.stdin is not None
        said = ""
        while "@@up@@" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        rest, _ = process.communicate(commands, timeout=100)
    finally:
        process.kill()
        process.wait()
    assert re.search(r"box answers pings in [\d.]+ ms; ssh -p \d+ 127\.0\.0\.1", rest), rest
    assert "192.168.65.7 has fetched a page of this program's" in rest
    assert "hello, box" in rest
    assert process.returncode == 0
