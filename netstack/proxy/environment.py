"""What a guest's programs are told in their environment: the proxy on the gateway, whatever the host's is."""

from __future__ import annotations

from collections.abc import Mapping

from .patterns import parse_hosts
from .plan import EXPLICIT_PORTS, Plan
from .settings import ProxySettings

__all__ = ["guest_environment"]

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def guest_environment(
    environ: Mapping[str, str], settings: ProxySettings, plan: Plan, given: bool
) -> dict[str, str]:
    """The environment of a command inside; the same where no proxy applies.

    Both cases of each name lead to the gateway's own proxy. So a proxy on the host's loopback works, nobody inside
    sees its credentials, and what changes outside is followed. ``no_proxy`` keeps what it names, in the notation that
    most programs read, and gains the virtual network.

    Args:
        environ: the host's.
        settings: the proxies in force.
        plan: of the virtual network.
        given: the settings come from options, which then count more than what the environment says.
    """
    out = dict(environ)
    if settings.http is None and settings.https is None:
        return out
    proxy = f"http://{plan.gateway}:{EXPLICIT_PORTS[0]}"
    excluded = ",".join(filter(None, (str(settings.no_proxy), str(parse_hosts(plan.no_proxy())))))
    values = {
        "http_proxy": proxy if settings.http else "",
        "https_proxy": proxy if settings.https else "",
        "no_proxy": excluded,
    }
    everything = environ.get("all_proxy") or environ.get("ALL_PROXY") or ""
    if given or everything.lower().startswith("http:") or "://" not in everything:
        values["all_proxy"] = ""  # what it says is in the others now
    for name, value in values.items():
        for key in (name, name.upper()):
            out.pop(key, None)
            if value:
                out[key] = value
    return out
