"""netstack: a userspace TCP/IP stack and slirp-style NAT with a Cython core.

The public names, and nothing else; each is imported when it is first used, so that ``import netstack`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config as Config
    from .errors import ConfigError as ConfigError
    from .errors import NetstackError as NetstackError
    from .errors import SandboxError as SandboxError
    from .errors import WireError as WireError
    from .gateway import Gateway as Gateway
    from .gateway import start as start

__version__ = "0.1.0"

_WHERE = {
    "Config": "config",
    "ConfigError": "errors",
    "Gateway": "gateway",
    "NetstackError": "errors",
    "SandboxError": "errors",
    "WireError": "errors",
    "start": "gateway",
}

__all__ = [*sorted(_WHERE), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module("." + _WHERE[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'netstack' has no attribute {name!r}")
