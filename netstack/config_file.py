"""Settings of ``netstack serve`` from a TOML file: every key that `Config` has, and those of the service itself."""

from __future__ import annotations

import difflib
import sys
import typing
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from .config import Config
from .errors import ConfigError

__all__ = ["ServiceConfig", "load", "parse_guest", "to_toml"]

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class ServiceConfig:
    """What ``netstack serve`` does: one network, and where its guests come in."""

    network: Config = field(default_factory=Config)
    listen: tuple[str, ...] = ()  #: places, as in docs/guests.md
    api: str = "auto"  #: the control API: NAME, PATH, on, off; auto: on where it can be had
    publish_all: bool = (
        False  #: publish the ports of ``expose`` for each guest, on ports of the host that are free
    )
    expose: tuple[str, ...] = ()  #: PORT, PORT/udp or PORT-PORT
    port_9p: str = ""  #: path of the Unix socket for VPNKit's control of ports over 9P; "" = none
    notify: str = (
        ""  #: a descriptor's number, or the path of a file, pipe or socket, for one JSON line an event
    )
    log_format: str = "text"  #: text or json
    log_level: str = "info"  #: debug, info, warning or error

    def __post_init__(self) -> None:
        """Checks what can be checked without opening anything."""
        for key, value, known in (
            ("log_format", self.log_format, LOG_FORMATS),
            ("log_level", self.log_level, LOG_LEVELS),
        ):
            if value not in known:
                raise ConfigError(f"{key} {value!r} is unknown: use {', '.join(known[:-1])} or {known[-1]}")
        from .link.spec import parse_link
        from .publish_all import parse_exposed

        exposed = [parse_exposed(text) for text in self.expose]
        if self.publish_all and not exposed:
            raise ConfigError(
                "publish_all (-P) does not know which ports a virtual machine listens at: name them with expose"
            )
        for place in self.listen:
            parse_link(place)


#: The keys of a file, with their types. ``guest`` is a list of tables in place of ``leases``.
_NETWORK = {f.name for f in fields(Config)}
_SERVICE = {f.name for f in fields(ServiceConfig)} - {"network"}
_TYPES: dict[str, Any] = {**typing.get_type_hints(Config), **typing.get_type_hints(ServiceConfig)}
_TYPES["network"] = str
_GUEST_KEYS = ("mac", "client_id", "address", "name")
KEYS = tuple(sorted(_NETWORK | _SERVICE | {"guest"}))


def parse_guest(text: str) -> tuple[str, str, str]:
    """A static lease from ``WHO=IP`` or ``WHO=IP,NAME``; WHO: a MAC, id:CLIENT-ID, or both with a comma between.

    Raises:
        ConfigError: it is not one.
    """
    who, equals, rest = text.rpartition("=")  # an identifier may have one in it
    address, _, name = rest.partition(",")
    if not equals or not address:
        raise ConfigError(
            f"guest {text!r} is not MAC=ADDRESS, id:CLIENT-ID=ADDRESS or MAC,id:CLIENT-ID=ADDRESS, perhaps with ,NAME"
        )
    _check_who(who, "guest")
    return who, address, name


def _check_who(who: str, where: str) -> None:
    from .services.dhcp4_clients import parse_who

    try:
        parse_who(who)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from None


def unknown(key: str, known: typing.Iterable[str], where: str) -> ConfigError:
    """What to say of a key that is not one."""
    near = difflib.get_close_matches(key, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "see netstack config for those there are"
    return ConfigError(f"{where}: {key!r} is not a setting: {hint}")


def from_dict(data: dict[str, Any], where: str) -> ServiceConfig:
    """Settings from what a file holds.

    Raises:
        ConfigError: a key is unknown, or a value cannot be used; the message names the file and the key.
    """
    network: dict[str, Any] = {}
    service: dict[str, Any] = {}
    for key, value in data.items():
        if key == "guest":
            network["leases"] = (*network.get("leases", ()), *_guests(value, where))
            continue
        if key not in KEYS:
            raise unknown(key, KEYS, where)
        try:
            converted = msgspec.convert(value, _TYPES[key], strict=True)
        except msgspec.ValidationError as err:
            raise ConfigError(f"{where}: {key}: {str(err)[:1].lower()}{str(err)[1:]}") from None
        if key in _SERVICE:
            service[key] = converted
        elif key == "leases":
            network["leases"] = (*network.get("leases", ()), *converted)
        else:
            network[key] = None if key == "host_alias" and value == "" else converted  # switched off
    try:
        return ServiceConfig(network=Config(**network), **service)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from None


def _guests(value: object, where: str) -> list[tuple[str, str, str]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(f"{where}: guest is a list of tables: write [[guest]] above mac and address")
    out = []
    for entry in value:
        for key in entry:
            if key not in _GUEST_KEYS:
                raise unknown(key, _GUEST_KEYS, f"{where}: guest")
        mac, client_id, address, name = texts = [entry.get(key, "") for key in _GUEST_KEYS]
        if not all(isinstance(text, str) for text in texts) or not (mac or client_id) or not address:
            raise ConfigError(f"{where}: a guest needs address, and mac or client_id or both, as text")
        who = ",".join([mac] * bool(mac) + [f"id:{client_id}"] * bool(client_id))
        _check_who(who, f"{where}: guest")
        out.append((who, address, name))
    return out


def load(path: str) -> ServiceConfig:
    """Settings from a TOML file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or says what cannot be.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as err:
        raise ConfigError(f"the configuration file {path} cannot be read: {err.strerror}") from None
    except ValueError as err:  # also what is no UTF-8
        raise ConfigError(f"{path} is not TOML: {err}") from None
    return from_dict(data, path)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value)


def to_toml(config: ServiceConfig) -> str:
    """The settings as a TOML file that :func:`load` reads back. What is not set is a comment."""
    lines = []
    for f in fields(ServiceConfig):
        if f.name != "network":
            lines.append(f"{f.name} = {_value(getattr(config, f.name))}")
    lines.append("")
    for f in fields(Config):
        value = getattr(config.network, f.name)
        if f.name == "leases":
            continue
        if f.name == "host_alias":
            value = value or ""
        lines.append(f"# {f.name} is not set" if value is None else f"{f.name} = {_value(value)}")
    for who, address, name in config.network.leases:
        mac, _, client_id = ("," + who).rpartition(",id:")
        if not _:
            mac, client_id = who, ""
        lines += ["", "[[guest]]"]
        lines += [f"{k} = {_value(v)}" for k, v in (("mac", mac.strip(",")), ("client_id", client_id)) if v]
        lines.append(f"address = {_value(address)}")
        if name:
            lines.append(f"name = {_value(name)}")
    return "\n".join(lines) + "\n"
