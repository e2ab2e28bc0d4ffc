"""Numbers of DNS and the data of its records as Python values."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

from netstack.wire.dns_name import name_from_text, name_take, name_to_text

# fmt: off
TYPES = MappingProxyType({
    "A": 1, "NS": 2, "MD": 3, "MF": 4, "CNAME": 5, "SOA": 6, "MB": 7, "MG": 8, "MR": 9, "NULL": 10,
    "WKS": 11, "PTR": 12, "HINFO": 13, "MINFO": 14, "MX": 15, "TXT": 16, "RP": 17, "AFSDB": 18, "RT": 21,
    "SIG": 24, "KEY": 25, "PX": 26, "AAAA": 28, "LOC": 29, "SRV": 33, "NAPTR": 35, "KX": 36, "CERT": 37,
    "DNAME": 39, "OPT": 41, "DS": 43, "SSHFP": 44, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "NSEC3": 50,
    "NSEC3PARAM": 51, "TLSA": 52, "CDS": 59, "CDNSKEY": 60, "SVCB": 64, "HTTPS": 65, "SPF": 99, "TSIG": 250,
    "IXFR": 251, "AXFR": 252, "ANY": 255, "URI": 256, "CAA": 257,
})
RCODES = MappingProxyType({
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN",
    7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS", 23: "BADCOOKIE",
})

# Of each type (fixed bytes in front, names that follow, whether a writer may compress them). RFC 1035 section 3.3
# lets a writer compress its own types; of the later ones a reader only undoes it (RFC 3597 section 4).
NAMES_IN_DATA = MappingProxyType({
    2: (0, 1, True), 3: (0, 1, True), 4: (0, 1, True), 5: (0, 1, True), 6: (0, 2, True), 7: (0, 1, True),
    8: (0, 1, True), 9: (0, 1, True), 12: (0, 1, True), 14: (0, 2, True), 15: (2, 1, True), 17: (0, 2, False),
    18: (2, 1, False), 21: (2, 1, False), 26: (2, 2, False), 33: (6, 1, False), 39: (0, 1, False),
})
# fmt: on
TYPE_NAMES = MappingProxyType({number: name for name, number in TYPES.items()})

_ONE_NAME = frozenset((2, 5, 12, 39))  # NS, CNAME, PTR, DNAME
_STRINGS = frozenset((16, 99))  # TXT, SPF
_PREFERENCE_AND_NAME = frozenset((15, 18, 21, 36))  # MX, AFSDB, RT, KX
_SOA_NUMBERS = 5
# What a value is written as, of types whose value is numbers and a name.
_FORMS = MappingProxyType({15: "PREFERENCE NAME", 33: "PRIORITY WEIGHT PORT TARGET"})


def type_number(kind: str | int) -> int:
    """The number of a record type given as ``"AAAA"``, ``"TYPE28"`` (RFC 3597) or 28.

    Raises:
        ValueError: no such type.
    """
    if isinstance(kind, int):
        if 0 <= kind <= 0xFFFF:
            return int(kind)
    else:
        upper = kind.upper()
        if upper in TYPES:
            return TYPES[upper]
        if (
            upper.startswith("TYPE")
            and upper[4:].isascii()
            and upper[4:].isdigit()
            and int(upper[4:]) <= 0xFFFF
        ):
            return int(upper[4:])
    raise ValueError(f"{kind!r} is not a DNS record type")


def rdata_build(kind: str | int, value: Any) -> bytes:
    """Record data from a friendly value; the inverse of :attr:`DnsRecord.value`.

    A and AAAA: an address. NS, CNAME, PTR, DNAME: a name. TXT and SPF: text, bytes, or a sequence of them
    (each is cut into pieces of 255 bytes). MX, AFSDB, RT, KX: (preference, name). SRV: (priority, weight,
    port, target). SOA: (server, mailbox, serial, refresh, retry, expire, minimum). Every other type, and all
    of these but TXT and SPF: ``bytes`` as they shall stand.

    Raises:
        WireError: a name cannot be written.
        ValueError: the value does not suit the type.
    """
    kind = type_number(kind)
    label = TYPE_NAMES.get(kind, f"TYPE{kind}")
    if isinstance(value, bytes) and kind not in _STRINGS:
        return value
    try:
        if kind in _STRINGS:
            return _strings_build(value)
        if kind == TYPES["A"]:
            return ipaddress.IPv4Address(value).packed
        if kind == TYPES["AAAA"]:
            return ipaddress.IPv6Address(value).packed
        if kind in _ONE_NAME:
            return name_from_text(value)
        if kind in _PREFERENCE_AND_NAME:
            preference, name = value
            return int(preference).to_bytes(2, "big") + name_from_text(name)
        if kind == TYPES["SRV"]:
            numbers, name = value[:3], value[3]
            return b"".join(n.to_bytes(2, "big") for n in numbers) + name_from_text(name)
        if kind == TYPES["SOA"]:
            server, mailbox, *numbers = value
            if len(numbers) != _SOA_NUMBERS:
                raise ValueError("a SOA record has five numbers")
            return (
                name_from_text(server)
                + name_from_text(mailbox)
                + b"".join(n.to_bytes(4, "big") for n in numbers)
            )
    except (TypeError, IndexError, OverflowError, AttributeError) as err:
        raise ValueError(f"{value!r} is no value for a {label} record: {err}") from None
    raise ValueError(f"the data of a {label} record must be given as bytes")


def rdata_words(kind: str, words: Sequence[str]) -> Any:
    """A value, as :func:`rdata_build` takes it, from the words that users write, as in zone files (RFC 1035
    section 5): ``10 mail.corp`` for MX. Types that have no such form are hexadecimal digits.

    Raises:
        ValueError: that is not how it is written.
    """
    number = type_number(kind)
    if number in _STRINGS:
        form, fits = "TEXT", bool(words)
    elif number in _FORMS:
        form = _FORMS[number]
        fits = len(words) == len(form.split()) and all(word.isdecimal() for word in words[:-1])
    elif number in _ONE_NAME:
        form, fits = "NAME", len(words) == 1
    elif number in (TYPES["A"], TYPES["AAAA"]):
        form, fits = "ADDRESS", len(words) == 1
    else:
        form, fits = "as hexadecimal digits", False
        if words:
            with contextlib.suppress(ValueError):
                return bytes.fromhex("".join(words))
    if not fits:
        raise ValueError(f"it is written {form}")
    if number in _STRINGS:
        return tuple(words)
    return (*map(int, words[:-1]), words[-1]) if number in _FORMS else words[0]


def rdata_value(kind: int, data: bytes) -> Any:
    """Record data as a Python value; ``data`` itself where the type is not known.

    Raises:
        ValueError: the data do not suit the type.
    """
    if kind == TYPES["A"]:
        return ipaddress.IPv4Address(data)
    if kind == TYPES["AAAA"]:
        return ipaddress.IPv6Address(data)
    if kind in _ONE_NAME:
        return name_to_text(data)
    if kind in _STRINGS:
        return _strings(data)
    if kind in _PREFERENCE_AND_NAME:
        return int.from_bytes(data[:2], "big"), name_to_text(data[2:])
    if kind == TYPES["SRV"]:
        return (*(int.from_bytes(data[i : i + 2], "big") for i in (0, 2, 4)), name_to_text(data[6:]))
    if kind == TYPES["SOA"]:
        server = name_take(data, 0)
        mailbox = name_take(data, len(server))
        at = len(server) + len(mailbox)
        if len(data) != at + 4 * _SOA_NUMBERS:
            raise ValueError("the data of a SOA record have another length")
        numbers = (int.from_bytes(data[i : i + 4], "big") for i in range(at, len(data), 4))
        return (name_to_text(server), name_to_text(mailbox), *numbers)
    return data


def _strings(data: bytes) -> tuple[bytes, ...]:
    strings = []
    pos = 0
    while pos < len(data):
        end = pos + 1 + data[pos]
        if end > len(data):
            raise ValueError("a string runs past the data of its record")
        strings.append(data[pos + 1 : end])
        pos = end
    if not strings:
        raise ValueError("a record of strings holds none")
    return tuple(strings)


def _strings_build(value: str | bytes | Iterable[str | bytes]) -> bytes:
    pieces: list[bytes] = []
    for text in (value,) if isinstance(value, (str, bytes)) else value:
        raw = text.encode() if isinstance(text, str) else bytes(text)
        pieces += [raw[i : i + 255] for i in range(0, len(raw), 255)] or [b""]
    if not pieces:
        raise ValueError("a record of strings needs at least one")
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)
