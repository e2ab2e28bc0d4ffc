"""A real route from a host to the guests' network: a TAP of the host that is one more link of the virtual switch.

The host has an address of the guests' network there, so that it reaches each guest by its own address, with every
protocol, and guests answer it as they answer each other; nothing is translated. The TAP is opened by whoever may (root,
in the network namespace where the route is wanted), and its descriptor handed to the instance, which needs no right for
that. The instance's is the only descriptor: the kernel takes the device, its address and the route away when the
instance closes it, ends, or is killed.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from .errors import NetstackError
from .host import namespace
from .names import reserved_mac

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["HostRoute", "HostRoutes", "Offer", "RouteError"]

TRIES = 256  # addresses, from the end of the pool


class RouteError(NetstackError):
    """There can be no route; the message says why."""


class Offer(NamedTuple):
    """How the host's device is to be set up."""

    address: str
    network: str
    mac: str
    mtu: int  #: IP bytes


class HostRoute(NamedTuple):
    """A route that is there: a number that no other ever has, the host's device, and its address on it."""

    id: int
    device: str
    address: str
    network: str


class HostRoutes:
    """The routes of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._made = 0
        self._routes: dict[int, tuple[HostRoute, int]] = {}  # with the port of its link

    def offer(self) -> Offer:
        """Keeps an address for a route, the highest of the pool that is free.

        Raises:
            RouteError: guests are isolated, or no address is left.
        """
        c = self._gateway.config
        if c.isolation:
            raise RouteError(
                "the guests are isolated, also from a route: serve without --isolate, or use netstack connect"
            )
        first, last = (int(ipaddress.IPv4Address(a)) for a in (c.first_guest, c.last_guest))
        for number in range(last, max(first - 1, last - TRIES), -1):
            address = ipaddress.IPv4Address(number)
            if self._gateway.address_take(reserved_mac(address), address) is not None:
                return Offer(str(address), c.network, reserved_mac(address).hex(":"), c.mtu)
        raise RouteError(f"no address is free at the end of the pool, at {c.last_guest}: widen it")

    def withdraw(self, address: str) -> None:
        """Lets go of an address that was offered."""
        self._gateway.address_give_back(reserved_mac(ipaddress.IPv4Address(address)))

    def admit(self, offer: Offer, fd: int, device: str) -> HostRoute:
        """Makes a TAP the host's link; the descriptor is the gateway's from here on, whatever happens.

        Raises:
            OSError: it is no TAP, or there are too many links.
        """
        try:
            granted = namespace.adopt_tap(fd)
        except BaseException:
            os.close(fd)
            raise
        with self._lock:  # so that an end at once finds it
            self._made += 1
            route = HostRoute(self._made, device, offer.address, offer.network)
            port = self._gateway.add_host_tap(
                fd, granted, offer.mtu, f"route:{device}", lambda: self._gone(route.id)
            )
            self._routes[route.id] = route, port
        return route

    def _gone(self, number: int) -> None:
        with self._lock:
            found = self._routes.pop(number, None)
        if found is not None:
            self.withdraw(found[0].address)

    def all(self) -> list[HostRoute]:
        """The routes, in the order they were made."""
        with self._lock:
            return [route for route, _ in self._routes.values()]

    def remove(self, number: int) -> bool:
        """Takes a route away, and its device with it; False when there is none of that number."""
        with self._lock:
            found = self._routes.get(number)
        if found is None:
            return False
        self._gateway.remove(found[1])
        self._gone(number)
        return True
