"""The data of DHCPv4 options that a network may have besides addresses: time servers, routes, proxy, portal."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from netstack.errors import ConfigError

__all__ = [
    "CLASSLESS_ROUTES",
    "NO_PORTAL",
    "ROUTER",
    "WPAD",
    "captive_portal",
    "classless_routes",
    "ntp_servers",
    "service_options",
    "wpad",
]

ROUTER = 3
NTP = 42  # RFC 2132 section 8.3
CAPTIVE_PORTAL = 114  # RFC 8910 section 2.1
CLASSLESS_ROUTES = 121  # RFC 3442
WPAD = 252  # draft-ietf-wrec-wpad-01 section 4.4.1

#: What says that there is no captive portal (RFC 8910 section 2).
NO_PORTAL = b"urn:ietf:params:capport:unrestricted"
MAX_DATA = 255  # bytes: one option, which the smallest message has room for


def service_options(
    ntp: Iterable[str], routes: Iterable[str], url: str | None, portal: str, router: IPv4Address
) -> tuple[tuple[int, bytes], ...]:
    """(code, data) of each option that the settings ask for.

    Args:
        ntp: addresses of time servers.
        routes: each ``PREFIX=ROUTER``.
        url: of a proxy auto-configuration file; "", "off" or None for none.
        portal: see :func:`captive_portal`.
        router: the default router.

    Raises:
        ConfigError: one of them cannot be used.
    """
    options = [
        (NTP, ntp_servers(ntp)),
        (CLASSLESS_ROUTES, classless_routes(routes, router)),
        (WPAD, wpad(url)),
        (CAPTIVE_PORTAL, captive_portal(portal)),
    ]
    return tuple((code, data) for code, data in options if data)


def ntp_servers(addresses: Iterable[str]) -> bytes:
    """Addresses of time servers, the best first.

    Raises:
        ConfigError: one is not an IPv4 address, or there are more than 63.
    """
    data = b""
    for text in addresses:
        try:
            data += IPv4Address(text).packed
        except ValueError:
            raise ConfigError(f"dhcp_ntp {text!r} is not an IPv4 address") from None
    if len(data) > MAX_DATA:
        raise ConfigError(f"dhcp_ntp has {len(data) // 4} servers: 63 at most")
    return data


def classless_routes(routes: Iterable[str], router: IPv4Address) -> bytes:
    """Routes from ``PREFIX=ROUTER``, and the default one, since a client that reads these reads no router option.

    Without routes empty. A route to 0.0.0.0/0 stands in place of the default one.

    Raises:
        ConfigError: one is not such a route, or they are longer than an option.
    """
    pairs = []
    for text in routes:
        prefix, _, via = text.partition("=")
        try:
            pairs.append((IPv4Network(prefix.strip()), IPv4Address(via.strip())))
        except ValueError:
            raise ConfigError(
                f"dhcp_routes {text!r} is not PREFIX=ROUTER, such as 10.8.0.0/16=192.168.65.9"
            ) from None
    if pairs and not any(net.prefixlen == 0 for net, _ in pairs):
        pairs.append((IPv4Network("0.0.0.0/0"), router))
    data = b"".join(
        bytes([net.prefixlen]) + net.network_address.packed[: (net.prefixlen + 7) // 8] + via.packed
        for net, via in pairs
    )
    if len(data) > MAX_DATA:
        raise ConfigError(f"dhcp_routes take {len(data)} bytes: {MAX_DATA} at most, so give fewer")
    return data


def wpad(url: str | None) -> bytes:
    """The URL of a proxy auto-configuration file; without one, or for "off", empty.

    Raises:
        ConfigError: it is not an http or https URL, or too long.
    """
    if not url or url == "off":
        return b""
    return _url("dhcp_wpad", url, ("http", "https"), "http://192.168.65.2/wpad.dat")


def captive_portal(text: str) -> bytes:
    """The URL of a captive portal's API (RFC 8908), or for "none" that there is no portal; "" or "off" says nothing.

    Raises:
        ConfigError: it is not an https URL, or too long.
    """
    if text in ("", "off"):
        return b""
    if text == "none":
        return NO_PORTAL
    return _url("dhcp_captive_portal", text, ("https",), "https://portal.example/api")


def _url(key: str, url: str, schemes: tuple[str, ...], example: str) -> bytes:
    from urllib.parse import urlsplit  # costs start-up time

    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or not all(33 <= ord(c) <= 126 for c in url) or len(url) > MAX_DATA:
        raise ConfigError(f"{key} {url!r} is not a URL such as {example}, of {MAX_DATA} characters at most")
    return url.encode()
