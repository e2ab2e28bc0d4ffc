from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

from typing_extensions import disjoint_base

from netstack.wire.dns_data import TYPE_NAMES as TYPE_NAMES

_Address: TypeAlias = str | IPv4Address | IPv6Address
_Data: TypeAlias = _Address | tuple[str | int, Any]

@disjoint_base
class DnsTable:
    @property
    def names(self) -> dict[str, tuple[tuple[str, bytes], ...]]:
        """Each name, in small letters, with its records: type and data as on the wire."""
    @property
    def zones(self) -> tuple[str, ...]:
        """The zones in which no other name exists."""
    def __init__(
        self,
        names: Mapping[str, _Data | Iterable[_Data]] | Iterable[tuple[str, _Data | Iterable[_Data]]] = (),
        *,
        zones: Iterable[str] = (),
        ttl: int = 0,
        server: str = "gateway.internal",
        reverse: bool = False,
    ) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
