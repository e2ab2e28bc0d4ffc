"""Changes of the host's addresses and routes, as the kernel tells of them (rtnetlink(7)); on Linux only.

A socket of the kernel's, no library's: a gateway is to start in milliseconds.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["RouteWatcher"]

RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x10, 0x40, 0x100, 0x400
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_DELROUTE = 20, 21, 22, 24, 25
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
IFADDRMSG = 8  # bytes
ROOM = 1 << 16


class RouteWatcher:
    """Hears of every address and route that comes or goes in the network namespace it was made in.

    Attributes:
        fd: readable when there is something to :meth:`read`; -1 where the system has no such thing.
        overflows: how often there was more than the kernel could keep (ENOBUFS). The addresses are asked for anew then,
            and compared with those known before: none is missed.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.fd = -1
        self.overflows = 0
        self._known: set[str] = set()
        family = getattr(socket, "AF_NETLINK", None)
        if family is None:
            return
        with suppress(OSError):  # a sandbox may forbid it: then changes are seen a little later
            self._socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
            self._socket.bind((0, groups))
            self.fd = self._socket.fileno()
            self._known = addresses()  # after the socket: what comes in between is heard of as well

    def read(self) -> tuple[bool, list[str]]:
        """Whether anything has changed since the last call, and the addresses that this host has no more."""
        changed = overflow = False
        before = set(self._known)
        while self._socket is not None:
            try:
                data = self._socket.recv(ROOM)
            except BlockingIOError:
                break
            except OSError as err:
                changed = True
                if err.errno != errno.ENOBUFS:
                    break  # what else may be wrong with it would be so the next time, too
                overflow = True
                continue
            for kind, address in parse_messages(data):
                changed = True
                if address is not None and kind == RTM_NEWADDR:
                    self._known.add(address)
                elif address is not None and kind == RTM_DELADDR:
                    before.add(address)  # it may have come and gone since the last call
                    self._known.discard(address)
        if overflow:
            self.overflows += 1
            with suppress(OSError):
                self._known = addresses()
        gone = sorted(before - self._known)
        kept = {address for address in gone if has_address(address)}  # on another interface, or again
        self._known |= kept
        return changed, [address for address in gone if address not in kept]

    def close(self) -> None:
        """Stops listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket, self.fd = None, -1


def parse_messages(data: bytes) -> list[tuple[int, str | None]]:
    """The kinds of the messages about addresses and routes, with the address where it is about one."""
    return [
        (kind, _address(body) if kind in (RTM_NEWADDR, RTM_DELADDR) else None)
        for kind, body in _messages(data)
        if kind in (RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE)
    ]


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            break
        yield kind, data[at + HEADER.size : at + length]
        at += -(-length // 4) * 4


def addresses() -> set[str]:
    """All addresses of this network namespace, as the kernel lists them.

    Raises:
        OSError: it does not.
    """
    found: set[str] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(2)
        request = HEADER.pack(HEADER.size + IFADDRMSG, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
        sock.sendto(request + bytes(IFADDRMSG), (0, 0))
        while True:
            for kind, body in _messages(sock.recv(ROOM)):
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    raise OSError(errno.EPROTO, "the kernel does not list its addresses")
                address = _address(body) if kind == RTM_NEWADDR else None
                if address is not None:
                    found.add(address)


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
