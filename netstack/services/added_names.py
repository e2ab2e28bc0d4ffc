"""Names that are added while the gateway runs, as values: DNS records in the text of zone files (RFC 1035 section 5).

A value is never changed; adding and removing give another one, so that one that cannot be built is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from netstack.errors import ConfigError
from netstack.wire.dns_data import TYPES, rdata_build, rdata_value, rdata_words
from netstack.wire.dns_name import name_from_text, name_to_text

__all__ = ["KINDS", "MAX_RECORDS", "AddedNames", "record_data", "record_text"]

KINDS = ("A", "AAAA", "CNAME", "TXT", "MX", "SRV", "PTR", "NS")  #: types that can be added
MAX_RECORDS = 16384

Record = tuple[str, bytes]  # type, data


def canonical(name: str) -> str:
    """A name in lower case, without the dot at its end.

    Raises:
        ConfigError: it is none.
    """
    try:
        return name_to_text(name_from_text(name).lower())
    except (ValueError, TypeError) as err:
        raise ConfigError(f"{name!r} is not a DNS name: {err}") from None


def record_data(kind: str, text: str) -> bytes:
    """The data of a record from its text: ``10 mail.internal`` for MX, ``0 5 5060 sip.internal`` for SRV.

    Raises:
        ConfigError: the type cannot be added, or the text is no value of it.
    """
    kind = kind.upper()
    if kind not in KINDS:
        raise ConfigError(f"records of type {kind} cannot be added: there are {', '.join(KINDS)}")
    try:
        return rdata_build(kind, _value(kind, text))
    except ValueError as err:
        raise ConfigError(f"{text!r} is no value for a record of type {kind}: {err}") from None


def _value(kind: str, text: str) -> Any:
    if kind == "TXT":
        # Quoted strings are the pieces of a record; other text is one, however long.
        if text[:1] != '"':
            return text
        import shlex  # costs start-up time

        return rdata_words(kind, shlex.split(text))
    return rdata_words(kind, text.split())


def record_text(kind: int | str, data: bytes) -> str:
    """The text of a record's data, which :func:`record_data` reads back; hexadecimal (RFC 3597) for other types."""
    number = TYPES[kind] if isinstance(kind, str) else kind
    value = rdata_value(number, data)
    if isinstance(value, bytes):
        return rf"\# {len(value)} {value.hex()}".rstrip()
    if number in (TYPES["TXT"], TYPES["SPF"]):
        pieces = [piece.decode(errors="backslashreplace") for piece in value]
        whole = "".join(pieces)
        one = all(len(piece) == 255 for piece in value[:-1])
        if one and whole[:1] != '"':
            return whole
        return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class AddedNames:
    """Records by name (in lower case), and zones: below them a name that is not in the table does not exist."""

    records: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    zones: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))

    def __iter__(self) -> Iterator[tuple[str, str, bytes]]:
        """(name, type, data) of every record."""
        return ((name, kind, data) for name, records in self.records.items() for kind, data in records)

    def table(self) -> dict[str, list[tuple[str, Any]]]:
        """What :class:`DnsTable` takes as names."""
        return {
            name: [
                (kind, rdata_value(TYPES[kind], data) if kind == "TXT" else data) for kind, data in records
            ]
            for name, records in self.records.items()
        }

    def adding(
        self, records: Iterable[tuple[str, str, str]], zones: Iterable[str] = (), replace: bool = False
    ) -> AddedNames:
        """With these records (name, type, text) and zones as well, or in place of those of the same name and type.

        Raises:
            ConfigError: one of them cannot be, or there are too many.
        """
        out = dict(self.records)
        records = list(records)
        for name, kind, _ in records if replace else ():
            key = canonical(name)
            out[key] = tuple(record for record in out.get(key, ()) if record[0] != kind.upper())
        for name, kind, text in records:
            key, record = canonical(name), (kind.upper(), record_data(kind, text))
            if record not in out.get(key, ()):
                out[key] = (*out.get(key, ()), record)
        added = AddedNames(out, tuple(dict.fromkeys((*self.zones, *map(canonical, zones)))))
        if len(added) > MAX_RECORDS or len(added.zones) > MAX_RECORDS:
            raise ConfigError(f"no more than {MAX_RECORDS} records can be added: remove some first")
        return added

    def removing(self, name: str, kind: str | None = None, text: str | None = None) -> AddedNames:
        """Without the records of a name, or only those of a type, or only the one of a value as well.

        Raises:
            ConfigError: the name, the type or the value cannot be.
        """
        key = canonical(name)
        data = record_data(kind, text) if kind is not None and text is not None else None
        kept = tuple(
            record
            for record in self.records.get(key, ())
            if (kind is not None and record[0] != kind.upper()) or (data is not None and record[1] != data)
        )
        out = {other: records for other, records in self.records.items() if other != key}
        return AddedNames(out | {key: kept} if kept else out, self.zones)
