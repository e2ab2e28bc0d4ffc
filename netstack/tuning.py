"""The part of the gateway that is changed while it runs: what is captured, and the path of the links."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from .config import Config
from .errors import ConfigError, NetstackError

if TYPE_CHECKING:
    from .engine import Engine
    from .link.impair import Impairment

__all__ = ["BusyError", "TuningMethods"]


class BusyError(NetstackError):
    """What there can be one of is there already."""


class TuningMethods:
    """The part of :class:`netstack.Gateway` that is changed while it runs."""

    config: Config
    _engine: Engine

    def _begin_tuning(self) -> None:
        self._tuning = threading.Lock()
        self._captured = ""  # where the capture goes
        self._captured_since = 0.0
        self._capture_number = 0
        self._paths = self.config.impair_up, self.config.impair_down

    # --- captures

    def start_capture(self, target: str | int, *, snaplen: int = 0, limit: int = 0) -> int:
        """Captures every frame as pcapng.

        Args:
            target: a path (created and truncated), or a descriptor, which is the gateway's from here on. A pipe whose
                reader is behind loses frames and holds nobody up.
            snaplen: bytes of a frame that are kept; 0 = all.
            limit: bytes that the file may come to; 0 = no limit.

        Returns:
            Its number, for :meth:`stop_capture`.

        Raises:
            BusyError: a capture is running; there is one at a time.
            ConfigError: the file cannot be written.
        """
        with self._tuning:
            if self._engine.capture() is not None:
                since = time.strftime("%H:%M:%S", time.localtime(self._captured_since))
                raise BusyError(f"a capture to {self._captured} is running since {since}: stop it first")
            try:
                self._engine.start_capture(target, snaplen, limit)
            except OSError as err:
                raise ConfigError(
                    f"the capture file {target} cannot be written ({err.strerror}): give a path in a writable folder"
                ) from None
            self._captured = "a stream" if isinstance(target, int) else target
            self._captured_since = time.time()
            self._capture_number += 1
            return self._capture_number

    def stop_capture(self, number: int | None = None) -> dict[str, Any] | None:
        """Ends the capture (with a number: that one only) and closes its file; as :meth:`capture` at the end, or None
        where there was none."""
        with self._tuning:
            if number not in (None, self._capture_number):
                return None
            ended = self._engine.stop_capture()
            return None if ended is None else self._described(ended)

    def capture(self) -> dict[str, Any] | None:
        """The capture that runs: ``number``, ``target`` and ``since`` (seconds since 1970), and what it has come to
        (:meth:`netstack.engine.Engine.capture`)."""
        with self._tuning:
            running = self._engine.capture()
            return None if running is None else self._described(running)

    def _described(self, capture: dict[str, Any]) -> dict[str, Any]:
        return {
            "number": self._capture_number,
            "target": self._captured,
            "since": self._captured_since,
        } | capture

    # --- a bad path

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
