"""What takes the kernel long is closed behind the process, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netstack.cli.closing import leave_open

ROOT = Path(__file__).resolve().parents[2]

#: Leaves the writing end of a pipe open, and ends: argument 1 says what is written before.
PROGRAM = """
import os, sys
from netstack.cli.closing import closed_behind, leave_open
fd = int(sys.argv[1])
with closed_behind():
    leave_open(fd)
    os.close(fd)
print("ended", flush=True)
os._exit(3)
"""


def test_the_last_descriptor_is_closed_behind_the_process():
    reader, writer = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(writer)],
        cwd=ROOT,
        pass_fds=[writer],
        capture_output=True,  # to its end: the child must not keep it open
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "ended\n", "")
    os.close(writer)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "the child has closed it, and is gone"
    os.close(reader)


def test_a_process_that_goes_on_keeps_nothing():
    reader, writer = os.pipe()
    leave_open(writer)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.usefixtures("_sandboxes")
def test_run_leaves_no_process(tmp_path: Path):
    script = tmp_path / "children"
    script.write_text("#!/bin/sh\nreadlink /proc/self/ns/net\n")
    script.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "netstack", "run", str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    inside = done.stdout.strip()
    assert done.returncode == 0
    assert inside.startswith("net:[")
    deadline = time.monotonic() + 10
    while left := [
        process
        for process in Path("/proc").glob("[0-9]*")
        if process.joinpath("cmdline").exists() and str(script).encode() in (process / "cmdline").read_bytes()
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_a_module_that_is_put_off_is_there_when_it_is_used():
    program = (
        "import sys\n"
        "from netstack.cli.main import _put_off\n"
        "_put_off('inspect')\n"
        "import dataclasses\n"
        "assert 'tokenize' not in sys.modules, 'it has been loaded'\n"
        "import inspect\n"
        "assert inspect.isfunction(print) is False and inspect.cleandoc(' x') == 'x'\n"
        "@dataclasses.dataclass\n"
        "class C:\n"
        "    x: int = 1\n"
        "assert C.__doc__ == 'C(x: int = 1)'\n"
        "import inspect as again\n"
        "assert again.signature(C) and hasattr(again, 'nothing') is False\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
