from typing import Final, final

from netstack.wire.header import WireValue

_Bytes = bytes | bytearray | memoryview

IPV4: Final[int]
NAME: Final[int]
IPV6: Final[int]

@final
class SocksUDPHeader(WireValue):
    def __init__(self, address: str, port: int, fragment: int = 0) -> None: ...
    @staticmethod
    def parse(data: _Bytes) -> SocksUDPHeader: ...
    def build(self) -> bytes: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def fragment(self) -> int: ...
    @property
    def length(self) -> int: ...
