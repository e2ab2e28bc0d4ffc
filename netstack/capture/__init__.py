"""Frames to and from capture files.

Purpose. ``pcap`` writes what passes a link as pcapng, from the engine's thread and without the GIL, and reads
pcap and pcapng from Python, packet by packet. `columns`, `chunks` and `flows` read captures as NumPy columns and as
tables of conversations, in one pass in C.

Imports. ``netstack.wire`` (and ``netstack.storage.frame``; ``conversations`` also ``netstack.storage.table``);
nothing above. NumPy and other packages of the extra ``captures`` are imported only by what needs them.

The way of a frame. ``source`` gives the bytes of a file, mapped or unpacked; ``records`` finds frames in them;
``filter`` says which are wanted; ``frames`` reads the headers of one into a ``fields_t``, as deep as a column asks
for; ``conversations`` adds what only the order of frames tells; ``dissect`` copies the fields into columns, and
``table`` is what of it Python sees. ``flow_table``, ``export``, ``summary``, ``plot`` and ``cluster`` stand on
that.

Invariants.

- A writer never fails traffic: after an I/O error it only counts what it loses, and where the reader of a
  pipe falls behind it drops whole records and counts them. It never waits for such a reader, except for a
  moment in ``pcap_close``.
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
