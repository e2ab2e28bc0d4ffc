from typing_extensions import Buffer, Self, disjoint_base

WORDS: tuple[str, ...]

@disjoint_base
class Impairment:
    def __init__(
        self,
        loss: float = 0,
        delay: float = 0,
        jitter: float = 0,
        reorder: float = 0,
        duplicate: float = 0,
        corrupt: float = 0,
        rate: float = 0,
        queue: int = 1000,
        ordered: bool = False,
        seed: int = 1,
    ) -> None: ...
    @classmethod
    def parse(cls, text: str) -> Self: ...

@disjoint_base
class ImpairedQueue:
    def __new__(cls, impairment: Impairment) -> Self: ...
    def push(self, frame: Buffer, now_ns: int) -> bool: ...
    def pop(self, now_ns: int) -> bytes | None: ...
    def next_deadline(self) -> int | None: ...
    def stats(self) -> dict[str, int]: ...
    def __len__(self) -> int: ...
