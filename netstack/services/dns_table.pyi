from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

Address: TypeAlias = str | IPv4Address | IPv6Address
Data: TypeAlias = Address | tuple[str | int, Any]

class DnsTable:
    @property
    def names(self) -> dict[str, tuple[tuple[str, bytes], ...]]: ...
    @property
    def zones(self) -> tuple[str, ...]: ...
    def __init__(
        self,
        names: Mapping[str, Data | Iterable[Data]] | Iterable[tuple[str, Data | Iterable[Data]]] = (),
        *,
        zones: Iterable[str] = (),
        ttl: int = 0,
        server: str = "gateway.internal",
        reverse: bool = False,
    ) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: object) -> bool: ...
