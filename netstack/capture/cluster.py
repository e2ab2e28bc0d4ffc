"""A corpus of captures on several machines, with dask.distributed: every file is a task of its own.

The workers must see the files, and write the Parquet files, under the same paths as the caller. What comes of it
is what a run without a cluster makes: files are read apart in both, and their tables are merged in the order of
the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from netstack.capture.export import ParquetWriter, needed
from netstack.capture.flow_table import Flow, flows_of, merge
from netstack.capture.table import Reader
from netstack.errors import ConfigError

__all__ = ["convert", "convert_all", "convert_on", "parquet_path"]

CHUNK = 65536
Done = tuple[list[Flow], int, str]  # conversations, frames, and what was wrong with the file


def parquet_path(path: str, folder: str | None) -> str | None:
    """Where the frames of a capture go in a folder of Parquet files."""
    return None if folder is None else os.path.join(folder, f"{Path(path).name}.parquet")


def convert(
    path: str, out: str | None, names: Sequence[str], where: str | None, with_flows: bool = True
) -> Done:
    """Reads one capture: its frames into Parquet where out is given, and its conversations.

    Raises:
        ConfigError, OSError: as `netstack.capture.chunks`; faults of the file are returned.
    """
    columns = [*needed(names)] if out is not None else []
    if with_flows:
        columns.append("flow")
    reader = Reader(path, columns or ("number",), where)
    frames = 0
    with ExitStack() as stack:
        stack.callback(reader.close)
        writer = stack.enter_context(ParquetWriter(out, names)) if out is not None else None
        while (chunk := reader.read(CHUNK)) is not None:
            frames += len(chunk)
            if writer is not None:
                writer.write(chunk)
        return flows_of(reader) if with_flows else [], frames, reader.fault and f"{path}: {reader.fault}"


def _tasks(paths: Iterable[str], folder: str | None) -> list[tuple[str, str | None]]:
    tasks = [(path, parquet_path(path, folder)) for path in paths]
    outs = [out for _, out in tasks if out is not None]
    if len(set(outs)) < len(outs):
        raise ConfigError(
            "two of the captures have the same name: their Parquet files would overwrite each other"
        )
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
    return tasks


def convert_all(
    paths: Iterable[str],
    folder: str | None,
    names: Sequence[str],
    where: str | None = None,
    done: Callable[[str], None] = lambda path: None,
) -> tuple[list[Flow], int, list[str]]:
    """`convert` for each path here, one after the other: merged conversations, frames, and faults."""
    results = []
    for path, out in _tasks(paths, folder):
        results.append(convert(path, out, names, where))
        done(path)
    return _gather(results)


def _gather(results: Iterable[Done]) -> tuple[list[Flow], int, list[str]]:
    found = list(results)
    return merge(r[0] for r in found), sum(r[1] for r in found), [r[2] for r in found if r[2]]


def convert_on(
    address: str,
    paths: Iterable[str],
    folder: str | None,
    names: Sequence[str],
    where: str | None = None,
    done: Callable[[str], None] = lambda path: None,
) -> tuple[list[Flow], int, list[str]]:
    """`convert_all` by the workers of a scheduler.

    Args:
        address: of the scheduler, as in ``tcp://host:8786``; ``local`` starts workers of its own, one for each
            processor, and ends them.

    Raises:
        ConfigError: dask.distributed is not installed, or nobody answers at the address.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ConfigError(
            "--dask needs the Python package distributed: install it with pip install 'netstack[cluster]'"
        ) from None
    tasks = _tasks(
        [os.path.abspath(path) for path in paths], None if folder is None else os.path.abspath(folder)
    )
    try:
        client: Any = (
            Client(n_workers=os.cpu_count() or 1, threads_per_worker=1, dashboard_address=None)
            if address == "local"
            else Client(address, timeout="10s")
        )
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"no dask scheduler answers at {address!r} ({err}): give tcp://HOST:PORT, or local for workers here"
        ) from None
    with client:
        futures = [client.submit(convert, path, out, tuple(names), where, pure=False) for path, out in tasks]
        order = {future.key: path for future, (path, _) in zip(futures, tasks, strict=True)}
        for future in as_completed(futures):
            done(order[future.key])
        return _gather(client.gather(futures))
