"""A laboratory of network namespaces: a guest, the host that netstack runs on, and a world behind a router.

    guest ── TAP ── netstack in host ── veth ── router ── veth ── world

Nothing in it touches the machine's own network, so tests and benches may bind any port and break any path::

    with Lab() as lab:
        server = lab.host.listen("127.0.0.1", 8000)
        lab.attach()
        client = lab.guest.connect(HOST_ALIAS, 8000)

It needs root, or the user namespace that ``python -m netstack.testing.lab -- COMMAND`` makes. Tests that use
it should first ask :func:`netstack.testing.namespace.unavailable`.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import SandboxError
from .namespace import Namespace, Process, ProgramError, remove_stale, unavailable, workspace

if TYPE_CHECKING:
    from ..config import Config
    from ..gateway import Gateway

__all__ = ["GATEWAY", "GUEST", "HOST_ALIAS", "ROUTER", "UNREACHABLE", "WORLD", "WORLD_HOST", "Lab"]

GATEWAY = "192.168.65.1"
HOST_ALIAS = "192.168.65.2"
GUEST = "192.168.65.3"
PREFIX_LENGTH = 24

# Addresses of the documentation ranges (RFC 5737), which lead nowhere outside a laboratory.
WORLD_HOST = "198.51.100.1"  #: the host's own address towards the router
ROUTER = "198.51.100.2"
ROUTER_FAR = "203.0.113.1"
WORLD = "203.0.113.2"
NOBODY = (
    "203.0.113.99"  #: on the world's network, but nobody has it: the router says so after its ARP time-out
)
UNREACHABLE = "192.0.2.1"  #: the router answers "host unreachable" at once
SILENT = "198.18.0.1"  #: the router drops everything for it

TAP = "tap0"
BAD_PATH = "imp0"


class Lab:
    """The namespaces of one experiment; a context manager. Everything started in it ends with it.

    Args:
        congestion: TCP congestion control in all its namespaces, where the caller may choose it.

    Attributes:
        host: where netstack runs. Its loopback is what the guest reaches at ``HOST_ALIAS``.
        guest: has a TAP device and nothing else.
        between: behind an impaired path, the namespace whose bridge ``br0`` joins it to netstack's TAP.
    """

    host: Namespace
    guest: Namespace
    between: Namespace | None = None

    _made = 0

    def __init__(self, congestion: str = "cubic") -> None:
        self.congestion = congestion
        self._stack = contextlib.ExitStack()
        Lab._made += 1
        self._number = Lab._made

    def __enter__(self) -> Lab:
        reason = unavailable()
        if reason is not None:
            raise SandboxError(reason)
        remove_stale()
        self.directory = workspace()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self.host = self.namespace("host")
            self.guest = self.namespace("guest")
            self.guest.resolv_conf.write_text(f"nameserver {GATEWAY}\n")
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- topology

    def namespace(self, role: str) -> Namespace:
        """Another namespace, removed with the laboratory."""
        ns = Namespace.create(f"{self._number}{role}", self.directory, self.congestion)
        self._stack.callback(ns.close)
        return ns

    def veth(
        self, left: tuple[Namespace, str, str], right: tuple[Namespace, str, str], mtu: int = 1500
    ) -> None:
        """A cable between two namespaces; each end is (namespace, device name, "ADDRESS/LENGTH" or "")."""
        near, near_device, _ = left
        far, far_device, _ = right
        near.ip(
            *("link", "add", near_device, "mtu", str(mtu), "type", "veth"),
            *("peer", "name", far_device, "netns", far.name, "mtu", str(mtu)),
        )
        for ns, device, address in (left, right):
            if address:
                ns.ip("address", "add", address, "dev", device)
            ns.ip("link", "set", device, "up")

    def world(self, mtu: int = 1500) -> tuple[Namespace, Namespace]:
        """Puts a router and a remote network behind the host: (router, world).

        The router knows ``UNREACHABLE`` as unreachable and drops what goes to ``SILENT``. ``mtu`` is that
        of the far network: below 1500 the path to the world has a bottleneck for path MTU discovery.
        """
        router, world = self.namespace("router"), self.namespace("world")
        self.veth((self.host, "up0", f"{WORLD_HOST}/24"), (router, "down0", f"{ROUTER}/24"))
        self.veth((router, "up0", f"{ROUTER_FAR}/24"), (world, "down0", f"{WORLD}/24"), mtu)
        router.sysctl("net.ipv4.ip_forward", "1")
        for key in ("icmp_ratelimit", "icmp_msgs_per_sec"):  # every error is sent: tests count on it
            with contextlib.suppress(OSError):
                router.sysctl(f"net.ipv4.{key}", "0" if key == "icmp_ratelimit" else "100000")
        self.host.ip("route", "add", "default", "via", ROUTER)
        world.ip("route", "add", "default", "via", ROUTER_FAR)
        router.ip("route", "add", "unreachable", f"{UNREACHABLE}/32")
        router.ip("route", "add", "blackhole", f"{SILENT}/32")
        return router, world

    def configure_guest(self, device: str = TAP, address: str = GUEST, mtu: int | None = None) -> None:
        """Gives the guest's device its address and default route, as DHCP would."""
        if mtu is not None:
            self.guest.ip("link", "set", device, "mtu", str(mtu))
        self.guest.ip("address", "replace", f"{address}/{PREFIX_LENGTH}", "dev", device)
        self.guest.ip("link", "set", device, "up")
        self.guest.ip("route", "replace", "default", "via", GATEWAY)

    # --- what stands between the guest and the host

    def wire_by_kernel(self) -> None:
        """The guest gets a cable to the host, which routes for it: what netstack is compared with."""
        self.veth((self.guest, TAP, ""), (self.host, "guest0", f"{GATEWAY}/{PREFIX_LENGTH}"))
        self.host.ip("address", "add", f"{HOST_ALIAS}/{PREFIX_LENGTH}", "dev", "guest0")
        self.host.sysctl("net.ipv4.ip_forward", "1")
        self.configure_guest()

    def attach(
        self,
        *options: str,
        mtu: int = 1500,
        configure: bool = True,
        impairment: dict[str, float] | None = None,
    ) -> Process:
        """Starts ``netstack attach`` for the guest, in the host namespace; returns when packets flow.

        Args:
            options: more options of the command.
            mtu: of the guest's device.
            configure: the guest's device gets its address (from the command, or from the laboratory behind an
                impaired path).
            impairment: settings of :class:`netstack.link.impair.Impairment` for both ways between guest and
                stack.

        Raises:
            ProgramError: it ended, or was not ready in time; the message holds what it printed.
        """
        target = self.guest if impairment is None else self._bad_path(impairment)
        reader, writer = os.pipe()
        try:
            argv = [
                *(sys.executable, "-m", "netstack", "attach"),
                *("--netns", str(target.path), "--ifname", TAP, "--mtu", str(mtu), "--ready-fd", str(writer)),
                *(() if configure and impairment is None else ("--no-configure",)),
                *options,
            ]
            process = self.host.spawn(*argv, pass_fds=[writer], env=python_environment())
        finally:
            os.close(writer)
        try:
            _await_ready(process, reader)
        finally:
            os.close(reader)
        if impairment is not None:
            self._join_bridge(target)
            if configure:
                self.configure_guest(BAD_PATH, mtu=mtu)
        return process

    @contextlib.contextmanager
    def gateway(
        self,
        config: Config | None = None,
        configure: bool = True,
        impairment: dict[str, float] | None = None,
    ) -> Iterator[Gateway]:
        """A gateway of this process that serves the guest; its threads are in the host namespace."""
        from ..config import Config
        from ..gateway import Gateway
        from ..host.namespace import open_tap

        settings = config or Config()
        if settings.dns is None:
            settings = settings.replace(resolv_conf=str(self.host.resolv_conf))
        target = self.guest if impairment is None else self._bad_path(impairment)
        with target.entered():
            fd, _, granted = open_tap(TAP)
        with self.host.entered():
            gw = Gateway(settings)
            gw.add_tap(fd, granted, mtu=settings.mtu)
            gw.start()
        try:
            if impairment is not None:
                self._join_bridge(target)
            if configure:
                self.configure_guest(TAP if impairment is None else BAD_PATH, mtu=settings.mtu)
            yield gw
        finally:
            gw.stop()

    def _bad_path(self, impairment: dict[str, float]) -> Namespace:
        """Joins the guest's ``imp0`` and a bridge in a namespace between: that one."""
        from ..host.namespace import open_tap
        from .impairment import ImpairmentBox

        between = self.between = self.namespace("bridge")
        ends = []
        for ns in (self.guest, between):
            with ns.entered():
                fd, _, _ = open_tap(BAD_PATH, 0)
            self._stack.callback(os.close, fd)
            ends.append(fd)
        other = {**impairment, "seed": int(impairment.get("seed", 1)) + 1}  # the two ways fail on their own
        self._stack.enter_context(ImpairmentBox(ends[0], ends[1], up=impairment, down=other))
        between.ip("link", "add", "br0", "type", "bridge")
        for device in (BAD_PATH, "br0"):
            between.ip("link", "set", device, "up")
        between.ip("link", "set", BAD_PATH, "master", "br0")
        return between

    @staticmethod
    def _join_bridge(between: Namespace) -> None:
        between.ip("link", "set", TAP, "up")
        between.ip("link", "set", TAP, "master", "br0")


