from ipaddress import IPv4Address, IPv6Address
from typing import final

from netstack.wire.header import WireHeader

_Bytes = bytes | bytearray | memoryview
_Address = str | IPv4Address | IPv6Address

@final
class UDPHeader(WireHeader):
    def __init__(self, sport: int, dport: int, checksum: int = 0) -> None: ...
    @staticmethod
    def parse(data: _Bytes, *, src: _Address | None = None, dst: _Address | None = None) -> UDPHeader: ...
    def build(
        self, payload: bytes = b"", *, src: _Address | None = None, dst: _Address | None = None
    ) -> bytes: ...
    @property
    def sport(self) -> int: ...
    @property
    def dport(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def checksum(self) -> int: ...
