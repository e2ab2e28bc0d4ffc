from collections.abc import Sequence

def segment(
    pieces: Sequence[bytes], meta: tuple[int, int, int, int, int, int], features: int = 0, limit: int = 65536
) -> tuple[int, int, list[tuple[bytes, tuple[int, int, int, int, int, int]]]]: ...
