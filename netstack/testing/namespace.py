"""Network namespaces and the programs that run in them (Linux, iproute2 and util-linux).

A :class:`Namespace` is made and removed with ``ip netns``; programs in it are :class:`Process` objects which
write to files, so that no pipe can fill, and which are killed and reaped when the namespace goes. Sockets
made with :meth:`Namespace.socket` belong to the namespace and can then be used from any thread of the
caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket as net
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import SandboxError

__all__ = ["Namespace", "Process", "ProgramError", "unavailable"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
RUN_NETNS = Path("/run/netns")
CONGESTION_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
PREFIX = "nslab"
LISTEN_STATE = "0A"  # TCP_LISTEN in /proc/net/tcp

_libc = ctypes.CDLL(None, use_errno=True)


class ProgramError(SandboxError):
    """A program in a namespace failed, or did not get ready; the message holds what it printed."""


def unavailable() -> str | None:
    """Why no namespaces with TAP devices can be made here, in one sentence; None when they can."""
    if not hasattr(os, "geteuid") or not Path("/proc/self/ns/net").exists():
        return "network namespaces exist on Linux only"
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"the program {program!r} is missing: install iproute2 and util-linux"
    if os.geteuid() != 0:
        return (
            "namespaces need root: run this under 'python -m netstack.testing.lab --' to get a user namespace"
        )
    name = f"{PREFIX}{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"a network namespace cannot be made here: {made.stderr.strip()}"
    try:
        tap = subprocess.run(
            ["ip", "netns", "exec", name, "ip", "tuntap", "add", "probe0", "mode", "tap"],
            capture_output=True,
            text=True,
        )
        if tap.returncode != 0:
            return f"a TAP device cannot be made here: {tap.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return None


class Process:
    """A program running in a namespace. Use :meth:`Namespace.spawn` to make one.

    Attributes:
        pid: the program's process id (the launchers before it replace themselves by ``exec``).
        output: path of the file which gets its standard output and standard error.
    """

    def __init__(
        self,
        argv: Sequence[str],
        shown: Sequence[str],
        output: Path,
        env: dict[str, str] | None,
        pass_fds: Sequence[int],
        cwd: str | os.PathLike[str] | None,
    ) -> None:
        self.args = list(shown)
        self.output = output
        with output.open("wb") as out:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def __repr__(self) -> str:
        return f"<Process {self.pid} {' '.join(self.args)}>"

    @property
    def text(self) -> str:
        """Everything printed so far."""
        return self.output.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status, once the program has ended.

        Raises:
            ProgramError: it still runs after ``timeout`` seconds.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self!r} still runs after {timeout} s; it printed:\n{self.text}") from None

    def wait_for(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """Waits until the output matches ``pattern`` (a regular expression, multi-line).

        Raises:
            ProgramError: the program ended, or the time is over.
        """
        return self.wait_until(
            lambda: re.search(pattern, self.text, re.MULTILINE), f"print {pattern!r}", timeout
        )

    def wait_listening(self, port: int, timeout: float = 20.0) -> None:
        """Waits until a TCP socket of the program's namespace listens on ``port``.

        Raises:
            ProgramError: the program ended, or the time is over.
        """
        self.wait_until(lambda: port in listening_ports(self.pid), f"listen on port {port}", timeout)

    def wait_until(self, test: Callable[[], T | None], what: str, timeout: float = 20.0) -> T:
        """Waits until ``test()`` is true and returns its result; ``what`` is for the error's text.

        Raises:
            ProgramError: the program ended, or the time is over.
        """
        end = time.monotonic() + timeout
        while True:
            ended = self._popen.poll() is not None  # looked at first: what it printed before its end counts
            found = test()
            if found:
                return found
            if ended:
                raise ProgramError(f"{self!r} ended with status {self.returncode}; it printed:\n{self.text}")
            if time.monotonic() > end:
                raise ProgramError(f"{self!r} did not {what} in {timeout} s; it printed:\n{self.text}")
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Sends a signal to the program (not to its children)."""
        if self.running:
            self._popen.send_signal(number)

    def stop(self, timeout: float = 5.0) -> int:
        """SIGTERM, and SIGKILL for the whole process group ``timeout`` seconds later; the exit status."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listening_ports(pid: int) -> set[int]:
    """TCP ports that sockets listen on in the network namespace of ``pid``."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN_STATE:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


