"""Captures from the command line: of `run`, and of an instance that runs, to files and through pipes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pcapng
import pytest
from instance import ROOT, Instance, environment, eventually, guest_of, inside

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.netns
NETSTACK = (sys.executable, "-m", "netstack")
GATEWAY = "192.168.65.1"
PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if subprocess.run(["unshare", "-rn", "test", "-w", "/dev/net/tun"], capture_output=True).returncode:
        pytest.skip("no user namespaces, or no /dev/net/tun, here")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("capture"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def guest(instance: Instance) -> Iterator[int]:
    with guest_of(instance) as process:
        yield process


def shell(instance: Instance, line: str) -> subprocess.Popen[str]:
    """A line of sh in which $N is netstack."""
    return subprocess.Popen(
        ["sh", "-c", line],
        cwd=ROOT,
        env=environment(instance.folder) | {"N": " ".join(NETSTACK)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def capturing(instance: Instance) -> bool:
    return instance.ask("GET", "/v1/capture/state")[1]["capture"] is not None


def test_interrupted_in_the_middle(instance: Instance, guest: int, tmp_path: Path) -> None:
    """To a file of the instance, and as a stream: both end with their statistics."""
    for where in (str(tmp_path / "file"), f"- > {tmp_path / 'stream'}"):
        process = shell(instance, f"exec $N capture {where}")
        eventually(lambda: capturing(instance))
        inside(guest, "ping", "-c2", "-i0.01", GATEWAY)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert not capturing(instance)
        path = tmp_path / ("stream" if ">" in where else "file")
        file = pcapng.read(path)
        assert file.kinds[-1] == pcapng.STATISTICS
        assert len(file.frames) >= 4
        assert file.interfaces[0].statistics[4] == len(file.frames)
        assert file.interfaces[0].name.startswith("hyperkit:")
        pcapng.accepted(path, len(file.frames))
        if path.name == "file":
            assert f"{len(file.frames)} frames" in out


@pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark here")
def test_a_reader_that_has_had_enough(instance: Instance, guest: int) -> None:
    process = shell(
        instance,
        "{ $N capture --filter icmp -; echo status $? >&2; } | tshark -r - -c 2 -T fields -e icmp.type",
    )
    eventually(lambda: capturing(instance))
    inside(guest, "ping", "-c3", "-i0.01", GATEWAY)
    out, err = process.communicate(timeout=PATIENCE)
    assert out.split() == ["8", "0"]
    assert "status 0" in err
    assert "rror" not in err
    eventually(lambda: not capturing(instance))


def test_a_reader_that_goes_on_a_silent_network(instance: Instance) -> None:
    process = shell(
        instance, "{ $N capture --filter 'tcp port 1' -; echo status $? >&2; } | head -c 4 | wc -c"
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert (out.split(), err) == (["4"], "status 0\n")
    eventually(lambda: not capturing(instance))


def test_a_ring_with_all_options(instance: Instance, guest: int, tmp_path: Path) -> None:
    options = "--ring 2x64kB --snaplen 60 --wire-frames --filter 'icmp or arp'"
    process = shell(instance, f"exec $N capture {options} {tmp_path}/all.pcapng")
    eventually(lambda: capturing(instance))
    inside(guest, "ping", "-c700", "-i0.001", GATEWAY)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert "files of a ring" in out
    for path in files:
        file = pcapng.read(path)
        assert path.stat().st_size <= 64_000
        assert file.interfaces[0].snaplen == 60
        pcapng.accepted(path, len(file.frames))


def test_a_full_disk_is_said(instance: Instance, guest: int) -> None:
    process = shell(instance, "exec $N capture /dev/full")
    out, _ = process.communicate(timeout=PATIENCE)
    assert out.startswith("/dev/full: 0 frames")
    assert "ended by an error: No space left on device" in out
    assert inside(guest, "ping", "-c1", GATEWAY)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--ring 10 x", "such as 10x64MB"),
        ("--ring 1x1k x", "out of range"),
        ("--ring 2x64MB -", "a ring needs names"),
        ("--filter 'tcp porto 1' /dev/null", "cannot be used"),
        ("--bytes 5Q x", "is not a size"),
        ("--snaplen -1 x", "--snaplen"),
        ("/nowhere/x", "cannot be written"),
    ],
)
def test_wrong_usage(instance: Instance, options: str, word: str) -> None:
    process = shell(instance, f"exec $N capture {options} | cat; exit $?")
    _, err = process.communicate(timeout=PATIENCE)
    assert word in err
    assert "Traceback" not in err


# --- run


def run(*argv: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*NETSTACK, "run", *argv], cwd=ROOT, capture_output=True, timeout=PATIENCE, **options
    )  # type: ignore[call-overload, no-any-return]


def test_run_with_the_capture_on_standard_output(tmp_path: Path) -> None:
    done = run(
        "--pcap", "-", "--snaplen", "128", "--", "sh", "-c", "echo words; ping -c1 192.168.65.1 >/dev/null"
    )
    assert done.returncode == 0
    assert done.stderr == b"words\n"
    file = pcapng.read(done.stdout)
    said = [c for f in file.frames for c in f.comments]
    assert "answered by the gateway (echo_replies)" in said
    assert set(said) <= {"answered by the gateway (echo_replies)", "dropped: frame_ipv6"}
    assert (file.interfaces[0].snaplen, file.interfaces[0].name) == (128, "tap0")
    assert b"netstack" in file.options[4][0]
    assert file.options[3][0].decode().startswith(os.uname().sysname)


def test_run_whose_capture_is_not_read_to_the_end() -> None:
    ping = "sleep 0.2; ping -c2 -i0.2 192.168.65.1 >/dev/null; exit 7"
    line = f"{' '.join(NETSTACK)} run --pcap - -- sh -c '{ping}' | head -c 4"
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", f"{line} >/dev/null; echo ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == (b"7\n", b"")
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--snaplen", "x", "--pcap", "f"], b"snaplen 'x' is not a number of bytes"),
        (["--ring", "10x64MB"], b"give pcap (--pcap FILE) as well"),
        (["--filter", "no such thing", "--pcap", "/dev/null"], b"filter 'no such thing' cannot be used"),
        (["--ring", "10x64MB", "--pcap", "-"], b"a ring needs names for its files"),
    ],
)
def test_options_of_run_that_cannot_be(options: list[str], word: bytes) -> None:
    done = run(*options, "--", "true")
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_serve_over_standard_output(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NETSTACK, "serve", "--listen", "stdio:qemu", "--pcap", "-"],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert b"standard output is a guest's link already" in done.stderr
