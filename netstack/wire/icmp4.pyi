from typing import final

_Bytes = bytes | bytearray | memoryview

ECHO_REPLY: int
UNREACHABLE: int
REDIRECT: int
ECHO: int
TIME_EXCEEDED: int
PARAMETER: int

@final
class ICMPv4Message:
    def __init__(self, type: int, code: int = 0, rest: int = 0, body: bytes = b"") -> None: ...
    @staticmethod
    def echo(identifier: int, sequence: int, body: bytes = b"", *, reply: bool = False) -> ICMPv4Message: ...
    @staticmethod
    def parse(data: _Bytes, *, verify: bool = False) -> ICMPv4Message: ...
    def build(self) -> bytes: ...
    def write(self, out: bytearray | memoryview) -> int: ...
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
    def mtu(self) -> int:
        """Bytes that the next hop takes, as of "fragmentation needed" (RFC 1191)."""
    @property
    def body(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
