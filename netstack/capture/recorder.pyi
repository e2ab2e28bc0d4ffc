from collections.abc import Iterable, Mapping
from typing import Any, final

from netstack.capture.filter import Filter

def name_blocks(names: Mapping[str, Iterable[tuple[str, bytes]]]) -> bytes: ...

@final
class Recorder:
    def __new__(
        cls,
        target: str | int,
        *,
        snaplen: int = 0,
        limit: int = 0,
        ring: tuple[int, int] | None = None,
        filter: Filter | None = None,
        wire_frames: bool = False,
        section: tuple[str, str, str] = ...,
    ) -> Recorder: ...
    def tap_capsule(self) -> Any: ...
    def set_names(self, names: Mapping[str, Iterable[tuple[str, bytes]]]) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def write(
        self,
        time_ns: int,
        frame: bytes,
        *,
        port: int = 1,
        outbound: bool = False,
        meta: tuple[int, int, int, int, int, int] = ...,
    ) -> bool: ...
    def close(self) -> dict[str, Any]: ...
