from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import final

from netstack.wire.header import WireHeader

_Bytes = bytes | bytearray | memoryview
_Address = str | IPv4Address | IPv6Address

FIN: int
SYN: int
RST: int
PSH: int
ACK: int
URG: int
ECE: int
CWR: int

@final
class TCPHeader(WireHeader):
    def __init__(
        self,
        sport: int,
        dport: int,
        *,
        seq: int = 0,
        ack: int = 0,
        flags: int = 0,
        window: int = 0,
        checksum: int = 0,
        urgent: int = 0,
        mss: int | None = None,
        wscale: int | None = None,
        sack_permitted: bool = False,
        timestamps: tuple[int, int] | None = None,
        sack: Iterable[tuple[int, int]] = (),
    ) -> None: ...
    @staticmethod
    def parse(data: _Bytes, *, src: _Address | None = None, dst: _Address | None = None) -> TCPHeader: ...
    def build(
        self, payload: bytes = b"", *, src: _Address | None = None, dst: _Address | None = None
    ) -> bytes: ...
    @property
    def sport(self) -> int: ...
    @property
    def dport(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def ack(self) -> int: ...
    @property
    def data_offset(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def checksum(self) -> int: ...
    @property
    def urgent(self) -> int: ...
    @property
    def mss(self) -> int | None: ...
    @property
    def wscale(self) -> int | None: ...
    @property
    def sack_permitted(self) -> bool: ...
    @property
    def timestamps(self) -> tuple[int, int] | None: ...
    @property
    def sack(self) -> tuple[tuple[int, int], ...]: ...
