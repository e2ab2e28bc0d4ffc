from .face import Link

KINDS: dict[str, int]

class DatagramLink(Link):
    def __init__(self, fd: int, kind: str = "connected", mtu: int = 1500) -> None: ...
