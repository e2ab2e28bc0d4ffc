from typing_extensions import Self

from .face import Link

KINDS: dict[str, int]

class DatagramLink(Link):
    def __new__(cls, fd: int, kind: str = "connected", mtu: int = 1500) -> Self: ...
