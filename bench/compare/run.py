"""A run: what was measured, on which machine, with which versions. JSON on disk."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..figures import Spread, pointwise, quantile
from ..programs import version_of
from ..systems import SYSTEMS
from .work import Values

RESULTS = Path(__file__).resolve().parents[1] / "results"
ROOT = RESULTS.parents[1]
TOOLS = ("iperf3", "wrk", "nginx", "dnsperf", "dnsmasq")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}  #: figures that are read from a curve

LEVELS = 4  #: works, work, case, system

Curve = list[tuple[float, float]]


class Run(msgspec.Struct, forbid_unknown_fields=True):
    """All values of all repetitions."""

    date: str
    commit: str  #: of netstack, with "+" behind it where files were changed
    machine: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str]  #: systems that are not here, and why
    repeat: int  #: the least of all that was taken together
    seconds: float  #: the most
    works: dict[str, dict[str, dict[str, dict[str, list[float | Curve]]]]] = {}  #: work, case, system, figure
    failed: dict[str, dict[str, dict[str, str]]] = {}  #: work, case, system: why
    others: dict[str, list[float]] = {}  #: by work, the share of the machine that others took in each turn

    # --- while measuring

    def found(self, work: str, case: str, system: str, values: Values) -> None:
        """One repetition's figures."""
        place = self.works.setdefault(work, {}).setdefault(case, {}).setdefault(system, {})
        for figure, value in values.items():
            place.setdefault(figure, []).append(_rounded(value))

    def did_not(self, work: str, case: str, system: str, why: str) -> None:
        self.failed.setdefault(work, {}).setdefault(case, {})[system] = why

    def take(self, other: Run) -> None:
        """What another run has measured takes the place of the same here; the rest stays."""
        self.date, self.commit = other.date, other.commit
        self.machine, self.versions = other.machine, other.versions
        self.repeat, self.seconds = min(self.repeat, other.repeat), max(self.seconds, other.seconds)
        self.missing = {**self.missing, **other.missing}
        for work, cases in other.works.items():
            for case, systems in cases.items():
                self.works.setdefault(work, {}).setdefault(case, {}).update(systems)
                for system in systems:
                    self.failed.get(work, {}).get(case, {}).pop(system, None)
        self.others.update(other.others)
        for work, failed in other.failed.items():
            for case, reasons in failed.items():
                self.failed.setdefault(work, {}).setdefault(case, {}).update(reasons)
        kept = {w: {c: why for c, why in cases.items() if why} for w, cases in self.failed.items()}
        self.failed = {work: cases for work, cases in kept.items() if cases}

    def disturbed(self, work: str, share: float) -> None:
        """What others took meanwhile."""
        self.others.setdefault(work, []).append(round(share, 3))

    # --- asking

    def cases(self, work: str) -> list[str]:
        """In the order in which they were measured first."""
        found = dict.fromkeys(self.works.get(work, {}))
        return list(found | dict.fromkeys(self.failed.get(work, {})))

    def systems(self) -> list[str]:
        """All that took part, in the order of the tables."""
        seen = {s for cases in self.works.values() for systems in cases.values() for s in systems}
        seen |= {s for cases in self.failed.values() for systems in cases.values() for s in systems}
        return [name for name in SYSTEMS if name in seen]

    def values(self, work: str, case: str, system: str, figure: str) -> list[float]:
        """Of each repetition; none where it was not measured. Quantiles are read from the curves."""
        figures = self.works.get(work, {}).get(case, {}).get(system, {})
        if figure in QUANTILES:
            return [quantile(curve, QUANTILES[figure]) for curve in self._curves(figures)]
        return [value for value in figures.get(figure, []) if isinstance(value, (int, float))]

    def spread(self, work: str, case: str, system: str, figure: str) -> Spread | None:
        values = self.values(work, case, system, figure)
        return Spread.of(values) if values else None

    def median(self, work: str, case: str, system: str, figure: str) -> float | None:
        values = self.values(work, case, system, figure)
        return statistics.median(values) if values else None

    def curve(self, work: str, case: str, system: str) -> Curve | None:
        """The median of the curves, point by point."""
        curves = self._curves(self.works.get(work, {}).get(case, {}).get(system, {}))
        return pointwise(curves) if curves else None

    @staticmethod
    def _curves(figures: dict[str, list[float | Curve]]) -> list[Curve]:
        return [curve for curve in figures.get("curve", []) if isinstance(curve, list)]

    def best(
        self, work: str, case: str, figure: str, less: bool = False, among: tuple[str, ...] = ()
    ) -> tuple[str, float] | None:
        """The best of some systems (the peers) and its median."""
        names = among or tuple(name for name, system in SYSTEMS.items() if system.peer)
        found = [(name, self.median(work, case, name, figure)) for name in names]
        have = [(name, value) for name, value in found if value is not None]
        if not have:
            return None
        return (min if less else max)(have, key=lambda item: item[1])

    def everything(self) -> Iterator[tuple[str, str, str, str]]:
        """Each (work, case, system, figure) that has values."""
        for work, cases in self.works.items():
            for case, systems in cases.items():
                for system, figures in systems.items():
                    for figure in figures:
                        if figure == "curve":
                            yield from ((work, case, system, name) for name in QUANTILES)
                        else:
                            yield work, case, system, figure

    # --- on disk

    @classmethod
    def load(cls, path: Path) -> Run:
        """ValueError: it cannot be read, or is no run; one sentence."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as err:
            raise ValueError(f"{path}: {err.strerror}") from None
        except msgspec.MsgspecError as err:
            raise ValueError(f"{path} is not a run of python -m bench compare --json: {err}") from None

    def save(self, path: Path) -> None:
        """One line for each system of each case, so that a difference of two files can be read."""
        path.write_text(_lines(msgspec.to_builtins(self), LEVELS) + "\n")


def _lines(value: object, levels: int, margin: str = "") -> str:
    """JSON, of which so many levels of objects are taken apart into lines."""
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = f"{margin} "
    entries = (f"{json.dumps(key)}: {_lines(part, levels - 1, inner)}" for key, part in value.items())
    return "{\n" + ",\n".join(inner + entry for entry in entries) + f"\n{margin}}}"


def _rounded(value: float | Curve | list[list[float]]) -> float | Curve:
    """Four digits: more is noise."""
    if isinstance(value, (int, float)):
        return float(f"{value:.4g}")
    return [(share, float(f"{at:.4g}")) for share, at in value]


def stored() -> Path:
    """The newest stored run, from which the page is made."""
    return max(RESULTS.glob("*.json"))


# --- about the machine


def started(repeat: int, seconds: float, missing: dict[str, str]) -> Run:
    """An empty run of this moment on this machine."""
    versions = {name: system.version() or "" for name, system in SYSTEMS.items() if name not in missing}
    versions |= {tool: version for tool in TOOLS if (version := version_of(tool))}
    versions |= {"Python": platform.python_version(), "Cython": _cython()}
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    known = {name: version for name, version in versions.items() if version}
    return Run(date, commit(), machine(), known, missing, repeat, seconds)


def _cython() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cython")
    except PackageNotFoundError:
        return ""


def commit() -> str:
    """Of the sources beside this file."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        named = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "netstack", "setup.py")
    except OSError:
        return "unknown"
    return f"{named}{'+' if changed else ''}" if named else "unknown"


def machine() -> dict[str, str]:
    def first(path: str, pattern: str) -> str:
        try:
            found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
        except OSError:
            return ""
        return found[1].strip() if found else ""

    memory = first("/proc/meminfo", r"^MemTotal:\s+(\d+)")
    virtual = "hypervisor" in first("/proc/cpuinfo", r"^flags\s*:(.*)").split()
    facts = {
        "processor": first("/proc/cpuinfo", r"^model name\s*:(.*)") or platform.processor(),
        "processors": str(os.cpu_count() or 1),
        "memory": f"{int(memory) / 2**20:.0f} GiB" if memory else "",
        "virtual": "yes" if virtual else "no",
        "kernel": f"{platform.system()} {platform.release()}",
        "congestion control": first("/proc/sys/net/ipv4/tcp_congestion_control", r"(\S+)"),
    }
    return {name: value for name, value in facts.items() if value}
