"""What a command that serves waits for: a signal, or an event that ends its work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

__all__ = ["STOP", "hold_signals", "wait_for_end"]

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def hold_signals() -> None:
    """Blocks the signals that end a command, for :func:`wait_for_end`; nothing else is ever interrupted.

    To be called before there are threads.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def wait_for_end(*events: Callable[[], object]) -> None:
    """Sleeps until one of the held signals arrives or one of the events, each a function that blocks, returns."""
    waiting = threading.get_ident()

    def watch(event: Callable[[], object]) -> None:
        event()
        signal.pthread_kill(waiting, signal.SIGTERM)  # held, so it can only be fetched below

    for event in events:
        threading.Thread(target=watch, args=(event,), name="netstack-end", daemon=True).start()
    signal.sigwait(STOP)
