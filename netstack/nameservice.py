"""Names as the gateway knows them: its own table, and which name servers and hooks know everything else.

The table is made of layers; an earlier one has the word: what a program has set, what the settings say, the gateway
and the host, the names of leases, the hosts file. Whatever changes, the engine gets a new table, and goes on without a
pause.

Name servers come from the settings, and where these leave everything else open, from the host: its resolv.conf, and
where that is the work of systemd-resolved or of macOS, from these by zone. Those that the engine cannot ask itself (DNS
over TLS, hooks) have a number; the engine mails the query with it.
"""

from __future__ import annotations

import ipaddress
import os
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .log import logger
from .services.added_names import AddedNames
from .services.dns_names import merge_names, parse_name, reverse_zones
from .services.dns_servers import NameServer, Routes, merge_routes, parse_routes, zone_name
from .services.dns_table import DnsTable
from .services.resolv_conf import ResolvConfWatcher

if TYPE_CHECKING:
    import socket

    from .config import Config
    from .engine import Engine
    from .services.dns_hook import Hook
    from .services.dns_stream import Upstream
    from .services.dns_tls import TlsResolver
    from .services.host_resolvers import HostResolvers

__all__ = ["NameService"]

ASK_HEAD = struct.Struct("=24sII")  # of the engine's message (nat/context.pxd: mail_dns_ask)
DECLINED = b"-"  # nat/dns_flow: the hook does not know the name
RESOLVED = "/run/systemd/resolve/"
RESOLVED_STATES = (RESOLVED + "netif", "/run/systemd/netif/links")
RESOLVED_STUB = "127.0.0.53"
DEFAULT_RESOLV_CONF = "/etc/resolv.conf"
TOOL_SECONDS = 3.0  # for resolvectl and scutil to say what there is
ACTIVE_SECONDS = 60.0  # that the host's configuration is looked at after a query
SERVERS_OF_A_ZONE = 8  # nat/dns_servers.pxd


