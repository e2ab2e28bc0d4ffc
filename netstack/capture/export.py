"""Columns as rows of text, JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from netstack.capture.flow_table import FLOW_NAMES
from netstack.capture.table import COLUMNS, Analysis, Columns, Layer
from netstack.errors import ConfigError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "CsvWriter",
    "JsonWriter",
    "ParquetWriter",
    "needed",
    "output_names",
    "values",
    "write_flow_parquet",
]

PAIRS = {"ip6_src": "ip_src", "ip6_dst": "ip_dst"}  # shown as one column of text
CHECK_NAMES = [None, "good", "bad", "partial", "absent"]  # by Check
TEXTS = {
    "eth_src", "eth_dst", "ip_src", "ip_dst", "dns_name", "tcp_sack", "layers", "tcp_analysis", "ip_checksum",
    "l4_checksum",
}  # fmt: skip


def output_names(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that are shown where these are asked for: one for IPv4 and IPv6 addresses."""
    return tuple(dict.fromkeys(PAIRS.get(name, name) for name in names))


def needed(names: Iterable[str]) -> tuple[str, ...]:
    """The columns to read so that `values` can make these."""
    found = dict.fromkeys([*names, "layers"])
    for six, four in PAIRS.items():
        if four in found or six in found:
            found[four] = found[six] = None
    if "tcp_sack" in found:
        found["tcp_sack_count"] = None
    return tuple(found)


def _bits(table: Columns, name: str, kind: type[Layer] | type[Analysis]) -> Any:
    """Names of the bits that are set, joined with |."""
    import numpy as np

    distinct, which = np.unique(table[name], return_inverse=True)
    texts = ["|".join(str(bit.name) for bit in kind if bit & int(value)) or None for value in distinct]
    return np.array([*texts, None], dtype=object)[which.reshape(-1)]


def _sack(table: Columns) -> list[str | None]:
    return [
        " ".join(f"{edges[2 * i]}-{edges[2 * i + 1]}" for i in range(count)) or None
        for edges, count in zip(table["tcp_sack"].tolist(), table["tcp_sack_count"].tolist(), strict=True)
    ]


def values(table: Columns, name: str) -> list[Any]:
    """One column as plain Python values, None where a frame has none.

    Addresses, flags of what was found and verdicts are texts; the rest are numbers.
    """
    if name in ("ip_src", "ip_dst"):
        return [text or None for text in table.addresses(name[3:])]
    if name in ("eth_src", "eth_dst"):
        return [text or None for text in table.macs(name[4:])]
    if name == "dns_name":
        return list(table[name])
    if name == "tcp_sack":
        return _sack(table)
    if name == "layers":
        return list(_bits(table, name, Layer))
    if name == "tcp_analysis":
        return list(_bits(table, name, Analysis))
    if name in ("ip_checksum", "l4_checksum"):
        return [CHECK_NAMES[verdict] for verdict in table[name].tolist()]
    found: list[Any] = table[name].tolist()
    if COLUMNS[name].layers:
        return [
            value if there else None for value, there in zip(found, table.valid(name).tolist(), strict=True)
        ]
    return found


class CsvWriter:
    """Writes rows as CSV with a line of names (RFC 4180); nothing where a frame has no value."""

    def __init__(self, file: IO[str], names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(self.names)

    def write(self, table: Columns) -> None:
        """Adds the rows of a chunk."""
        self._csv.writerows(zip(*(values(table, name) for name in self.names), strict=True))

    def write_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows that are plain values already."""
        self._csv.writerows([row[name] for name in self.names] for row in rows)


class JsonWriter:
    """Writes each row as one line of JSON; a frame's line has what the frame has."""

    def __init__(self, file: IO[str], names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._file = file

    def write(self, table: Columns) -> None:
        """Adds the rows of a chunk."""
        self.write_rows(
            dict(zip(self.names, row, strict=True))
            for row in zip(*(values(table, name) for name in self.names), strict=True)
        )

    def write_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows that are plain values already."""
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        self._file.writelines(
            encode({name: value for name, value in row.items() if value is not None}) + "\n" for row in rows
        )


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            "Parquet needs the Python package pyarrow: install it with pip install 'netstack[captures]', "
            "or use --csv or --json"
        ) from None
    return pyarrow


class ParquetWriter:
    """Writes columns as Parquet: null where a frame has no value, times as timestamps; a context manager.

    Raises:
        ConfigError: pyarrow is not installed, or path is a folder. OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._arrow = _pyarrow()
        arrow = self._arrow
        types = [
            arrow.timestamp("ns") if name == "time"
            else arrow.string() if name in TEXTS
            else arrow.from_numpy_dtype(COLUMNS[name].dtype)
            for name in self.names
        ]  # fmt: skip
        self._schema = arrow.schema(list(zip(self.names, types, strict=True)))
        if os.path.isdir(path):  # which its own words for would not name so
            raise ConfigError(f"{path} is a folder: of one capture, name the Parquet file that is written")
        self._writer = arrow.parquet.ParquetWriter(str(path), self._schema, compression="zstd")

    def write(self, table: Columns) -> None:
        """Adds the rows of a chunk."""
        arrow = self._arrow
        arrays = []
        for name, field in zip(self.names, self._schema, strict=True):
            if name in TEXTS:
                arrays.append(arrow.array(values(table, name), type=field.type))
            else:
                arrays.append(arrow.array(table[name], mask=~table.valid(name)).cast(field.type))
        self._writer.write_table(arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Finishes the file."""
        self._writer.close()

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_flow_parquet(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a table of conversations.

    Raises:
        ConfigError: pyarrow is not installed, or path is a folder. OSError: the file cannot be written.
    """
    arrow = _pyarrow()
    words = ("protocol", "client", "server", "state")
    schema = arrow.schema([(name, arrow.string() if name in words else arrow.int64()) for name in FLOW_NAMES])
    arrow.parquet.write_table(arrow.Table.from_pylist(list(rows), schema), str(path), compression="zstd")
