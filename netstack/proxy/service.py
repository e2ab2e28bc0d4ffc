"""The proxy of one gateway: its settings found and followed, the engine told which connections to bring, and served."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..outbound import bind_outbound
from . import sources
from .pac import pac_url
from .plan import EXPLICIT_PORTS, Plan
from .settings import ProxySettings

if TYPE_CHECKING:
    from ..config import Config
    from ..engine import Engine
    from .server import Flow, ProxyServer

__all__ = ["Finder", "ProxyService", "describe"]

LOOK_SECONDS = 1.0  # how often a file, or the desktop, is looked at
TCP, UDP = 6, 17


class Finder:
    """Finds the settings, and what has become of them.

    VPNKit's file comes before the environment, and that before the desktop; options come on top of whichever it is.

    Args:
        config: the options.
        environ: the host's environment.
        warn: is told in one sentence what is wrong.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._config = config
        self._environ = environ
        self._warn = warn
        self._told: set[str] = set()
        self._seen: object = ()  # nothing has been looked at
        self._found = ProxySettings()
        self._kind = ""
        sources.from_config(config, ProxySettings())  # so that a wrong option is told at once
        if not config.http_settings and config.proxy == "auto":
            self._found = sources.from_environment(environ)
            if environ and not self._found.active:  # a gateway stepped by hand has no surroundings
                self._kind = sources.desktop_kind(environ)

    @property
    def watches(self) -> bool:
        """Whether there is anything that could change."""
        return bool(self._config.http_settings or self._kind)

    def look(self) -> ProxySettings:
        """The settings now."""
        if self._config.http_settings:
            self._look_at_file(self._config.http_settings)
        elif self._kind:
            self._look_at_desktop()
        settings = sources.from_config(self._config, self._found)
        for problem in settings.problems:
            self._tell(f"a proxy setting is left out: {problem}")
        if settings.pac:
            self._tell(
                f"{settings.source or 'the settings'} want automatic proxy configuration ({settings.pac}), which is "
                "not supported: give the proxy with --http-proxy and --https-proxy"
            )
        return settings

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < 100:
            self._told.add(text)
            self._warn(text)

    def _look_at_file(self, path: str) -> None:
        """What is not as it should be leaves what was read before; without the file there is no proxy."""
        state = _state(path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._found = sources.from_json(sources.read_file(path)) if state else ProxySettings(offered=True)
        except (OSError, ConfigError) as err:
            why = err.strerror if isinstance(err, OSError) else err
            self._warn(f"the proxy settings in {path} are left as they were: {why}")
        else:
            self._found = replace(self._found, source=path)

    def _look_at_desktop(self) -> None:
        files = sources.desktop_files(self._kind, self._environ)
        state = None if files is None else [_state(path) for path in files]
        if files is not None and state == self._seen:
            return
        found = sources.desktop_settings(self._kind)
        if found is not None:
            self._found, self._seen = found, state


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class ProxyService:
    """Keeps a gateway's proxy as the settings say; made only where there is something to look for.

    Args:
        config: the gateway's.
        engine: its data path.
        finder: of the settings.
        lookup: the address of a guest by its name.
        dial_guest: a connected socket to a port of a guest.
        set_prefixes: is told which outgoing connections are ours (:meth:`netstack.engine.Engine.set_prefixes`).
        inform, warn: are told what happens, in one sentence.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        finder: Finder,
        lookup: Callable[[str], str | None],
        dial_guest: Callable[[str, int], Awaitable[socket.socket]],
        set_prefixes: Callable[[list[tuple[str, int, int, int]]], None],
        inform: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._config = config
        self._engine = engine
        self._finder = finder
        self._lookup, self._dial_guest = lookup, dial_guest
        self._set_prefixes = set_prefixes
        self._inform, self._warn = inform, warn
        self._server: ProxyServer | None = None
        self._offered: set[int] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.settings = ProxySettings()
        self._apply(finder.look())

    # --- the settings

    def start(self) -> None:
        """Follows the settings from now on."""
        if self._finder.watches:
            self._thread = threading.Thread(target=self._follow, name="netstack-proxy-settings", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Follows them no longer."""
        self._stop.set()
        with self._lock:  # nobody tells the engine anything after this
            pass
        if self._thread is not None and self._config.http_settings:
            self._thread.join()  # a desktop's program may take its time, and is not waited for

    def look(self) -> None:
        """Looks at the settings now."""
        settings = self._finder.look()
        with self._lock:
            if settings != self.settings and not self._stop.is_set():
                self._apply(settings)

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as err:  # the settings of before are better than none
                self._warn(f"the proxy settings cannot be looked at: {err}")

    def _apply(self, settings: ProxySettings) -> None:
        """New connections and new requests go by these; those under way go on."""
        before, self.settings = self.settings, settings
        if self._server is not None:
            self._server.settings = settings
        if settings.active or settings.offered:
            self._offer()
        http, https = settings.diverted()
        tcp = [("0.0.0.0", 0, port, TCP) for port in dict.fromkeys((*http, *https))]
        quic = [
            ("0.0.0.0", 0, port, UDP) for port in https
        ]  # would go past the proxy; clients fall back to TCP
        self._set_prefixes(tcp + quic)
        if settings.active or before.active:
            self._inform(describe(settings))

    def _offer(self) -> None:
        """The explicit proxy stays once it was there: a guest's environment names it."""
        for port in EXPLICIT_PORTS:
            if port in self._offered:
                continue
            try:
                self._engine.divert(self._config.gateway, port, TCP)
            except OSError:
                self._warn(
                    f"no proxy can be offered on port {port} of the gateway: something listens there already"
                )
            else:
                self._offered.add(port)

    @property
    def pac_url(self) -> str:
        """Of the proxy auto-configuration file that tells clients of the proxies in force; "" while there are none."""
        there = self.settings.http or self.settings.https
        return pac_url(self._config.gateway) if there and EXPLICIT_PORTS[0] in self._offered else ""

    # --- connections

    def takes(self, peer: tuple[str, int]) -> bool:
        """Whether a pending connection to this address and port is the proxy's."""
        if peer[0] == self._config.gateway:
            return peer[1] in self._offered
        return any(peer[1] in ports for ports in self.settings.diverted())

    async def serve(self, flow: Flow) -> None:
        """Serves a pending connection to its end. On the control loop."""
        try:
            if self._server is None:
                self._server = self._make_server()
            await self._server.serve(flow, flow.peer[0] == self._config.gateway)
        except Exception as err:  # a mistake of ours costs one connection, and says so
            self._warn(f"a connection to {flow.peer[0]}:{flow.peer[1]} has failed in the proxy: {err!r}")
            self._engine.attach(flow.id, -errno.ECONNREFUSED)

    def _make_server(self) -> ProxyServer:
        from .server import ProxyServer

        server = ProxyServer(
            Plan.of(self._config, self._lookup),
            self._engine.attach,
            self._engine.replace,
            self._prepare,
            self._dial_guest,
            self._inform,
        )
        server.settings = self.settings
        return server

    def _prepare(self, sock: socket.socket, address: str) -> None:
        bind_outbound(sock, address, self._config)

    def counters(self) -> dict[str, int]:
        """What was done, by name."""
        return {f"proxy_{k}": v for k, v in self._server.counters.items()} if self._server is not None else {}


def describe(settings: ProxySettings) -> str:
    """The settings in a sentence, without credentials."""
    parts = [f"{key} by {up}" for key, up in (("HTTP", settings.http), ("HTTPS", settings.https)) if up]
    text = " and ".join(parts) if parts else "no proxy"
    if settings.no_proxy and parts:
        text += f", except {settings.no_proxy}"
    if settings.allowed is not None:
        text += "; only what is on the list of allowed hosts"
    return f"{text} (from {settings.source})" if settings.source else text
