from typing import final

from netstack.wire.icmp import ICMPMessage

_Bytes = bytes | bytearray | memoryview

ECHO_REPLY: int
UNREACHABLE: int
REDIRECT: int
ECHO: int
TIME_EXCEEDED: int
PARAMETER: int

@final
class ICMPv4Message(ICMPMessage):
    @staticmethod
    def echo(identifier: int, sequence: int, body: bytes = b"", *, reply: bool = False) -> ICMPv4Message: ...
    @staticmethod
    def parse(data: _Bytes, *, verify: bool = False) -> ICMPv4Message: ...
    def build(self) -> bytes: ...
    def write(self, out: bytearray | memoryview) -> int: ...
    @property
    def mtu(self) -> int:
        """Bytes that the next hop takes, as of "fragmentation needed" (RFC 1191)."""
