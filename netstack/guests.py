"""The part of the gateway that lets guests in and out: links, whether opened here or by those who connect."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from .config import parse_mac
from .errors import ConfigError
from .log import logger
from .names import NameMethods
from .pending import PendingMethods

if TYPE_CHECKING:
    from .control.listeners import Admission, Listeners
    from .link.memory import MemoryLink

__all__ = ["GuestMethods"]


class GuestMethods(NameMethods, PendingMethods):
    """The part of :class:`netstack.Gateway` that serves links to guests."""

    _fixed: str
    _listeners: Listeners | None

    def _begin_guests(self) -> None:
        self._ports: dict[int, str] = {}
        self._host_ports: dict[int, str] = {}  # links that lead to no guest
        self._when_closed: dict[int, list[Callable[[], None]]] = {}
        self._listeners = None
        self._ports_lock = threading.Lock()
        self._closed_links = threading.Condition()
        self._links_closed = 0

    def add_tap(
        self,
        fd: int,
        granted: int,
        *,
        mtu: int | None = None,
        address: str | None = None,
        mac: str | None = None,
        name: str = "",
        label: str = "",
    ) -> int:
        """Serves the guest behind a TAP device.

        Args:
            fd: an open TAP (see :func:`netstack.host.namespace.open_tap`); the gateway closes it.
            granted: the TUN_* offloads that it has.
            mtu: IP bytes of the device, the network's by default.
            address: the address that the guest was configured with; None leaves it to DHCP.
            mac: the guest's MAC, needed with ``address``.
            name: makes ``name.domain`` resolvable, with ``address``.
            label: what the link is called in the log.

        Returns:
            The port number of the link.
        """
        port = self._engine.add_tap(fd, granted, mtu or self.config.mtu, label or name)
        self._admit(port, label or name or f"tap{port}", address, mac, name)
        return port

    def add_host_tap(self, fd: int, granted: int, mtu: int, label: str, closed: Callable[[], None]) -> int:
        """A TAP of this host itself, which is no guest: :meth:`links` leaves it out, and nothing ends when it does.

        Args:
            fd: an open TAP; the gateway closes it.
            granted: the TUN_* offloads that it has.
            mtu: IP bytes of the device.
            label: what the link is called in the log.
            closed: called when the link has ended.

        Returns:
            The port number of the link.
        """
        with self._ports_lock:
            port = self._engine.add_tap(fd, granted, mtu, label)
            self._host_ports[port] = label
            self._when_closed[port] = [closed]
        logger().info("link %s opened", label, extra={"event": "link_opened", "port": port, "link": label})
        return port

    def add_memory(
        self, link: MemoryLink, *, address: str | None = None, mac: str | None = None, name: str = ""
    ) -> int:
        """Serves a guest in this process. Arguments as in :meth:`add_tap`."""
        port = self._engine.add_memory(link, name)
        self._admit(port, name or f"memory{port}", address, mac, name)
        return port

    def _admit(self, port: int, label: str, address: str | None, mac: str | None, name: str) -> None:
        self._ports[port] = label
        if address is None:
            return
        if mac is None:
            raise ConfigError(f"a guest with the fixed address {address} needs its MAC as well")
        raw = parse_mac("mac", mac)
        with self._lock:
            self._fixed = self._fixed or address
            if self._dhcp is None and not name:
                self._static.append((raw, address, name))
            else:
                self._dhcp_server().reserve(raw, address, name)
                self._leases_changed(port, raw)
        self._engine.hold(address, raw, port)
        if self._reach is not None:
            self._reach.guests_changed()

    def listen_for_guests(self, *places: str) -> list[str]:
        """Lets guests come in at these places (docs/guests.md); what they are called, with the ports that were chosen.

        Raises:
            ConfigError: a place cannot be understood.
            NetstackError: it cannot be had, such as a socket in use.
        """
        from .link.spec import parse_link

        specs = [parse_link(place) for place in places]
        if self._listeners is None:
            from .control.listeners import Listeners

            self._listeners = Listeners(self, self._control_loop().spawn, self.config.mtu)
        return [
            self._open_tap(spec.path) if spec.kind == "tap" else self._listeners.add(spec) for spec in specs
        ]

    def _open_tap(self, name: str) -> str:
        from .errors import SandboxError
        from .host import namespace

        try:
            fd, name, granted = namespace.open_tap(name)
        except OSError as err:
            text = err.strerror or str(err)
            if err.errno in (errno.EPERM, errno.EACCES):
                text += f"; it needs root, or a TAP made for this user with ip tuntap add {name} mode tap user $USER"
            raise SandboxError(text) from None
        self.add_tap(fd, granted, label=f"tap:{name}")
        return f"tap:{name}"

    def admit_stream(self, fd: int, out_fd: int, framing: str, guest: Admission) -> int:
        """A guest whose handshake is over, over connected descriptors that are the gateway's from here on.

        Raises:
            OSError: there are too many links.
        """
        with self._ports_lock:
            return self._admitted(
                self._engine.add_stream(fd, out_fd, framing, self.config.mtu, guest.label), guest
            )

    def admit_messages(self, fd: int, kind: str, guest: Admission) -> int:
        """The same over a socket that carries a frame in each message ("connected", "packets" or "learn")."""
        with self._ports_lock:
            return self._admitted(self._engine.add_datagram(fd, kind, self.config.mtu, guest.label), guest)

    def _admitted(self, port: int, guest: Admission) -> int:
        self._ports[port] = guest.label
        self._when_closed[port] = guest.closed
        if guest.mac is not None:
            self._engine.set_port_mac(port, guest.mac)
        what = {"event": "link_opened", "port": port, "link": guest.label}
        logger().info("link %s opened", guest.label, extra=what)
        return port

    def links(self) -> dict[int, str]:
        """The guests' links: port to what it is called."""
        with self._ports_lock:  # a link that serves already has its name
            return dict(self._ports)

    def remove(self, port: int) -> None:
        """Closes a guest's link."""
        self._engine.remove_port(port)

    def wait_links_gone(self, timeout: float | None = None) -> bool:
        """Waits until a link has closed and none is left; False when the time (seconds) is over first."""
        with self._closed_links:
            return self._closed_links.wait_for(lambda: self._links_closed > 0 and not self.links(), timeout)

    def _on_link_closed(self, port: int) -> None:
        with self._ports_lock:  # whoever admits a link has written down who it is
            host = self._host_ports.pop(port, None)
            label = host or self._ports.pop(port, f"port {port}")
            forgotten = self._when_closed.pop(port, [])
        self._engine.forget_link(port)
        logger().info("link %s closed", label, extra={"event": "link_closed", "port": port, "link": label})
        for forget in forgotten:
            forget()
        if host is not None:
            return
        with self._closed_links:
            self._links_closed += 1
            self._closed_links.notify_all()
