from ipaddress import IPv6Address
from typing import final

_Bytes = bytes | bytearray | memoryview

UNREACHABLE: int
TOO_BIG: int
TIME_EXCEEDED: int
PARAMETER: int
ECHO: int
ECHO_REPLY: int
ROUTER_SOLICIT: int
ROUTER_ADVERT: int
NEIGHBOR_SOLICIT: int
NEIGHBOR_ADVERT: int

def nd_options(data: _Bytes) -> list[tuple[int, bytes]]: ...

@final
class ICMPv6Message:
    def __init__(self, type: int, code: int = 0, rest: int = 0, body: bytes = b"") -> None: ...
    @staticmethod
    def echo(identifier: int, sequence: int, body: bytes = b"", *, reply: bool = False) -> ICMPv6Message: ...
    @staticmethod
    def parse(
        data: _Bytes, *, src: str | IPv6Address | None = None, dst: str | IPv6Address | None = None
    ) -> ICMPv6Message: ...
    def build(self, src: str | IPv6Address, dst: str | IPv6Address) -> bytes: ...
    def write(self, out: bytearray | memoryview, src: str | IPv6Address, dst: str | IPv6Address) -> int: ...
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
        """Bytes that the next hop takes, as of "packet too big" (RFC 4443 section 3.2)."""
    @property
    def body(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
