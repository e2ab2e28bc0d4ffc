"""What real shells complete, with what ``netstack completion`` prints."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netstack.cli import completion

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "ready> "


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With a program ``netstack`` on the path, a folder with a file of its own, and an instance called blue."""
    folder = tmp_path_factory.mktemp("completion")
    program = folder / "bin" / "netstack"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m netstack "$@"\n')
    program.chmod(0o755)
    (folder / "a-capture.pcap").touch()
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "TERM": "dumb",
        "PS1": PROMPT,
        "LC_ALL": "C",
    }


class Shell:
    """An interactive bash at a terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        pid, self.fd = pty.fork()
        if pid == 0:
            os.chdir(environment["HOME"])
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.pid = pid
        self.until(PROMPT)
        self.type(
            "bind 'set enable-bracketed-paste off'; " + 'eval "$(netstack completion bash)"; echo do""ne\n'
        )
        self.until("done\r\n" + PROMPT)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, wanted: str) -> str:
        """What is shown up to some text."""
        shown, end = "", time.monotonic() + 30
        while wanted not in shown:
            assert time.monotonic() < end, shown
            if select.select([self.fd], [], [], 0.2)[0]:
                shown += os.read(self.fd, 4096).decode()
        return shown

    def completes(self, typed: str, wanted: str) -> None:
        """The key makes one word of another, and the line is thrown away."""
        self.type(typed + "\t")
        self.until(wanted)
        self.type("\x15\n")
        self.until(PROMPT)

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def bash(environment: dict[str, str]) -> Iterator[Shell]:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    shell = Shell(environment)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("netstack log-", "log-level "),
        ("netstack run --http-p", "--http-proxy "),
        ("netstack port li", "port list "),
        ("netstack serve --log-format j", "json "),
        ("netstack run --pcap a-c", "a-capture.pcap "),
        ("netstack dissect a-c", "a-capture.pcap "),
        ("netstack run -- ./a-c", "./a-capture.pcap "),
    ],
)
def test_bash_completes(bash: Shell, typed: str, wanted: str) -> None:
    bash.completes(typed, wanted)


def test_bash_completes_instances(bash: Shell, environment: dict[str, str]) -> None:
    folder = Path(environment["XDG_RUNTIME_DIR"]) / "netstack"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "blue-network.sock"))
        listener.listen()
        bash.completes("netstack stats --instance bl", "blue-network ")


def test_zsh_and_fish_read_their_scripts(environment: dict[str, str], tmp_path: Path) -> None:
    for shell in ("zsh", "fish"):
        script = tmp_path / shell
        script.write_text(completion.script(shell))
        assert "_NETSTACK_COMPLETE" in script.read_text()
        if shutil.which(shell):
            subprocess.run([shell, "-n", str(script)], check=True, env=environment)
    if shutil.which("fish") is None:
        pytest.skip("no fish")
    ask = f"source {tmp_path}/fish; complete -C 'netstack log-'"
    done = subprocess.run(["fish", "--no-config", "-c", ask], env=environment, capture_output=True, text=True)
    assert re.match(r"log-level\b", done.stdout), done


def test_the_script_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netstack", "completion", "bash"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == completion.script("bash").strip()
    assert done.stderr == ""
