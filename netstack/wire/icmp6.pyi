from ipaddress import IPv6Address
from typing import final

from netstack.wire.icmp import ICMPMessage

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
class ICMPv6Message(ICMPMessage):
    @staticmethod
    def echo(identifier: int, sequence: int, body: bytes = b"", *, reply: bool = False) -> ICMPv6Message: ...
    @staticmethod
    def parse(
        data: _Bytes, *, src: str | IPv6Address | None = None, dst: str | IPv6Address | None = None
    ) -> ICMPv6Message: ...
    def build(self, src: str | IPv6Address, dst: str | IPv6Address) -> bytes: ...
    def write(self, out: bytearray | memoryview, src: str | IPv6Address, dst: str | IPv6Address) -> int: ...
    @property
    def mtu(self) -> int:
        """Bytes that the next hop takes, as of "packet too big" (RFC 4443 section 3.2)."""