def python_environment() -> dict[str, str]:
    """The environment in which a Python child finds this netstack, whatever its working directory."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _await_ready(process: Process, reader: int, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([reader], [], [], 0.1)[0]:
            if os.read(reader, 64):
                return
            break  # closed without a word: it is ending
    if process.running:
        process.stop()
        raise ProgramError(f"{process!r} was not ready in {timeout} s; it printed:\n{process.text}")
    raise ProgramError(f"{process!r} ended with status {process.returncode}; it printed:\n{process.text}")


def main(argv: Sequence[str]) -> int:
    """``python -m netstack.testing.lab [--] COMMAND``: runs it as root of a user namespace.

    Laboratories work inside it without privilege, where the machine allows user namespaces and /dev/net/tun.
    """
    command = list(argv[1:] if argv[:1] == ["--"] else argv)
    if not command:
        print("usage: python -m netstack.testing.lab -- COMMAND [ARGUMENTS]", file=sys.stderr)
        return 2
    unshare = shutil.which("unshare")
    if unshare is None:
        print("the program 'unshare' is missing: install util-linux", file=sys.stderr)
        return 125
    # `ip netns` keeps names below /run/netns, which is the machine's; a file system of our own hides it.
    setup = (
        "if [ -d /run/netns ]; then mount -t tmpfs tmpfs /run/netns; else"
        " target=$(readlink -f /etc/resolv.conf); mount -t tmpfs tmpfs /run"
        ' && mkdir -p /run/netns "${target%/*}" && { [ -e "$target" ] || : > "$target"; }; fi && exec "$@"'
    )
    return os.execv(
        unshare, [unshare, "--user", "--map-root-user", "--net", "--mount", "sh", "-c", setup, "sh", *command]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
