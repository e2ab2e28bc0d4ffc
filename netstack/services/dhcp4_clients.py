"""Who a DHCP client is: by its hardware address, or by the client identifier that it sends (RFC 2131 section 4.2).

As text, in settings and in what is shown::

    02:00:00:00:00:07                           the hardware address
    id:ff:56:50:4d:98:00:02:00:00:ab:11         an identifier byte by byte, such as a DUID's (RFC 4361)
    id:web-1                                    one made of text, with or without the byte of its type (0) in front
    02:00:00:00:00:07,id:ff:56:50:4d:98:00:02   both: one machine that has either, such as before and after it boots
"""

from __future__ import annotations

import re
from typing import NamedTuple

from netstack.errors import ConfigError
from netstack.wire.addr import parse_mac
from netstack.wire.dhcp4 import DhcpMessage

__all__ = ["ETHERNET", "HOST_NAME", "Who", "client_id_text", "client_name", "hardware_key", "parse_who"]

ETHERNET = 1
ID = "id:"
MAX_ID = 255  # bytes (RFC 2132 section 9.14; a longer one would be two options)

HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_BYTES = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+", re.IGNORECASE)
_TEXT = re.compile(r"[!-~]{2,254}")


class Who(NamedTuple):
    """A machine that an address is reserved for; one of the two may be missing."""

    mac: bytes  #: b"" for any
    ids: tuple[bytes, ...]  #: client identifiers that are the same one

    @property
    def keys(self) -> tuple[bytes, ...]:
        """By what the server knows it."""
        return (*((hardware_key(self.mac),) if self.mac else ()), *self.ids)

    def __str__(self) -> str:
        """As :func:`parse_who` reads it."""
        parts = [self.mac.hex(":")] if self.mac else []
        if self.ids:
            parts.append(ID + (self.ids[0].decode() if len(self.ids) > 1 else client_id_text(self.ids[0])))
        return ",".join(parts)


def parse_who(text: bytes | str) -> Who:
    """Who is meant: six bytes are a hardware address, text as above.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(text, bytes):
        return Who(_mac(text, text), ())
    first, comma, rest = text.partition(",")
    if text.startswith(ID):
        return Who(b"", _ids(text.removeprefix(ID)))
    mac = _mac_of_text(first)
    if not comma:
        return Who(mac, ())
    if not rest.startswith(ID):
        raise ConfigError(f"{text!r} is not MAC, id:CLIENT-ID or MAC,id:CLIENT-ID")
    return Who(mac, _ids(rest.removeprefix(ID)))


def _ids(text: str) -> tuple[bytes, ...]:
    found: tuple[bytes, ...] = ()
    if _BYTES.fullmatch(text):
        found = (bytes.fromhex(text.replace(":", "")),)
    elif _TEXT.fullmatch(text):
        plain = text.encode()
        found = (plain, b"\0" + plain)  # dhclient sends it as it is, dhcpcd and others with the type
    if not found or len(found[0]) > MAX_ID:
        raise ConfigError(
            f"client identifier {text!r} is neither bytes such as ff:56:50:4d:98 nor text without spaces, "
            f"of 2 to {MAX_ID} bytes"
        )
    return found


def client_id_text(identifier: bytes) -> str:
    """An identifier as :func:`parse_who` reads it behind ``id:``; "" for none."""
    return identifier.hex(":")


def hardware_key(mac: bytes) -> bytes:
    """The identifier of a client that sends none: type and address, which is also what many send."""
    return bytes([ETHERNET]) + mac


def _mac_of_text(text: str) -> bytes:
    try:
        mac = bytes.fromhex(parse_mac(text).replace(":", ""))
    except ValueError:
        mac = b""
    return _mac(mac, text)


def _mac(mac: bytes, text: bytes | str) -> bytes:
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise ConfigError(f"{text!r} is not a unicast MAC address like 02:00:00:00:00:01")
    return bytes(mac)


def client_name(request: DhcpMessage) -> str:
    """The first label of the name that the client gives itself (option 12), "" where it is no host name."""
    name = (request.hostname or "").split(".", 1)[0]
    return name if HOST_NAME.fullmatch(name) else ""
