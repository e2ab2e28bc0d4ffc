"""VPNKit's files of forwards, read and watched: ports of the gateway, and outgoing TCP that goes to a Unix socket.

Gateway forwards lead ``gateway:external_port`` to an address of the host::

    [{"protocol": "tcp", "external_port": 8080, "internal_ip": "127.0.0.1", "internal_port": 80}]

Forwards take connections to a prefix (and port, 0 = any) and hand them to the server behind a Unix socket, which is
told first whose they are, and accepts or refuses::

    [{"protocol": "tcp", "dst_prefix": "198.51.100.0/24", "dst_port": 0, "path": "/run/tunnel.sock"}]

Before the bytes of a connection, each side says one thing: two bytes of length (little-endian) and that much JSON. We
send ``protocol``, ``src_ip``, ``src_port``, ``dst_ip`` and ``dst_port``; the answer is ``{"accepted": true}``.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ConfigError

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Forwards", "GatewayForward", "UnixForward", "parse_forwards", "parse_gateway_forwards", "tunnel"]

MAX_FORWARDS = 200  # the engine knows 256 prefixes (nat/divert), those of the proxy among them
LENGTH = struct.Struct("<H")
PROTOCOLS = {"tcp": 6, "udp": 17}


class GatewayForward(NamedTuple):
    """``gateway:external_port`` is the host's ``internal_ip:internal_port``."""

    protocol: str
    external_port: int
    internal_ip: str
    internal_port: int


class UnixForward(NamedTuple):
    """TCP to ``prefix`` and ``port`` (0 = any) goes to the Unix socket ``path``."""

    prefix: ipaddress.IPv4Network
    port: int
    path: str

    def prefix_rule(self) -> tuple[str, int, int, int]:
        """What `Engine.set_prefixes` wants."""
        return (str(self.prefix.network_address), self.prefix.prefixlen, self.port, PROTOCOLS["tcp"])


def parse_gateway_forwards(text: str) -> list[GatewayForward]:
    """Reads VPNKit's JSON.

    Raises:
        ConfigError: it is not what it should be.
    """
    out = []
    for entry in _entries(text):
        protocol = _text(entry, "protocol")
        if protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {protocol!r} is unknown: use tcp or udp")
        try:
            address = str(ipaddress.IPv4Address(_text(entry, "internal_ip")))
        except ValueError:
            raise ConfigError(f"internal_ip {entry['internal_ip']!r} is not an IPv4 address") from None
        out.append(
            GatewayForward(
                protocol, _port(entry, "external_port", 1), address, _port(entry, "internal_port", 1)
            )
        )
    names = [(f.protocol, f.external_port) for f in out]
    for protocol, port in names:
        if names.count((protocol, port)) > 1:
            raise ConfigError(f"{protocol} port {port} of the gateway is forwarded twice")
    return out


def parse_forwards(text: str) -> list[UnixForward]:
    """Reads VPNKit's JSON. Entries with an IPv6 prefix are left out: the network carries IPv4.

    Raises:
        ConfigError: it is not what it should be.
    """
    out = []
    for entry in _entries(text):
        if _text(entry, "protocol") != "tcp":
            raise ConfigError(
                f"protocol {entry['protocol']!r} cannot be forwarded to a Unix socket: only tcp can"
            )
        try:
            prefix = ipaddress.ip_network(_text(entry, "dst_prefix"), strict=False)
        except ValueError:
            raise ConfigError(
                f"dst_prefix {entry['dst_prefix']!r} is not a prefix like 198.51.100.0/24"
            ) from None
        port, path = _port(entry, "dst_port", 0), _text(entry, "path")
        if isinstance(prefix, ipaddress.IPv4Network):
            out.append(UnixForward(prefix, port, path))
    if len(out) > MAX_FORWARDS:
        raise ConfigError(f"{len(out)} forwards are too many: at most {MAX_FORWARDS}")
    return out


def _entries(text: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise ConfigError(f"this is no JSON: {err}") from None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ConfigError("a list of objects is wanted")
    return data


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} is missing, or no text")
    return value


def _port(entry: dict[str, Any], key: str, least: int) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 65535:
        raise ConfigError(f"{key} is missing, or no number from {least} to 65535")
    return value


