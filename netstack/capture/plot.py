"""Pictures of a capture: throughput, round-trip times, and the sequence numbers of one connection."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from netstack.capture.flow_table import flows_of
from netstack.capture.table import Analysis, Columns, Layer, Reader
from netstack.errors import ConfigError, WireError

__all__ = ["plot"]

NEEDS = (
    "time",
    "length",
    "layers",
    "src_port",
    "tcp_seq",
    "tcp_ack",
    "payload",
    "flow",
    "tcp_analysis",
    "rtt",
)
BINS = 200  # of the throughput's time axis
MARKS = 20_000  # points of a picture at most: more are thinned


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(
            "--plot needs the Python package matplotlib: install it with pip install 'netstack[captures]'"
        ) from None
    matplotlib.use("agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def plot(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, where: str | None = None,
    flow: int | None = None, faults: list[WireError] | None = None,
) -> None:  # fmt: skip
    """Draws throughput and round-trip times of captures, and the sequence graph of one TCP connection.

    Args:
        paths: captures; all are held in memory.
        out: the picture; its name's end says the format (png, svg, pdf).
        where: a pcap-filter expression for the frames that count.
        flow: number of the connection in the first file; by default the one with the most data.
        faults: what is wrong with files is added to it instead of raised.

    Raises:
        ConfigError: a package is missing, the format is unknown, or there is nothing to draw.
        OSError, WireError: as `netstack.capture.chunks`.
    """
    import numpy as np

    pyplot = _matplotlib()
    tables, conversations = [], []
    for path in paths:
        reader = Reader(path, NEEDS, where)
        try:
            table = reader.read(65536, grow=True)
            if reader.error is not None:
                if faults is None:
                    raise reader.error
                faults.append(reader.error)
            if table is not None:
                tables.append(table)
                conversations.append(flows_of(reader))
        finally:
            reader.close()
    if not tables:
        raise ConfigError("there is nothing to draw: no frame is in the capture, or passes the filter")
    start = min(int(table["time"].min()) for table in tables)
    figure, (rate, rtt, sequence) = pyplot.subplots(
        3, 1, sharex=True, figsize=(11, 12), constrained_layout=True
    )
    times = np.concatenate([table["time"] - start for table in tables]) / 1e9
    lengths = np.concatenate([table["length"] for table in tables])
    span = max(float(times.max()), 1e-3)
    counts, edges = np.histogram(times, bins=BINS, range=(0, span), weights=lengths)
    rate.step(edges[:-1], counts * 8 / (span / BINS) / 1e6, where="post")
    rate.set(title="Throughput, whole frames", ylabel="Mbit/s", xlim=(0, span))
    rate.set_ylim(bottom=0)
    _round_trips(rtt, tables, start)
    wanted = flow
    if wanted is None:
        tcp = [i for i, entry in enumerate(conversations[0]) if entry.protocol == 6]
        wanted = max(
            tcp, key=lambda i: conversations[0][i].up.payload + conversations[0][i].down.payload, default=None
        )
    if wanted is not None and not 0 <= wanted < len(conversations[0]):
        raise ConfigError(f"there is no flow {wanted}: the first file has {len(conversations[0])}, from 0")
    _sequence(sequence, tables[0], wanted, conversations[0], start)
    try:
        figure.savefig(out, dpi=110)
    except ValueError as err:  # the name's end stands for no format
        raise ConfigError(f"the picture {os.fspath(out)} cannot be made: {err}") from None
    finally:
        pyplot.close(figure)


def _round_trips(axes: Any, tables: list[Columns], start: int) -> None:
    for table in tables:
        mask = table.has(Layer.RTT)
        when, value = (table["time"][mask] - start) / 1e9, table["rtt"][mask] / 1e6
        step = len(when) // MARKS + 1
        axes.plot(when[::step], value[::step], ".", markersize=3)
    axes.set(title="Round-trip time, as acknowledgements show it", ylabel="ms")
    axes.set_ylim(bottom=0)


def _sequence(axes: Any, table: Columns, number: int | None, found: list[Any], start: int) -> None:
    import numpy as np

    axes.set(xlabel="seconds", ylabel="bytes since the first")
    if number is None:
        axes.set_title("Sequence numbers: no TCP connection")
        return
    flow = found[number].row()
    axes.set_title(
        f"Sequence numbers of flow {number}: {flow['client']} port {flow['client_port']} - "
        f"{flow['server']} port {flow['server_port']}"
    )
    mine = table["flow"] == number
    for label, port, color, mark in (
        ("client", flow["client_port"], "tab:blue", "tab:purple"),
        ("server", flow["server_port"], "tab:orange", "tab:red"),
    ):
        side = mine & (table["src_port"] == port) & (table["payload"] > 0)
        if not side.any():
            continue
        seq = table["tcp_seq"][side]
        # Steps modulo 2^32, so that the curve goes on where the numbers begin anew.
        height = np.concatenate([[0], np.cumsum(np.diff(seq).astype("i4"), dtype="i8")])
        when = (table["time"][side] - start) / 1e9
        step = len(when) // MARKS + 1
        axes.plot(when[::step], height[::step], ".", color=color, markersize=3, label=f"data of the {label}")
        again = table["tcp_analysis"][side] & (Analysis.RETRANSMISSION | Analysis.OUT_OF_ORDER) != 0
        if again.any():
            axes.plot(
                when[again],
                height[again],
                "x",
                color=mark,
                markersize=5,
                label=f"again or late, {label}",
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
