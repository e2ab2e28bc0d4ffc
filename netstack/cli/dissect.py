"""``netstack dissect``: captures as tables, conversations, summaries and pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from netstack.cli.outputs import UNWRITABLE, refuse_input
from netstack.errors import ConfigError, WireError

if TYPE_CHECKING:
    from netstack.capture.table import Columns, Reader

__all__ = ["command"]

LONG = 32 << 20  # bytes of input from which a progress bar is shown
TABLE = (
    "number", "time", "length", "layers", "ip_src", "ip_dst", "ip6_src", "ip6_dst", "eth_src", "eth_dst", "ethertype",
    "protocol", "src_port", "dst_port", "payload", "tcp_seq", "tcp_ack", "tcp_flags", "tcp_window", "icmp_type",
    "icmp_code", "arp_op", "dns_name", "dns_type", "dns_flags", "dns_rcode", "dhcp_type", "fragment_offset",
    "tcp_analysis", "l4_checksum",
)  # fmt: skip


@click.command("dissect")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option(
    "--filter", "where", metavar="EXPRESSION", help="Only these frames, as for tcpdump (needs libpcap)."
)
@click.option(
    "--columns", "names", metavar="NAMES",
    help="What --csv, --json and --parquet hold: names with commas between them, headers, or all (the default). "
    "A wrong name lists them.",
)  # fmt: skip
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option("--csv", "form", flag_value="csv", help="One line of values a frame.")
@click.option("--json", "form", flag_value="json", help="One line of JSON a frame.")
@click.option("--parquet", "form", flag_value="parquet", help="Parquet, into --out.")
@click.option(
    "-o", "--out", metavar="PATH",
    help="Write there instead of standard output; of several files Parquet makes a folder with one for each.",
)  # fmt: skip
@click.option("--flows", is_flag=True, help="One row a conversation instead of one a frame.")
@click.option("--stats", is_flag=True, help="A summary of what is in the files.")
@click.option("--plot", metavar="FILE.png", help="Draw throughput, round-trip times and a sequence graph.")
@click.option(
    "--flow", type=click.IntRange(min=0), metavar="N", help="The connection of --plot's sequence graph."
)
@click.option(
    "--dask", metavar="ADDRESS", help="Share the files among a dask cluster's workers; local starts some."
)
def dissect(files: tuple[str, ...], **options: Any) -> int:
    """Show what is in captures: pcap and pcapng, plain or packed with gzip or zstd; - is standard input.

    A folder stands for every capture in it. Addresses are texts, times are nanoseconds since 1970. Of a damaged file
    all is shown that can be read; the exit status is then 2.

    \b
    Examples:
      netstack dissect all.pcap
      netstack dissect --flows --csv *.pcapng.gz
      netstack dissect --columns time,ip_src,rtt --filter 'tcp port 443' --csv all.pcap
      netstack dissect --stats --plot all.png all.pcap
      netstack dissect --dask local --parquet --out frames/ captures/
    """
    try:
        status = _Run(files, **options).run()
        sys.stdout.flush()  # here, where it can be said that it fails
        return status
    except WireError as err:
        print(f"netstack: {err}", file=sys.stderr)
        return 2
    except OSError as err:
        if isinstance(err, BrokenPipeError):
            raise
        where = err.filename or files[0]
        if err.filename is None and err.errno in UNWRITABLE:
            where = "standard output" if options["out"] in (None, "-") else options["out"]
        print(f"netstack: {where}: {err.strerror or err}", file=sys.stderr)
        return 2


class _Run:
    def __init__(
        self, files: tuple[str, ...], where: str | None, names: str | None, count: int | None, form: str | None,
        out: str | None, flows: bool, stats: bool, plot: str | None, flow: int | None, dask: str | None,
    ) -> None:  # fmt: skip
        self.paths = list(_captures(files))
        self.folder = len(self.paths) > 1 or any(os.path.isdir(path) for path in files)
        self.where, self.count, self.form, self.out = where, count, form, out
        self.flows, self.stats, self.plot, self.flow, self.dask = flows, stats, plot, flow, dask
        self.names = _names(names)
        self.faults: list[WireError] = []
        if form == "parquet" and out is None:
            raise click.UsageError("--parquet needs --out: the file, or the folder, that is written")
        if form is None and out is not None:
            raise click.UsageError("--out needs --csv, --json or --parquet")
        if names is not None and (form is None or flows):
            raise click.UsageError("--columns is for frames in --csv, --json or --parquet")
        if stats and (flows or form):
            raise click.UsageError(
                "--stats has a form of its own: leave --flows, --csv, --json and --parquet out"
            )
        if flow is not None and plot is None:
            raise click.UsageError("--flow says what --plot draws")
        if dask and ((form != "parquet" and not flows) or stats or plot or count):
            raise click.UsageError("--dask makes --parquet, --flows or both of them, of all frames")
        if count and (flows or plot):
            raise click.UsageError("--count is for frames and --stats")
        for option, path in (("--out", out), ("--plot", plot)):
            refuse_input(option, path, self.paths)

    def run(self) -> int:
        """Does what the options say; the exit status."""
        if self.dask or (self.form == "parquet" and self.folder and not self.flows):
            self._share()
        elif self.flows:
            self._flows()
        elif self.stats:
            self._stats()
        elif self.form is not None or self.plot is None:
            self._frames()
        if self.plot is not None:
            from netstack.capture.plot import plot

            faults: list[WireError] = []
            plot(self.paths, self.plot, where=self.where, flow=self.flow, faults=faults)
            if self.form is None and not self.flows and not self.stats:
                self.faults += faults
        for fault in self.faults:
            print(f"netstack: {fault}", file=sys.stderr)
        return 2 if self.faults else 0

    # --- reading

    def _chunks(self, columns: tuple[str, ...]) -> Iterator[Columns]:
        """Chunks of all files; what is wrong with a file is kept for the end."""
        from netstack.capture.table import CHUNK, Reader

        left = self.count
        with _progress(self.paths) as show:
            for path in self.paths:
                reader = Reader(path, columns, self.where)
                try:
                    while left is None or left:
                        chunk = reader.read(CHUNK if left is None else min(left, CHUNK))
                        if chunk is None:
                            break
                        if left is not None:
                            left -= len(chunk)
                        show(reader.position)
                        yield chunk
                    self._finish(reader)
                    show(None)
                finally:
                    reader.close()

    def _finish(self, reader: Reader) -> None:
        if reader.error is not None:
            self.faults.append(reader.error)
        if reader.dissector.refused:
            print(
                f"netstack: {reader.path}: {reader.dissector.refused} frames belong to conversations beyond the "
                "million that is kept apart, and have no number",
                file=sys.stderr,
            )

    @contextmanager
    def _text(self) -> Iterator[IO[str]]:
        if self.out is None or self.out == "-":
            yield sys.stdout
        else:
            with open(self.out, "w", encoding="utf-8", newline="") as file:
                yield file

    # --- what is made of it

    def _frames(self) -> None:
        from netstack.capture import export
        from netstack.capture.table import COLUMNS

        if self.form is None:
            line = _Line()
            for chunk in self._chunks(TABLE):
                sys.stdout.writelines(line.lines(chunk))
            return
        columns, shown = export.needed(self.names), export.output_names(self.names)
        assert set(columns) <= set(COLUMNS)
        with ExitStack() as stack:
            writer: export.CsvWriter | export.JsonWriter | export.ParquetWriter
            if self.form == "parquet":
                assert self.out is not None
                writer = stack.enter_context(export.ParquetWriter(self.out, shown))
            else:
                kind = export.CsvWriter if self.form == "csv" else export.JsonWriter
                writer = kind(stack.enter_context(self._text()), shown)
            for chunk in self._chunks(columns):
                writer.write(chunk)

    def _share(self) -> None:
        from netstack.capture.cluster import convert_all, convert_on
        from netstack.capture.export import output_names

        folder = self.out if self.form == "parquet" and not self.flows else None
        names = output_names(self.names)
        with _progress(self.paths) as show:
            if self.dask:
                found, frames, wrong = convert_on(
                    self.dask, self.paths, folder, names, self.where, lambda p: show(None)
                )
            else:
                found, frames, wrong = convert_all(
                    self.paths, folder, names, self.where, lambda p: show(None)
                )
        self.faults += [WireError(-1, text) for text in wrong]
        if self.flows:
            self._show_flows(found)
        else:
            print(
                f"{frames} frames and {len(found)} conversations of {len(self.paths)} files", file=sys.stderr
            )

    def _flows(self) -> None:
        from netstack.capture.flow_table import flows_of, merge
        from netstack.capture.table import CHUNK, Reader

        tables = []
        with _progress(self.paths) as show:
            for path in self.paths:
                reader = Reader(path, ("flow",), self.where)
                try:
                    while reader.read(CHUNK) is not None:
                        show(reader.position)
                    self._finish(reader)
                    tables.append(flows_of(reader))
                finally:
                    reader.close()
                show(None)
        self._show_flows(merge(tables))

    def _show_flows(self, found: list[Any]) -> None:
        from netstack.capture import export
        from netstack.capture.flow_table import FLOW_NAMES, flow_rows

        if self.form == "parquet":
            assert self.out is not None
            export.write_flow_parquet(self.out, flow_rows(found))
        elif self.form is not None:
            with self._text() as file:
                kind = export.CsvWriter if self.form == "csv" else export.JsonWriter
                kind(file, FLOW_NAMES).write_rows(flow_rows(found))
        else:
            _print_flows(found)

    def _stats(self) -> None:
        from netstack.capture.summary import NEEDS, Summary

        summary = Summary()
        for chunk in self._chunks(NEEDS):
            summary.add(chunk)
        _print_summary(summary, self.paths)


def _captures(files: tuple[str, ...]) -> Iterator[str]:
    """The files meant: of a folder its captures, by name."""
    from netstack.capture.source import packed_name

    for name in files:
        if name != "-" and os.path.isdir(name):
            found = sorted(
                str(path) for path in Path(name).iterdir() if packed_name(path.name) and path.is_file()
            )
            if not found:
                raise ConfigError(f"{name} holds no captures (.pcap, .pcapng, .cap; plain, .gz or .zst)")
            yield from found
        elif name != "-" and not os.path.exists(name):
            raise ConfigError(f"{name}: there is no such file")
        else:
            yield name


def _names(text: str | None) -> tuple[str, ...]:
    from netstack.capture.table import ALL, HEADERS, chosen

    if text in (None, "all"):
        return tuple(name for name in ALL if name != "layers")
    return chosen(tuple(name for name in HEADERS if name != "layers") if text == "headers" else text)


@contextmanager
def _progress(paths: list[str]) -> Iterator[Any]:
    """Yields a function to call with the position in the file at hand, or None when it is done."""
    sizes = [os.path.getsize(path) if path != "-" and os.path.exists(path) else 0 for path in paths]
    if sum(sizes) < LONG or not sys.stderr.isatty():
        yield lambda position: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    before, at = 0, 0
    bars = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*bars, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(sizes))

        def show(position: int | None) -> None:
            nonlocal before, at
            if position is None:
                before += sizes[at]
                at += 1
                position = 0
            progress.update(task, completed=before + position)

        yield show


# --- tables of text


class _Line:
    """Frames as lines of text: fixed widths, so that nothing has to be known of what comes."""

    head = f"{'NO':>7} {'TIME':>12}  {'SOURCE':<21} {'DESTINATION':<21} {'PROTOCOL':<8} {'LENGTH':>6}  INFO"

    def __init__(self) -> None:
        self.start: int | None = None

    def lines(self, table: Columns) -> Iterator[str]:
        from netstack.capture.export import values
        from netstack.capture.table import Layer

        columns = {
            name: values(table, name) for name in TABLE if not name.startswith("ip6_") and name != "layers"
        }
        layers = table["layers"].tolist()
        if self.start is None:
            self.start = columns["time"][0]
            yield self.head + "\n"
        for i, found in enumerate(layers):
            row = {name: column[i] for name, column in columns.items()}
            src, dst = row["ip_src"] or row["eth_src"] or "", row["ip_dst"] or row["eth_dst"] or ""
            if row["src_port"] is not None:
                src, dst = _end(src, row["src_port"]), _end(dst, row["dst_port"])
            seconds = (row["time"] - self.start) / 1e9
            mark = " [malformed]" if found & Layer.MALFORMED else ""
            yield (
                f"{row['number']:>7} {seconds:>12.6f}  {src:<21} {dst:<21} {_protocol(row, found):<8} "
                f"{row['length']:>6}  {_info(row, found)}{mark}".rstrip()
                + "\n"
            )


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _protocol(row: dict[str, Any], found: int) -> str:
    from netstack.capture.flow_table import PROTOCOLS
    from netstack.capture.table import Layer

    for layer, name in (
        (Layer.DNS, "DNS"),
        (Layer.DHCP4, "DHCP"),
        (Layer.DHCP6, "DHCPv6"),
        (Layer.ARP, "ARP"),
    ):
        if found & layer:
            return name
    if row["protocol"] is not None:
        return PROTOCOLS.get(row["protocol"], f"IP {row['protocol']}")
    return f"{row['ethertype']:#06x}" if row["ethertype"] is not None else "?"


def _info(row: dict[str, Any], found: int) -> str:
    from netstack.capture.table import Layer

    parts = []
    if row["tcp_seq"] is not None:
        flags = "".join(letter for bit, letter in enumerate("FSRPAUEW") if row["tcp_flags"] >> bit & 1)
        parts.append(f"[{flags}] seq {row['tcp_seq']} ack {row['tcp_ack']} win {row['tcp_window']}")
    if row["payload"] is not None and not found & Layer.DNS:
        parts.append(f"len {row['payload']}")
    if found & Layer.DNS:
        answer = f" rcode {row['dns_rcode']}" if row["dns_flags"] & 0x8000 else ""
        parts.append(
            f"{'answer' if answer else 'question'} {row['dns_name'] or ''} type {row['dns_type']}{answer}"
        )
    if row["dhcp_type"] is not None:
        parts.append(f"message type {row['dhcp_type']}")
    if row["icmp_type"] is not None:
        parts.append(f"type {row['icmp_type']} code {row['icmp_code']}")
    if row["arp_op"] is not None:
        parts.append({1: "request", 2: "reply"}.get(row["arp_op"], f"operation {row['arp_op']}"))
    if found & Layer.FRAGMENT:
        parts.append(f"fragment at {row['fragment_offset']}")
    if row["tcp_analysis"]:
        parts.append(f"({row['tcp_analysis'].lower().replace('|', ', ').replace('_', ' ')})")
    if row["l4_checksum"] == "bad":
        parts.append("(bad checksum)")
    return " ".join(parts)


def _ms(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.3f}"


def _print_flows(found: list[Any]) -> None:
    from netstack.cli.instance import amount, table

    rows = []
    for flow in found:
        row = flow.row()
        ends = [
            _end(row[side], row[f"{side}_port"]) if row["protocol"] in ("TCP", "UDP") else row[side]
            for side in ("client", "server")
        ]
        rtt = [row["rtt_mean_up"], row["rtt_mean_down"]]
        rows.append(
            (
                row["protocol"],
                row["state"],
                *ends,
                f"{row['duration'] / 1e9:.3f}s",
                str(row["frames_up"]),
                str(row["frames_down"]),
                amount(row["bytes_up"]),
                amount(row["bytes_down"]),
                "/".join(_ms(value) or "-" for value in rtt)
                if any(value is not None for value in rtt)
                else "",
                str(row["retransmissions_up"] + row["retransmissions_down"] or ""),
            )
        )
    table(
        (
            *("PROTOCOL", "STATE", "CLIENT", "SERVER", ">TIME", ">FRAMES UP", ">DOWN", ">BYTES UP", ">DOWN"),
            *(">RTT MS UP/DOWN", ">RETRANSMITS"),
        ),
        rows,
    )


def _print_summary(summary: Any, paths: list[str]) -> None:
    from datetime import datetime, timezone

    from netstack.capture.summary import SIZES

    def section(title: str, lines: list[str]) -> None:
        if lines:
            print(f"\n{title}")
            for line in lines:
                print(f"  {line}")

    span = (summary.last - summary.first) / 1e9
    what = ", ".join(paths) if len(paths) < 4 else f"{len(paths)} files"
    print(f"{what}: {summary.frames:,} frames, {summary.bytes:,} bytes")
    if summary.first:
        begin = datetime.fromtimestamp(summary.first / 1e9, timezone.utc)
        rate = (
            f", {summary.frames / span:,.0f} frames/s, {summary.bytes * 8 / span / 1e6:,.3f} Mbit/s"
            if span
            else ""
        )
        print(f"from {begin:%Y-%m-%d %H:%M:%S} UTC, {span:,.3f} s{rate}")
    share = summary.frames / 100 or 1
    section(
        "Protocols",
        [
            f"{name:<10} {n:>12,} frames {n / share:>6.1f} %  {summary.protocol_bytes[name]:>16,} bytes"
            for name, n in summary.protocols.most_common()
        ],
    )
    names = [f"to {size}" for size in SIZES] + [f"over {SIZES[-1]}"]
    section(
        "Frame lengths",
        [f"{names[i]:<10} {n:>12,} frames {n / share:>6.1f} %" for i, n in sorted(summary.sizes.items())],
    )
    section("Ports", [f"{name:<10} {n:>12,} frames" for name, n in summary.ports.most_common(10)])
    samples, quantiles = summary.rtt_quantiles()
    if samples:
        texts = [
            f"{name} {value / 1e6:.3f} ms"
            for name, value in zip(("5 %", "median", "95 %"), quantiles, strict=True)
        ]
        section("Round-trip times", [f"{samples:,} samples: {', '.join(texts)}"])
    section(
        "TCP",
        [f"{name.lower().replace('_', ' '):<24} {n:>10,}" for name, n in summary.analysis.most_common()],
    )
    section("Names asked for", [f"{n:>8,}  {name}" for name, n in summary.names.most_common(10)])
    section("DNS answers", [f"rcode {code:<3} {n:>8,}" for code, n in sorted(summary.rcodes.items())])
    wrong = [f"checksum of the {name:<22} {n:>10,}" for name, n in sorted(summary.checksums.items())]
    for text, n in (
        ("cut by the snap length", summary.cut),
        ("malformed", summary.malformed),
        ("fragments", summary.fragments),
    ):
        if n:
            wrong.append(f"{text:<38} {n:>10,}")
    section("Remarks", wrong)


def command() -> click.Command:
    """The command as click sees it."""
    return dissect
