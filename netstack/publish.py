"""Published ports: Docker's way of writing them, and the host's sockets that they stand for.

A specification is read from the right: the guest's port, in front of it the host's port, in front of that an address of
the host or the name or address of a guest::

    80                          a port of the host that is free      8080:80          every address of the host
    127.0.0.1:8080:80/udp       one address, UDP                     [::1]:8080:80    IPv6
    8000-8099:8000-8099         a range                              unix:/run/x.sock:80
    8080:web:80                 the guest named web                  127.0.0.1:8080:192.168.65.7:80
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ConfigError, NetstackError

__all__ = ["PortSpec", "PublishError", "bind", "host_port"]

BACKLOG = 4096  # the kernel takes the less of this and net.core.somaxconn
NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"


class PublishError(NetstackError):
    """A port cannot be published; the message names it and says what to do.

    Attributes:
        errno: the system's reason, 0 where it is not the system that refuses.
    """

    def __init__(self, text: str, errno: int = 0) -> None:
        super().__init__(text)
        self.errno = errno


@dataclass(frozen=True)
class PortSpec:
    """What is to be published.

    Attributes:
        guest_port: first port in the guest.
        host_port: first port of the host; 0 = one that is free.
        count: how many ports, 1 where there is no range.
        address: of the host; "" = every address (IPv4, and IPv6 where the host has it).
        protocol: "tcp" or "udp".
        guest: name or address of the guest; "" = the only one.
        path: of a Unix socket, instead of address and host_port.
    """

    guest_port: int
    host_port: int = 0
    count: int = 1
    address: str = ""
    protocol: str = "tcp"
    guest: str = ""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> PortSpec:
        """Reads Docker's notation.

        Raises:
            ConfigError: it cannot be understood; the message says what is wrong with it.
        """

        def wrong(why: str) -> ConfigError:
            return ConfigError(f"the published port {text!r} cannot be used: {why}")

        body, slash, protocol = text.strip().rpartition("/")
        if not slash or (body.startswith("unix:") and not body.rpartition(":")[2].isdigit()):
            body, protocol = text.strip(), "tcp"
        protocol = protocol.lower()
        if protocol not in ("tcp", "udp"):
            raise wrong(f"the protocol is tcp or udp, not {protocol}")
        if body.startswith("unix:"):
            path, colon, last = body[5:].rpartition(":")
            guest = ""
            if colon and "/" in path and (match := re.fullmatch(r"(.+):([^:/]+)", path)):
                path, guest = match[1], match[2]
            if not colon or not path.startswith("/"):
                raise wrong("a Unix socket is written unix:/absolute/path:GUESTPORT")
            if protocol != "tcp":
                raise wrong("a Unix socket carries TCP only")
            first, count = _ports(last, wrong)
            if count != 1 or first == 0:
                raise wrong("a Unix socket leads to one port, 1 to 65535")
            return cls(first, path=path, guest=_guest(guest, wrong))
        fields = re.split(r":(?![^\[]*\])", body)
        guest_port, count = _ports(fields.pop(), wrong)
        guest = address = host = ""
        if len(fields) == 1:
            (host,) = fields
        elif len(fields) == 2 and (not fields[1] or _is_ports(fields[1])):
            address, host = fields
        elif len(fields) == 2:
            host, guest = fields
        elif len(fields) == 3:
            address, host, guest = fields
        elif fields:
            raise wrong(
                "it is written [ADDRESS:][PORT:][GUEST:]GUESTPORT[/tcp|/udp], an IPv6 address in brackets"
            )
        host_port = 0
        if host and host != "0":
            host_port, host_count = _ports(host, wrong)
            if host_count != count:
                raise wrong(f"{host_count} ports of the host for {count} of the guest")
        if guest_port == 0:
            raise wrong("the guest's port is 1 to 65535")
        address = _address(address, wrong) if address else ""
        return cls(guest_port, host_port, count, address, protocol, _guest(guest, wrong))

    def __str__(self) -> str:
        last = (
            f"{self.guest_port}"
            if self.count == 1
            else f"{self.guest_port}-{self.guest_port + self.count - 1}"
        )
        guest = f"{self.guest}:" if self.guest else ""
        if self.path:
            return f"unix:{self.path}:{guest}{last}"
        host = f"[{self.address}]:" if ":" in self.address else f"{self.address}:" if self.address else ""
        port = ""
        if self.host_port:
            port = (
                f"{self.host_port}:"
                if self.count == 1
                else f"{self.host_port}-{self.host_port + self.count - 1}:"
            )
        elif host or guest:
            port = "0:" if guest else ":"
        return f"{host}{port}{guest}{last}" + ("/udp" if self.protocol == "udp" else "")


def _is_ports(text: str) -> bool:
    return bool(re.fullmatch(r"\d+(-\d+)?", text))


def _ports(text: str, wrong: Callable[[str], ConfigError]) -> tuple[int, int]:
    if not _is_ports(text):
        raise wrong(f"{text!r} is no port")
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if high < low or high > 65535 or (low == 0 and last):
        raise wrong(f"{text} is no range of ports")
    return low, high - low + 1


def _address(text: str, wrong: Callable[[str], ConfigError]) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise wrong(f"{bare!r} is no address of the host") from None
    return str(address)


def _guest(text: str, wrong: Callable[[str], ConfigError]) -> str:
    if text and not re.fullmatch(NAME, text):
        raise wrong(f"{text!r} is no guest's name")
    return text


# --- the host's side


def bind(spec: PortSpec) -> list[tuple[socket.socket, int]]:
    """The sockets of a specification, each with the guest's port that it leads to.

    With no address given, every port has an IPv4 and an IPv6 socket; IPv6 is left out where the host has none.
    All of them are there, or none.

    Raises:
        PublishError: a port is in use, not permitted, or the address is not the host's.
    """
    with contextlib.ExitStack() as undo:
        out: list[tuple[socket.socket, int]] = []
        if spec.path:
            sock = _bind_unix(spec.path)
            undo.callback(sock.close)
            out.append((sock, spec.guest_port))
        else:
            tries = 16 if spec.host_port == 0 and spec.count > 1 else 1
            for attempt in range(tries):
                try:
                    out = _bind_all(spec)
                    break
                except PublishError:
                    if attempt == tries - 1:
                        raise
            for sock, _ in out:
                undo.callback(sock.close)
        undo.pop_all()
    return out


def _bind_all(spec: PortSpec) -> list[tuple[socket.socket, int]]:
    families = (
        [(socket.AF_INET6, spec.address)]
        if ":" in spec.address
        else [(socket.AF_INET, spec.address or "0.0.0.0")]
    )
    if not spec.address and socket.has_ipv6:
        families.append((socket.AF_INET6, "::"))
    with contextlib.ExitStack() as undo:
        out: list[tuple[socket.socket, int]] = []
        first = spec.host_port
        for offset in range(spec.count):
            port = first + offset if first else 0
            for family, address in families:
                try:
                    sock = _bind_one(family, spec.protocol, address, port)
                except OSError as err:
                    if address == "::" and err.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                        continue
                    raise PublishError(_sentence(spec, address, port, err), err.errno or 0) from None
                undo.callback(sock.close)
                out.append((sock, spec.guest_port + offset))
                if port == 0:
                    port = sock.getsockname()[1]
                    first = first or port - offset
                    if first + spec.count > 65536:
                        raise PublishError(f"no {spec.count} ports in a row are free behind {first}")
        undo.pop_all()
    return out


def _bind_one(family: int, protocol: str, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.bind(path)
        except OSError as err:
            if err.errno != errno.EADDRINUSE or not _stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as err:
        sock.close()
        if err.errno == errno.EADDRINUSE:
            raise PublishError(
                f"the Unix socket {path} is in use: end its server, or give another path", errno.EADDRINUSE
            ) from None
        raise PublishError(
            f"the Unix socket {path} cannot be made: {err.strerror or err}; give a path in a folder that is yours",
            err.errno or 0,
        ) from None
    return sock


def _stale(path: str) -> bool:
    """A socket that a program has left behind: nobody listens on it."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def host_port(address: str, port: int) -> str:
    """ADDRESS:PORT, with brackets around an IPv6 address (RFC 3986 section 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _sentence(spec: PortSpec, address: str, port: int, err: OSError) -> str:
    what = f"{spec.protocol.upper()} port {host_port(address, port)}"
    if err.errno == errno.EADDRINUSE:
        return f"{what} is in use: choose another, or end the program that has it (ss -lnp 'sport = :{port}')"
    if err.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{what} is not permitted to this user: choose one from 1024 on, or allow it with: "
            f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        )
    if err.errno == errno.EADDRNOTAVAIL:
        return f"{what} cannot be published: this host has no address {address} (see: ip address)"
    if err.errno in (errno.EMFILE, errno.ENFILE):
        return f"{what} cannot be published: no descriptors are left, raise the limit (ulimit -n)"
    return f"{what} cannot be published: {err.strerror or err}"
