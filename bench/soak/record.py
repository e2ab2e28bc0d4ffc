"""What is sampled of the service while it runs, the table of it, and the plot."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from netstack.control.client import Client
from netstack.testing.namespace import Process

__all__ = ["Sample", "header", "line", "plot", "sample", "write"]

#: Counters that say what was done; what else moves is a drop or a fault of somebody's.
DONE = ("tcp_opened", "udp_flows", "dns_answered", "dns_forwarded", "forward_tcp", "dhcp_requests")
ENDED = ("tcp_refused", "tcp_reset_by_guest", "tcp_reset_by_host", "tcp_timed_out", "tcp_retransmits")


@dataclass(frozen=True)
class Sample:
    """The service at one moment: seconds since the traffic began, bytes, counts; counters are since its start."""

    at: float
    resident: int
    descriptors: int
    threads: int
    processor: float  #: seconds of processor time
    relay_resident: int
    relay_descriptors: int
    tcp: int  #: flows
    udp: int
    icmp: int
    counters: dict[str, int]

    @property
    def flows(self) -> int:
        return self.tcp + self.udp + self.icmp


def sample(at: float, service: Process, relay: Process, client: Client) -> Sample:
    """A sample, now.

    Raises:
        InstanceError: the service does not answer.
        FileNotFoundError: one of the processes has ended.
    """
    flows = Counter(flow["protocol"] for flow in client.ask("GET", "/v1/flows")["flows"])
    return Sample(
        at=at,
        resident=service.resident(),
        descriptors=service.descriptors(),
        threads=len(list(Path(f"/proc/{service.pid}/task").iterdir())),
        processor=service.cpu_seconds(),
        relay_resident=relay.resident(),
        relay_descriptors=relay.descriptors(),
        tcp=flows["tcp"],
        udp=flows["udp"],
        icmp=flows["icmp"],
        counters=client.ask("GET", "/v1/stats"),
    )


def header() -> str:
    return (
        "   min  RSS MiB    fds  threads  flows (tcp udp icmp)  relay MiB fds    Mbit/s  CPU %   opened  udp flows"
        "     dns  forwards  resets  timed out  retransmits"
    )


def line(now: Sample, before: Sample) -> str:
    """A row of the table; rates are since the sample before, counters since the start."""
    seconds = max(now.at - before.at, 1e-9)
    c = now.counters
    moved = sum(c[name] - before.counters[name] for name in ("up_bytes", "down_bytes"))
    return (
        f"{now.at / 60:6.1f} {now.resident / 2**20:8.1f} {now.descriptors:6d} {now.threads:8d} {now.flows:6d} "
        f"({now.tcp:4d} {now.udp:4d} {now.icmp:3d}) {now.relay_resident / 2**20:9.1f} {now.relay_descriptors:4d} "
        f"{moved * 8e-6 / seconds:9.0f} {100 * (now.processor - before.processor) / seconds:6.0f} {c['tcp_opened']:8d} "
        f"{c['udp_flows']:10d} {c['dns_answered'] + c['dns_forwarded']:7d} {c['forward_tcp']:9d} "
        f"{c['tcp_reset_by_guest'] + c['tcp_reset_by_host']:7d} {c['tcp_timed_out']:10d} {c['tcp_retransmits']:12d}"
    )


def write(samples: Sequence[Sample], path: Path) -> None:
    """All samples as CSV, one column a counter that ever moved."""
    moved = [name for name, value in samples[-1].counters.items() if value]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        plain = [name for name in asdict(samples[0]) if name != "counters"]
        rows.writerow([*plain, *moved])
        for one in samples:
            values = asdict(one)
            rows.writerow([*(values[name] for name in plain), *(one.counters[name] for name in moved)])


def plot(samples: Sequence[Sample], warm: float, path: Path) -> None:
    """Memory, descriptors, flows and what was done, over time; up to ``warm`` seconds it is not judged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [one.at / 60 for one in samples]
    figure, axes = pyplot.subplots(5, 1, sharex=True, figsize=(10, 13), constrained_layout=True)
    rows: list[tuple[str, dict[str, list[float]]]] = [
        (
            "resident memory, MiB",
            {
                "serve": [one.resident / 2**20 for one in samples],
                "relay": [one.relay_resident / 2**20 for one in samples],
            },
        ),
        (
            "descriptors, threads",
            {
                "descriptors": [one.descriptors for one in samples],
                "threads": [one.threads for one in samples],
                "relay's descriptors": [one.relay_descriptors for one in samples],
            },
        ),
        ("flows", {name: [getattr(one, name) for one in samples] for name in ("tcp", "udp", "icmp")}),
        ("done since the start", {name: [one.counters[name] for one in samples] for name in DONE}),
        ("ended badly since the start", {name: [one.counters[name] for one in samples] for name in ENDED}),
    ]
    for axis, (title, lines) in zip(axes, rows, strict=True):
        for name, values in lines.items():
            axis.plot(minutes, values, label=name, linewidth=1)
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
        axis.axvspan(0, warm / 60, color="0.92")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
