from collections.abc import Iterable
from typing import NamedTuple

from typing_extensions import Buffer, Self, disjoint_base

from netstack.link.impair import Impairment

FEATURES: dict[str, int]

class FrameMeta(NamedTuple):
    csum: int = 0
    gso_type: int = 0
    gso_size: int = 0
    hdr_len: int = 0
    csum_start: int = 0
    csum_offset: int = 0

@disjoint_base
class MemoryLink:
    wake_fd: int
    out_fd: int
    def __new__(
        cls,
        mtu: int = 1500,
        features: Iterable[str] = (),
        queue: int = 1024,
        impair: Impairment | tuple[Impairment | None, Impairment | None] | None = None,
        real_time: bool = False,
    ) -> Self: ...
    def inject(self, frame: Buffer, meta: FrameMeta | None = None, now: int | None = None) -> bool: ...
    def drain(self, limit: int = 0) -> list[tuple[bytes, FrameMeta]]: ...
    def step(self, now: int | None = None) -> None: ...
    def next_deadline(self) -> int | None: ...
    def pending(self) -> tuple[int, int]: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, int | dict[str, int] | None]: ...
    @property
    def mtu(self) -> int: ...
    def engine_recv(self) -> tuple[bytes, FrameMeta] | None: ...
    def engine_send(self, frame: Buffer, meta: FrameMeta | None = None) -> int: ...
