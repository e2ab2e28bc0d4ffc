"""Whether there is anything about proxies to look for, cheaply: most commands start without the rest of the package."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # that of typing, which takes longer to import than a command may wait
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config import Config

__all__ = ["configured", "present"]

VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def configured(config: Config) -> bool:
    """Whether the options name a proxy, a file of settings or a list of what is allowed."""
    return config.no_proxy is not None or any(
        (config.http_proxy, config.https_proxy, config.http_settings, config.allow_host, config.allow_url)
    )


def present(config: Config, environ: Mapping[str, str]) -> bool:
    """The same of the options, and with ``proxy`` "auto" of the environment, and whether there is a desktop to ask."""
    if configured(config):
        return True
    if config.proxy == "off":
        return False
    if any(environ.get(name) or environ.get(name.upper()) for name in VARIABLES):
        return True
    if sys.platform == "darwin":
        return True
    desktop = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_CURRENT_DESKTOP")
    return any(environ.get(name) for name in desktop)
