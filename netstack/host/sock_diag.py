"""Which ports are open in a network namespace, asked of the kernel (sock_diag(7), Linux).

A socket of this kind answers for the namespace it was opened in, whoever asks. Its messages are written and read here,
without a library, since they are a few fixed fields that are looked at several times a second.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["OpenPort", "open_ports", "open_socket"]

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x01, 0x300, 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_SKV6ONLY = 11
TCP_CLOSE, TCP_LISTEN = 7, 10  # states; an unconnected UDP socket is in the former

HEAD = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
REQUEST = struct.Struct("=BBBBI48x")  # inet_diag_req_v2: family, protocol, extensions, padding, states, id
ANSWER = struct.Struct("=BBBB2s2s16s16sI8x20x")  # inet_diag_msg, with the id's ports and addresses
ATTRIBUTE = struct.Struct("=HH")  # length, type
BUFFER = 1 << 16
PATIENCE_SECONDS = 5.0
TRIES = 4  # of a list that has changed while it was read


class OpenPort(NamedTuple):
    """A port that something waits at.

    ``address`` is the IPv4 address it is bound to, 0.0.0.0 for all; a socket for IPv6 and IPv4 has it too.
    """

    protocol: str
    address: str
    port: int


def open_socket() -> socket.socket:
    """A socket that answers for the calling thread's network namespace.

    Raises:
        OSError: the kernel has none (CONFIG_INET_DIAG), or this is another system.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    sock.settimeout(PATIENCE_SECONDS)
    return sock


def open_ports(sock: socket.socket) -> set[OpenPort]:
    """The TCP ports that are listened at, and the unconnected UDP ports, as far as IPv4 reaches them.

    Raises:
        OSError: the kernel cannot say.
    """
    found = set()
    for name, protocol, state in (("tcp", 6, TCP_LISTEN), ("udp", 17, TCP_CLOSE)):
        for family in (socket.AF_INET, socket.AF_INET6):
            for address, port in _asked(sock, family, protocol, state):
                if port:
                    found.add(OpenPort(name, address, port))
    return found


def _asked(sock: socket.socket, family: int, protocol: int, state: int) -> list[tuple[str, int]]:
    for _ in range(TRIES):
        body = REQUEST.pack(family, protocol, 0, 0, 1 << state)
        sock.send(
            HEAD.pack(HEAD.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body
        )
        found = []
        whole = True
        for kind, flags, data in _messages(sock):
            whole &= not flags & NLM_F_DUMP_INTR
            if kind == SOCK_DIAG_BY_FAMILY and len(data) >= ANSWER.size:
                place = _place(data)
                if place is not None:
                    found.append(place)
        if whole:
            return found
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _messages(sock: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, what follows the head) of each message, as far as the last."""
    while True:
        data = sock.recv(BUFFER)
        at = 0
        while at + HEAD.size <= len(data):
            length, kind, flags, _, _ = HEAD.unpack_from(data, at)
            if length < HEAD.size or at + length > len(data):
                raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
            body = data[at + HEAD.size : at + length]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number == errno.ENOENT:  # the kernel knows no such family or protocol
                    return
                raise OSError(number, os.strerror(number))
            yield kind, flags, body
            at += (length + 3) & ~3


def _place(data: bytes) -> tuple[str, int] | None:
    """(IPv4 address, port) of a socket; None where IPv4 does not reach it."""
    family, _, _, _, port, _, source, _, _ = ANSWER.unpack_from(data)
    number = int.from_bytes(port, "big")
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(source[:4])), number
    address = ipaddress.IPv6Address(source)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped), number
    if any(source) or _only_ipv6(data):
        return None
    return "0.0.0.0", number


def _only_ipv6(data: bytes) -> bool:
    at = ANSWER.size
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if kind == INET_DIAG_SKV6ONLY and length > ATTRIBUTE.size:
            return bool(data[at + ATTRIBUTE.size])
        at += max(ATTRIBUTE.size, (length + 3) & ~3)
    return False
