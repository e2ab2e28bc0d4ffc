"""The part of the gateway that is changed while it runs: the path of the links."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .config import Config
from .errors import ConfigError

if TYPE_CHECKING:
    from .engine import Engine
    from .link.impair import Impairment

__all__ = ["TuningMethods"]


class TuningMethods:
    """The part of :class:`netstack.Gateway` that changes the path of the links."""

    config: Config
    _engine: Engine

    def _begin_tuning(self) -> None:
        self._tuning = threading.Lock()
        self._paths = self.config.impair_up, self.config.impair_down

    def impairment(self) -> tuple[str, str]:
        """The bad path of the links from the guests and to them, as it was given; "" is a good one."""
        return self._paths

    def set_impairment(self, up: str = "", down: str = "") -> None:
        """Gives every link but those in memory a bad path (docs/impairment.md), or with "" both ways a good one.

        What is under way arrives at once, in its order; new frames meet the new path.

        Raises:
            ConfigError: a path cannot be understood; nothing has changed.
        """
        with self._tuning:
            self._engine.set_impairment(*(paths_of(up, down) or (None, None)))
            self._paths = up, down


def paths_of(up: str, down: str) -> tuple[Impairment, Impairment] | None:
    """Both ways, each with its own chance; None where both are good.

    Raises:
        ConfigError: one cannot be understood.
    """
    if not up.strip() and not down.strip():
        return None
    from .link.impair import Impairment

    ways = []
    for key, text, seed in (("impair_up", up, 1), ("impair_down", down, 2)):
        try:
            ways.append(Impairment.parse(text if "seed=" in text else f"seed={seed} {text}"))
        except ValueError as err:
            raise ConfigError(f"{key} {text!r} cannot be used: {err}") from None
    return ways[0], ways[1]
