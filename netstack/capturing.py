"""The part of the gateway that records what passes: one capture at a time, begun and ended while it runs."""

from __future__ import annotations

import errno
import os
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Config, parse_ring
from .errors import ConfigError, NetstackError
from .log import logger

if TYPE_CHECKING:
    from .capture.filter import Filter
    from .capture.recorder import Recorder
    from .engine import Engine
    from .nameservice import NameService

__all__ = ["BusyError", "CaptureMethods"]


class BusyError(NetstackError):
    """What there can be one of is there already."""


class CaptureMethods:
    """The part of :class:`netstack.Gateway` that captures."""

    config: Config
    dns: NameService
    _engine: Engine

    def _begin_capturing(self) -> None:
        self._capturing = threading.Lock()
        self._recorder: Recorder | None = None
        self._captured = ""  # where the capture goes
        self._captured_since = 0.0
        self._capture_number = 0
        #: what the capture that has ended last came to, as :meth:`capture` says it
        self.last_capture: dict[str, Any] | None = None

    def start_capture(
        self,
        target: str | int,
        *,
        snaplen: int = 0,
        limit: int = 0,
        ring: str = "",
        filter: str = "",
        wire_frames: bool = False,
    ) -> int:
        """Captures every frame as pcapng (docs/captures.md).

        Args:
            target: a path (created and truncated; ``-`` is standard output), or a descriptor, which is the gateway's
                from here on. Whoever reads slowly loses frames and holds nobody up.
            snaplen: bytes of a frame that are kept; 0 = all.
            limit: bytes that the file may come to; 0 = no limit.
            ring: such as ``10x64MB``: that many files of that size, the oldest of which goes; "" = one file.
            filter: only frames that this pcap-filter expression lets pass.
            wire_frames: super-frames are cut to what the wire would carry.

        Returns:
            Its number, for :meth:`stop_capture`.

        Raises:
            BusyError: a capture is running; there is one at a time.
            ConfigError: the file cannot be written, the filter or the ring cannot be, or libpcap is missing.
        """
        with self._capturing:
            if self._recorder is not None:
                since = time.strftime("%H:%M:%S", time.localtime(self._captured_since))
                raise BusyError(f"a capture to {self._captured} is running since {since}: stop it first")
            recorder = open_recorder(target, snaplen, limit, ring, filter, wire_frames)
            recorder.set_names(self.dns.table.names)
            self._engine.start_capture(recorder)
            self._recorder = recorder
            self._captured = captured_as(target)
            self._captured_since = time.time()
            self._capture_number += 1
            return self._capture_number

    def stop_capture(self, number: int | None = None) -> dict[str, Any] | None:
        """Ends the capture (with a number: that one only) and closes its file; as :meth:`capture` at the end, or None
        where there was none."""
        with self._capturing:
            if self._recorder is None or number not in (None, self._capture_number):
                return None
            self._engine.stop_capture()
            return self._closed()

    def capture(self) -> dict[str, Any] | None:
        """The capture that runs: ``number``, ``target`` and ``since`` (seconds since 1970), and what it has come to
        (:meth:`netstack.capture.recorder.Recorder.state`)."""
        with self._capturing:
            return None if self._recorder is None else self._described(self._recorder.state())

    def _closed(self) -> dict[str, Any]:
        assert self._recorder is not None
        recorder, self._recorder = self._recorder, None
        self.last_capture = ended = self._described(recorder.close())
        if ended["error"] not in (0, errno.EPIPE):
            logger().warning("%s", ended_by(ended))
        elif ended["lost"] and not ended["error"]:
            logger().warning(
                "%d frames are missing in the capture %s: it did not keep up", ended["lost"], self._captured
            )
        return ended

    def _end_capture(self) -> None:
        """With the engine closed: what is on its way is written."""
        with self._capturing:
            if self._recorder is not None:
                self._closed()

    def _capture_news(self) -> None:
        """Tells that frames begin to be lost, or that the capture has ended by itself."""
        found = self.capture()
        if found is None:
            return
        if found["error"] == errno.EPIPE:
            logger().info("the capture to %s has ended: its reader has gone", found["target"])
        elif found["error"]:
            logger().warning("%s; the network goes on", ended_by(found))
        elif found["full"]:
            logger().info("the capture to %s has come to its limit", found["target"])
        elif found["lost"]:
            logger().warning(
                "the capture to %s does not keep up: frames are missing in it, and counted as pcap_lost",
                found["target"],
            )

    def _described(self, capture: dict[str, Any]) -> dict[str, Any]:
        return {
            "number": self._capture_number,
            "target": self._captured,
            "since": self._captured_since,
        } | capture


def captured_as(target: str | int) -> str:
    """What a capture's target is called."""
    if isinstance(target, int):
        return "a stream"
    return "standard output" if target == "-" else target


def ended_by(capture: dict[str, Any]) -> str:
    """The sentence about a capture that an error has ended."""
    return (
        f"the capture to {capture['target']} has ended after {capture['frames']} frames: "
        f"{os.strerror(capture['error'])}"
    )


def open_recorder(
    target: str | int, snaplen: int, limit: int, ring: str, filter: str, wire_frames: bool
) -> Recorder:
    """A recorder that writes already.

    Raises:
        ConfigError: it cannot be had.
    """
    from .capture.recorder import Recorder  # which costs the start of those who capture nothing

    compiled: Filter | None = None
    if filter.strip():
        from .capture.filter import Filter

        compiled = Filter(filter)
    files = parse_ring(ring) if ring else None
    if files and (target == "-" or isinstance(target, int)):
        raise ConfigError("a ring needs names for its files: give FILE instead of -, or leave out the ring")
    system, version = os.uname(), import_module("netstack").__version__
    try:
        return Recorder(
            target,
            snaplen=snaplen,
            limit=limit,
            ring=files,
            filter=compiled,
            wire_frames=wire_frames,
            section=(system.machine, f"{system.sysname} {system.release}", f"netstack {version}"),
        )
    except OSError as err:
        if err.errno == errno.ENXIO:
            raise ConfigError(
                f"the capture file {target} is a FIFO that nobody reads: start its reader first"
            ) from None
        raise ConfigError(
            f"the capture file {target} cannot be written ({err.strerror}): give a path in a writable folder"
        ) from None
