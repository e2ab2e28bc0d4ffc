"""Where proxy settings stand: options, VPNKit's JSON, the environment, GNOME and macOS, each with its own parser.

The parsers are pure; :func:`desktop_settings` runs the desktop's own program, and :func:`read_file` reads a file.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import MAX_TRANSPARENT
from ..errors import ConfigError
from .patterns import Hosts, parse_hosts, parse_url_prefix
from .settings import Allowed, ProxySettings, parse_upstream

if TYPE_CHECKING:
    from ..config import Config

__all__ = [
    "desktop_files",
    "desktop_kind",
    "desktop_settings",
    "from_config",
    "from_environment",
    "from_gsettings",
    "from_json",
    "from_scutil",
    "read_file",
]

DESKTOP_SECONDS = 5.0  # for gsettings or scutil to answer
GSETTINGS = ("gsettings", "list-recursively", "org.gnome.system.proxy")
SCUTIL = ("scutil", "--proxy")


class _Found:
    """Collects what a source says; what cannot be used becomes a sentence in ``problems``."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []
        self.values: dict[str, Any] = {}

    def upstream(self, key: str, text: str, what: str) -> None:
        self._try(key, lambda: parse_upstream(text, what))

    def hosts(self, key: str, text: str | list[str]) -> None:
        """One bad entry does not spoil the others."""
        items: list[Any] = []
        for word in re.split(r"[\s,;]+", text if isinstance(text, str) else ",".join(text)):
            try:
                items += parse_hosts(word).items
            except ConfigError as err:
                self.problems.append(str(err))
        self.values[key] = Hosts(tuple(dict.fromkeys(items)))

    def _try(self, key: str, make: Callable[[], Any]) -> None:
        try:
            self.values[key] = make()
        except ConfigError as err:
            self.problems.append(str(err))

    def settings(self, **more: Any) -> ProxySettings:
        values = self.values | more
        return ProxySettings(source=self.source, problems=tuple(self.problems), **values)


def from_environment(environ: Mapping[str, str]) -> ProxySettings:
    """``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``; small letters before capitals, as curl has it.

    ``HTTP_PROXY`` is not heard where the process answers a web server's request (CGI's ``REQUEST_METHOD``): there
    it is a header that a client has chosen.
    """
    found = _Found("the environment")

    def value(name: str) -> str:
        capitals = name.upper()
        if name == "http_proxy" and "REQUEST_METHOD" in environ:
            capitals = name
        return environ.get(name) or environ.get(capitals) or ""

    everything = value("all_proxy")
    for key in ("http", "https"):
        text = value(f"{key}_proxy") or everything
        if text:
            found.upstream(key, text, f"{key}_proxy")
    found.hosts("no_proxy", value("no_proxy"))
    return found.settings()


def from_gsettings(text: str) -> ProxySettings:
    """The output of ``gsettings list-recursively org.gnome.system.proxy``."""
    values: dict[str, Any] = {}
    for line in text.splitlines():
        schema, _, rest = line.strip().partition(" ")
        key, _, value = rest.partition(" ")
        scope = schema.removeprefix("org.gnome.system.proxy").strip(".")
        values[f"{scope}.{key}" if scope else key] = _gvariant(value.strip())
    found = _Found("GNOME's settings")
    mode = values.get("mode")
    if mode == "auto":
        return found.settings(pac=str(values.get("autoconfig-url") or "found by WPAD"))
    if mode != "manual":
        return found.settings()
    same = values.get("use-same-proxy") is True
    for key in ("http", "https"):
        # that is the default, which GNOME's own panel leaves as it is when it is given an HTTPS proxy: that one counts
        scope = "http" if same and not (values.get(f"{key}.host") and values.get(f"{key}.port")) else key
        host, port = values.get(f"{scope}.host"), values.get(f"{scope}.port")
        if not host or not port:
            continue
        login = ""
        if scope == "http" and values.get("http.use-authentication") is True:
            login = _login(
                str(values.get("http.authentication-user") or ""),
                str(values.get("http.authentication-password") or ""),
            )
        found.upstream(key, f"http://{login}{_bracketed(str(host))}:{port}", f"GNOME's {key} proxy")
    if values.get("socks.host") and not found.values:
        found.problems.append("GNOME's SOCKS proxy cannot be used here: only proxies like http://host:port")
    ignored = values.get("ignore-hosts")
    found.hosts("no_proxy", [str(x) for x in ignored] if isinstance(ignored, list) else [])
    return found.settings()


