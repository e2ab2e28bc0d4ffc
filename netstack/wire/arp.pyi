from ipaddress import IPv4Address
from typing import final

from netstack.wire.header import WireHeader

_Bytes = bytes | bytearray | memoryview

REQUEST: int
REPLY: int

@final
class ArpPacket(WireHeader):
    def __init__(
        self,
        op: int,
        sha: str | _Bytes,
        spa: str | IPv4Address,
        tha: str | _Bytes,
        tpa: str | IPv4Address,
    ) -> None: ...
    @staticmethod
    def parse(data: _Bytes) -> ArpPacket: ...
    def build(self) -> bytes: ...
    @property
    def op(self) -> int: ...
    @property
    def sha(self) -> str: ...
    @property
    def spa(self) -> IPv4Address: ...
    @property
    def tha(self) -> str: ...
    @property
    def tpa(self) -> IPv4Address: ...
