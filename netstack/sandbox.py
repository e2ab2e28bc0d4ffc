"""Namespaces: how a command, or a namespace that exists already, gets a TAP. Linux only.

Two ways lead to a TAP descriptor, and both work without root:

* `Sandbox` forks a child that moves into user, network and mount namespaces of its own, opens and configures
  the TAP there, hands its descriptor over and waits. Only when told to (`go`) does it become the command.
* `open_tap_in` forks a short-lived child that enters a namespace given as a `Netns` and does the same there.
  `sock_diag_in` does so for the socket that tells which ports are open in it.

Parent and child talk over one `SOCK_SEQPACKET` socket pair, a message per step (its first byte says which):

    child                                   parent
      U   in a user namespace            →
                                         ←  M   uid_map and gid_map are written
      T   TAP, with its descriptor       →
      D   or the socket of sock_diag     →
                                         ←  G   the gateway serves it: begin
      end of file: it is the command     →
      E   exit code and a sentence       →      (instead of any of these)

The child dies with its parent: it asks the kernel for SIGKILL (`PR_SET_PDEATHSIG`), so that a command never
lives on behind a network that is gone. Both functions fork, and must be called before the process has other
threads.

Invariants: nothing is left behind in the file system; whatever fails in the child reaches the caller as one
`SandboxError` that names the cause and the remedy.

Tested by `tests/test_sandbox.py` with real namespaces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from .config import parse_mac
from .errors import NetstackError, SandboxError
from .host import namespace, sock_diag

if TYPE_CHECKING:
    from .host import inotify

__all__ = [
    "CommandError",
    "Interface",
    "Netns",
    "Sandbox",
    "Tap",
    "open_tap_in",
    "random_mac",
    "sock_diag_in",
]

MAX_MTU = 65521  #: what the kernel allows on a TAP: 65535 bytes less the Ethernet header
MS_MOVE = 0x2000  # mount(2)
NS_GET_USERNS = 0xB701  # ioctl_ns(2): the user namespace that owns a namespace
LOOK_MILLISECONDS = 250  # how often it is looked whether a namespace is still there, where nothing tells
PROCESS_FILE = re.compile(r"/proc/([0-9]+)/ns/net")  # the namespace of a process: proc_pid_ns(5)
NETNS_FOLDER = "/run/netns"  # where ip-netns(8) keeps its names
REPLY_SECONDS = 30.0  # no step of the child takes longer, unless it hangs

# Name services that reach the host's resolver through a socket file, past any /etc/resolv.conf.
NAME_SERVICE_SOCKETS = ("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket")


class CommandError(NetstackError):
    """The command could not be started: exit code 127 when there is none, 126 when it is not executable."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Interface(NamedTuple):
    """How the guest's interface is set up. Without an address it is brought up, and DHCP does the rest."""

    name: str
    mtu: int  #: IP bytes
    mac: str
    address: str | None = None
    prefix: int = 24
    router: str | None = None  #: the default route


class Tap(NamedTuple):
    """An open TAP: what `netstack.Gateway.add_tap` wants."""

    fd: int
    granted: int  #: mask of the offloads that the kernel granted (host/tun.pxd)
    name: str


