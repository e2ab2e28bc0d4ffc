"""``netstack connect``: standard input and output joined to a port of a guest."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading

import click

from netstack.cli.instance import Seconds, instance_option
from netstack.errors import NetstackError

__all__ = ["command", "join"]

BLOCK = 1 << 18  # bytes read at once


class ConnectionLost(NetstackError):
    """The connection has ended otherwise than by its end."""


@click.command(
    "connect",
    epilog="""\b
Examples:
  netstack connect web:80
  ssh -o ProxyCommand='netstack connect %h:%p' user@web
  netstack connect 192.168.65.3:7000 < file""",
)
@click.argument("place", metavar="GUEST:PORT")
@click.option(
    "-w",
    "--timeout",
    type=Seconds(0, 3600, min_open=True),
    metavar="SECONDS",
    help="Give up connecting after so long, instead of when TCP does.",
)
@instance_option
def connect(place: str, timeout: float | None, instance: str | None) -> int:
    """Join standard input and output to a TCP port of a guest.

    GUEST is a name or an address; :PORT alone means the only guest. The guest sees the gateway as its peer. The end
    of standard input ends that direction only: what the guest still sends is printed until it ends too.
    """
    from netstack.control.client import choose

    guest, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise click.BadParameter(f"{place!r} is not GUEST:PORT", param_hint="GUEST:PORT")
    wanted = {"guest": guest, "port": int(port), "timeout": timeout}
    channel, fd = choose(instance).descriptor("/v1/connect", wanted)
    channel.close()
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(True)
        join(sock)
    return 0


def join(sock: socket.socket, read_fd: int = 0, write_fd: int = 1) -> None:
    """Copies descriptor to socket and socket to descriptor until both have ended, each direction by itself.

    A terminal has no end of its own, so that it is not waited for.

    Raises:
        ConnectionLost: the guest has reset the connection, or the instance has ended.
        BrokenPipeError: nobody reads the output.
    """
    failed: list[OSError] = []

    def up() -> None:
        try:
            while data := os.read(read_fd, BLOCK):
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError as err:
            failed.append(err)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # the other direction need not wait for a guest that has gone

    writing = threading.Thread(target=up, name="up", daemon=True)
    writing.start()
    try:
        while data := sock.recv(BLOCK):
            view = memoryview(data)
            while view:
                view = view[os.write(write_fd, view) :]
    except ConnectionResetError as err:
        failed.append(err)
    if not failed:
        os.close(write_fd)
        if not os.isatty(read_fd):
            writing.join()
    if failed:
        raise lost(failed[0])


def lost(err: OSError) -> ConnectionLost:
    """The sentence for a connection that has broken."""
    if err.errno in (errno.EPIPE, errno.ECONNRESET):
        return ConnectionLost("the guest has closed the connection, and takes no more")
    return ConnectionLost(f"the connection is lost: {err.strerror or err}")


def command() -> click.Command:
    """The command as click sees it."""
    return connect
