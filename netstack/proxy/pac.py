"""The proxy auto-configuration file that the gateway offers: what clients that were told by DHCP (option 252) fetch.

The dialect is the one that every client reads: a function FindProxyForURL(url, host) in JavaScript.
"""

from __future__ import annotations

import json

from .pages import Page, answer
from .patterns import SIMPLE, Hosts, parse_hosts
from .plan import EXPLICIT_PORTS, Plan
from .settings import ProxySettings

__all__ = ["PATHS", "pac_page", "pac_text", "pac_url"]

#: Where it is, on the port of the explicit proxy.
PATHS = (b"/wpad.dat", b"/proxy.pac")
TYPE = "application/x-ns-proxy-autoconfig"


def pac_url(gateway: str) -> str:
    """The URL that clients are told."""
    return f"http://{gateway}:{EXPLICIT_PORTS[0]}{PATHS[0].decode()}"


def pac_page(settings: ProxySettings, plan: Plan) -> Page:
    """The file as an answer. It is not to be kept: settings change."""
    body = pac_text(settings, plan).encode()
    return answer(200, "OK", body, ("Content-Type", TYPE), ("Cache-Control", "no-cache"))


def pac_text(settings: ProxySettings, plan: Plan) -> str:
    """The file: the gateway's own proxy for what the settings take to one, straight for everything else.

    Prefixes of IPv6, which the dialect cannot compare with, are left to the proxy: it goes straight to them itself.
    """
    tunnelled = ["https", "ws", "wss"] if settings.https else []  # WebSocket takes a tunnel, too
    taken = (["http"] if settings.http else []) + tunnelled
    lines = ["function FindProxyForURL(url, host) {"]
    if taken:
        excluded = Hosts((*settings.no_proxy.items, *parse_hosts(plan.no_proxy()).items))
        conditions = [test for item in excluded.items if (test := _test(item))]
        lines += [
            '    var scheme = url.substring(0, url.indexOf(":")).toLowerCase();',
            "    var place = /^[^:]+:\\/\\/(?:[^\\/?#]*@)?(?:\\[[^\\]]*\\]|[^:\\/?#]*):(\\d+)/.exec(url);",
            '    var port = place ? place[1] : "";',
            '    if (port === "") port = scheme === "https" || scheme === "wss" ? "443" : "80";',
            "    var numeric = /^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(host);",
            "    host = host.toLowerCase();",
            f"    if ({json.dumps(taken)}.indexOf(scheme) < 0 || isPlainHostName(host)",
            *(f"        || {test}" for test in dict.fromkeys(conditions)),
            '    ) return "DIRECT";',
            f'    return "PROXY {plan.gateway}:{EXPLICIT_PORTS[0]}";',
        ]
    else:
        lines.append('    return "DIRECT";')
    return "\n".join([*lines, "}", ""])


def _test(item: object) -> str:
    """One entry of a list of hosts as a condition, "" for what is left to the proxy."""
    network, name, below, glob, port = (
        getattr(item, k) for k in ("network", "name", "below", "glob", "port")
    )
    if network is not None and network.version == 4:
        test = f'(numeric && isInNet(host, "{network.network_address}", "{network.netmask}"))'
    elif network is not None:
        if network.prefixlen < network.max_prefixlen:
            return ""
        text = json.dumps(str(network.network_address))
        test = f'(host === {text} || host === "[" + {text} + "]")'
    elif glob == SIMPLE:
        return ""  # every name without a dot is excluded anyway
    elif glob:
        test = f"shExpMatch(host, {json.dumps(glob)})"
    else:
        test = f"dnsDomainIs(host, {json.dumps('.' + name)})"
        if not below:
            test = f"(host === {json.dumps(name)} || {test})"
    return f"({test} && port === {json.dumps(str(port))})" if port else test
