"""The composition root: a :class:`Config` becomes links, interface, NAT, services and a running engine.

Two threads belong to a gateway. The *engine thread* moves packets and never takes the GIL. The *control thread* sleeps
until the engine has a message for it: a DHCP request, a connection that wants its descriptor from Python, a link that
has closed. A third, with an asyncio loop, is started only when a guest first speaks DNS over TCP, or something else
needs it.
"""

from __future__ import annotations

import ipaddress
import os
import select
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .capturing import CaptureMethods
from .config import CONGESTION, SOURCE_RULES, Config, parse_mac
from .engine import Engine
from .errors import NetstackError
from .guests import GuestMethods
from .host.routes import RouteWatcher
from .log import logger
from .pending import Dialer, PendingFlow
from .proxying import ProxyMethods
from .socks import SocksMethods
from .tuning import TuningMethods, paths_of

if TYPE_CHECKING:
    from types import TracebackType

    from .forwards import Forwards

__all__ = ["Gateway", "start"]

MAX_DNS_QUERIES = 1024
WATCH_MILLISECONDS = 1000  # how often files are looked at
TIME_WAIT_SECONDS = 15  # twice a segment lifetime on a virtual wire, generously
BUFFER_INITIAL = 1 << 19

# Kinds of messages from the engine (nat/context.pxd: mail_kind).
(
    MAIL_DHCP,
    MAIL_PENDING_FLOW,
    MAIL_LINK_CLOSED,
    MAIL_PING_FORBIDDEN,
    MAIL_RESOLVER_CHECK,
    MAIL_FLOW_GONE,
    MAIL_DNS_ASK,
    MAIL_CAPTURE,
) = range(1, 9)


class Gateway(GuestMethods, SocksMethods, ProxyMethods, TuningMethods, CaptureMethods):
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
        if self.config.outbound_mark or self.config.outbound_interface or self.config.outbound_address:
            from .outbound import check_outbound

            check_outbound(self.config)
        self._threads: list[threading.Thread] = []
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._virtual_ns = now_ns
        self._stopped = False
        self._forwards: Forwards | None = None
        self._routes = RouteWatcher()
        self._begin_guests()
        self._begin_tuning()
        self._begin_capturing()
        self._begin_pending(dialer)
        try:
            self._engine = Engine(self._settings(now_ns))
            self._begin_names()
            self._begin_proxy()
            if self.config.pcap:
                c = self.config
                self.start_capture(
                    self.config.pcap,
                    snaplen=c.pcap_snaplen,
                    ring=c.pcap_ring,
                    filter=c.pcap_filter,
                    wire_frames=c.pcap_wire_frames,
                )
            if self.config.gateway_forwards or self.config.forwards:
                from .forwards import Forwards

                c = self.config
                self._forwards = Forwards(
                    self._engine,
                    c.gateway,
                    c.gateway_forwards,
                    c.forwards,
                    lambda text: logger().warning(text),
                    lambda prefixes: self._set_prefixes("forwards", prefixes),
                )
                self._forwards.look()
            if self.config.publish:
                raise_descriptor_limit()
            for text in self.config.publish:
                self.publish(text)
            for place in self.config.socks:
                self.serve_socks(place)
        except BaseException:
            self._close_socks()
            self._close_store()
            self._routes.close()
            if self._loop is not None:
                self._loop.stop()
            if self._reach is not None:
                self._reach.close()
            if (engine := getattr(self, "_engine", None)) is not None:
                engine.close()
            self._end_capture()
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
            "busy_poll_ns": c.busy_poll_us * 1000 if several_processors() else 0,
            "connect_timeout_ns": ns(c.connect_timeout),
            "max_tcp": c.max_tcp_flows,
            "max_udp": c.max_udp_flows,
            "max_ping": c.max_ping_flows,
            "max_dns": MAX_DNS_QUERIES,
            "dns_cache": c.dns_cache,
            "all_pending": self._dialer is not None,
            "source_rule": SOURCE_RULES[c.source_check],
            "isolated": c.isolation,
            "outbound_mark": c.outbound_mark,
            "outbound_interface": c.outbound_interface,
            "outbound_address": c.outbound_address,
            "tcp_memory": c.tcp_memory,
            "tcp_buffer_initial": min(BUFFER_INITIAL, c.tcp_buffer_max),
            "tcp_buffer_max": c.tcp_buffer_max,
            "congestion": CONGESTION[c.tcp_congestion],
            "keepalive_ns": ns(c.tcp_keepalive),
            "time_wait_ns": ns(TIME_WAIT_SECONDS),
            "impair": paths_of(c.impair_up, c.impair_down),
        }

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
        self._start_proxy()

    def stop(self) -> None:
        """Ends every flow (guests and hosts get a reset), closes the links, and joins the threads.

        Harmless when called again.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._proxy is not None:
            self._proxy.stop()
        os.write(self._stop_write, b"x")
        self._engine.request_stop()
        for thread in self._threads:
            thread.join()
        self._close_socks()
        self._close_store()
        if self._loop is not None:
            self._loop.stop()
        if self._listeners is not None:
            self._listeners.close()
        self._engine.close()
        self._end_capture()
        self._routes.close()
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

    # --- what there is to know

    def stats(self) -> dict[str, int]:
        """All counters by name; drops and what was done alike."""
        dhcp = self._dhcp.counters if self._dhcp is not None else {}
        return (
            self._engine.counters()
            | {f"dhcp_{k}": v for k, v in dhcp.items()}
            | self._dhcp_counters()
            | self.dns.counters()
            | self._proxy_counters()
        )

    def flows(self) -> list[dict[str, Any]]:
        """The flows that there are, a dict each (see :meth:`netstack.engine.Engine.flows`)."""
        return self._engine.flows()

    def neighbors(self) -> list[tuple[str, bytes, int]]:
        """Who has been seen on which link: (address as text, MAC, port)."""
        return self._engine.neighbors()

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
        if self._routes.fd >= 0:
            poller.register(self._routes.fd, select.POLLIN)
        while not self._stopped:
            watches = self._forwards is not None or self.dns.watches
            poller.poll(WATCH_MILLISECONDS if watches else None)
            try:
                changed, gone = self._routes.read()
                for address in gone:
                    if self._engine.address_gone(address):
                        logger().info(
                            "connections from %s are reset: the host has lost that address", address
                        )
                if changed:
                    self.dns.paths_changed()
                elif self.dns.watches:
                    self.dns.look()
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
                self.dns.queried()
            elif kind == MAIL_DNS_ASK:
                self.dns.on_ask(message)
            elif kind == MAIL_CAPTURE:
                self._capture_news()
            elif kind == MAIL_PING_FORBIDDEN:
                logger().warning(
                    "pings beyond the gateway cannot be sent: the kernel forbids ping sockets to this user; "
                    'allow them with: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
                )
        return bool(mail)


def start(config: Config | None = None) -> Gateway:
    """A gateway to be used as ``with netstack.start(config) as gw``: entering it starts it."""
    return Gateway(config)


def several_processors() -> bool:
    """Whether this process may use more than one: on a single one, looking for events keeps them from coming."""
    usable = getattr(os, "sched_getaffinity", None)
    return (len(usable(0)) if usable else os.cpu_count() or 1) > 1


def raise_descriptor_limit() -> None:
    """Every flow and every published port has a descriptor: the soft limit is raised to the hard one."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
