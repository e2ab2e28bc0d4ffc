"""The package's logger, got when there is something to say: importing logging costs start-up time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["logger"]


def logger() -> logging.Logger:
    """The logger ``netstack``."""
    import logging

    return logging.getLogger("netstack")