def _gvariant(text: str) -> Any:
    """A value as gsettings prints it; None where it is of no kind that is wanted."""
    if text in ("true", "false"):
        return text == "true"
    text = re.sub(r"^@?[a-z]+[0-9]* ", "", text)  # the type in front: "uint32 5", "@as []"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def from_scutil(text: str) -> ProxySettings:
    """The output of macOS' ``scutil --proxy``."""
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    inside = ""
    depth = 0
    for raw in text.splitlines():
        line = raw.strip()
        if line == "}":
            depth -= 1
            inside = ""
            continue
        key, colon, value = line.partition(" : ")
        if line.endswith("{"):
            inside = key if colon and value.startswith("<array>") and depth == 1 else ""
            depth += 1
        elif colon and inside:
            lists.setdefault(inside, []).append(value)
        elif colon and depth == 1:  # what is scoped to one interface lies deeper
            values[key] = value
    found = _Found("macOS' settings")
    for key, name in (("http", "HTTP"), ("https", "HTTPS")):
        host = values.get(f"{name}Proxy")
        if values.get(f"{name}Enable") != "1" or not host:
            continue
        user = values.get(f"{name}User")  # its password is in the keychain
        login = _login(user, "") if user else ""
        port = values.get(f"{name}Port", "80")
        found.upstream(key, f"http://{login}{_bracketed(host)}:{port}", f"macOS' {name} proxy")
        if user:
            found.problems.append(
                f"the password of macOS' {name} proxy is in the keychain: give it with --{key}-proxy"
            )
    if values.get("SOCKSEnable") == "1" and not found.values:
        found.problems.append("macOS' SOCKS proxy cannot be used here: only proxies like http://host:port")
    exceptions = lists.get("ExceptionsList", [])
    if values.get("ExcludeSimpleHostnames") == "1":
        exceptions = [*exceptions, "<local>"]
    found.hosts("no_proxy", exceptions)
    pac = ""
    if values.get("ProxyAutoConfigEnable") == "1":
        pac = values.get("ProxyAutoConfigURLString", "")
    elif values.get("ProxyAutoDiscoveryEnable") == "1":
        pac = "found by WPAD"
    return found.settings(pac=pac)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _login(user: str, password: str) -> str:
    from urllib.parse import quote

    return f"{quote(user, safe='')}:{quote(password, safe='')}@"


def from_json(text: str) -> ProxySettings:
    """VPNKit's settings (its option ``--http``).

    Raises:
        ConfigError: this is no JSON, or not of the shape that is wanted.
    """
    try:
        data = json.loads(text)
    except ValueError as err:
        raise ConfigError(f"this is no JSON: {err}") from None
    if not isinstance(data, dict):
        raise ConfigError("an object is wanted")

    def entry(key: str, kind: type, default: Any) -> Any:
        value = data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(
                f"{key} is no {'text' if kind is str else 'list' if kind is list else kind.__name__}"
            )
        return value

    def ports(key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        out = entry(key, list, list(default))
        if not all(isinstance(p, int) and not isinstance(p, bool) and 1 <= p <= 65535 for p in out):
            raise ConfigError(f"{key} is no list of ports from 1 to 65535")
        if len(out) > MAX_TRANSPARENT:
            raise ConfigError(f"{key} has {len(out)} ports: {MAX_TRANSPARENT} is the most")
        return tuple(dict.fromkeys(out))

    allowed = None
    if entry("allow_enabled", bool, False):
        words = entry("allow", list, [])
        if not all(isinstance(word, str) for word in words):
            raise ConfigError("allow is no list of texts")
        allowed = Allowed(parse_hosts(words), (), entry("allow_error_msg", str, ""))
    return ProxySettings(
        http=parse_upstream(entry("http", str, ""), "http"),
        https=parse_upstream(entry("https", str, ""), "https"),
        no_proxy=parse_hosts(entry("exclude", str, "")),
        http_ports=ports("transparent_http_ports", (80,)),
        https_ports=ports("transparent_https_ports", (443,)),
        allowed=allowed,
        offered=True,
    )


def from_config(config: Config, found: ProxySettings) -> ProxySettings:
    """What was found with the options of a `Config` on top: each option that is given replaces what was found.

    Raises:
        ConfigError: an option cannot be used.
    """
    changes: dict[str, Any] = {}
    if config.http_proxy:
        changes["http"] = parse_upstream(config.http_proxy, "http_proxy")
    if config.https_proxy:
        changes["https"] = parse_upstream(config.https_proxy, "https_proxy")
    if config.no_proxy is not None:
        changes["no_proxy"] = parse_hosts(config.no_proxy)
    if config.transparent_http_ports != (80,):
        changes["http_ports"] = config.transparent_http_ports
    if config.transparent_https_ports != (443,):
        changes["https_ports"] = config.transparent_https_ports
    if config.allow_host or config.allow_url:
        changes["allowed"] = Allowed(
            parse_hosts(config.allow_host), tuple(map(parse_url_prefix, config.allow_url))
        )
    if config.http_proxy or config.https_proxy:
        changes["source"] = "options" if not found.active else f"options and {found.source}"
        changes["pac"] = ""
    return replace(found, **changes)


# --- the desktop


def desktop_kind(environ: Mapping[str, str]) -> str:
    """ "gsettings", "scutil", or "" where there is no desktop to ask."""
    if sys.platform == "darwin":
        return "scutil"
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") or environ.get("XDG_CURRENT_DESKTOP")):
        return ""
    return "gsettings" if shutil.which("gsettings", path=environ.get("PATH")) else ""


def desktop_files(kind: str, environ: Mapping[str, str]) -> list[str] | None:
    """The files that change when the desktop's settings do; None: it has to be asked each time."""
    if kind != "gsettings":
        return None
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", ""), ".config")
    return [os.path.join(home, "dconf", "user"), os.path.join(home, "glib-2.0", "settings", "keyfile")]


def desktop_settings(kind: str) -> ProxySettings | None:
    """What the desktop says now; None where its program fails."""
    argv, parse = (SCUTIL, from_scutil) if kind == "scutil" else (GSETTINGS, from_gsettings)
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DESKTOP_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return parse(done.stdout) if done.returncode == 0 else None


def read_file(path: str) -> str:
    """The text of VPNKit's file.

    Raises:
        OSError: it cannot be read.
    """
    return Path(path).read_text(encoding="utf-8", errors="replace")
