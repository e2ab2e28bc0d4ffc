"""Conversations of captures, one row each, and how the tables of several files become one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from netstack.capture.table import Reader
from netstack.errors import WireError

__all__ = ["FLOW_NAMES", "PROTOCOLS", "Flow", "Side", "flow_rows", "flows", "flows_of", "merge"]

PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    132: "SCTP",
}
SYN, FIN, RST, DATA = 1, 2, 4, 8  # bits of Side.seen
End = tuple[bytes, int]  # address as bytes, and port


@dataclass
class Side:
    """What one of the two has sent."""

    frames: int = 0
    bytes: int = 0  #: of whole frames on the wire
    payload: int = 0  #: of TCP's and UDP's data, repeated ones included
    retransmissions: int = 0
    out_of_order: int = 0
    duplicate_acks: int = 0
    zero_windows: int = 0
    lost_segments: int = 0  #: places where segments were not captured
    rtt_count: int = 0  #: samples: how long this side's acknowledgements took to pass the capture
    rtt_sum: int = 0  #: ns
    rtt_min: int = 0  #: ns
    rtt_max: int = 0  #: ns
    seen: int = 0  #: bits: 1 = SYN, 2 = FIN, 4 = RST, 8 = data

    def add(self, other: Side) -> None:
        """Takes over what the same side sent later."""
        if other.rtt_count:
            self.rtt_min = min(self.rtt_min, other.rtt_min) if self.rtt_count else other.rtt_min
            self.rtt_max = max(self.rtt_max, other.rtt_max)
        for field in fields(Side):
            if field.name not in ("rtt_min", "rtt_max", "seen"):
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.seen |= other.seen


@dataclass
class Flow:
    """A conversation: what passed between two addresses, and ports where the protocol has them."""

    protocol: int
    client: End
    server: End
    first: int  #: ns since 1970
    last: int
    handshake: int  #: ns from the SYN to the client's acknowledgement of the answer, 0 = not seen
    up: Side  #: what the client sent
    down: Side

    @property
    def state(self) -> str:
        """How far TCP got: partial where the capture lacks the beginning; "" for other protocols."""
        if self.protocol != 6:
            return ""
        both = self.up.seen & self.down.seen
        if self.down.seen & RST and not self.down.seen & (SYN | DATA) and self.up.seen & SYN:
            return "refused"
        if (self.up.seen | self.down.seen) & RST:
            return "reset"
        if both & FIN:
            return "closed"
        if (self.up.seen | self.down.seen) & FIN:
            return "half-closed"
        if both & SYN:
            return "established"
        return "unanswered" if self.up.seen & SYN and not self.down.frames else "partial"

    def row(self) -> dict[str, Any]:
        """Plain values by the names of the table's columns. Times in ns, None where there are none."""
        found: dict[str, Any] = {
            "protocol": PROTOCOLS.get(self.protocol, str(self.protocol)),
            "client": str(ip_address(self.client[0])),
            "client_port": self.client[1],
            "server": str(ip_address(self.server[0])),
            "server_port": self.server[1],
            "state": self.state,
            "first": self.first,
            "duration": self.last - self.first,
            "handshake": self.handshake or None,
        }
        for direction, side in (("up", self.up), ("down", self.down)):
            for name in ("frames", "bytes", "payload", "retransmissions", "out_of_order", "duplicate_acks"):
                found[f"{name}_{direction}"] = getattr(side, name)
            for name in ("zero_windows", "lost_segments"):
                found[f"{name}_{direction}"] = getattr(side, name)
            some = side.rtt_count > 0
            found[f"rtt_samples_{direction}"] = side.rtt_count
            found[f"rtt_min_{direction}"] = side.rtt_min if some else None
            found[f"rtt_mean_{direction}"] = side.rtt_sum // side.rtt_count if some else None
            found[f"rtt_max_{direction}"] = side.rtt_max if some else None
        return found


def flows_of(reader: Reader) -> list[Flow]:
    """The conversations that a reader has seen, in the order of their first frames."""
    found = []
    for entry in reader.dissector.conversations():
        found.append(
            Flow(
                protocol=entry["protocol"],
                client=entry["client"],
                server=entry["server"],
                first=entry["first"],
                last=entry["last"],
                handshake=entry["handshake"],
                up=Side(**entry["up"]),
                down=Side(**entry["down"]),
            )
        )
    return found


def merge(tables: Iterable[list[Flow]]) -> list[Flow]:
    """One table of several files', in the order of the files.

    What begins in the middle continues the conversation of the same ends in the files before; what begins with a
    SYN is another one.
    """
    found: list[Flow] = []
    latest: dict[Any, Flow] = {}
    for table in tables:
        for flow in table:
            key = (flow.protocol, *sorted((flow.client, flow.server)))
            before = latest.get(key)
            if before is None or (flow.protocol == 6 and (flow.up.seen & SYN)):
                found.append(flow)
                latest[key] = flow
                continue
            same = flow.client == before.client and flow.server == before.server
            before.up.add(flow.up if same else flow.down)
            before.down.add(flow.down if same else flow.up)
            before.first = min(before.first, flow.first)
            before.last = max(before.last, flow.last)
            before.handshake = before.handshake or flow.handshake
    return found


def flow_rows(found: Iterable[Flow]) -> Iterator[dict[str, Any]]:
    """The rows of a table of conversations."""
    return (flow.row() for flow in found)


def flows(
    *paths: str | os.PathLike[str], where: str | None = None, faults: list[WireError] | None = None
) -> list[Flow]:
    """The conversations of captures, which are read one after the other; memory depends on their number only.

    Args:
        where: a pcap-filter expression for the frames that count; needs libpcap.
        faults: where it is given, what is wrong with files is added to it instead of raised.

    Raises:
        ConfigError, OSError, WireError: as `netstack.capture.chunks`.
    """
    tables = []
    for path in paths:
        reader = Reader(path, ("flow",), where)
        try:
            while reader.read(65536) is not None:
                pass
            if reader.error is not None:
                if faults is None:
                    raise reader.error
                faults.append(reader.error)
            tables.append(flows_of(reader))
        finally:
            reader.close()
    return merge(tables)


#: The columns of a table of conversations.
FLOW_NAMES = tuple(Flow(6, (b"\0" * 4, 0), (b"\0" * 4, 0), 0, 0, 0, Side(), Side()).row())
