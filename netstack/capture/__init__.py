"""Frames to and from capture files.

Purpose. ``recorder`` writes what passes the links of an engine as pcapng. ``pcap`` writes frames that a program has,
and reads pcap and pcapng packet by packet. `columns`, `chunks` and `flows` read captures as NumPy columns and as tables
of conversations, in one pass in C.

Imports. ``netstack.wire`` (and ``netstack.storage.frame``; ``conversations`` also ``netstack.storage.table``; what
records also ``netstack.host``, the counters and ``link.framing``, which cuts super-frames). NumPy and other packages of
the extra ``captures`` are imported only by what needs them.

The way of a frame that is recorded. The engine calls the functions of a ``tap``, which lays it down in a queue
(``tapping``), with the counters that it has moved and what NAT says of it. A thread of the capture's own (``recorder``)
makes ``blocks`` with ``comments`` and the names that DNS answers have told (``learned``), and hands them to a ``sink``.

The way of a frame that is read. ``source`` gives the bytes of a file, read or unpacked piece by piece; ``records``
finds frames in them; ``filter`` says which are wanted; ``plain`` fills the header columns of ordinary frames straight
from the bytes, and ``frames`` reads the headers of all others into a ``fields_t``, as deep as a column asks for;
``conversations`` adds what only the order of frames tells; ``dissect`` copies the fields into columns, and ``table``
is what of it Python sees. ``flow_table``, ``export``, ``summary``, ``plot`` and ``cluster`` stand on that.

Invariants.

- A capture never fails traffic, and traffic never waits for it: where the queue is full, and after an I/O error,
  records are dropped and counted. Whoever closes it waits for the disk, and a second for the reader of a full pipe.
- What is written consists of whole blocks: a file stays readable after a full disk.
- A reader allocates no more than a bounded record for any length that a file claims.
- Dissecting takes from a frame whatever of it is there, and reads nothing beyond the bytes captured. Memory depends
  on the number of conversations (at most a million are kept apart), not on the length of the file.

Formats. pcapng (draft-ietf-opsawg-pcapng) with one Ethernet interface and nanoseconds; pcap
(draft-ietf-opsawg-pcap) in both byte orders and both precisions; read also packed with gzip or zstd.

Tests. ``tests/capture`` reads back what was written, holds golden bytes, has tshark open it where it is
installed, compares every column with tshark's fields, and feeds cut and random files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.capture.flow_table import flows
    from netstack.capture.table import chunks, columns

__all__ = ["chunks", "columns", "flows"]


def __getattr__(name: str) -> Any:
    """The public names, imported when one is first asked for: the engine's capture needs none of them."""
    if name in ("chunks", "columns"):
        from netstack.capture import table

        return getattr(table, name)
    if name == "flows":
        from netstack.capture import flow_table

        return flow_table.flows
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
