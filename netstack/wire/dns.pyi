from collections.abc import Iterable
from typing import Any, ClassVar

from typing_extensions import Self, disjoint_base

from netstack.wire.dns_data import NAMES_IN_DATA as NAMES_IN_DATA
from netstack.wire.dns_data import RCODES as RCODES
from netstack.wire.dns_data import TYPE_NAMES as TYPE_NAMES
from netstack.wire.dns_data import TYPES as TYPES
from netstack.wire.dns_data import rdata_build as rdata_build
from netstack.wire.dns_data import rdata_value as rdata_value
from netstack.wire.dns_data import type_number as type_number

@disjoint_base
class DnsQuestion:
    name: str
    type: int
    qclass: int
    def __init__(self, name: str, type: str | int = 1, qclass: int = 1) -> None: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class DnsRecord:
    name: str
    type: int
    rclass: int
    ttl: int
    rdata: bytes
    def __init__(
        self, name: str, type: str | int = 1, rdata: bytes = b"", ttl: int = 0, rclass: int = 1
    ) -> None: ...
    @classmethod
    def of(cls, name: str, type: str | int, value: Any, ttl: int = 0) -> Self: ...
    @property
    def value(self) -> Any: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class DnsEdns:
    udp_size: int
    version: int
    flags: int
    ext_rcode: int
    options: tuple[tuple[int, bytes], ...]
    def __init__(
        self,
        udp_size: int = 1232,
        version: int = 0,
        flags: int = 0,
        ext_rcode: int = 0,
        options: Iterable[tuple[int, bytes]] = (),
    ) -> None: ...
    @property
    def dnssec_ok(self) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@disjoint_base
class DnsMessage:
    id: int
    flags: int
    questions: list[DnsQuestion]
    answers: list[DnsRecord]
    authority: list[DnsRecord]
    additional: list[DnsRecord]
    edns: DnsEdns | None
    response: bool
    authoritative: bool
    truncated: bool
    recursion_desired: bool
    recursion_available: bool
    opcode: int
    rcode: int
    def __init__(
        self,
        id: int = 0,
        flags: int = 0,
        questions: Iterable[DnsQuestion] = (),
        answers: Iterable[DnsRecord] = (),
        authority: Iterable[DnsRecord] = (),
        additional: Iterable[DnsRecord] = (),
        edns: DnsEdns | None = None,
    ) -> None: ...
    @classmethod
    def query(
        cls,
        name: str,
        type: str | int = 1,
        *,
        id: int = 0,
        recursion_desired: bool = True,
        edns: DnsEdns | None = None,
    ) -> Self: ...
    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Self: ...
    def build(self, *, compress: bool = True) -> bytes: ...
    def __eq__(self, value: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
