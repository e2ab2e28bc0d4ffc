"""Changes of the host's addresses and routes, as the kernel tells of them (rtnetlink(7)); on Linux only.

A socket of the kernel's, no library's: a gateway is to start in milliseconds.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from contextlib import suppress

__all__ = ["RouteWatcher"]

RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x10, 0x40, 0x100, 0x400
RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 20, 21, 24, 25
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
IFADDRMSG = 8  # bytes
ROOM = 1 << 16


class RouteWatcher:
    """Hears of every address and route that comes or goes in the network namespace it was made in.

    Attributes:
        fd: readable when there is something to :meth:`read`; -1 where the system has no such thing.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.fd = -1
        family = getattr(socket, "AF_NETLINK", None)
        if family is None:
            return
        with suppress(OSError):  # a sandbox may forbid it: then changes are seen a little later
            self._socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
            self._socket.bind((0, groups))
            self.fd = self._socket.fileno()

    def read(self) -> tuple[bool, list[str]]:
        """Whether anything has changed since the last call, and the addresses that this host has no more."""
        changed = False
        removed: dict[str, None] = {}
        while self._socket is not None:
            try:
                data = self._socket.recv(ROOM)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: there was more than could be kept
                changed = True
                continue
            kinds, gone = parse_messages(data)
            changed = changed or bool(kinds)
            removed |= dict.fromkeys(gone)
        return changed, [address for address in removed if not has_address(address)]

    def close(self) -> None:
        """Stops listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket, self.fd = None, -1


def parse_messages(data: bytes) -> tuple[list[int], list[str]]:
    """The kinds of the messages about addresses and routes, and the addresses that were taken away."""
    kinds: list[int] = []
    gone: list[str] = []
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            break
        if kind in (RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE):
            kinds.append(kind)
        if kind == RTM_DELADDR:
            address = _address(data[at + HEADER.size : at + length])
            if address is not None:
                gone.append(address)
        at += -(-length // 4) * 4
    return kinds, gone


def _address(message: bytes) -> str | None:
    """The local address in an ifaddrmsg with its attributes."""
    found: dict[int, bytes] = {}
    at = IFADDRMSG
    while at + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, at)
        if length < ATTRIBUTE.size or at + length > len(message):
            break
        found[kind] = message[at + ATTRIBUTE.size : at + length]
        at += -(-length // 4) * 4
    packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))
    return str(ipaddress.ip_address(packed)) if len(packed) in (4, 16) else None


def has_address(address: str) -> bool:
    """Whether this host has the address still (on another interface, or again)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
