"""The composition root: a :class:`Config` becomes links, interface, NAT, services and a running engine.

Two threads belong to a gateway. The *engine thread* moves packets and never takes the GIL. The *control thread* sleeps
until the engine has a message for it: a DHCP request, a connection that wants its descriptor from Python, a link that
has closed. A third, with an asyncio loop, is started only when a guest first speaks DNS over TCP.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .config import SOURCE_RULES, Config, parse_mac
from .engine import Engine
from .errors import ConfigError, NetstackError
from .reach import Listener, ReachMethods
from .services.dns_table import DnsTable
from .services.resolv_conf import ResolvConfWatcher, parse_upstreams

if TYPE_CHECKING:
    import logging
    from types import TracebackType

    from .control.listeners import Admission, Listeners
    from .forwards import Forwards
    from .link.impair import Impairment
    from .link.memory import MemoryLink
    from .services.dhcp4 import DhcpServer

__all__ = ["Gateway", "start"]

CONGESTION = {"cubic": 0, "reno": 1, "none": 2}
MAX_DNS_QUERIES = 1024
WATCH_MILLISECONDS = 1000  # how often files are looked at
TUNNEL_SECONDS = 10.0  # for a Unix socket's server to accept a connection
TIME_WAIT_SECONDS = 15  # twice a segment lifetime on a virtual wire, generously
BUFFER_INITIAL = 1 << 19
BROADCAST_MAC = b"\xff" * 6

# Kinds of messages from the engine (nat/context.pxd: mail_kind) and their layouts.
MAIL_DHCP, MAIL_PENDING_FLOW, MAIL_LINK_CLOSED, MAIL_PING_FORBIDDEN, MAIL_RESOLVER_CHECK, MAIL_FLOW_GONE = (
    range(1, 7)
)
DHCP_HEAD = struct.Struct("=i6sHII")
FLOW_HEAD = struct.Struct("=Q16s16sHHI")

#: Gives a pending connection a connected stream socket, or None to refuse it.
Dialer = Callable[["PendingFlow"], "socket.socket | None"]


class PendingFlow:
    """A guest's connection that waits for its host side.

    Attributes:
        id: the flow's number.
        guest: address and port of the guest.
        peer: address and port that the guest dials.
    """

    __slots__ = ("guest", "id", "peer")

    def __init__(self, message: bytes) -> None:
        number, guest, peer, guest_port, peer_port, _ = FLOW_HEAD.unpack_from(message)
        self.id: int = number
        self.guest = (address_text(guest), guest_port)
        self.peer = (address_text(peer), peer_port)

    def __repr__(self) -> str:
        return f"<PendingFlow {self.id}: {self.guest[0]}:{self.guest[1]} to {self.peer[0]}:{self.peer[1]}>"


def logger() -> logging.Logger:
    """The package's logger; logging is imported when there is something to say."""
    import logging

    return logging.getLogger("netstack")


def address_text(raw: bytes) -> str:
    """The text of a 16-byte address, IPv4 where it is a mapped one."""
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


