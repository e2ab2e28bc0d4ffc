from typing_extensions import Self

from .face import Link

FRAMINGS: dict[str, int]

class StreamLink(Link):
    def __new__(cls, fd: int, framing: str = "hyperkit", mtu: int = 1500, out_fd: int = -1) -> Self: ...
