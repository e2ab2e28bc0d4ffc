"""Captures as NumPy columns: what columns there are, and how a file becomes them."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from netstack.capture.dissect import Dissector
from netstack.capture.filter import Filter
from netstack.capture.source import Source
from netstack.errors import ConfigError, WireError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = [
    "ALL",
    "COLUMNS",
    "HEADERS",
    "Analysis",
    "Check",
    "Column",
    "Columns",
    "Layer",
    "Reader",
    "chosen",
    "chunks",
    "columns",
]

BAD_VERSION, TRUNCATED, BAD_LENGTH = -2, -1, -3  # the wire_codes of these names
CHUNK = 65536  # rows
# Arrays of a column that are used in turn: a loop still holds the one before when it asks for the next.
SPARE = 2
LINK_TYPES = (0, 1, 12, 14, 101, 108, 113, 228, 229, 276)  # those whose frames are read


class Layer(enum.IntFlag):
    """What was found in a frame: the column ``layers``."""

    ETHERNET = 0x1
    COOKED = 0x2  #: Linux cooked capture
    VLAN = 0x4
    VLAN_INNER = 0x8
    ARP = 0x10
    IPV4 = 0x20
    IPV6 = 0x40
    FRAGMENT = 0x80  #: of a datagram; only the first has ports
    PORTS = 0x100
    TCP = 0x200
    UDP = 0x400
    ICMP4 = 0x800
    ICMP6 = 0x1000
    MSS = 0x2000
    WSCALE = 0x4000
    SACK_PERMITTED = 0x8000
    SACK = 0x10000
    TIMESTAMPS = 0x20000
    DNS = 0x40000
    QUESTION = 0x80000  #: the DNS message has one
    DHCP4 = 0x100000
    DHCP6 = 0x200000
    CUT = 0x400000  #: less was captured than was on the wire
    MALFORMED = 0x800000  #: a header contradicts itself, or is not there whole
    FLOW = 0x1000000
    RTT = 0x2000000
    SOURCE = 0x4000000  #: the sender's hardware address is known
    ETHERTYPE = 0x8000000
    PAYLOAD = 0x10000000  #: how much data a TCP segment carries is known
    ARP4 = 0x20000000  #: ARP for IPv4
    FRAGMENT_HEADER = 0x40000000  #: of IPv6; a datagram that is whole may have one


class Check(enum.IntEnum):
    """What a checksum is worth: the columns ``ip_checksum`` and ``l4_checksum``."""

    NONE = 0  #: there is none, or it cannot be verified: a fragment, or not captured whole
    GOOD = 1
    BAD = 2
    PARTIAL = 3  #: the pseudo header's sum, which offload was to complete after the capture
    ABSENT = 4  #: zero in UDP over IPv4: the sender made none


class Analysis(enum.IntFlag):
    """What the order of TCP's segments says: the column ``tcp_analysis``, in the words of Wireshark's guide."""

    RETRANSMISSION = 0x1  #: of any kind
    FAST_RETRANSMISSION = 0x2
    SPURIOUS_RETRANSMISSION = 0x4
    OUT_OF_ORDER = 0x8
    LOST_SEGMENT = 0x10  #: data before this segment were not captured
    ACKED_UNSEEN = 0x20
    DUPLICATE_ACK = 0x40
    ZERO_WINDOW = 0x80
    ZERO_WINDOW_PROBE = 0x100
    ZERO_WINDOW_PROBE_ACK = 0x200
    WINDOW_FULL = 0x400
    WINDOW_UPDATE = 0x800
    KEEP_ALIVE = 0x1000
    KEEP_ALIVE_ACK = 0x2000
    REUSED_PORTS = 0x4000


LINK, NETWORK, TRANSPORT, OPTIONS, APPLICATION, CHECKSUM, CONVERSATION = (1 << n for n in range(7))
_TO_TRANSPORT = LINK | NETWORK | TRANSPORT
_IP = Layer.IPV4 | Layer.IPV6


@dataclass(frozen=True)
class Column:
    """One column: its type, which frames have it (any bit of layers; 0 = all), and what it means."""

    name: str
    dtype: str
    layers: int
    want: int
    meaning: str
    shape: tuple[int, ...] = ()


def _table() -> dict[str, Column]:
    link, net, l4 = LINK, LINK | NETWORK, _TO_TRANSPORT
    options, app = l4 | OPTIONS, l4 | APPLICATION
    flow = l4 | OPTIONS | CONVERSATION
    rows: list[Column] = [
        Column("number", "i8", 0, link, "number of the frame in its file, from 1"),
        Column("time", "i8", 0, link, "ns since 1970; 0 where the file holds none"),
        Column("length", "u4", 0, link, "bytes on the wire"),
        Column("captured", "u4", 0, link, "bytes in the file"),
        Column("interface", "u4", 0, link, "interface block of a pcapng file, from 0"),
        Column("link_type", "u2", 0, link, "of the pcap registry; 1 = Ethernet"),
        Column("layers", "u4", 0, l4, "what was found: bits of Layer"),
        Column("eth_src", "u8", Layer.SOURCE, link, "hardware address as a number of 48 bits"),
        Column("eth_dst", "u8", Layer.ETHERNET, link, "the same of the receiver"),
        Column("ethertype", "u2", Layer.ETHERTYPE, link, "what follows the VLAN tags"),
        Column("vlan", "u2", Layer.VLAN, link, "VLAN ID of the outer tag"),
        Column("vlan_inner", "u2", Layer.VLAN_INNER, link, "and of the second one"),
        Column("arp_op", "u1", Layer.ARP, net, "1 = request, 2 = reply"),
        Column("ip_version", "u1", _IP, net, "4 or 6"),
        Column("ip_src", "u4", Layer.IPV4 | Layer.ARP4, net, "IPv4 address as a number; ARP's sender"),
        Column(
            "ip_dst",
            "u4",
            Layer.IPV4 | Layer.ARP4,
            net,
            "the same of the receiver (the end of a source route); ARP's target",
        ),
        Column("ip6_src", "u8", Layer.IPV6, net, "IPv6 address: its upper and lower 64 bits", (2,)),
        Column("ip6_dst", "u8", Layer.IPV6, net, "the same of the receiver", (2,)),
        Column("protocol", "u1", _IP, net, "above IP and its extension headers; 6 = TCP"),
        Column("ip_tos", "u1", _IP, net, "DSCP and ECN (traffic class)"),
        Column("ip_length", "u2", _IP, net, "total length, or IPv6's payload length"),
        Column(
            "ip_id", "u4", Layer.IPV4 | Layer.FRAGMENT_HEADER, net, "identification; IPv6 has it in fragments"
        ),
        Column(
            "ip_flags",
            "u1",
            Layer.IPV4 | Layer.FRAGMENT_HEADER,
            net,
            "2 = don't fragment, 1 = more fragments",
        ),
        Column("fragment_offset", "u2", Layer.IPV4 | Layer.FRAGMENT_HEADER, net, "bytes"),
        Column("ttl", "u1", _IP, net, "or hop limit"),
        Column("src_port", "u2", Layer.PORTS, l4, "of TCP and UDP"),
        Column("dst_port", "u2", Layer.PORTS, l4, "of TCP and UDP"),
        Column("payload", "u4", Layer.PAYLOAD | Layer.UDP, l4, "bytes of data in a segment or datagram"),
        Column("udp_length", "u2", Layer.UDP, l4, "as the header says"),
        Column("icmp_type", "u1", Layer.ICMP4 | Layer.ICMP6, l4, "of ICMP and ICMPv6"),
        Column("icmp_code", "u1", Layer.ICMP4 | Layer.ICMP6, l4, "of ICMP and ICMPv6"),
        Column("tcp_seq", "u4", Layer.TCP, l4, "sequence number"),
        Column("tcp_ack", "u4", Layer.TCP, l4, "acknowledgement number"),
        Column("tcp_header", "u1", Layer.TCP, l4, "bytes of the header"),
        Column("tcp_flags", "u2", Layer.TCP, l4, "1 = FIN, 2 = SYN, 4 = RST, 8 = PSH, 16 = ACK, ..."),
        Column("tcp_window", "u2", Layer.TCP, l4, "as on the wire, unscaled"),
        Column("tcp_urgent", "u2", Layer.TCP, l4, "urgent pointer"),
        Column("tcp_mss", "u2", Layer.MSS, options, "maximum segment size"),
        Column("tcp_wscale", "u1", Layer.WSCALE, options, "window scale: a shift"),
        Column("tcp_sack_count", "u1", Layer.SACK, options, "blocks of selective acknowledgement"),
        Column("tcp_sack", "u4", Layer.SACK, options, "left and right edge of each of four blocks", (8,)),
        Column("tcp_tsval", "u4", Layer.TIMESTAMPS, options, "timestamp value"),
        Column("tcp_tsecr", "u4", Layer.TIMESTAMPS, options, "timestamp echo reply"),
        Column("dns_id", "u2", Layer.DNS, app, "of DNS, mDNS and LLMNR"),
        Column("dns_flags", "u2", Layer.DNS, app, "0x8000 = response"),
        Column("dns_rcode", "u1", Layer.DNS, app, "3 = NXDOMAIN; of responses"),
        Column("dns_name", "O", Layer.QUESTION, app, "name of the first question, as text"),
        Column("dns_type", "u2", Layer.QUESTION, app, "type of the first question; 1 = A, 28 = AAAA"),
        Column("dhcp_type", "u1", Layer.DHCP4 | Layer.DHCP6, app, "message type of DHCP or DHCPv6"),
        Column("ip_checksum", "u1", Layer.IPV4, net | CHECKSUM, "verdict on the IPv4 header's: see Check"),
        Column("l4_checksum", "u1", _IP, l4 | CHECKSUM, "verdict on that of TCP, UDP or ICMP: see Check"),
        Column("flow", "i4", Layer.FLOW, flow, "number of the conversation, from 0; -1 = none"),
        Column("tcp_analysis", "u2", Layer.TCP, flow, "retransmissions and the like: bits of Analysis"),
        Column("rtt", "i8", Layer.RTT, flow, "ns since the segment that this one acknowledges"),
    ]
    return {column.name: column for column in rows}


#: Every column by name.
COLUMNS = _table()
ALL = tuple(COLUMNS)
#: What the fixed headers say: all without options, DNS, DHCP, checksums and conversations.
HEADERS = tuple(name for name, column in COLUMNS.items() if not column.want & ~_TO_TRANSPORT)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise ConfigError(
            "columns need the Python package numpy: install it with pip install 'netstack[captures]'"
        ) from None
    return numpy


def chosen(names: Iterable[str] | str | None) -> tuple[str, ...]:
    """The columns that are meant: names, one string with commas, or None for `HEADERS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if names is None:
        return HEADERS
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in COLUMNS:
            from difflib import get_close_matches

            near = get_close_matches(name, COLUMNS, 1)
            hint = f": do you mean {near[0]}?" if near else f": there are {', '.join(COLUMNS)}"
            raise ConfigError(f"there is no column {name!r}{hint}")
    return found


def _filters(expression: str | None) -> dict[int, Filter] | None:
    """A filter for each link type that is read; those that cannot be expressed for one let nothing of it pass.

    Raises:
        ConfigError: the expression is wrong for Ethernet, or libpcap is absent.
    """
    if not expression:
        return None
    found = {1: Filter(expression, 1)}
    for kind in LINK_TYPES:
        if kind != 1:
            try:
                found[kind] = Filter(expression, 12 if kind in (14, 101) else kind)
            except ConfigError:
                continue
    return found


class Columns:
    """Columns of one capture, or of a chunk of it; ``table["time"]`` is an array with a row for each frame.

    A frame that lacks what a column tells has 0 there: `valid` says which rows mean something.
    """

    def __init__(self, arrays: dict[str, Array], fault: str = "") -> None:
        self.arrays = arrays
        self.fault = fault  #: what was wrong with the file after the last row; "" = nothing

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __len__(self) -> int:
        """The number of frames."""
        return len(next(iter(self.arrays.values()), ()))

    def __repr__(self) -> str:
        fault = f", fault={self.fault!r}" if self.fault else ""
        return f"<Columns of {len(self)} frames: {', '.join(self.arrays)}{fault}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns there are."""
        return tuple(self.arrays)

    def has(self, layers: int) -> Array:
        """The frames with any of these bits of `Layer`, as a mask. Needs the column ``layers``."""
        mask: Array = (self.arrays["layers"] & layers) != 0
        return mask

    def valid(self, name: str) -> Array:
        """The frames that have what the column tells, as a mask. Needs the column ``layers``."""
        layers = COLUMNS[name].layers
        if not layers:
            everywhere: Array = _numpy().ones(len(self), dtype=bool)
            return everywhere
        return self.has(layers)

    def addresses(self, side: str) -> Array:
        """IP addresses as text, "" where there is none. Needs ip_, ip6_ and ``layers``.

        Args:
            side: "src" or "dst".
        """
        np = _numpy()
        found: Array = np.full(len(self), "", dtype=object)
        four = self.valid(f"ip_{side}")
        _fill(found, four, self.arrays[f"ip_{side}"][four], lambda v: str(IPv4Address(int(v))))
        six = self.has(Layer.IPV6)
        if six.any():
            halves = self.arrays[f"ip6_{side}"][six]
            _fill(found, six, halves, lambda v: str(IPv6Address(int(v[0]) << 64 | int(v[1]))))
        return found

    def macs(self, side: str) -> Array:
        """Hardware addresses as text, "" where there is none. Needs eth_ and ``layers``."""
        found: Array = _numpy().full(len(self), "", dtype=object)
        mask = self.valid(f"eth_{side}")
        _fill(found, mask, self.arrays[f"eth_{side}"][mask], lambda v: int(v).to_bytes(6, "big").hex(":"))
        return found


def _fill(out: Array, mask: Array, values: Array, text: Callable[[Any], str]) -> None:
    """Writes a text for each value where mask is; each distinct value is made into text once."""
    np = _numpy()
    if not len(values):
        return
    distinct, which = np.unique(values, axis=0, return_inverse=True)
    texts = np.array([text(value) for value in distinct], dtype=object)
    out[mask] = texts[which.reshape(-1)]


def _empty(name: str, rows: int) -> Array:
    column = COLUMNS[name]
    found: Array = _numpy().empty((rows, *column.shape), dtype=column.dtype)
    return found


class _Spare:
    """Arrays of earlier chunks that nobody has kept: new memory costs more than what is written into it."""

    def __init__(self) -> None:
        self._arrays: dict[str, list[Array]] = {}

    def take(self, name: str, rows: int) -> Array:
        """An array for a column, whose content is anything."""
        known = self._arrays.setdefault(name, [])
        for array in known:
            # The list, this variable and the argument: a view of it would be one more.
            if sys.getrefcount(array) == 3 and len(array) == rows:
                return array
        found = _empty(name, rows)
        if len(known) == SPARE:
            known.pop(0)
        known.append(found)
        return found


class Reader:
    """One pass over a file, chunk by chunk.

    Args:
        path: of a pcap or pcapng file, plain or packed with gzip or zstd; ``-`` is standard input.
        names: columns, or one string with commas; None = `HEADERS`.
        where: a pcap-filter expression for the frames that are wanted; needs libpcap.

    Raises:
        ConfigError: a column or the expression cannot be used, or a package is missing.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        names: Iterable[str] | str | None = None,
        where: str | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.names = chosen(names)
        want = 0
        for name in self.names:
            want |= COLUMNS[name].want
        self._stored = tuple(name for name in self.names if name != "dns_name")
        self.dissector = Dissector(
            self._stored, want or LINK, dns_names="dns_name" in self.names, filters=_filters(where)
        )
        self.source = Source(path)
        self.fault = ""
        self._at = 0
        self._ended = False
        self._spare = _Spare()

    def read(self, rows: int, grow: bool = False) -> Columns | None:
        """The next rows, fewer at the end of the file; None where there are none.

        With grow, all that are left: rows is how many are expected at first.
        """
        np = _numpy()
        if grow:
            arrays = {name: _empty(name, rows) for name in self._stored}
        else:
            arrays = {name: self._spare.take(name, rows) for name in self._stored}
        texts: Array | None = np.full(rows, None, dtype=object) if "dns_name" in self.names else None
        filled = 0
        while not self._ended:
            taken, n = self.dissector.feed(
                self.source.buffer, self._at, list(arrays.values()), filled, rows - filled
            )
            self._at += taken
            filled += n
            for row, text in self.dissector.take_names():
                assert texts is not None
                texts[row] = text
            if filled == rows:
                if not grow:
                    break
                rows = self._expected(filled)
                for name, array in arrays.items():
                    arrays[name] = np.empty((rows, *array.shape[1:]), dtype=array.dtype)
                    arrays[name][:filled] = array
                if texts is not None:
                    texts = np.concatenate([texts, np.full(rows - filled, None, dtype=object)])
            elif self.dissector.fault or not self._more():
                self._finish()
        if not filled:
            return None
        if filled < rows:
            for name, array in arrays.items():
                if grow:
                    array.resize((filled, *array.shape[1:]), refcheck=False)
                else:
                    arrays[name] = array[:filled] if filled > rows // 2 else array[:filled].copy()
        if texts is not None:
            arrays["dns_name"] = texts[:filled]
        return Columns({name: arrays[name] for name in self.names}, self.fault)

    @property
    def position(self) -> int:
        """Bytes of the file, as it lies on disk, that are read; 0 where that is not known."""
        return self.source.size if self._ended else self.source.position(self._at)

    def _expected(self, filled: int) -> int:
        """Rows of the whole file, by what was read of it so far."""
        done = self.source.position(self._at)
        by_size = int(filled * (self.source.size / done) * 1.02) + 1024 if done and self.source.size else 0
        return max(by_size, filled + filled // 2)

    def _more(self) -> bool:
        used, self._at = self._at, 0
        return self.source.more(used)

    def _finish(self) -> None:
        self._ended = True
        if not self.source.fault:
            self.dissector.end(len(self.source.buffer) - self._at)
        self.fault = self.dissector.fault or self.source.fault
        if self.dissector.not_a_capture and not len(self.source.buffer):
            self.fault = "it is empty"
        self.source.close()

    @property
    def error(self) -> WireError | None:
        """`fault` as an exception that names the file."""
        if not self.fault:
            return None
        code = BAD_VERSION if self.dissector.not_a_capture else TRUNCATED
        return WireError(code, f"{self.path}: {self.fault}")

    def close(self) -> None:
        """Closes the file; again does nothing."""
        self.source.close()


def chunks(
    path: str | os.PathLike[str],
    names: Iterable[str] | str | None = None,
    *,
    where: str | None = None,
    rows: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Columns]:
    """A capture as columns, at most rows frames at a time: memory stays bounded whatever the file's size.

    Args:
        path: of a pcap or pcapng file, plain or packed with gzip or zstd; ``-`` is standard input.
        names: columns (see `COLUMNS`), or one string with commas; None = `HEADERS`. What no column needs is not
            read.
        where: a pcap-filter expression for the frames that are wanted; needs libpcap.
        progress: called with bytes read and bytes of the file (0 = not known) after each chunk.

    Raises:
        ConfigError: a column or the expression cannot be used, or a package is missing.
        OSError: the file cannot be read.
        WireError: it is no capture, is damaged or cut short. Frames before the fault have been yielded.
    """
    reader = Reader(path, names, where)
    try:
        while (chunk := reader.read(rows)) is not None:
            if progress is not None:
                progress(reader.position, reader.source.size)
            yield chunk
        if reader.error is not None:
            raise reader.error
    finally:
        reader.close()


def columns(
    path: str | os.PathLike[str], names: Iterable[str] | str | None = None, *, where: str | None = None
) -> Columns:
    """A whole capture as columns.

    Args:
        path, names, where: as in `chunks`.

    Returns:
        The columns; their `Columns.fault` says what is wrong where the file is damaged or cut short.

    Raises:
        ConfigError: a column or the expression cannot be used, or a package is missing.
        OSError: the file cannot be read. WireError: it is no capture.
    """
    reader = Reader(path, names, where)
    try:
        found = reader.read(CHUNK, grow=True)
        if reader.dissector.not_a_capture and reader.error is not None:
            raise reader.error
        if found is None:
            np = _numpy()
            found = Columns(
                {n: np.empty((0, *COLUMNS[n].shape), dtype=COLUMNS[n].dtype) for n in reader.names},
                reader.fault,
            )
        found.fault = reader.fault
        return found
    finally:
        reader.close()
