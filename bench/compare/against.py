"""What has changed between two runs.

Times drift: a machine is quicker one day than another. So the change of each figure stands beside the drift, which is
the median of the same figure's changes of all other systems in that case: what remains of the one without the other is
netstack's own. A change counts where it is beyond the threshold without the drift, and where the values of the two
runs do not overlap.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from ..systems import SYSTEMS
from .bars import OURS, verdicts
from .run import Run
from .tables import Table, digits

THRESHOLD = 0.1
LESS_IS_BETTER = frozenset(
    {
        "cpu_s_per_gb", "cpu_us", "p50", "p99", "p99.9", "process_bytes", "kernel_bytes", "wakeups", "rss_mb", "ms",
        "errors", "retransmits",
    }
)  # fmt: skip
NOT_COMPARED = frozenset({"retransmits", "errors", "sent"})


@dataclass(frozen=True)
class Change:
    """One figure of netstack in both runs."""

    work: str
    case: str
    figure: str
    before: float
    now: float
    drift: float | None  #: now / before of the other systems; None where there are none
    overlap: bool  #: whether values of the two runs are among each other

    @property
    def own(self) -> float:
        """now / before, without the drift."""
        return self.now / self.before / (self.drift or 1.0)

    @property
    def counts(self) -> bool:
        return not self.overlap and abs(self.own - 1) >= THRESHOLD

    @property
    def better(self) -> bool:
        return (self.own < 1) == (self.figure in LESS_IS_BETTER)


def changes(before: Run, now: Run) -> list[Change]:
    """Every figure of netstack that both runs have, in the order of the later run."""
    found = []
    for work, case, system, figure in now.everything():
        if system != OURS or figure in NOT_COMPARED:
            continue
        old, new = before.values(work, case, OURS, figure), now.values(work, case, OURS, figure)
        if not old or not new or statistics.median(old) <= 0:
            continue
        others = [
            statistics.median(n) / statistics.median(o)
            for other in SYSTEMS
            if other != OURS
            and (o := before.values(work, case, other, figure))
            and (n := now.values(work, case, other, figure))
            and statistics.median(o) > 0
        ]
        found.append(
            Change(
                work,
                case,
                figure,
                statistics.median(old),
                statistics.median(new),
                statistics.median(others) if others else None,
                min(new) <= max(old) and min(old) <= max(new),
            )
        )
    return found


def table(before: Run, now: Run) -> Table:
    """The changes that count."""
    rows = tuple(
        (
            f"{c.work}, {c.case}: {c.figure}",
            digits(c.before),
            digits(c.now),
            f"{c.now / c.before:.2f}",
            "–" if c.drift is None else f"{c.drift:.2f}",
            "better" if c.better else "WORSE",
        )
        for c in changes(before, now)
        if c.counts
    )
    title = f"{now.commit} ({now.date}) against {before.commit} ({before.date})"
    columns = (OURS, "before", "now", "now / before", "others' drift", "")
    compared = len(changes(before, now))
    note = f"{compared - len(rows)} of {compared} figures have not changed by {THRESHOLD:.0%} or more."
    return Table(title, columns, rows, note)


def bars_changed(before: Run, now: Run) -> list[str]:
    """Bars that only one of the runs meets, in words."""
    old = {v.name: v for v in verdicts(before)}
    return [
        f"{v.work}: {old[v.name].mark} ({old[v.name].found}) → {v.mark} ({v.found})"
        for v in verdicts(now)
        if v.met is not None and old[v.name].met is not None and v.met != old[v.name].met
    ]