class Namespace:
    """One network namespace with a resolver file; from :meth:`create` to :meth:`close`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.path = RUN_NETNS / name
        self.directory = directory
        self.resolv_conf = directory / f"{name}.resolv.conf"
        self._processes: list[Process] = []
        self._count = 0

    @classmethod
    def create(cls, role: str, directory: Path, congestion: str = "cubic") -> Namespace:
        """Makes a namespace ``nslab<pid>-<role>``, its loopback up, echo sockets allowed for everybody.

        Args:
            role: the readable part of the name, unique in this process.
            directory: where outputs and the resolver file go.
            congestion: TCP congestion control of the sockets in it, if the caller may choose it
                (:attr:`congestion` tells which one it is).

        Raises:
            SandboxError: it cannot be made.
        """
        ns = cls(f"{PREFIX}{os.getpid()}-{role}", directory)
        ip("netns", "add", ns.name)
        try:
            ns.resolv_conf.write_text("")
            ns.ip("link", "set", "lo", "up")
            ns._allow_echo()
            ns._set_congestion(congestion)
        except BaseException:
            ns.close()
            raise
        return ns

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    def _allow_echo(self) -> None:
        for groups in ("0 2147483647", "0 0"):  # a user namespace knows only the groups it maps
            with contextlib.suppress(OSError):
                self.sysctl("net.ipv4.ping_group_range", groups)
                return

    def _set_congestion(self, name: str) -> None:
        key = "net.ipv4.tcp_congestion_control"
        with contextlib.suppress(OSError):
            self.sysctl(key, name)
            return
        # Outside the first namespace only algorithms that are allowed to everybody may be chosen. Allow
        # this one for as long as it takes to choose it. A user namespace may not: it keeps the machine's
        # choice.
        with contextlib.suppress(OSError), CONGESTION_ALLOWED.open("r+") as allowed:
            fcntl.flock(allowed, fcntl.LOCK_EX)
            before = allowed.read().strip()
            try:
                CONGESTION_ALLOWED.write_text(f"{before} {name}\n")
                self.sysctl(key, name)
            finally:
                CONGESTION_ALLOWED.write_text(before + "\n")

    @property
    def congestion(self) -> str:
        """The TCP congestion control in force."""
        return self.sysctl("net.ipv4.tcp_congestion_control")

    # --- the caller's thread

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Inside the ``with`` block the calling thread is in this namespace, and threads that it starts."""
        with open("/proc/thread-self/ns/net") as home, self.path.open() as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, family: int = net.AF_INET, kind: int = net.SOCK_STREAM, proto: int = 0) -> net.socket:
        """A socket of this namespace, usable from any thread."""
        with self.entered():
            return net.socket(family, kind, proto)

    def listen(self, address: str = "127.0.0.1", port: int = 0, backlog: int = 1024) -> net.socket:
        """A listening TCP socket of this namespace."""
        s = self.socket()
        try:
            s.setsockopt(net.SOL_SOCKET, net.SO_REUSEADDR, 1)
            s.bind((address, port))
            s.listen(backlog)
        except BaseException:
            s.close()
            raise
        return s

    def connect(self, address: str, port: int, timeout: float = 20.0) -> net.socket:
        """A TCP connection made from this namespace, with ``timeout`` seconds for each of its operations."""
        s = self.socket()
        try:
            s.settimeout(timeout)
            s.connect((address, port))
        except BaseException:
            s.close()
            raise
        return s

    def sysctl(self, key: str, value: str | None = None) -> str:
        """Reads, or first writes, one setting such as ``net.ipv4.ip_forward``."""
        path = "/proc/sys/" + key.replace(".", "/")
        with self.entered():
            if value is not None:
                with open(path, "w") as f:
                    f.write(value)
            with open(path) as f:
                return f.read().strip()

    # --- programs

    def ip(self, *args: str) -> str:
        """Runs ``ip ARGS`` for this namespace; its output.

        Raises:
            SandboxError: ip refuses; the message is its own.
        """
        return ip("-n", self.name, *args)

    def _argv(self, args: Sequence[str]) -> list[str]:
        # Every stage replaces itself by exec, so the process id is the program's own.
        bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return [
            *("nsenter", f"--net={self.path}"),
            *("unshare", "--mount", "--propagation=slave"),
            *("sh", "-c", bind, str(self.resolv_conf)),
            *args,
        ]

    def spawn(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        cwd: str | os.PathLike[str] | None = None,
    ) -> Process:
        """Starts a program here, with this namespace's ``/etc/resolv.conf``; :meth:`close` stops it."""
        self._count += 1
        output = self.directory / f"{self.name}.{self._count}.{os.path.basename(args[0])}.out"
        process = Process(self._argv(args), args, output, env, pass_fds, cwd)
        self._processes.append(process)
        return process

    def run(
        self,
        *args: str,
        check: bool = True,
        timeout: float = 60.0,
        env: dict[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program here to its end; ``stdout`` and ``stderr`` of the result are text.

        Raises:
            ProgramError: it failed and ``check`` is set, or it took longer than ``timeout`` seconds.
        """
        try:
            done = subprocess.run(
                self._argv(args),
                input=(stdin or b"").decode("latin-1"),
                encoding="latin-1",
                capture_output=True,
                timeout=timeout,
                env=env,
                cwd=cwd,
            )
        except subprocess.TimeoutExpired as late:
            raise ProgramError(
                f"{' '.join(args)} took longer than {timeout} s; it printed:\n{late.stdout!r} {late.stderr!r}"
            ) from None
        if check and done.returncode != 0:
            raise ProgramError(
                f"{' '.join(args)} ended with status {done.returncode}; it printed:\n"
                f"{done.stdout}\n{done.stderr}"
            )
        return done

    def close(self) -> None:
        """Stops every program in the namespace, reaps its own ones, and removes it."""
        for process in reversed(self._processes):
            process.stop(timeout=2.0)
        for pid in pids_in(self.name):  # what its programs left behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)


def ip(*args: str) -> str:
    """Runs ``ip ARGS``; its output.

    Raises:
        SandboxError: ip refuses; the message is its own.
    """
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise SandboxError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def pids_in(name: str) -> list[int]:
    """Process ids in the named namespace, the caller's own left out."""
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return [int(word) for word in done.stdout.split() if int(word) != os.getpid()]


def remove_stale() -> None:
    """Removes the namespaces of laboratories whose process is gone (a test run that was killed)."""
    try:
        names = [entry.name for entry in RUN_NETNS.iterdir()]
    except OSError:
        return
    for name in names:
        owner = re.match(rf"{PREFIX}(\d+)-", name)
        if owner is None or Path(f"/proc/{owner[1]}").exists():
            continue
        for pid in pids_in(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def workspace() -> Path:
    """A new private directory for outputs, which programs of other users may enter."""
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
    path.chmod(0o755)
    return path


def in_thread(function: Callable[[], T], name: str = "lab") -> Callable[[float], T]:
    """Runs ``function`` in a thread; ``join(timeout)``, which is returned, returns or raises what it did."""
    box: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            box.append(function())
        except BaseException as err:
            failed.append(err)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()

    def join(timeout: float = 60.0) -> T:
        thread.join(timeout)
        if thread.is_alive():
            raise TimeoutError(f"thread {name} still runs after {timeout} s")
        if failed:
            raise failed[0]
        return box[0]

    return join


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise SandboxError(f"the network namespace cannot be entered: {os.strerror(code)}")
