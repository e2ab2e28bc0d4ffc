from collections.abc import Sequence

_Meta = tuple[int, int, int, int, int, int]

def coalesce(frames: Sequence[bytes], mtu: int = 1500) -> list[tuple[bytes, _Meta]]: ...
