"""The package's logger, got when there is something to say: importing logging costs start-up time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["logger", "say_as_commands_do"]

_as_commands_do = False


def say_as_commands_do() -> None:
    """What is logged goes to standard error as errors of commands do, unless a command sets up the log itself."""
    global _as_commands_do
    _as_commands_do = True


def logger() -> logging.Logger:
    """The logger ``netstack``."""
    import logging

    log = logging.getLogger("netstack")
    if _as_commands_do and not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("netstack: %(message)s"))
        log.addHandler(handler)
    return log
