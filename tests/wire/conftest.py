"""Memory that ends where the data ends: a parser that reads one byte too many does not come back."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator

import pytest

from netstack.errors import WireError

SIZE = 33 * mmap.PAGESIZE
END = SIZE - mmap.PAGESIZE


@pytest.fixture(scope="session")
def fence() -> Iterator[memoryview]:
    """The bytes in front of a page that can be neither read nor written."""
    area = mmap.mmap(-1, SIZE)
    anchor = ctypes.c_char.from_buffer(area)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if libc.mprotect(ctypes.addressof(anchor) + END, mmap.PAGESIZE, 0):
        pytest.skip(f"mprotect: errno {ctypes.get_errno()}")
    view = memoryview(area)[:END]
    yield view
    view.release()
    del anchor


@pytest.fixture(scope="session")
def guarded(fence: memoryview) -> Callable[[bytes], memoryview]:
    """Puts bytes right in front of the fence; each call overwrites what the last one put there."""

    def put(data: bytes) -> memoryview:
        start = END - len(data)
        fence[start:] = data
        return fence[start:].toreadonly()

    return put


@pytest.fixture(scope="session")
def room(fence: memoryview) -> Callable[[int], memoryview]:
    """A writable buffer of so many bytes, right in front of the fence, filled with 0xaa."""

    def buffer(n: int) -> memoryview:
        fence[END - n :] = b"\xaa" * n
        return fence[END - n :]

    return buffer


@pytest.fixture(scope="session")
def needs_its_room(room: Callable[[int], memoryview]) -> Callable[..., None]:
    """Compares what a writer does with the bytes it should write: less room stays as it is."""

    def compare(write: Callable[[memoryview], int], expected: bytes) -> None:
        for n in range(len(expected)):
            buffer = room(n)
            with pytest.raises(WireError) as caught:
                write(buffer)
            assert caught.value.code == -7
            assert bytes(buffer) == b"\xaa" * n
        buffer = room(len(expected))
        assert write(buffer) == len(expected)
        assert bytes(buffer) == expected

    return compare
