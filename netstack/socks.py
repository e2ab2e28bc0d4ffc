"""The gateway's proxies into its network: where they listen, and their life. What they do is in control/socks."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from .config import Config
from .errors import ConfigError
from .log import logger
from .pending import PendingMethods
from .publish import PortSpec
from .reach import ReachMethods

if TYPE_CHECKING:
    from .control.socks import SocksServer

__all__ = ["SocksMethods", "parse_place"]


def parse_place(text: str) -> PortSpec:
    """Where a proxy listens: ADDRESS:PORT, PORT (on 127.0.0.1), or unix:/absolute/path.

    Raises:
        ConfigError: it cannot be understood.
    """
    if text.startswith("unix:/"):
        return PortSpec(1, path=text[5:])
    address, colon, port = text.rpartition(":")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        if ":" in bare and bare == address:
            raise ValueError
        known = "127.0.0.1" if bare == "localhost" or not colon else str(ipaddress.ip_address(bare))
        if not port.isascii() or not port.isdecimal() or int(port) > 65535:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"socks {text!r} cannot be used: write ADDRESS:PORT such as 127.0.0.1:1080 (an IPv6 address in brackets), "
            "PORT, or unix:/absolute/path"
        ) from None
    return PortSpec(1, host_port=int(port), address=known)


class SocksMethods(PendingMethods, ReachMethods):
    """The part of :class:`netstack.Gateway` with the proxies into its network."""

    config: Config
    _socks: tuple[SocksServer, ...] = ()

    def serve_socks(self, place: str) -> SocksServer:
        """Begins to serve a proxy into the virtual network: SOCKS 5, SOCKS 4a and HTTP at one place.

        It leads to guests, by address or name, and to addresses where this program listens; nowhere else.

        Args:
            place: "127.0.0.1:1080", "1080" (on 127.0.0.1), port 0 for one that is free, or "unix:/absolute/path".
                Whoever can connect to it can connect to every port of every guest.

        Returns:
            An object with ``address``, and with ``close()``.

        Raises:
            ConfigError: the place cannot be understood.
            PublishError: in use, not permitted, or no such address; the message says what to do.
        """
        from .control.socks import Network, SocksServer

        spec = parse_place(place)
        network = Network(self.config, self._engine, self._reaching(), lambda: self.dns.table)
        server = SocksServer(network, spec, self._control_loop())
        self._socks = (*(s for s in self._socks if not s.closed), server)
        what = {"event": "socks", "listen": server.place}
        logger().info("the proxy into the network (SOCKS, HTTP) is at %s", server.place, extra=what)
        if spec.address and not ipaddress.ip_address(spec.address).is_loopback:
            logger().warning("whoever can reach %s can reach every port of every guest", server.place)
        return server

    def socks(self) -> list[SocksServer]:
        """The proxies at this moment, in the order they were begun."""
        return [server for server in self._socks if not server.closed]

    def _close_socks(self) -> None:
        for server in self._socks:
            server.close()
