from ipaddress import IPv4Address
from typing import final

from netstack.wire.header import WireHeader

_Bytes = bytes | bytearray | memoryview

@final
class IPv4Header(WireHeader):
    def __init__(
        self,
        src: str | IPv4Address,
        dst: str | IPv4Address,
        protocol: int,
        *,
        ttl: int = 64,
        tos: int = 0,
        ident: int = 0,
        frag_offset: int = 0,
        dont_fragment: bool = False,
        more_fragments: bool = False,
        options: bytes = b"",
    ) -> None: ...
    @staticmethod
    def parse(data: _Bytes, *, verify: bool = False) -> IPv4Header: ...
    def build(self, payload: bytes = b"") -> bytes: ...
    @property
    def src(self) -> IPv4Address: ...
    @property
    def dst(self) -> IPv4Address: ...
    @property
    def protocol(self) -> int: ...
    @property
    def ttl(self) -> int: ...
    @property
    def tos(self) -> int: ...
    @property
    def ident(self) -> int: ...
    @property
    def total_length(self) -> int: ...
    @property
    def header_length(self) -> int: ...
    @property
    def frag_offset(self) -> int: ...
    @property
    def dont_fragment(self) -> bool: ...
    @property
    def more_fragments(self) -> bool: ...
    @property
    def options(self) -> bytes: ...