class Gateway(ReachMethods):
    """A virtual network with its gateway, as a context manager.

    Args:
        config: the settings; the defaults are VPNKit's network plan.
        dialer: where given, every TCP connection of a guest is asked of it instead of the host's network.

    Use ``with Gateway() as gw`` (or ``async with``); ``start`` and ``stop`` do the same by hand. A gateway that
    is not started can be stepped on virtual time with :meth:`step`.
    """

    def __init__(
        self, config: Config | None = None, *, dialer: Dialer | None = None, now_ns: int = 0
    ) -> None:
        self.config = config or Config()
        self._dialer = dialer
        self._threads: list[threading.Thread] = []
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ports: dict[int, str] = {}
        self._when_closed: dict[int, list[Callable[[], None]]] = {}
        self._holders: dict[str, bytes] = {}  # address to MAC, as the engine knows it
        self._listeners: Listeners | None = None
        self._ports_lock = threading.Lock()
        self._closed_links = threading.Condition()
        self._links_closed = 0
        self._dhcp_spoofed = 0
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._loop: Any = None
        self._virtual_ns = now_ns
        self._stopped = False
        self._forwards: Forwards | None = None
        try:
            self._engine = Engine(self._settings(now_ns))
            self._resolver = ResolvConfWatcher(self.config.resolv_conf) if self.config.dns is None else None
            self._upstreams: tuple[tuple[str, int], ...] = ()
            self._dhcp: DhcpServer | None = None  # made when a guest is first admitted or asks
            self._static: list[tuple[bytes, str, str]] = []  # guests admitted before that
            self._check_addresses()
            self._read_resolver()
            self._publish_names()
            if self.config.pcap:
                try:
                    self._engine.set_pcap(self.config.pcap)
                except OSError:
                    raise ConfigError(
                        f"the capture file {self.config.pcap} cannot be written: give a path in a writable folder"
                    ) from None
            if self.config.gateway_forwards or self.config.forwards:
                from .forwards import Forwards

                c = self.config
                self._forwards = Forwards(
                    self._engine,
                    c.gateway,
                    c.gateway_forwards,
                    c.forwards,
                    lambda text: logger().warning(text),
                )
                self._forwards.look()
            for text in self.config.publish:
                self.publish(text)
        except BaseException:
            if self._reach is not None:
                self._reach.close()
            os.close(self._stop_read)
            os.close(self._stop_write)
            raise

    # --- what the parts are told

    def _settings(self, now_ns: int) -> dict[str, Any]:
        c = self.config
        net = ipaddress.IPv4Network(c.network)

        def ns(seconds: float) -> int:
            return int(seconds * 1e9)

        return {
            "gateway_mac": parse_mac("gateway_mac", c.gateway_mac),
            "gateway": int(ipaddress.IPv4Address(c.gateway)),
            "host_alias": int(ipaddress.IPv4Address(c.host_alias)) if c.host_alias else 0,
            "network": int(net.network_address),
            "netmask": int(net.netmask),
            "mtu": c.mtu,
            "now_ns": now_ns,
            "seed": 1 if now_ns else None,
            "udp_one_way_ns": ns(c.udp_idle_one_way),
            "udp_two_way_ns": ns(c.udp_idle_two_way),
            "dns_timeout_ns": ns(c.dns_timeout),
            "ping_timeout_ns": ns(60.0),
            "connect_timeout_ns": ns(c.connect_timeout),
            "max_tcp": c.max_tcp_flows,
            "max_udp": c.max_udp_flows,
            "max_ping": c.max_ping_flows,
            "max_dns": MAX_DNS_QUERIES,
            "all_pending": self._dialer is not None,
            "source_rule": SOURCE_RULES[c.source_check],
            "isolated": c.isolation,
            "outbound_mark": c.outbound_mark,
            "outbound_interface": c.outbound_interface,
            "tcp_memory": c.tcp_memory,
            "tcp_buffer_initial": min(BUFFER_INITIAL, c.tcp_buffer_max),
            "tcp_buffer_max": c.tcp_buffer_max,
            "congestion": CONGESTION[c.tcp_congestion],
            "keepalive_ns": ns(c.tcp_keepalive),
            "time_wait_ns": ns(TIME_WAIT_SECONDS),
            "impair": self._impairment(),
        }

    def _impairment(self) -> tuple[Impairment, Impairment] | None:
        """The bad paths (up, down) of the settings, each with its own chance."""
        if not self.config.impair_up and not self.config.impair_down:
            return None
        from .link.impair import Impairment

        ways = []
        for key, seed in (("impair_up", 1), ("impair_down", 2)):
            text = getattr(self.config, key)
            try:
                ways.append(Impairment.parse(text if "seed=" in text else f"seed={seed} {text}"))
            except ValueError as err:
                raise ConfigError(f"{key} {text!r} cannot be used: {err}") from None
        return ways[0], ways[1]

    def _check_addresses(self) -> None:
        """Static leases are checked at once, not when the first guest asks."""
        if self.config.leases:
            self._dhcp_server()
            self._tell_holders()

    def _dhcp_server(self) -> DhcpServer:
        """To be called with the lock held once there are threads."""
        if self._dhcp is None:
            from .services.dhcp4 import DhcpServer, DhcpSettings

            c = self.config
            gateway = ipaddress.IPv4Address(c.gateway)
            self._dhcp = DhcpServer(
                DhcpSettings(
                    server=gateway,
                    network=ipaddress.IPv4Network(c.network),
                    first=ipaddress.IPv4Address(c.first_guest),
                    last=ipaddress.IPv4Address(c.last_guest),
                    routers=(gateway,),
                    dns_servers=(gateway,),
                    domain=c.domain,
                    mtu=c.mtu,
                    lease_seconds=c.lease_seconds,
                    static=c.leases,
                    excluded=(ipaddress.IPv4Address(c.host_alias),) if c.host_alias else (),
                )
            )
            for mac, address, name in self._static:
                self._dhcp.reserve(mac, address, name)
            self._static.clear()
        return self._dhcp

    def _publish_names(self) -> None:
        c = self.config
        names: dict[str, Any] = dict.fromkeys(c.gateway_names, c.gateway)
        if c.host_alias:
            names.update(dict.fromkeys(c.host_names, c.host_alias))
        for lease in self._dhcp.leases() if self._dhcp is not None else ():
            if lease.name:
                names[f"{lease.name}.{c.domain}"] = str(lease.address)
        self._names = DnsTable(names, reverse=True)
        self._engine.set_names(self._names)
        if self._reach is not None:
            self._reach.guests_changed()

    def _read_resolver(self) -> None:
        if self._resolver is None:
            upstreams = parse_upstreams(self.config.dns) if self.config.dns else ()
        else:
            self._resolver.changed()
            upstreams = self._resolver.conf.upstreams
        if upstreams != self._upstreams:
            self._upstreams = upstreams
            self._engine.set_upstreams(list(upstreams))

    # --- life

    def start(self) -> None:
        """Starts the threads.

        Raises:
            NetstackError: the gateway was started or stopped before.
        """
        if self._threads or self._stopped:
            raise NetstackError("this gateway has been started before: make a new one")
        raise_descriptor_limit()
        for name, target in (("netstack-engine", self._engine.run), ("netstack-control", self._control)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends every flow (guests and hosts get a reset), closes the links, and joins the threads.

        Harmless when called again.
        """
        if self._stopped:
            return
        self._stopped = True
        os.write(self._stop_write, b"x")
        self._engine.request_stop()
        for thread in self._threads:
            thread.join()
        if self._loop is not None:
            self._loop.stop()
        if self._listeners is not None:
            self._listeners.close()
        self._engine.close()
        if self._reach is not None:
            self._reach.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Gateway:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self.stop)

    # --- guests

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
        port = self._engine.add_tap(fd, granted, mtu or self.config.mtu)
        self._admit(port, label or name or f"tap{port}", address, mac, name)
        return port

    def add_memory(
        self, link: MemoryLink, *, address: str | None = None, mac: str | None = None, name: str = ""
    ) -> int:
        """Serves a guest in this process. Arguments as in :meth:`add_tap`."""
        port = self._engine.add_memory(link)
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
            raise SandboxError(
                f"cannot open the TAP {name}: {err.strerror or err}; it needs root, or a TAP made for this user "
                f"with ip tuntap add {name} mode tap user $USER"
            ) from None
        self.add_tap(fd, granted, label=f"tap:{name}")
        return f"tap:{name}"

    def admit_stream(self, fd: int, out_fd: int, framing: str, guest: Admission) -> int:
        """A guest whose handshake is over, over connected descriptors that are the gateway's from here on.

        Raises:
            OSError: there are too many links.
        """
        with self._ports_lock:
            return self._admitted(self._engine.add_stream(fd, out_fd, framing, self.config.mtu), guest)

    def admit_messages(self, fd: int, kind: str, guest: Admission) -> int:
        """The same over a socket that carries a frame in each message ("connected", "packets" or "learn")."""
        with self._ports_lock:
            return self._admitted(self._engine.add_datagram(fd, kind, self.config.mtu), guest)

    def _admitted(self, port: int, guest: Admission) -> int:
        self._ports[port] = guest.label
        self._when_closed[port] = guest.closed
        if guest.mac is not None:
            self._engine.set_port_mac(port, guest.mac)
        what = {"event": "link_opened", "port": port, "link": guest.label}
        logger().info("link %s opened", guest.label, extra=what)
        return port

    def address_within(self, address: ipaddress.IPv4Address) -> bool:
        """Whether an address is one of the guests' pool."""
        first, last = (ipaddress.IPv4Address(a) for a in (self.config.first_guest, self.config.last_guest))
        return first <= address <= last

    def address_take(self, mac: bytes, address: ipaddress.IPv4Address | None) -> ipaddress.IPv4Address | None:
        """Ties an address (None: the first that is free) to a MAC for good; None when it is taken, or none is left."""
        with self._lock:
            server = self._dhcp_server()
            if address is not None:
                for lease in server.leases(self._now()):
                    if lease.address == address and lease.mac != mac and lease.state != "kept":
                        return None
            try:
                taken = server.reserve(mac, address, now=self._now())
            except ConfigError:
                return None
            self._leases_changed(-1, mac)
            return taken

    def address_give_back(self, mac: bytes) -> None:
        """The address of a MAC is free again."""
        with self._lock:
            if self._dhcp_server().unreserve(mac):
                self._leases_changed(-1, mac)

    def _leases_changed(self, port: int = -1, mac: bytes = b"") -> None:
        self._publish_names()
        self._tell_holders(port, mac)

    def _tell_holders(self, port: int = -1, mac: bytes = b"") -> None:
        """Tells the engine who holds which address, as far as that has changed; ``port`` is where ``mac`` was seen."""
        if self._dhcp is None:
            return
        now = {str(x.address): x.mac for x in self._dhcp.leases() if x.mac and x.state in ("static", "bound")}
        for address, holder in now.items():
            if self._holders.get(address) != holder:
                self._engine.hold(address, holder, port if holder == mac else -1)
        for address in self._holders.keys() - now.keys():
            self._engine.hold(address, None)
        self._holders = now

    def links(self) -> dict[int, str]:
        """The guests' links: port to what it is called."""
        return dict(self._ports)

    def remove(self, port: int) -> None:
        """Closes a guest's link."""
        self._engine.remove_port(port)

    def wait_link_closed(self, timeout: float | None = None) -> bool:
        """Waits until a link has closed since the gateway began; False when the time is over first."""
        with self._closed_links:
            return self._closed_links.wait_for(lambda: self._links_closed > 0, timeout)

    # --- what there is to know

    def stats(self) -> dict[str, int]:
        """All counters by name; drops and what was done alike."""
        dhcp = self._dhcp.counters if self._dhcp is not None else {}
        return (
            self._engine.counters()
            | {f"dhcp_{k}": v for k, v in dhcp.items()}
            | {"dhcp_spoofed": self._dhcp_spoofed}
        )

    def flows(self) -> list[dict[str, Any]]:
        """The flows that there are, a dict each (see :meth:`netstack.engine.Engine.flows`)."""
        return self._engine.flows()

    def leases(self) -> list[Any]:
        """The addresses given out."""
        with self._lock:
            return list(self._dhcp_server().leases())

    # --- virtual time

    def step(self, now_ns: int) -> int | None:
        """Does all that is due at ``now_ns`` without threads; returns the next deadline (ns) or None.

        Raises:
            RuntimeError: the gateway runs in its threads.
        """
        self._virtual_ns = now_ns
        if self._forwards is not None:
            self._forwards.look()
        deadline = self._engine.step(now_ns)
        while self._handle_mail():
            deadline = self._engine.step(now_ns)
        return deadline

    # --- the control thread

    def _control(self) -> None:
        poller = select.poll()
        poller.register(self._engine.mail_fd, select.POLLIN)
        poller.register(self._stop_read, select.POLLIN)
        while not self._stopped:
            poller.poll(None if self._forwards is None else WATCH_MILLISECONDS)
            try:
                if self._forwards is not None:
                    self._forwards.look()
                self._handle_mail()
            except Exception:
                logger().exception("a message from the engine could not be handled")

    def _handle_mail(self) -> bool:
        mail = self._engine.mail()
        for kind, message in mail:
            if kind == MAIL_DHCP:
                self._on_dhcp(message)
            elif self._reach is not None and self._reach.handle(kind, message):
                pass
            elif kind == MAIL_PENDING_FLOW:
                self._on_pending(PendingFlow(message))
            elif kind == MAIL_LINK_CLOSED:
                self._on_link_closed(struct.unpack("=i", message)[0])
            elif kind == MAIL_RESOLVER_CHECK:
                self._read_resolver()
            elif kind == MAIL_PING_FORBIDDEN:
                logger().warning(
                    "pings beyond the gateway cannot be sent: the kernel forbids ping sockets to this user; "
                    'allow them with: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
                )
        return bool(mail)

    def _now(self) -> float:
        return self._virtual_ns / 1e9 if self._virtual_ns else time.time()

    def _on_dhcp(self, message: bytes) -> None:
        port, mac, _, _, _ = DHCP_HEAD.unpack_from(message)
        if self.config.source_check == "held" and claims_another(message[DHCP_HEAD.size :], mac):
            self._dhcp_spoofed += 1
            return
        with self._lock:
            server = self._dhcp_server()
            before = server.generation
            reply = server.handle(message[DHCP_HEAD.size :], self._now(), mac)
            if server.generation != before:
                self._leases_changed(port, mac)
        if reply is None:
            return
        # The link tells who asked; a reply never goes to a MAC that the message merely claims.
        to = BROADCAST_MAC if reply.mac == BROADCAST_MAC else mac
        self._engine.send_udp(port, to, self.config.gateway, 67, reply.address, reply.port, reply.payload)

    def _on_link_closed(self, port: int) -> None:
        with self._ports_lock:  # whoever admits a link has written down who it is
            label = self._ports.pop(port, f"port {port}")
            forgotten = self._when_closed.pop(port, [])
        self._engine.forget_link(port)
        logger().info("link %s closed", label, extra={"event": "link_closed", "port": port, "link": label})
        for forget in forgotten:
            forget()
        with self._closed_links:
            self._links_closed += 1
            self._closed_links.notify_all()

    def _on_pending(self, flow: PendingFlow) -> None:
        """A connection to the resolver's TCP port, or one for the dialer."""
        if flow.peer == (self.config.gateway, 53):
            self._serve_dns_stream(flow)
            return
        listener = self._reach.listener(flow.peer) if self._reach is not None else None
        if listener is not None:
            self._offer(flow, listener)
            return
        path = self._forwards.path_for(*flow.peer) if self._forwards is not None else None
        if path is not None:
            self._control_loop().spawn(self._tunnel(flow, path))
            return
        sock = self._dialer(flow) if self._dialer is not None else None
        if sock is None:
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
        else:
            self._give(flow, sock)

    def _offer(self, flow: PendingFlow, listener: Listener) -> None:
        if listener.full():
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
            return
        ours, engines = socket.socketpair()
        if self._give(flow, engines):
            listener.offer(ours, flow.guest)
        else:
            ours.close()

    def _give(self, flow: PendingFlow, sock: socket.socket) -> bool:
        sock.setblocking(False)
        fd = sock.detach()
        if self._engine.attach(flow.id, fd):
            return True
        os.close(fd)
        return False

    async def _tunnel(self, flow: PendingFlow, path: str) -> None:
        import asyncio

        from .forwards import tunnel

        try:
            sock = await asyncio.wait_for(tunnel(path, flow.guest, flow.peer), TUNNEL_SECONDS)
        except (OSError, asyncio.TimeoutError) as err:
            logger().info("%r is refused: %s: %s", flow, path, err)
            self._engine.attach(flow.id, -errno.ECONNREFUSED)
        else:
            self._give(flow, sock)

    def _control_loop(self) -> Any:
        from .control.loop import ControlLoop

        if self._loop is None:
            self._loop = ControlLoop()
        return self._loop

    def _serve_dns_stream(self, flow: PendingFlow) -> None:
        ours, engines = socket.socketpair()
        if self._give(flow, engines):
            self._control_loop().serve_dns(ours, lambda: self._names, lambda: self._upstreams)
        else:
            ours.close()


def start(config: Config | None = None) -> Gateway:
    """A gateway to be used as ``with netstack.start(config) as gw``: entering it starts it."""
    return Gateway(config)


def claims_another(message: bytes, mac: bytes) -> bool:
    """Whether a DHCP message is about another Ethernet address than the frame came from (relays apart)."""
    ethernet = len(message) >= 34 and message[1] == 1 and message[2] == 6
    return ethernet and message[24:28] == bytes(4) and message[28:34] != mac


def raise_descriptor_limit() -> None:
    """Every flow has a descriptor: the soft limit is raised to the hard one."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
