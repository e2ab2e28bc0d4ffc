"""Pictures of a run: throughput by MTU, latency, and what connections cost. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..systems import SYSTEMS
from . import bulk, latency
from .run import Run
from .tables import label

COLOURS = {
    "netstack": "#d62728", "limit": "#7f7f7f", "veth": "#bcbcbc", "pasta": "#1f77b4", "slirp4netns": "#2ca02c",
    "qemu": "#9467bd", "gvproxy": "#ff7f0e", "vpnkit": "#17becf",
}  # fmt: skip
NAMES = ("throughput", "latency", "connections")


def available() -> str | None:
    """Why there can be no pictures here; None when there can."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "matplotlib is not installed: pip install 'matplotlib>=3.7'"
    return None


def write(run: Run, folder: Path) -> list[Path]:
    """Makes the pictures there that the run has figures for, as SVG; which those are."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "netstack"  # the same run gives the same bytes
    matplotlib.rcParams["font.size"] = 9
    from matplotlib import pyplot

    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in zip(NAMES, (throughput, curves, costs), strict=True):
        figure = draw(run, pyplot)
        if figure is not None:
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            pyplot.close(figure)
            made.append(path)
    return made


def beside(axis: Any) -> None:
    """The key, where it covers nothing."""
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def throughput(run: Run, pyplot: Any) -> Any:
    """One stream each way, a group of bars for each MTU."""
    cases = set(run.cases("bulk"))
    mtus = [m for m in (1500, 9000, 65520) if bulk.case(m, "up") in cases]
    if not mtus:
        return None
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, way in zip(axes, ("up", "down"), strict=True):
        systems = run.systems()
        width = 0.8 / max(len(systems), 1)
        for number, system in enumerate(systems):
            medians = [run.spread("bulk", bulk.case(mtu, way), system, "gbit_s") for mtu in mtus]
            have = [(i, s) for i, s in enumerate(medians) if s is not None]
            if have:
                axis.bar(
                    [i + (number - (len(systems) - 1) / 2) * width for i, _ in have],
                    [s.median for _, s in have],
                    width,
                    yerr=[[s.median - s.least for _, s in have], [s.most - s.median for _, s in have]],
                    color=COLOURS[system],
                    label=label(system),
                    error_kw={"linewidth": 0.7},
                )
        axis.set_xticks(range(len(mtus)), [f"{mtu:,}" for mtu in mtus])
        axis.set_xlabel("MTU")
        axis.set_title(f"{way}, one TCP stream")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("Gbit/s")
    beside(axes[-1])
    return figure


def curves(run: Run, pyplot: Any) -> Any:
    """How many round trips take how long at most."""
    found = [(s, c) for s in run.systems() if (c := run.curve("latency", latency.CASE, s))]
    if not found:
        return None
    figure, axis = pyplot.subplots(figsize=(6, 3.4))
    for system, curve in found:
        points = [(share, us) for share, us in curve if share < 1]
        axis.plot(
            [us for _, us in points],
            [1 - share for share, _ in points],
            color=COLOURS[system],
            label=label(system),
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_yticks([1, 0.5, 0.1, 0.01, 0.001, 0.0001], ["all", "1/2", "1/10", "1/100", "1/1000", "1/10000"])
    axis.set_xlabel("a round trip takes longer than ... µs")
    axis.set_ylabel("share of round trips")
    axis.set_title("TCP request and response, 64 bytes")
    axis.grid(alpha=0.3)
    beside(axis)
    return figure


def costs(run: Run, pyplot: Any) -> Any:
    """Bytes for each idle connection, of the process and of the kernel."""
    counts = sorted(int(case) for case in run.cases("connections"))
    if not counts:
        return None
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2))
    for axis, name, title in zip(
        axes,
        ("process_bytes", "kernel_bytes"),
        ("the process", "the kernel, both ends included"),
        strict=True,
    ):
        for system in SYSTEMS:
            have = [
                (n, m) for n in counts if (m := run.median("connections", str(n), system, name)) is not None
            ]
            if have:
                axis.plot(
                    [n for n, _ in have],
                    [m / 1024 for _, m in have],
                    marker="o",
                    color=COLOURS[system],
                    label=label(system),
                )
        axis.set_xlim(0, counts[-1] * 1.1)
        axis.set_xticks([0, *counts], [f"{n:,}" for n in (0, *counts)])
        axis.set_xlabel("idle connections")
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("KiB for each")
    beside(axes[-1])
    return figure
