from typing_extensions import Self

from netstack.link.face import Link

class TapLink(Link):
    def __new__(cls, fd: int, granted: int = 0, mtu: int = 1500) -> Self: ...
