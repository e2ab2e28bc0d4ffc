from typing import Any, final

@final
class Filter:
    expression: str
    link_type: int
    def __init__(self, expression: str, link_type: int = 1) -> None: ...
    def passes(self, frame: Any, length: int | None = None) -> bool: ...
