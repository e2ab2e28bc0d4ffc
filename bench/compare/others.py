"""How busy a machine is with something else while it measures: a run says so, since its figures are worth less then."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

BUSY = (0, 1, 2, 5, 6, 7)  #: of the numbers in /proc/stat: user, nice, system, irq, softirq, steal
NOTABLE = 0.1  #: a share that is told beside a figure


def busy_seconds(stat: str) -> float:
    """Processor seconds of everybody since the machine started, in the text of /proc/stat."""
    fields = stat.split("\n", 1)[0].split()[1:]
    return sum(int(fields[i]) for i in BUSY if i < len(fields)) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Processor seconds of this process, and of the children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


class Others:
    """The share of the machine that others took since this was made. Children count as own once they have ended."""

    def __init__(self) -> None:
        self._busy, self._own, self._begin = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return busy_seconds(Path("/proc/stat").read_text()), own_seconds(), time.monotonic()

    def share(self) -> float:
        """0 to 1, of all processors."""
        busy, own, now = self._now()
        room = (now - self._begin) * (os.cpu_count() or 1)
        others = (busy - self._busy) - (own - self._own)
        return min(max(others / room, 0.0), 1.0) if room > 0 else 0.0
