"""The clock of this boot: what a change of the wall clock leaves alone."""

from __future__ import annotations

import contextlib
import time

__all__ = ["boot_name", "boot_time"]


def boot_time() -> float:
    """Seconds on a clock that neither jumps nor stops: since the machine was booted, its sleep included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_name() -> str:
    """Which boot this is; "" where the system has no name for it."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""
