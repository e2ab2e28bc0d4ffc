"""Frames to and from capture files.

Purpose. ``pcap`` writes what passes a link as pcapng, from the engine's thread and without the GIL, and reads
pcap and pcapng from Python.

Imports. ``netstack.wire`` (and ``netstack.storage.frame``); nothing above.

Invariants.

- A writer never fails traffic: after an I/O error it only counts what it loses, and where the reader of a
  pipe falls behind it drops whole records and counts them. It never waits for such a reader, except for a
  moment in ``pcap_close``.
- What is written consists of whole blocks: a file stays readable after a full disk.
- A reader allocates no more than a bounded record for any length that a file claims.

Formats. pcapng (draft-ietf-opsawg-pcapng) with one Ethernet interface and nanoseconds; pcap
(draft-ietf-opsawg-pcap) in both byte orders and both precisions.

Tests. ``tests/capture`` reads back what was written, holds golden bytes, has tshark open it where it is
installed, and feeds cut and random files.
"""
