"""``netstack relay``: a Linux TAP joined to a link, from inside the guest."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import click

from netstack.cli.options import MTU_RANGE, require_linux, tell_ready, to_write_to
from netstack.errors import ConfigError, NetstackError, SandboxError
from netstack.link.spec import KINDS, TARGETS, LinkSpec, is_interface_name, parse_target

if TYPE_CHECKING:
    from netstack.link.hyperkit import Vif
    from netstack.link.pump import Pump

__all__ = ["command"]

log = logging.getLogger("netstack.relay")

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 1.0


class Stopped(Exception):
    """A signal has come."""


class Relay:
    """One TAP and whatever it is joined to at present."""

    def __init__(
        self, tap: str, target: LinkSpec, who: uuid.UUID, address: IPv4Address | None, mtu: int | None
    ) -> None:
        from netstack.host import namespace

        self._namespace = namespace
        self._target = target
        self._who = who
        self._address = address
        self._mtu = mtu
        self._pump: Pump | None = None
        self._framing = target.kind
        try:
            self._fd, self.name, self._granted = namespace.open_tap(tap)
        except OSError as err:
            needed = "; it needs root" if err.errno in (errno.EPERM, errno.EACCES) else ""
            raise SandboxError(f"{err.strerror or err}{needed}") from None
        self._stop_read, self._stop_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stopped = False

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT end the relay, wherever it is."""
        signal.set_wakeup_fd(self._stop_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True
        raise Stopped

    # --- the other side

    def connect(self) -> tuple[int, int, Vif | None]:
        """Descriptors to read from and write to, and what the server granted. The framing is known then.

        Raises:
            OSError: nobody is there.
            NetstackError: whoever is there does not speak this protocol, or refuses.
        """
        if self._target.family == "stdio":
            return os.dup(0), os.dup(1), self._handshake(_from_stdin, _to_stdout)
        with self._socket() as sock:

            def receive(n: int) -> bytes:
                return sock.recv(n)

            vif = self._handshake(receive, sock.sendall)
            fd = os.dup(sock.fileno())
            os.set_inheritable(fd, False)
            return fd, fd, vif

    def trouble(self, err: OSError | NetstackError) -> str:
        """The sentence for a session that did not come about."""
        if isinstance(err, OSError) and type(err) is not ConnectionError:  # which is what the handshake says
            return f"{self._target} cannot be reached: {err.strerror or err}"
        return str(err)

    def _socket(self) -> socket.socket:
        t = self._target
        kind = socket.SOCK_SEQPACKET if KINDS[t.kind] == "packet" else socket.SOCK_STREAM
        if t.family == "tcp":
            sock = socket.create_connection((t.host, t.port), CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        where: str | tuple[int, int] = t.path
        family = socket.AF_UNIX
        if t.family == "vsock":
            family, where = socket.AF_VSOCK, (int(t.host), t.port)
        sock = socket.socket(family, kind)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(where)
        except BaseException:
            sock.close()
            raise
        return sock

    def _handshake(self, receive: Callable[[int], bytes], send: Callable[[bytes], None]) -> Vif | None:
        self._framing = self._target.kind
        if self._target.kind != "hyperkit":
            return None
        from netstack.link.hyperkit import ClientHandshake

        state = ClientHandshake(self._who, self._address, ask_offload=True)
        send(state.begin())
        while state.need:
            data = bytearray()
            while len(data) < state.need:
                piece = receive(state.need - len(data))
                if not piece:
                    raise ConnectionError(f"{self._target} closed the connection in the handshake")
                data += piece
            answer = state.receive(bytes(data))
            if answer:
                send(answer)
        if state.offload:
            self._framing = "offload"
        return state.vif

    # --- the TAP

    def _configure(self, vif: Vif | None) -> int:
        """Gives the TAP what the server granted and brings it up; its MTU."""
        ns = self._namespace
        mtu = self._mtu or (vif.mtu if vif is not None else ns.interface_mtu(self.name))
        ns.set_interface(self.name, mac=vif.mac if vif is not None else None, mtu=mtu, up=True)
        return mtu

    def session(self) -> str:
        """Connects and carries frames until either side ends: "tap", "link" or "stop"."""
        fd, out_fd, vif = self.connect()
        try:
            mtu = self._configure(vif)
            if self._pump is None:
                from netstack.link.pump import Pump

                self._pump = Pump(self._fd, self._granted, mtu, self._stop_read)
            if KINDS[self._target.kind] == "packet":
                self._pump.attach_messages(fd, "packets")
            else:
                self._pump.attach_stream(fd, out_fd, self._framing)
        except BaseException:
            os.close(fd)
            if out_fd != fd:
                os.close(out_fd)
            raise
        log.info("%s is joined to %s", self.name, self._target)
        self.joined()
        try:
            return self._pump.run()
        finally:
            self._pump.detach()

    def joined(self) -> None:
        """Called when frames begin to flow."""


def _from_stdin(n: int) -> bytes:
    return os.read(0, n)


def _to_stdout(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def run(relay: Relay, once: bool) -> int:
    """Joins again and again, unless ``once``; the exit status."""
    complained = ""
    try:
        while True:
            try:
                ended = relay.session()
                complained = ""
            except (OSError, NetstackError) as err:
                text = relay.trouble(err)
                if once or relay.stopped:
                    if isinstance(err, NetstackError):
                        raise
                    raise NetstackError(text) from None
                if text != complained:  # one line, not one a second
                    log.warning("%s: trying again every %g s", text, RETRY_SECONDS)
                complained = text
                ended = ""
            if ended == "tap":
                log.warning("the TAP %s has gone", relay.name)
                return 1
            if ended == "stop":
                return 0
            if ended == "link":
                log.warning("the link of %s has ended", relay.name)
                if once:
                    return 0
            time.sleep(RETRY_SECONDS)
    except Stopped:
        return 0


READY = "Write a line with 1 to this descriptor when frames first flow, and close it."


@click.command(
    "relay",
    epilog="""\b
Examples:
  netstack relay tap:eth1 --connect vsock:2:1024
  netstack relay tap:tap0 --connect hyperkit:/tmp/eth.sock
  netstack relay tap:tap0 --connect stdio      at the other end of two pipes: netstack serve --listen stdio:hyperkit""",
)
@click.argument("tap", metavar="tap:NAME")
@click.option("--connect", required=True, metavar="PLACE", help=f"{TARGETS}.")
@click.option(
    "--uuid", "who", type=click.UUID, help="Who we are to a HyperKit server: the same gets the same address."
)
@click.option("--address", metavar="IP", help="The address we should like from it.")
@click.option(
    "--mtu",
    type=click.IntRange(*MTU_RANGE),
    metavar="BYTES",
    help="Instead of what the server says, or the TAP has.",
)
@click.option("--once", is_flag=True, help="End when the link does, and fail when there is none.")
@click.option("--ready-fd", type=int, callback=to_write_to, metavar="N", help=READY)
def relay_command(
    tap: str,
    connect: str,
    who: uuid.UUID | None,
    address: str | None,
    mtu: int | None,
    once: bool,
    ready_fd: int | None,
) -> int:
    """Join a TAP of this machine to a link that a netstack serve, or a VPNKit, has elsewhere.

    Runs in the guest, opens (or makes) the TAP, gives it the MAC and MTU that a HyperKit server grants, and
    brings it up; the address is left to a DHCP client. When the link ends it connects again.
    """
    require_linux("relay")
    kind, colon, name = tap.partition(":")
    if not colon:
        kind, name = "tap", tap
    if kind != "tap" or not is_interface_name(name):
        raise ConfigError(f"{tap!r} is not tap:NAME")
    target = parse_target(connect)
    try:
        preferred = IPv4Address(address) if address else None
    except ValueError:
        raise ConfigError(f"--address {address!r} is not an IPv4 address") from None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("netstack relay: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    relay = Relay(name, target, who or uuid.uuid4(), preferred, mtu)
    if ready_fd is not None:
        relay.joined = ready(ready_fd)  # type: ignore[method-assign]
    try:
        relay.catch_signals()
        return run(relay, once or target.family == "stdio")
    except Stopped:
        return 0


def ready(fd: int) -> Callable[[], None]:
    """What writes to the ready descriptor, once."""
    waiting = [fd]

    def tell() -> None:
        while waiting:
            tell_ready(waiting.pop())

    return tell


def command() -> click.Command:
    """The command as click sees it."""
    return relay_command
