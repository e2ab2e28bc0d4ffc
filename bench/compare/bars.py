"""What is asked of netstack, against what a run has found. Ratios, since times drift from machine to machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..figures import ratio
from ..systems import SYSTEMS
from . import bulk, connect, connections, idle, latency, start, udp
from .run import Run

OURS, LIMIT = "netstack", "limit"
GUESTS_CONNECTION = 1024  #: bytes


@dataclass(frozen=True)
class Verdict:
    """One thing that is asked."""

    name: str  #: the key of its note, if it has one
    work: str
    asked: str
    found: str  #: with the figures
    met: bool | None  #: None: the run has not measured it

    @property
    def mark(self) -> str:
        return "not measured" if self.met is None else "met" if self.met else "MISSED"


@dataclass(frozen=True)
class Bar:
    """How one verdict is reached."""

    name: str
    work: str
    asked: str
    judge: Callable[[Run], tuple[str, bool] | None]
    measured_by: tuple[str, str] = (
        "",
        "",
    )  #: kind of work and case, where there may be a reason for no figure

    def verdict(self, run: Run) -> Verdict:
        found = self.judge(run)
        work, case = self.measured_by
        words, met = (
            found if found is not None else (run.failed.get(work, {}).get(case, {}).get(OURS, ""), None)
        )
        return Verdict(self.name, self.work, self.asked, words, met)


def number(value: float) -> str:
    """Three digits, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def against_limit(
    work: str, case: str, figure: str, asked: float
) -> Callable[[Run], tuple[str, bool] | None]:
    def judge(run: Run) -> tuple[str, bool] | None:
        ours, theirs = run.median(work, case, OURS, figure), run.median(work, case, LIMIT, figure)
        share = ratio(ours, theirs)
        if ours is None or theirs is None or share is None:
            return None
        return f"{share:.2f} × ({number(ours)} / {number(theirs)})", share >= asked

    return judge


def against_peer(
    work: str, case: str, figure: str, asked: float, less: bool = False
) -> Callable[[Run], tuple[str, bool] | None]:
    """At least ``asked`` × the best peer; with ``less``, at most."""

    def judge(run: Run) -> tuple[str, bool] | None:
        ours, best = run.median(work, case, OURS, figure), run.best(work, case, figure, less)
        if ours is None or best is None or not best[1]:
            return None
        share = ours / best[1]
        label = SYSTEMS[best[0]].label or best[0]
        words = f"{share:.2f} × ({number(ours)} / {number(best[1])}, {label})"
        return words, share <= asked if less else share >= asked

    return judge


def absolute(
    work: str, case: str, figure: str, asked: float, unit: str, less: bool = False
) -> Callable[[Run], tuple[str, bool] | None]:
    def judge(run: Run) -> tuple[str, bool] | None:
        ours = run.median(work, case, OURS, figure)
        if ours is None:
            return None
        return f"{number(ours)}{unit}", ours <= asked if less else ours >= asked

    return judge


def many_streams(run: Run) -> tuple[str, bool] | None:
    one = run.median("bulk", bulk.case(1500, "both", 1), OURS, "gbit_s")
    many = run.median("bulk", bulk.case(1500, "both", 16), OURS, "gbit_s")
    share = ratio(many, one)
    if one is None or many is None or share is None:
        return None
    return f"{share:.2f} × ({number(many)} / {number(one)})", share >= 1


def _bars() -> list[Bar]:
    bars = []

    def bulk_bar(mtu: int, way: str, times: float) -> None:
        case, work = bulk.case(mtu, way), f"TCP bulk, MTU {mtu}, {way}"
        bars.append(
            Bar(
                f"bulk {mtu} {way} limit",
                work,
                "≥ 0.85 × limit",
                against_limit("bulk", case, "gbit_s", 0.85),
            )
        )
        bars.append(
            Bar(
                f"bulk {mtu} {way} peer",
                work,
                f"≥ {times:g} × the best peer",
                against_peer("bulk", case, "gbit_s", times),
            )
        )

    def rate_bar(name: str, work: str, kind: str, case: str, times: float) -> None:
        bars.append(Bar(name, work, f"≥ {times:g} × the best peer", against_peer(kind, case, "rate", times)))

    bulk_bar(1500, "up", 10)
    bulk_bar(1500, "down", 6)
    bulk_bar(65520, "up", 1.3)
    bulk_bar(65520, "down", 1.05)
    both = bulk.case(1500, "both", 16)
    bars.append(Bar("16 streams", "TCP, 16 streams, both ways", "≥ 1 stream, both ways", many_streams))
    bars.append(
        Bar(
            "16 streams fair",
            "the same, fairness (Jain)",
            "≥ 0.9",
            absolute("bulk", both, "jain", 0.9, ""),
        )
    )
    rate_bar("rr rate", "TCP request/response, rate", "latency", latency.CASE, 1.1)
    bars.append(
        Bar(
            "rr p99",
            "TCP request/response, p99",
            "≤ the best peer's",
            against_peer("latency", latency.CASE, "p99", 1.0, less=True),
        )
    )
    for at_once in connect.AT_ONCE:
        case = connect.case(at_once)
        rate_bar(f"connect {at_once}", f"connect-request-close, {case}", "connect", case, 1.5)
    for kind, times in (("64", 1.5), ("1400 GSO", 4)):
        for way in udp.WAYS:
            words = f"UDP {kind.replace(' GSO', ' with GSO')}, {way}, delivered/s"
            rate_bar(f"udp {kind} {way}", words, "udp", udp.case(kind, way), times)
    for mtu, share in ((1500, 0.5), (65520, 0.9)):
        for way in ("up", "down"):
            bars.append(
                Bar(
                    f"cpu {mtu} {way}",
                    f"CPU seconds per GB, MTU {mtu}, {way}",
                    f"≤ {share:g} × the best peer",
                    against_peer("bulk", bulk.case(mtu, way), "cpu_s_per_gb", share, less=True),
                )
            )
    for count in (10_000, 50_000):
        case = connections.case(count)
        bars.append(
            Bar(
                f"idle bytes {count}",
                f"process bytes for each of {count:,} idle connections",
                f"≤ {GUESTS_CONNECTION:,}",
                absolute("connections", case, "process_bytes", GUESTS_CONNECTION, " bytes", less=True),
                ("connections", case),
            )
        )
    bars.append(
        Bar(
            "setting up",
            "setting up 50,000 connections",
            "≥ 5,000/s",
            absolute("connections", "50000", "rate", 5000, "/s"),
            ("connections", "50000"),
        )
    )
    bars.append(
        Bar(
            "start",
            "start-up, `run -- true`",
            "≤ 120 ms",
            absolute("start", start.CASE, "ms", 120, " ms", less=True),
        )
    )
    bars.append(
        Bar(
            "wakeups",
            "wake-ups with no traffic",
            "0/s",
            absolute("idle", idle.CASE, "wakeups", 0, "/s", less=True),
        )
    )
    bars.append(
        Bar("rss", "RSS when idle", "≤ 40 MB", absolute("idle", idle.CASE, "rss_mb", 40, " MB", less=True))
    )
    return bars


BARS = tuple(_bars())


def verdicts(run: Run) -> list[Verdict]:
    """All bars, in order."""
    return [bar.verdict(run) for bar in BARS]
