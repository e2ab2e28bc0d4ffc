"""Storage: byte rings, range sets, object pools, timers, hash tables and a queue. No protocols, no I/O, no clock.

Purpose
    The containers that every layer above keeps its state in. They are C structs with ``noexcept nogil``
    functions; a thin Python class beside each one serves tests, benches and curious readers. ``lru``, ``pages`` and
    ``siphash`` are inline, without one. ``counters`` are the names of all counters; ``decision`` is what NAT says of a
    frame to whoever records it.

May import
    Nothing of ours. ``frame.pxd`` (the offload metadata that travels with a frame) lives here because link,
    iface, nat and capture all need it and none of them may import another.

Invariants
    * ring: bytes are addressed by absolute 64-bit stream offsets, which never wrap. ``head <= tail <= head +
      capacity``. Bytes placed behind ``tail`` (reassembly) survive growth and shrinking. An empty ring starts
      again at the beginning of its memory, so that a short conversation stays within a few cache lines.
    * ranges: sorted, disjoint and not touching; never more than ``limit`` of them.
    * pool: an object's address is stable until it is put back; it is zeroed when handed out. At most one
      empty chunk is kept in reserve, all others go back: large ones are whole pages (pages.pxd), and no other
      object lies between them.
    * blocks: the block that was put back last is taken first; at most 64 free ones keep their pages. Rings of
      64 KiB live in them.
    * wheel: a timer is never returned before its deadline, and always by the first ``wheel_expire`` at or
      behind it. Arming and cancelling are O(1). Slots are 2**16 ns (65.5 us) at the lowest of eight levels of
      64 slots, which together cover all 64 bits of nanoseconds.
    * table: keyed with SipHash-1-3, so that a peer who chooses keys cannot choose collisions. Entries lie
      dense; iteration runs from the newest position to the oldest, which makes deletion of the value just
      returned safe. A table whose values have their keys in them (``table_new_inside``) keeps no copy of these:
      they must not change while they are in it.
    * mailbox: one thread writes and one reads, without a lock. A message is there whole or not at all, and one that
      finds no room changes nothing.

How it is tested
    ``tests/storage`` drives each class with hypothesis against a plain Python model.
"""