class Forwards:
    """Keeps the engine's diversions as the files say.

    A file that is absent, or not what it should be, leaves what was read before; one that cannot be read clears it.

    Args:
        engine: the data path.
        gateway: its address.
        gateway_forwards, forwards: paths, or None.
        warn: is told in one sentence what is wrong with a file.
        set_prefixes: is told which outgoing connections are ours; `Engine.set_prefixes` by default.
    """

    def __init__(
        self,
        engine: Engine,
        gateway: str,
        gateway_forwards: str | None,
        forwards: str | None,
        warn: Callable[[str], None],
        set_prefixes: Callable[[list[tuple[str, int, int, int]]], None] | None = None,
    ) -> None:
        self._engine = engine
        self._set_prefixes = set_prefixes or engine.set_prefixes
        self._gateway = gateway
        self._warn = warn
        self._paths = (gateway_forwards, forwards)
        self._seen: dict[str, tuple[int, ...] | None] = {}
        self._ports: set[GatewayForward] = set()
        self._unix: list[UnixForward] = []

    def look(self) -> None:
        """Reads what has changed since the last call."""
        at_gateway, outgoing = self._paths
        text = self._changed(at_gateway)
        if text is not None and at_gateway is not None:
            with self._told(at_gateway):
                self._set_ports(set(parse_gateway_forwards(text)))
        text = self._changed(outgoing)
        if text is not None and outgoing is not None:
            with self._told(outgoing):
                self._unix = parse_forwards(text)
                self._set_prefixes([f.prefix_rule() for f in self._unix])

    @contextlib.contextmanager
    def _told(self, path: str) -> Any:
        try:
            yield
        except ConfigError as err:
            self._warn(f"the forwards in {path} are left as they were: {err}")

    def _changed(self, path: str | None) -> str | None:
        """The text of a file that has changed; "[]" where it cannot be read."""
        if path is None:
            return None
        try:
            status = Path(path).stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._seen.get(path) == state:
                return None
            text = Path(path).read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as err:
            if self._seen.get(path, ()) is None:
                return None
            self._seen[path] = None
            why = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
            self._warn(f"the forwards in {path} are taken away, since it cannot be read: {why}")
            return "[]"
        self._seen[path] = state
        return text

    def _set_ports(self, wanted: set[GatewayForward]) -> None:
        for f in self._ports - wanted:
            self._engine.undivert(self._gateway, f.external_port, PROTOCOLS[f.protocol])
        had, self._ports = self._ports & wanted, wanted
        for f in sorted(wanted - had):
            target = (f.internal_ip, f.internal_port)
            try:
                self._engine.divert(self._gateway, f.external_port, PROTOCOLS[f.protocol], target)
            except OSError as err:
                self._ports.discard(f)
                why = "something listens there already" if err.errno == errno.EEXIST else str(err)
                self._warn(f"{f.protocol} port {f.external_port} of the gateway cannot be forwarded: {why}")

    def path_for(self, address: str, port: int) -> str | None:
        """The Unix socket for a connection, by the first entry that fits."""
        if not self._unix:
            return None
        destination = ipaddress.IPv4Address(address)
        return next((f.path for f in self._unix if destination in f.prefix and f.port in (0, port)), None)


async def tunnel(path: str, source: tuple[str, int], destination: tuple[str, int]) -> socket.socket:
    """A connected socket to the server behind a Unix socket, which has accepted the connection.

    Raises:
        ConnectionRefusedError: it has refused.
        OSError: it cannot be reached, or does not speak as it should.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        request = json.dumps(
            {
                "protocol": "tcp",
                "src_ip": source[0],
                "src_port": source[1],
                "dst_ip": destination[0],
                "dst_port": destination[1],
            }
        ).encode()
        await loop.sock_sendall(sock, LENGTH.pack(len(request)) + request)

        async def exactly(n: int) -> bytes:
            data = b""
            while len(data) < n:  # not a byte more: those behind belong to the connection
                piece = await loop.sock_recv(sock, n - len(data))
                if not piece:
                    raise ConnectionResetError(errno.ECONNRESET, "the server has closed in the middle")
                data += piece
            return data

        (length,) = LENGTH.unpack(await exactly(LENGTH.size))
        try:
            answer = json.loads(await exactly(length))
        except ValueError:
            raise OSError(errno.EPROTO, "the server's answer is no JSON") from None
        if not isinstance(answer, dict) or answer.get("accepted") is not True:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the server has refused")
    except BaseException:
        sock.close()
        raise
    return sock