def random_mac() -> str:
    """A unicast, locally administered MAC address."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *os.urandom(5)))


class Sandbox:
    """A command in namespaces of its own, made ready up to the point where it needs its network.

    Args:
        command: the program and its arguments; the program is looked up in PATH.
        interface: the TAP inside.
        resolv_conf: the text of the command's ``/etc/resolv.conf``.
        mask: the signals blocked in the command; by default those blocked in the caller.
        pass_fds: descriptors that the command inherits besides 0, 1 and 2.
        environ: the command's environment; by default that of this process.

    Raises:
        SandboxError: user namespaces cannot be had.
    """

    def __init__(
        self,
        command: Sequence[str],
        interface: Interface,
        resolv_conf: str,
        *,
        mask: Iterable[int] | None = None,
        pass_fds: Sequence[int] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._status: int | None = None
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            with _Child(theirs) as child:
                child.enter_namespaces(parent)
                child.offer_tap(interface)
                _set_ping_group_range()
                _mount_resolv_conf(resolv_conf)
                child.expect(b"G")
                child.execute(command, mask, pass_fds, environ)
        theirs.close()
        try:
            if _receive(self._channel, b"U")[0] == b"userns":
                _write_id_maps(self.pid)
            self._channel.send(b"M")
        except BaseException:
            self.kill()
            raise

    def tap(self) -> Tap:
        """The TAP inside; the caller owns the descriptor.

        Raises:
            SandboxError: a namespace, the TAP or its addresses could not be made.
        """
        return _receive_tap(self._channel)

    def go(self) -> None:
        """Lets the command begin, and returns when it is running.

        Raises:
            CommandError: it cannot be executed.
        """
        self._channel.send(b"G")
        _receive(self._channel, b"")
        self._channel.close()

    def poll(self) -> int | None:
        """The exit status if the command has ended (128 + n after signal n), otherwise None."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Waits for the end of the command; its exit status as `poll` gives it."""
        status = self._reap(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """Ends the command at once, if it is still there, and reaps it."""
        self._channel.close()
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def _reap(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
        return self._status


class Netns:
    """A network namespace that exists.

    Args:
        text: the name of an ip-netns(8) namespace, the path of a namespace file, or the number of a process.

    Raises:
        SandboxError: there is no such namespace.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._pidfd = -1
        if text.isdecimal():
            self.path = f"/proc/{text}/ns/net"
        else:
            self.path = text if "/" in text else os.path.join(NETNS_FOLDER, text)
        process = PROCESS_FILE.fullmatch(self.path)
        if process is not None:
            pid = process[1]
            try:
                self._pidfd = os.pidfd_open(int(pid))
            except ProcessLookupError:
                raise SandboxError(f"there is no process {pid}: give the number of one that runs") from None
            except OSError as err:
                raise SandboxError(f"process {pid} cannot be watched: {_reason(err)}") from None
        try:
            self.fd = os.open(self.path, os.O_RDONLY)
            self.user_fd = fcntl.ioctl(self.fd, NS_GET_USERNS, 0)
        except OSError as err:
            self.close()
            raise SandboxError(self._unusable(err)) from None
        self._identity = _identity(self.fd)

    def _unusable(self, err: OSError) -> str:
        if err.errno == errno.ENOENT:
            return f"there is no network namespace {self.text}: {self.path} does not exist"
        if err.errno == errno.ENOTTY:
            return f"{self.path} is not a namespace file"
        if err.errno in (errno.EACCES, errno.EPERM):
            return f"the namespace {self.text} belongs to another user: run netstack as that user or as root"
        return f"the namespace {self.text} cannot be used: {_reason(err)}"

    def enter(self) -> None:
        """Moves the calling process in, through the user namespace that owns it where that is not ours."""
        if _identity(self.user_fd) != _identity("/proc/self/ns/user"):
            namespace.setns(self.user_fd, namespace.CLONE_NEWUSER)
        namespace.setns(self.fd, namespace.CLONE_NEWNET)

    def gone(self) -> bool:
        """True when the process has ended, or the name no longer stands for this namespace.

        The TAP itself keeps the namespace alive, so that the kernel would never tell.
        """
        if self._pidfd >= 0:
            return bool(select.select([self._pidfd], [], [], 0)[0])
        try:
            return _identity(self.path) != self._identity
        except OSError:
            return True

    def wait_gone(self) -> None:
        """Sleeps until :meth:`gone`."""
        told = select.poll()
        folder = self._folder()
        if self._pidfd >= 0:
            told.register(self._pidfd, select.POLLIN)
        elif folder is not None:
            told.register(folder.fd, select.POLLIN)
        asleep = self._pidfd >= 0 or folder is not None
        while not self.gone():
            told.poll(None if asleep else LOOK_MILLISECONDS)
            if folder is not None:
                folder.read()

    def _folder(self) -> inotify.Folders | None:
        """A watch on the folder that has the name, where there is a name and the user may have one more watch.

        A process's own folder, wherever a proc file system is mounted, tells nothing of its end.
        """
        from .host import inotify

        if self._pidfd < 0 and not self.path.endswith("/ns/net"):
            with suppress(OSError):
                folder = inotify.Folders()
                folder.add(os.path.dirname(os.path.abspath(self.path)))
                return folder
        return None

    def close(self) -> None:
        """Lets go of the namespace."""
        for name in ("fd", "user_fd", "_pidfd"):
            fd = getattr(self, name, -1)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def open_tap_in(netns: Netns, interface: Interface) -> Tap:
    """Opens and configures a TAP in a network namespace; the caller owns its descriptor.

    Raises:
        SandboxError: the namespace cannot be entered, or the TAP or its addresses could not be made.
    """
    with _child_in(netns, lambda child: child.offer_tap(interface)) as channel:
        return _receive_tap(channel)


def sock_diag_in(netns: Netns) -> tuple[socket.socket, range]:
    """A socket that tells what is open in a network namespace (`netstack.host.sock_diag`), and the ports that its
    kernel chooses from.

    Raises:
        SandboxError: the namespace cannot be entered, or its kernel does not tell.
    """
    with _child_in(netns, lambda child: child.offer_sock_diag()) as channel:
        ports, (fd,) = _receive(channel, b"D", 1)
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.settimeout(REPLY_SECONDS)
    low, high = map(int, ports.split())
    return sock, range(low, high + 1)


@contextmanager
def _child_in(netns: Netns, offer: Callable[[_Child], None]) -> Iterator[socket.socket]:
    """The channel to a child that enters a namespace and offers something there; it is reaped at the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        with _Child(theirs) as child:
            with _step(f"cannot enter the namespace {netns.text}", _why_not_setns):
                netns.enter()
            offer(child)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        os.waitpid(pid, 0)


# ---- the child ---------------------------------------------------------------------------------------------


class _Child:
    """The child's end. As a context it never returns to the caller's code: the process ends."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> NoReturn:
        code = error.exit_code if isinstance(error, NetstackError) else 125
        if error is not None:
            text = str(error) if isinstance(error, NetstackError) else f"the sandbox failed: {error!r}"
            with suppress(OSError):
                self._channel.send(b"E%c" % code + text.encode(errors="surrogateescape"))
        os._exit(code)

    def expect(self, step: bytes) -> None:
        """Waits for the parent; when it has gone, this process goes too."""
        if self._channel.recv(16) != step:
            os._exit(125)

    def enter_namespaces(self, parent: int) -> None:
        """New user, network and mount namespaces.

        Where user namespaces cannot be had, root's own rights do as well.
        """
        kind = b"userns"
        try:
            namespace.unshare(namespace.CLONE_NEWUSER)
        except OSError as err:
            if os.geteuid() != 0:
                raise SandboxError(_why_not_unshare(err)) from None
            kind = b"root"
        # Only now: a change of credentials takes the wish back.
        namespace.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)
        self._channel.send(b"U" + kind)
        self.expect(b"M")
        try:
            namespace.unshare(namespace.CLONE_NEWNET | namespace.CLONE_NEWNS)
        except OSError as err:
            raise SandboxError(_why_not_unshare(err)) from None

    def offer_tap(self, interface: Interface) -> None:
        """Opens the TAP in this network namespace, configures it, and hands it over."""
        with _step("cannot open a TAP", _why_no_tap):
            fd, name, granted = namespace.open_tap(interface.name)
        with _step(f"cannot configure {name}"):
            namespace.loopback_up()
            namespace.set_interface(name, parse_mac("mac", interface.mac), interface.mtu, up=True)
            if interface.address is not None:
                namespace.add_address(name, interface.address, interface.prefix)
            if interface.router is not None:
                namespace.add_default_route(interface.router, name)
        socket.send_fds(self._channel, [b"T" + struct.pack("=I", granted) + name.encode()], [fd])
        os.close(fd)

    def offer_sock_diag(self) -> None:
        """Opens a socket that tells which ports are open in this network namespace, and hands it over."""
        with _step("cannot ask which ports are open"):
            sock = sock_diag.open_socket()
        ports = _setting("/proc/sys/net/ipv4/ip_local_port_range") or "32768 60999"
        socket.send_fds(self._channel, [b"D" + ports.encode()], [sock.fileno()])

    def execute(
        self,
        command: Sequence[str],
        mask: Iterable[int] | None,
        pass_fds: Sequence[int],
        environ: Mapping[str, str] | None,
    ) -> NoReturn:
        """Becomes the command. The channel closes on success, which is what tells the parent."""
        for fd in pass_fds:
            os.set_inheritable(fd, True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # what Python ignores and a program does not expect
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it would reply to a pending one
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.execvpe(command[0], list(command), os.environ if environ is None else environ)
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ENOTDIR):
                raise CommandError(127, f"{command[0]}: command not found") from None
            raise CommandError(126, f"{command[0]} cannot be executed: {_reason(err)}") from None


class _step:
    """Names what was being done, and where it is known the remedy, when the operating system refuses."""

    def __init__(self, doing: str, why: Callable[[OSError], str | None] | None = None) -> None:
        self._doing = doing
        self._why = why

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            why = self._why(error) if self._why is not None else None
            raise SandboxError(f"{self._doing}: {why or _reason(error)}") from None


def _set_ping_group_range() -> None:
    """Lets everybody inside ping: a new network namespace starts with nobody."""
    for groups in ("0 2147483647", "0 0"):  # the second where only one group is mapped
        try:
            with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
                file.write(groups)
            return
        except OSError:
            continue  # a read-only /proc: root inside pings by a raw socket all the same


def _mount_resolv_conf(text: str) -> None:
    """Covers /etc/resolv.conf in this mount namespace: a file, a symlink, a dangling one, or nothing."""
    with _step("cannot mount a private /etc/resolv.conf"):
        # Ours stay here, while what the host mounts later still appears.
        namespace.mount("none", "/", None, namespace.MS_REC | namespace.MS_SLAVE)
        try:
            target = os.open("/etc/resolv.conf", os.O_PATH)
        except OSError:
            _shadow_etc(text)
        else:
            # The file lies on a tmpfs that is reachable for a moment only, and lives as long as what it
            # covers.
            _mount_tmpfs("/etc")
            _write("/etc/resolv.conf", text)
            namespace.mount("/etc/resolv.conf", f"/proc/self/fd/{target}", None, namespace.MS_BIND)
            namespace.umount("/etc", namespace.MNT_DETACH)
            os.close(target)
        for path in NAME_SERVICE_SOCKETS:
            if os.path.exists(path):
                namespace.mount("/dev/null", path, None, namespace.MS_BIND)


def _shadow_etc(text: str) -> None:
    """An /etc of symlinks to the real one: there is no file to mount upon."""
    stage = "/tmp" if os.path.isdir("/tmp") else "/run"  # covered until the new /etc moves to its place
    _mount_tmpfs(stage)
    os.mkdir(f"{stage}/.host", 0o755)
    namespace.mount("/etc", f"{stage}/.host", None, namespace.MS_BIND | namespace.MS_REC)
    for name in os.listdir("/etc"):
        if name != "resolv.conf":
            os.symlink(f".host/{name}", f"{stage}/{name}")
    _write(f"{stage}/resolv.conf", text)
    namespace.mount(stage, "/etc", None, MS_MOVE)


def _mount_tmpfs(path: str) -> None:
    namespace.mount("netstack", path, "tmpfs", namespace.MS_NOSUID | namespace.MS_NODEV, "mode=755")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o644)


# ---- the parent --------------------------------------------------------------------------------------------


def _receive(channel: socket.socket, step: bytes, fds: int = 0) -> tuple[bytes, list[int]]:
    """The child's next message without its first byte, which must be step (b"" for end of file)."""
    channel.settimeout(REPLY_SECONDS)
    try:
        message, received, _, _ = socket.recv_fds(channel, 4096, fds)
    except (ConnectionResetError, BrokenPipeError):
        message, received = b"", []
    except TimeoutError:
        raise SandboxError("the sandbox does not answer: it hangs while it is being set up") from None
    if message[:1] == b"E":
        code, text = message[1], message[2:].decode(errors="replace")
        raise SandboxError(text) if code == SandboxError.exit_code else CommandError(code, text)
    if message[:1] != step:
        raise SandboxError("the sandbox ended before it was set up: something has killed it")
    return message[1:], received


def _receive_tap(channel: socket.socket) -> Tap:
    message, fds = _receive(channel, b"T", 1)
    for fd in fds:
        os.set_inheritable(fd, False)
    return Tap(fds[0], struct.unpack("=I", message[:4])[0], message[4:].decode())


def _write_id_maps(pid: int) -> None:
    """Maps every id that we have onto itself where we may (root), otherwise the caller onto root."""
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        with open(f"/proc/self/{kind}_map") as file:
            ranges = [line.split() for line in file]
        if os.geteuid() == 0:
            with suppress(OSError):
                _write_proc(pid, f"{kind}_map", "".join(f"{at} {at} {n}\n" for at, _, n in ranges))
                continue
        try:
            if kind == "gid":  # otherwise a group that denies something could be dropped (user_namespaces(7))
                _write_proc(pid, "setgroups", "deny")
            _write_proc(pid, f"{kind}_map", f"0 {own} 1\n")
        except OSError as err:
            raise SandboxError(
                f"cannot write the {kind}_map of the sandbox: {_why_not_unshare(err)}"
            ) from None


def _write_proc(pid: int, name: str, text: str) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# ---- causes and remedies -----------------------------------------------------------------------------------


def _setting(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _why_not_unshare(err: OSError) -> str:
    no = "namespaces cannot be made: "
    if _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return f"{no}they are switched off for users; run sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("/proc/sys/user/max_user_namespaces") == "0":
        return f"{no}their number is limited to 0; run sudo sysctl -w user.max_user_namespaces=15000"
    if _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"{no}AppArmor restricts them; run sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if err.errno == errno.ENOSPC:
        return f"{no}there are too many or they are nested too deep; raise user.max_user_namespaces"
    if err.errno in (errno.EINVAL, errno.ENOSYS):
        return f"{no}this kernel has none (CONFIG_USER_NS, CONFIG_NET_NS); use another kernel"
    return (
        f"{no}{_reason(err)}; in a container, allow them (docker run --security-opt seccomp=unconfined "
        "--cap-add SYS_ADMIN)"
    )


def _why_not_setns(err: OSError) -> str | None:
    if err.errno == errno.EPERM:
        return "it belongs to another user; run netstack as that user or as root"
    return None


def _why_no_tap(err: OSError) -> str | None:
    device = "/dev/net/tun"
    if err.errno in (errno.EBUSY, errno.EINVAL):  # as a TAP, or as something else
        return "an interface of that name is in use; choose another with --ifname"
    if not os.path.exists(device):
        return f"{device} is missing; run sudo modprobe tun, or in a container docker run --device {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened; run sudo chmod 666 {device}"
    if err.errno == errno.EPERM:
        return "the namespace belongs to another user; run netstack as that user or as root"
    return None


def _reason(err: OSError) -> str:
    """The words for errno alone, without what was called."""
    return os.strerror(err.errno) if err.errno is not None else str(err)


def _identity(file: int | str) -> tuple[int, int]:
    status = os.stat(file)
    return status.st_dev, status.st_ino
