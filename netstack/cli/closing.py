"""What a process leaves to be closed when it has ended."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["closed_behind", "leave_open"]

_left: list[int] | None = None  #: duplicates; None where the process goes on after its command


def leave_open(fd: int) -> None:
    """Lets somebody else close the last duplicate of a descriptor.

    A TAP's takes the kernel 15 ms, for which nobody need wait. Outside of `closed_behind` nothing happens.
    """
    if _left is not None:
        _left.append(os.dup(fd))


@contextmanager
def closed_behind() -> Iterator[None]:
    """Around the last work of a process: what `leave_open` was given is closed by a child, behind the process's end."""
    global _left
    _left = []
    try:
        yield
    finally:
        if _left:
            _wait_in_a_child()
        _left = None


def _wait_in_a_child() -> None:
    ended, _ours = os.pipe()  # its other end closes with this process
    if os.fork():
        return
    os.close(_ours)
    for stream in range(3):  # whoever reads them must not wait for the child
        with suppress(OSError):
            os.close(stream)
    os.read(ended, 1)
    os._exit(0)
