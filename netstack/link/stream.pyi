from .face import Link

FRAMINGS: dict[str, int]

class StreamLink(Link):
    def __init__(self, fd: int, framing: str = "hyperkit", mtu: int = 1500, out_fd: int = -1) -> None: ...
