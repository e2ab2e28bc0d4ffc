"""Hours of mixed traffic through one ``netstack serve``, and whether what it holds stays flat.

    guest ── TAP ── netstack relay ── hyperkit socket ──┐
    visitor ── TAP ── a relay's pump ── qemu socket ────┼── netstack serve ── servers on the host's loopback
    clients of the host ── published ports, SOCKS ──────┘

`traffic` is what goes on, each kind in a thread of its own and checked byte by byte; `guests` those that come
and go; `server` both ends' servers, one of which is killed again and again; `record` what is sampled,
the table and the plot; `verdict` says from the samples whether memory, descriptors and flows grow. When the traffic has
ended the flows must all go, and the descriptors come back to what they were before it.
"""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """``python -m bench soak``; its exit status."""
    from .command import main as command

    return command(argv)
