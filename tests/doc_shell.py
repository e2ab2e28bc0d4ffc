"""Shells for the commands of the docs: bash in the namespaces of a scene, told one command at a time.

A command that serves until it is stopped (`STAYS`, or one with ``&`` behind it) becomes a job: the next command waits
until it is ready, and at the block's end Ctrl-C ends it, as a reader's would. So a page may show in one block what a
reader types in two terminals.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from doc_blocks import without_comment

from netstack.testing.namespace import listening_ports

PATIENCE = 30.0  # seconds
STAYS = re.compile(
    r"^(sudo )?(nsenter .* |ip netns exec \w+ )?("
    r"netstack (serve|attach|relay|top|flows --watch)\b(?!.* (-n|--once|--help)\b)"
    r"|curl .*/v1/capture\b"
    r"|netstack capture (?!.*(--seconds|--bytes|--stop))\S+$"
    r"|netstack run .*-- (python3 -m http\.server|nginx -g)|(netstack )?ping (?!.*-c)"
    r"|python3 -m http\.server|nginx -g|tinyproxy -d|qemu-system-x86_64 )"
)
FOR_TERMINALS = re.compile(r"^netstack (top|flows --watch)\b(?!.*--json)")
LISTENS = re.compile(r"\b(http\.server|nginx|tinyproxy|dropbear|nc -l\w*)\b")
ENDED = (0, 130, 143)  # by itself, by Ctrl-C, by SIGTERM


@dataclass
class Done:
    """What became of a command; the status is None while it runs."""

    text: str
    output: Path
    status: int | None
    pid: int = 0

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace").replace("\r\n", "\n")


class Failed(Exception):
    """A command did not do what the page promises; the message says which, and what it printed."""


def wait(true: Callable[[], object], what: Callable[[], str], patience: float = PATIENCE) -> None:
    """Until a condition holds.

    Raises:
        Failed: it does not in time.
    """
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise Failed(what())
        time.sleep(0.005)


class Shell:
    """One bash. ``proc`` is the /proc of its process namespace, ``folder`` where its outputs go."""

    _count = 0

    def __init__(self, enter: list[str], directory: str, folder: Path, inside: str, proc: Path) -> None:
        Shell._count += 1
        self._folder = folder / f"shell{Shell._count}"
        self._inside = f"{inside}/{self._folder.name}"
        self._proc = proc
        self._number = 0
        self._jobs: list[Done] = []
        self._folder.mkdir()
        os.mkfifo(self._folder / "in")
        self._pipe = os.open(self._folder / "in", os.O_RDWR | os.O_CLOEXEC)
        script = f"cd {directory} && exec bash --norc --noprofile {self._inside}/in"
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._tell("set -m -o pipefail")

    def _tell(self, text: str) -> None:
        os.write(self._pipe, (text + "\n").encode())

    def _ask(self, text: str, shown: str, patience: float = PATIENCE) -> Done:
        """Has the shell do something; with its status, and the process last started in the background."""
        self._number += 1
        output = self._folder / str(self._number)
        status = self._folder / f"{self._number}.status"
        path = f"{self._inside}/{self._number}"
        self._tell(f"exec >{path} 2>&1 </dev/null\n{text}\necho $? ${{!-0}} >{path}.status")

        def answered() -> bool:
            if self._process.poll() is not None:
                raise Failed(f"the shell has ended at: {shown}\n{(self._folder / 'log').read_text()}")
            return status.exists() and status.read_text().endswith("\n")

        def late() -> str:
            return f"this has not ended in {patience:g} s: {shown}\n{output.read_text(errors='replace')}"

        wait(answered, late, patience)
        code, pid = status.read_text().split()
        return Done(shown, output, int(code), int(pid))

    def run(self, command: str, matches: Callable[[str], bool] | None = None, fails: bool = False) -> Done:
        """Runs a command to its end, or a job until it is ready (until what it has printed matches, if that is given).

        Raises:
            Failed: it did not end, or with another status than 0 (with 0, if it is to fail).
        """
        ports = listening_ports(self._process.pid)
        bare = without_comment(command)
        background = bare.endswith("&") and not bare.endswith("&&")
        if FOR_TERMINALS.search(bare):
            bare = f"terminal {bare}"
            background, bare = True, bare + " &"
        if not background and not STAYS.search(bare):
            done = self._ask(command, command)
            if (done.status != 0) != fails:
                raise Failed(f"status {done.status}: {command}\n{done.printed}")
            return done
        job = self._ask(bare if background else f"{bare} &", command)
        job.status = None
        self._jobs.append(job)
        ready = matches if matches is not None else self._ready(bare, job, ports)

        def so() -> bool:
            running = self._runs(job.pid)  # looked at first: what it has printed before its end counts
            if not ready(job.printed) and not running:
                status = self._end(job)
                if status != 0:
                    raise Failed(f"status {status}: {command}\n{job.printed}")
                return True
            return ready(job.printed)

        wait(so, lambda: f"this is not ready: {command}\n{job.printed}")
        return job

    def _runs(self, pid: int) -> bool:
        try:
            return (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def _ready(self, command: str, job: Done, ports: set[int]) -> Callable[[str], bool]:
        if "--ready-fd" in command:  # the block waits itself
            return lambda text: True
        if "http.server" in command and ">/dev/null" not in command:
            return lambda text: "Serving HTTP on" in text
        if "http.server" in command:  # a port published for it is open before it is
            return lambda text: self._serves_http(job)
        if re.search(r"netstack serve\b", command):
            return lambda text: " ready\n" in text
        if re.search(r"netstack attach\b", command):
            return lambda text: {"/dev/net/tun", "anon_inode:[eventpoll]"} <= self._holds(job.pid)
        if re.search(r"netstack relay\b", command):
            return lambda text: "/dev/net/tun" in self._holds(job.pid)
        if re.search(r"\bping\b", command):
            return lambda text: "bytes from" in text
        if re.search(r"netstack (top|flows|capture)\b", command):
            return lambda text: "\n" in text
        if LISTENS.search(command):
            return lambda text: bool(listening_ports(self._process.pid) - ports)
        return lambda text: True

    def _serves_http(self, job: Done) -> bool:
        """Whether the job's HTTP server of Python has its socket."""
        for folder in self._proc.iterdir():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
                if words[1:3] == [b"-m", b"http.server"]:
                    group = (folder / "stat").read_text().rpartition(")")[2].split()[2]
                    if group == str(job.pid):
                        return any(held.startswith("socket:") for held in self._holds(int(folder.name)))
        return False

    def _holds(self, pid: int) -> set[str]:
        """What the descriptors of a process lead to."""
        held = set()
        with contextlib.suppress(OSError):
            for fd in (self._proc / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    held.add(os.readlink(fd))
        return held

    def _end(self, job: Done) -> int:
        """Its status, once it has ended."""
        done = self._ask(f"wait {job.pid}", f"wait for: {job.text}", 10.0)
        job.status = done.status
        if job in self._jobs:
            self._jobs.remove(job)
        assert done.status is not None
        return done.status

    def finish(self) -> None:
        """Ends the jobs as Ctrl-C does.

        Raises:
            Failed: one ended in another way, or not.
        """
        for job in reversed(list(self._jobs)):
            stopped = self._runs(job.pid)
            if stopped:
                self._ask(f"kill -INT -- -{job.pid}", f"Ctrl-C for: {job.text}")
            status = self._end(job)
            if status not in ENDED and not (stopped and "netstack" not in job.text):  # others have their ways
                raise Failed(f"status {status} at the end of: {job.text}\n{job.printed}")

    def close(self) -> None:
        """Ends the shell, and whatever it has left."""
        for job in self._jobs:
            with contextlib.suppress(Failed):
                self._ask(f"kill -KILL -- -{job.pid}", "the end", 2.0)
        self._tell("exit 0")
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._pipe)
