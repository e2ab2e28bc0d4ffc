"""What tests of netstack, and of programs that use it, are made of.

- ``guest``: a guest in memory, for any machine: :func:`memory_guest` gives one to a gateway; ``guest_sockets`` are what
  its programs hold.
- ``lab``: network namespaces with a guest, a host and a world behind a router (Linux, root or a user
  namespace), built of the pieces in ``namespace``; ``servers``: echo and name servers for them;
  ``impairment``: a bad path between.
- ``plugin``: the pytest plugin, which makes fixtures of these and tests of captures (docs/testing.md);
  ``virtual``: a gateway whose time passes only when it is told to.

Purpose and imports. Nothing of it is needed to run netstack. It may import everything of netstack's but ``control`` and
``cli``; of netstack's only ``cli`` (its demo) imports it. Imports are lazy, so that a test which needs no gateway does
not load one, and pytest starts no slower for the plugin.

Invariants. The guest's TCP is :mod:`netstack.tcp` as well, so that what it shows of the gateway's is confirmed
elsewhere, against the kernel's (``tests/e2e``). Namespaces and devices are gone when whoever made them has ended.

Tests. ``tests/testing``, and most other tests by using it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.gateway import Gateway

    from .guest import Guest

__all__ = ["memory_guest"]


def memory_guest(gateway: Gateway, **options: Any) -> Guest:
    """A guest in this process for a gateway, started or not yet.

    Args:
        gateway: gets a link in memory for it.
        options: as of :class:`netstack.testing.guest.Guest`.
    """
    from .guest import Guest

    return Guest(gateway, **options)
