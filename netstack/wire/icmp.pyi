from typing_extensions import disjoint_base

from netstack.wire.header import WireValue

@disjoint_base
class ICMPMessage(WireValue):
    def __init__(self, type: int, code: int = 0, rest: int = 0, body: bytes = b"") -> None: ...
    @property
    def type(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def checksum(self) -> int: ...
    @property
    def rest(self) -> int: ...
    @property
    def identifier(self) -> int:
        """Bytes 4 and 5, as of an echo."""
    @property
    def sequence(self) -> int:
        """Bytes 6 and 7, as of an echo."""
    @property
    def body(self) -> bytes: ...
