"""netstack beside its yardstick, its peers and the kernel: every kind of work, in one run, on one machine.

    guest (a namespace) ── the system ── host (a namespace) ─┬─ a server on the host's loopback
                                                             └─ a path of 20 or 100 ms, and a server behind it

Each kind of work is a module here with a :class:`~bench.compare.work.Work`: its cases, and one turn of one system
(``bulk``, ``latency``, ``connect``, ``udp``, ``dns``, ``ports``, ``connections``, ``idle``, ``start``). The systems
take turns inside each repetition, each turn in namespaces of its own, so that a machine which gets slower or faster
does so for all of them; medians of the repetitions count, and least and most are told beside them.

What a turn measures goes into a :class:`~bench.compare.run.Run`, which is JSON on disk: every value of every
repetition, the machine, and the versions. All else is made from such a run, now or later: the tables (``tables``,
shown by ``terminal``, written into a page by ``page``), the bars (``bars``), the pictures (``plots``), and what has
changed since another run (``against``).
"""

from .command import main

__all__ = ["main"]