class NameService:
    """The names of one gateway; ``Gateway.dns``. Its methods may be called from any thread.

    Attributes:
        table: the names that the gateway answers itself, as they are now.
        added: those of them that were added over the control API.
        search: the domains in which the host completes short names.
        routes: who knows which zone ("" is everything else), as it is now.
    """

    def __init__(self, config: Config, engine: Engine, control_loop: Callable[[], Any]) -> None:
        self._config = config
        self._engine = engine
        self._control_loop = control_loop
        self._lock = threading.RLock()
        self._set: dict[str, list[tuple[str, Any]]] = {}
        self.added = AddedNames()
        self._zones: dict[str, None] = {}
        self._given = self._given_names()
        self._leases: dict[str, list[tuple[str, Any]]] = {}
        self._hosts: dict[str, list[tuple[str, Any]]] = {}
        self._hosts_seen: tuple[int, ...] | None = None
        self._hooks: dict[str, Hook] = {}
        self._askers: dict[int, TlsResolver | Hook] = {}
        self._numbers: dict[NameServer | Hook, int] = {}
        self._active_until = 0.0
        self._host_state: object = None
        self._host_routes: Routes = {}
        self.search: tuple[str, ...] = ()
        self.routes: Routes = {}
        self._told: object = None
        self._explicit = parse_routes(config.dns or ())
        follows = config.dns is None or (bool(self._explicit) and "" not in self._explicit)
        self._resolver = ResolvConfWatcher(config.resolv_conf) if follows else None
        self.table = DnsTable()
        self.look()
        self.publish()

    # --- the table

    def _given_names(self) -> dict[str, list[tuple[str, Any]]]:
        c = self._config
        built_in: dict[str, list[tuple[str, Any]]] = {name: [("A", c.gateway)] for name in c.gateway_names}
        if c.host_alias:
            built_in |= {name: [("A", c.host_alias)] for name in c.host_names}
        said: dict[str, list[tuple[str, Any]]] = {}
        for text in c.names:
            name, records = parse_name(text)
            said.setdefault(name.lower().rstrip("."), []).extend(records)
        return merge_names(said, built_in)

    def publish(self, leases: Iterable[tuple[str, str]] | None = None) -> None:
        """Makes the table anew and gives it to the engine.

        Args:
            leases: names and addresses of guests, where these have changed.

        Raises:
            ConfigError: the names cannot stand together, such as aliases in a circle; the table is as before.
        """
        with self._lock:
            if leases is not None:
                self._leases = {name: [("A", address)] for name, address in leases}
            c = self._config
            table = DnsTable(
                merge_names(self.added.table(), self._set, self._given, self._leases, self._hosts),
                zones=dict.fromkeys(
                    (*reverse_zones(c.network), *map(zone_name, c.zones), *self._zones, *self.added.zones)
                ),
                ttl=c.names_ttl,
                reverse=True,
            )
            self._engine.set_names(table)
            self.table = table

    def set(self, name: str, *values: Any) -> None:
        """Gives a name its addresses or other records, in the place of what it had; at once.

        Args:
            name: such as ``web.corp``, or ``*.dev.corp`` for all below that are not in the table.
            values: addresses, or pairs such as ``("MX", (10, "mail.corp"))`` (see
                :func:`netstack.wire.dns.rdata_build`).

        Raises:
            ConfigError: a value cannot be used; nothing has changed.
        """
        records: list[tuple[str, Any]] = []
        for value in values:
            if isinstance(value, tuple):
                records.append(value)
                continue
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                raise ConfigError(
                    f"DNS name {name}: {value!r} is neither an address nor (type, value)"
                ) from None
            records.append(("A" if address.version == 4 else "AAAA", address))
        self._change(self._set, name.lower().rstrip("."), records)

    def remove(self, name: str) -> None:
        """Takes away what :meth:`set` gave a name; harmless where it gave none."""
        self._change(self._set, name.lower().rstrip("."), None)

    def add_zone(self, zone: str) -> None:
        """Makes a zone the gateway's own: names in it that are not in the table do not exist (NXDOMAIN), instead of
        being asked of a name server.

        Raises:
            ConfigError: it is no name.
        """
        self._change(self._zones, zone_name(zone), "")

    def remove_zone(self, zone: str) -> None:
        """Gives a zone back; harmless where it was not the gateway's own."""
        self._change(self._zones, zone_name(zone), None)

    def _change(self, mapping: dict[str, Any], key: str, value: Any) -> None:
        """Changes an entry (None: takes it away), and back where the table cannot be made so."""
        with self._lock:
            before = dict(mapping)
            if value is None:
                mapping.pop(key, None)
            else:
                mapping[key] = value
            try:
                self.publish()
            except ConfigError:
                mapping.clear()
                mapping.update(before)
                raise

    def change_added(self, change: Callable[[AddedNames], AddedNames]) -> int:
        """Changes the records that are told apart from those of :meth:`set`, and go before them: the control API's.
        By how many they have grown.

        Raises:
            ConfigError: the names cannot stand together; they are as before.
        """
        with self._lock:
            before = self.added
            self.added = change(before)
            try:
                self.publish()
            except ConfigError:
                self.added = before
                raise
            return len(self.added) - len(before)

    # --- hooks

    def hook(self, zones: Iterable[str], answer: Callable[..., Any]) -> None:
        """Has a function answer for names in some zones, as far as they are not in the table.

        Args:
            zones: such as ``["svc.corp"]``; for "" it is asked everything.
            answer: called with the name (as it was asked) and the type ("A", "TXT", ...), maybe in another thread;
                it may be a coroutine function. It returns values as :meth:`set` takes them: an address, a pair, or
                a list of such; an empty list where the name has nothing of that type; None to leave the question to
                the name servers. LookupError means that there is no such name; any other error, and silence for
                ``dns_timeout``, is SERVFAIL, or the next server where one knows the zone.

        Raises:
            ConfigError: a zone is no name.
        """
        from .services.dns_hook import Hook

        hook = Hook(answer, self._config.dns_timeout)
        with self._lock:
            for zone in zones:
                self._hooks[zone_name(zone)] = hook
            self._tell_routes()

    def unhook(self, zones: Iterable[str]) -> None:
        """Ends what :meth:`hook` began for these zones; harmless where there is none."""
        with self._lock:
            for zone in zones:
                self._hooks.pop(zone_name(zone), None)
            self._tell_routes()

    # --- what the host says

    @property
    def watches(self) -> bool:
        """Whether :meth:`look` should be called every second."""
        return self._config.hosts_file is not None or time.monotonic() < self._active_until

    def queried(self) -> None:
        """A guest has asked for a name that is not in the table: the host's configuration is looked at for a while."""
        self._active_until = time.monotonic() + ACTIVE_SECONDS
        self.look()

    def paths_changed(self) -> None:
        """The host's addresses or routes are others, and its configuration may become so in a moment."""
        self._active_until = time.monotonic() + ACTIVE_SECONDS
        self.look(True)

    def look(self, paths_changed: bool = False) -> None:
        """Reads what has changed since the last call; with ``paths_changed`` (the host's routes are others) name
        servers are asked anew in any case."""
        with self._lock:
            self._look_at_hosts()
            self._look_at_host(paths_changed)
            if not self._tell_routes() and paths_changed:
                self._engine.paths_changed()

    def _look_at_hosts(self) -> None:
        path = self._config.hosts_file
        if path is None:
            return
        from .services.hosts_file import MAX_FILE, parse_hosts

        first = self._hosts_seen is None
        try:
            status = os.stat(path)
            seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if seen == self._hosts_seen:
                return
            with open(path, "rb") as file:
                text = file.read(MAX_FILE).decode("utf-8", "replace")
        except OSError as err:  # what was read before stays: it may be being replaced
            if first:
                self._hosts_seen = ()
                logger().warning("the hosts file %s cannot be read yet: %s", path, err.strerror)
            return
        self._hosts_seen = seen
        self._hosts = {
            name: records
            for name, addresses in parse_hosts(text).items()
            if (records := self._seen_by_guests(name, addresses))
        }
        if not first or self._leases:
            self.publish()

    def _seen_by_guests(self, name: str, addresses: list[str]) -> list[tuple[str, Any]]:
        """The host's own loopback is the host alias to a guest; ``localhost`` is the guest's own."""
        out: dict[tuple[str, Any], None] = {}
        if name == "localhost" or name.endswith(".localhost"):
            return []
        for text in addresses:
            address = ipaddress.ip_address(text)
            if not address.is_loopback:
                out[("A" if address.version == 4 else "AAAA", text)] = None
            elif address.version == 4 and self._config.host_alias:
                out["A", self._config.host_alias] = None
        return list(out)

    def _look_at_host(self, force: bool) -> None:
        if self._resolver is None:
            return
        changed = self._resolver.changed()
        conf = self._resolver.conf
        state = (conf, self._daemon_state())
        if not force and not changed and state == self._host_state:
            return
        self._host_state = state
        known = self._ask_daemon()
        if known is not None and known.routes:
            self._host_routes, self.search = known.routes, known.search
        else:
            self._host_routes = {"": tuple(NameServer(a, p) for a, p in conf.upstreams)}
            self.search = conf.search

    def _daemon(self) -> tuple[str, ...]:
        """The command that says more than the resolv.conf, where the resolv.conf is the system's and made by a daemon
        that has such a command. (resolved's stub sorts by zone itself.)"""
        if self._resolver is None:
            return ()
        if sys.platform == "darwin":
            return ("scutil", "--dns") if self._resolver.path == DEFAULT_RESOLV_CONF else ()
        if not os.path.realpath(self._resolver.path).startswith(RESOLVED):
            return ()
        return (
            () if RESOLVED_STUB in self._resolver.conf.nameservers else ("resolvectl", "status", "--no-pager")
        )

    def _daemon_state(self) -> object:
        """What tells a change: of resolved its state files, of macOS the time (it is asked every few seconds)."""
        command = self._daemon()
        if not command:
            return None
        if command[0] == "scutil":
            return time.monotonic() // 2
        state = []
        for folder in RESOLVED_STATES:
            with suppress(
                OSError
            ):  # the folder too: users may not look into it, but its time moves with its files
                state.append((folder, os.stat(folder).st_mtime_ns))
            with suppress(OSError), os.scandir(folder) as entries:
                state += [(entry.path, entry.stat().st_mtime_ns) for entry in entries]
        return sorted(state)

    def _ask_daemon(self) -> HostResolvers | None:
        command = self._daemon()
        if not command:
            return None
        import subprocess

        from .services.host_resolvers import parse_resolvectl, parse_scutil

        environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "COLUMNS": "200"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TOOL_SECONDS, env=environment,
                stdin=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as err:
            logger().debug("%s does not say which name servers there are: %s", command[0], err)
            return None
        return parse_scutil(done.stdout) if command[0] == "scutil" else parse_resolvectl(done.stdout)

    # --- name servers

    def _tell_routes(self) -> bool:
        """Gives the engine the routes, where they are others than before; True when they are."""
        routes = merge_routes(self._explicit, self._host_routes if self._resolver is not None else {})
        self.routes = routes
        told = [(zone, [self._engines(s) for s in self._knowing(zone)]) for zone in {**routes, **self._hooks}]
        if told == self._told:
            return False
        self._told = told
        self._engine.set_dns_routes(told)
        return True

    def _knowing(self, zone: str) -> list[NameServer | Hook]:
        """Who is asked for names in a zone, in order: its hook, then the servers of it or of the zone around it."""
        servers: list[NameServer | Hook] = [self._hooks[zone]] if zone in self._hooks else []
        around = zone
        while around and around not in self.routes:
            around = around.partition(".")[2]
        servers += self.routes.get(around, ())
        return servers[:SERVERS_OF_A_ZONE]

    def _engines(self, server: NameServer | Hook) -> tuple[str | None, int, int]:
        """A server as the engine knows it."""
        if isinstance(server, NameServer) and server.tls_name is None:
            return server.address, server.port, 0
        number = self._numbers.get(server)
        if number is None:
            number = self._numbers[server] = len(self._numbers) + 1
            self._askers[number] = self._tls(server) if isinstance(server, NameServer) else server
        return None, 0, number

    def _tls(self, server: NameServer) -> TlsResolver:
        from .services.dns_tls import TlsResolver

        timeout = self._config.dns_timeout * 0.8
        return TlsResolver(server, self._dial, timeout=timeout, log=logger().warning)

    def counters(self) -> dict[str, int]:
        """What DNS over TLS has counted, by name."""
        with self._lock:
            askers = list(self._askers.values())
        return {
            f"dns_tls_{what}": sum(getattr(asker, what, 0) for asker in askers)
            for what in ("connections", "untrusted")
        }

    async def _dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection to a name server, bound as the settings say."""
        import asyncio
        import socket

        from .outbound import bind_outbound

        address = ipaddress.ip_address(host)
        sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            bind_outbound(sock, host, self._config)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            await loop.sock_connect(sock, found[0][4])
        except BaseException:
            sock.close()
            raise
        return sock

    def on_ask(self, message: bytes) -> None:
        """The engine wants a server asked that it cannot ask itself."""
        key, attempt, number = ASK_HEAD.unpack_from(message)
        asker = self._askers.get(number)
        if asker is not None:
            self._control_loop().spawn(self._ask(key, attempt, asker, message[ASK_HEAD.size :]))

    async def _ask(self, key: bytes, attempt: int, asker: TlsResolver | Hook, query: bytes) -> None:
        reply = await asker.ask(query)
        declined = asker.declines and reply is None
        self._engine.dns_answer(key, attempt, DECLINED if declined else reply or b"")

    def stream_upstreams(self, query: bytes) -> Sequence[Upstream]:
        """Whom to ask a query that came over TCP. For the control loop."""
        from .services.dns import question

        self.queried()
        asked = question(query)
        with self._lock:
            zone = asked[0].lower() if asked is not None else ""
            known = {**self.routes, **self._hooks}
            while zone and zone not in known:
                zone = zone.partition(".")[2]
            servers = self._knowing(zone)
            return [self._streams(server) for server in servers]

    def _streams(self, server: NameServer | Hook) -> Upstream:
        if isinstance(server, NameServer) and server.tls_name is None:
            return server.address, server.port
        ask: Callable[[bytes], Awaitable[bytes | None]] = self._askers[self._engines(server)[2]].ask
        return ask
