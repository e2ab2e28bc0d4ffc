"""The part of the gateway that has a proxy, where there is a proxy to be had."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .log import logger
from .proxy.presence import configured, present
from .reach import ReachMethods

if TYPE_CHECKING:
    import socket

    from .proxy.service import ProxyService

__all__ = ["ProxyMethods"]

Prefix = tuple[str, int, int, int]  # address, length, port, protocol


class ProxyMethods(ReachMethods):
    """The part of :class:`netstack.Gateway` that keeps a proxy (:mod:`netstack.proxy`)."""

    _virtual_ns: int
    _proxy: ProxyService | None = None

    def _begin_proxy(self) -> None:
        """What the options say is wrong at once, or in force at once."""
        self._prefixes: dict[str, list[Prefix]] = {}
        if configured(self.config):
            self._make_proxy()

    def _start_proxy(self) -> None:
        """The gateway's threads run: the host's own settings count, and are followed."""
        if self._proxy is None and present(self.config, os.environ):
            self._make_proxy()
        if self._proxy is not None:
            self._proxy.start()

    def _make_proxy(self) -> None:
        from .proxy.service import Finder, ProxyService

        warn = logger().warning
        self._proxy = ProxyService(
            self.config,
            self._engine,
            Finder(self.config, {} if self._virtual_ns else os.environ, lambda text: warn("%s", text)),
            self._address_of,
            self._dial_for_proxy,
            lambda prefixes: self._set_prefixes("proxy", prefixes),
            lambda text: logger().info("proxy: %s", text),
            lambda text: warn("%s", text),
        )

    def _set_prefixes(self, owner: str, prefixes: list[Prefix]) -> None:
        """The engine is told of everybody's together."""
        self._prefixes[owner] = prefixes
        self._engine.set_prefixes([prefix for each in self._prefixes.values() for prefix in each])

    def _wpad(self) -> str:
        """The URL of the gateway's own proxy auto-configuration file while there is a proxy to be told of, else ""."""
        return self._proxy.pac_url if self._proxy is not None else ""

    def _address_of(self, name: str) -> str | None:
        with self._lock:
            leases = self._dhcp.leases() if self._dhcp is not None else ()
            return next((str(lease.address) for lease in leases if lease.name == name), None)

    async def _dial_for_proxy(self, address: str, port: int) -> socket.socket:
        import asyncio

        sock, connected = self._reaching().dial_soon(address, port)
        try:
            await asyncio.wrap_future(connected)
        except BaseException:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    def _proxy_counters(self) -> dict[str, Any]:
        return self._proxy.counters() if self._proxy is not None else {}
