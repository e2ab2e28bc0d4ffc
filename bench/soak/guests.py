"""Guests that come and go: each a namespace with a TAP that leads to the service, and an address by DHCP."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from netstack.host import namespace
from netstack.link.pump import Pump
from netstack.testing.lab import Lab
from netstack.testing.namespace import Namespace, in_thread

__all__ = ["VISITORS", "visit"]

VISITORS = 16  #: different MAC addresses: a network whose guests come back
DEVICE = "tap0"
MTU = 1500
LEASE = """#!/bin/sh
case "$1" in
bound | renew) ip address replace "$ip/$mask" dev "$interface" && ip route replace default via "$router" ;;
esac
"""


def dhcp_client(folder: Path) -> list[str]:
    """The command of a DHCP client that configures the device; its script lies in ``folder``.

    Raises:
        FileNotFoundError: there is no udhcpc.
    """
    script = folder / "lease"
    if not script.exists():
        script.write_text(LEASE)
        script.chmod(0o755)
    if (program := shutil.which("udhcpc")) is not None:
        argv = [program]
    elif (program := shutil.which("busybox")) is not None:
        argv = [program, "udhcpc"]
    else:
        raise FileNotFoundError("no udhcpc: install the package udhcpc or busybox")
    return [*argv, "-i", DEVICE, "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", str(script)]


@contextlib.contextmanager
def visit(lab: Lab, place: Path, number: int) -> Iterator[Namespace]:
    """A visitor with an address of its own, for as long as the block lasts; its link then ends without a word."""
    with contextlib.ExitStack() as stack:
        visitor = Namespace.create(f"visitor{number}", lab.directory)
        stack.callback(_remove, visitor)
        with visitor.entered():
            fd, name, granted = namespace.open_tap(DEVICE)
            mac = bytes((2, 0, 0, 0, 1, number % VISITORS))
            namespace.set_interface(name, mac=mac, mtu=MTU, up=True)
        stop, stopper = os.pipe()
        stack.callback(os.close, stop)
        pump = Pump(fd, granted, MTU, stop)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(place))
            sock.setblocking(False)
            out = os.dup(sock.fileno())
        pump.attach_stream(out, out, "qemu")
        stack.callback(pump.detach)
        wait = in_thread(pump.run, "visitor")
        stack.callback(wait, 20)
        stack.callback(os.close, stopper)
        visitor.run(*dhcp_client(lab.directory), timeout=30)
        yield visitor


def _remove(visitor: Namespace) -> None:
    visitor.close()
    for left in visitor.directory.glob(f"{visitor.name}.*"):
        left.unlink()
