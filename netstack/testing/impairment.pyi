from types import TracebackType
from typing import Any

from typing_extensions import Self, disjoint_base

from netstack.link.impair import Impairment
from netstack.link.memory import MemoryLink

@disjoint_base
class ImpairmentBox:
    def __new__(
        cls,
        a: int | MemoryLink,
        b: int | MemoryLink,
        up: Impairment | str | dict[str, Any] | None = None,
        down: Impairment | str | dict[str, Any] | None = None,
    ) -> Self: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def running(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def stats(self) -> dict[str, dict[str, int]]: ...
