"""Outgoing sockets that Python opens: bound as the engine binds its own, and whether the host lets us."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from .errors import NetstackError
from .log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config

__all__ = ["bind_outbound", "check_outbound"]

SO_BINDTODEVICE = getattr(socket, "SO_BINDTODEVICE", 25)  # both are Linux's
SO_MARK = getattr(socket, "SO_MARK", 36)


def bind_outbound(sock: socket.socket, address: str, config: Config) -> None:
    """Gives a socket the mark, interface and address of the settings; to the host's loopback nothing but the mark.

    Args:
        sock: not connected, of `address`'s family.
        address: where it will connect to, as text; a scope may follow (``fe80::1%eth0``).
    """
    if config.outbound_mark:
        _mark(sock, config.outbound_mark)
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return
    if config.outbound_interface:
        _interface(sock, config.outbound_interface)
    if config.outbound_address and sock.family == socket.AF_INET:
        _address(sock, config.outbound_address)


def check_outbound(config: Config) -> None:
    """Tries the settings on a socket that sends nothing, so that what can never work is said before a guest meets it.

    An interface or an address that is not there may still come, as those of a VPN do: that is a warning.

    Raises:
        NetstackError: this system cannot do it, or this user may not.
    """
    tries: tuple[tuple[Any, str, Callable[[socket.socket, Any], None]], ...] = (
        (config.outbound_mark, "mark outgoing packets (--mark)", _mark),
        (config.outbound_interface, "bind to an interface (--outbound-interface)", _interface),
        (config.outbound_address, "bind to an address (--outbound-address)", _address),
    )
    for setting, words, apply in tries:
        if setting:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                try:
                    apply(sock, setting)
                except OSError as err:
                    _explain(err, setting, words)


def _explain(err: OSError, setting: int | str, words: str) -> None:
    if err.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        logger().warning("this host has no %s: connections of guests fail until it has", setting)
    elif err.errno in (errno.EPERM, errno.EACCES):
        raise NetstackError(
            f"this user may not {words}: run netstack as root, or leave the setting out"
        ) from None
    else:
        raise NetstackError(f"this host cannot {words}: {os.strerror(err.errno or 0)}") from None


def _mark(sock: socket.socket, mark: int) -> None:
    _linux()
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)


def _interface(sock: socket.socket, name: str) -> None:
    _linux()
    sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, name.encode() + b"\0")


def _address(sock: socket.socket, address: str) -> None:
    sock.bind((address, 0))


def _linux() -> None:
    """Other systems have other options behind the same numbers."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
