"""What tshark says of a capture, field by field, in the terms of our columns."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from netstack.capture.table import Analysis, Check, Columns, Layer

PREFERENCES = (
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "ip.check_checksum:TRUE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
)
FIELDS = [
    "frame.number",
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "frame.protocols",
    "eth.src",
    "eth.dst",
    "eth.type",
    "vlan.id",
    "ieee8021ah.etype",
    "vlan.etype",
    "ieee8021ad.id",
    "sll.src.eth",
    "sll.etype",
    "arp.opcode",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.dsfield",
    "ip.len",
    "ip.id",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.frag_offset",
    "ip.ttl",
    "ip.checksum.status",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "ipv6.plen",
    "ipv6.tclass",
    "ipv6.fraghdr.ident",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq",
    "tcp.ack",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.urgent_pointer",
    "tcp.len",
    "tcp.hdr_len",
    "tcp.checksum.status",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "tcp.options.sack_perm",
    "tcp.options.sack.count",
    "tcp.options.sack_le",
    "tcp.options.sack_re",
    "tcp.options.timestamp.tsval",
    "tcp.options.timestamp.tsecr",
    "tcp.stream",
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.zero_window",
    "tcp.analysis.zero_window_probe",
    "tcp.analysis.zero_window_probe_ack",
    "tcp.analysis.window_full",
    "tcp.analysis.window_update",
    "tcp.analysis.keep_alive",
    "tcp.analysis.keep_alive_ack",
    "tcp.analysis.reused_ports",
    "tcp.analysis.ack_rtt",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "udp.checksum.status",
    "udp.stream",
    "icmp.type",
    "icmp.code",
    "icmp.checksum.status",
    "icmpv6.type",
    "icmpv6.code",
    "icmpv6.checksum.status",
    "dns.id",
    "dns.flags",
    "dns.flags.rcode",
    "dns.qry.name",
    "dns.qry.type",
    "dhcp.option.dhcp",
    "dhcpv6.msgtype",
]

Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    """One dict of texts a frame; "" where the frame has no such field."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=;"]
    for preference in PREFERENCES:
        command += ["-o", preference]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def first(text: str) -> str:
    return text.split(";")[0]


def number(text: str) -> int | None:
    text = first(text)
    return {"True": 1, "False": 0}.get(text, int(text, 0) if text[:1].isdigit() else None)


def nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


def transport(row: Row) -> str:
    """The protocol right above the outermost IP header, "" where tshark shows none that we know."""
    layers = row["frame.protocols"].split(":")
    for layer in layers:
        if layer in ("tcp", "udp", "icmp", "icmpv6"):
            return layer
    return ""


VERDICTS = {
    "0": (Check.BAD, Check.PARTIAL),
    "1": (Check.GOOD,),
    "2": (Check.NONE,),
    "3": (Check.ABSENT, Check.NONE),
}
SAID = {
    Analysis.RETRANSMISSION: "retransmission",
    Analysis.FAST_RETRANSMISSION: "fast_retransmission",
    Analysis.SPURIOUS_RETRANSMISSION: "spurious_retransmission",
    Analysis.OUT_OF_ORDER: "out_of_order",
    Analysis.LOST_SEGMENT: "lost_segment",
    Analysis.ACKED_UNSEEN: "ack_lost_segment",
    Analysis.DUPLICATE_ACK: "duplicate_ack",
    Analysis.ZERO_WINDOW: "zero_window",
    Analysis.ZERO_WINDOW_PROBE: "zero_window_probe",
    Analysis.ZERO_WINDOW_PROBE_ACK: "zero_window_probe_ack",
    Analysis.WINDOW_FULL: "window_full",
    Analysis.WINDOW_UPDATE: "window_update",
    Analysis.KEEP_ALIVE: "keep_alive",
    Analysis.KEEP_ALIVE_ACK: "keep_alive_ack",
    Analysis.REUSED_PORTS: "reused_ports",
}
ETHER = {"eth_src": ("eth.src", "sll.src.eth"), "eth_dst": ("eth.dst",)}
# Our column: tshark's fields, of which the first that is there counts.
NUMBERS = {
    "length": ("frame.len",),
    "captured": ("frame.cap_len",),
    "arp_op": ("arp.opcode",),
    "ip_tos": ("ip.dsfield", "ipv6.tclass"),
    "ip_length": ("ip.len", "ipv6.plen"),
    "ttl": ("ip.ttl", "ipv6.hlim"),
    "ip_id": ("ip.id", "ipv6.fraghdr.ident"),
    "fragment_offset": ("ip.frag_offset", "ipv6.fraghdr.offset"),
    "icmp_type": ("icmp.type", "icmpv6.type"),
    "icmp_code": ("icmp.code", "icmpv6.code"),
    "dhcp_type": ("dhcp.option.dhcp", "dhcpv6.msgtype"),
}
TCP_NUMBERS = {
    "src_port": "tcp.srcport",
    "dst_port": "tcp.dstport",
    "tcp_seq": "tcp.seq",
    "tcp_ack": "tcp.ack",
    "tcp_flags": "tcp.flags",
    "tcp_window": "tcp.window_size_value",
    "tcp_urgent": "tcp.urgent_pointer",
    "tcp_header": "tcp.hdr_len",
    "payload": "tcp.len",
    "tcp_mss": "tcp.options.mss_val",
    "tcp_wscale": "tcp.options.wscale.shift",
    "tcp_sack_count": "tcp.options.sack.count",
    "tcp_tsval": "tcp.options.timestamp.tsval",
    "tcp_tsecr": "tcp.options.timestamp.tsecr",
}
UDP_NUMBERS = {"src_port": "udp.srcport", "dst_port": "udp.dstport", "udp_length": "udp.length"}
DNS_NUMBERS = {"dns_id": "dns.id", "dns_flags": "dns.flags", "dns_type": "dns.qry.type"}


def there(row: Row, fields: tuple[str, ...]) -> str:
    return next((first(row[field]) for field in fields if row[field]), "")


def expected(row: Row) -> dict[str, Any]:
    """What our columns should hold for a frame, None for what the frame does not have."""
    l4 = transport(row)
    found: dict[str, Any] = {"time": nanoseconds(row["frame.time_epoch"])}
    for name, fields in ETHER.items():
        found[name] = there(row, fields)
    for name, fields in NUMBERS.items():
        found[name] = number(there(row, fields))
    if l4 not in ("icmp", "icmpv6"):
        found["icmp_type"] = found["icmp_code"] = None
    tags = [number(tag) for tag in f"{row['ieee8021ad.id']};{row['vlan.id']}".split(";") if tag] + [
        None,
        None,
    ]
    found["vlan"], found["vlan_inner"] = tags[:2]
    if found["fragment_offset"] is not None:
        found["fragment_offset"] *= 8  # as on the wire
    types = [
        row["eth.type"] or row["sll.etype"],
        *row["ieee8021ah.etype"].split(";"),
        *row["vlan.etype"].split(";"),
    ]
    found["ethertype"] = next((number(kind) for kind in reversed(types) if kind), None)
    ip = found["ip_tos"] is not None
    found["ip_version"] = None if not ip else 4 if row["ip.dsfield"] else 6
    for side in ("src", "dst"):
        found[f"ip_{side}"] = there(row, (f"ip.{side}", f"ipv6.{side}", f"arp.{side}.proto_ipv4"))
    found["protocol"] = number(row["ip.proto"])
    for name, field in TCP_NUMBERS.items():
        found[name] = number(row[field]) if l4 == "tcp" else None
    if l4 == "udp":
        found |= {name: number(row[field]) for name, field in UDP_NUMBERS.items()}
    else:
        found["udp_length"] = None
    dns = row["dns.id"] if l4 in ("tcp", "udp") else ""
    for name, field in DNS_NUMBERS.items():
        found[name] = number(row[field]) if dns else None
    found["dns_name"] = first(row["dns.qry.name"]) if dns else ""
    found["dns_rcode"] = number(row["dns.flags.rcode"]) if dns and found["dns_flags"] & 0x8000 else None
    edges = list(
        zip(row["tcp.options.sack_le"].split(";"), row["tcp.options.sack_re"].split(";"), strict=True)
    )
    found["tcp_sack"] = [(int(a), int(b)) for a, b in edges if a] if l4 == "tcp" else []
    found["sack_permitted"] = l4 == "tcp" and row["tcp.options.sack_perm"] != ""
    found["ip_checksum"] = VERDICTS[first(row["ip.checksum.status"]) or "2"]
    status = first(row[f"{l4}.checksum.status"]) if l4 else ""
    found["l4_checksum"] = VERDICTS[status or "2"]
    found["tcp_analysis"] = (
        {bit.name for bit, name in SAID.items() if row[f"tcp.analysis.{name}"]} if l4 == "tcp" else set()
    )
    rtt = first(row["tcp.analysis.ack_rtt"]) if l4 == "tcp" else ""
    found["rtt"] = nanoseconds(rtt) if rtt else None
    found["stream"] = (l4, first(row[f"{l4}.stream"])) if l4 in ("tcp", "udp") else None
    return found


def ours(table: Columns, i: int, texts: dict[str, Any]) -> dict[str, Any]:
    """The same of row i; texts are the columns that are made into texts, for all rows."""
    found: dict[str, Any] = {}
    for name in [
        "time",
        "ethertype",
        "vlan",
        "vlan_inner",
        "ip_version",
        "protocol",
        "dns_rcode",
        "rtt",
        *NUMBERS,
        *TCP_NUMBERS,
        "udp_length",
        *DNS_NUMBERS,
    ]:
        found[name] = int(table[name][i]) if texts["valid"][name][i] else None
    for side in ("src", "dst"):
        found[f"eth_{side}"] = texts[f"eth_{side}"][i]
        found[f"ip_{side}"] = texts[f"ip_{side}"][i]
    layers = int(table["layers"][i])
    if layers & Layer.IPV6:
        found["protocol"] = None  # tshark has a field for each extension header
    if not layers & Layer.TCP:
        found["payload"] = None  # tshark knows the length of TCP's data only
    found["dns_name"] = table["dns_name"][i] or ""
    if not int(table["dns_flags"][i]) & 0x8000:
        found["dns_rcode"] = None
    flat = [int(edge) for edge in table["tcp_sack"][i]][: 2 * int(table["tcp_sack_count"][i])]
    found["tcp_sack"] = list(zip(flat[::2], flat[1::2], strict=True))
    found["sack_permitted"] = bool(layers & Layer.SACK_PERMITTED)
    found["ip_checksum"] = Check(int(table["ip_checksum"][i]))
    found["l4_checksum"] = Check(int(table["l4_checksum"][i]))
    found["tcp_analysis"] = {bit.name for bit in Analysis if int(table["tcp_analysis"][i]) & bit}
    found["stream"] = int(table["flow"][i]) if layers & Layer.PORTS else None
    return found


def differences(table: Columns, said: list[Row]) -> list[str]:
    """One line for each field of each frame that differs."""
    texts: dict[str, Any] = {"valid": {name: table.valid(name) for name in table.names}}
    for side in ("src", "dst"):
        texts[f"eth_{side}"], texts[f"ip_{side}"] = table.macs(side), table.addresses(side)
    streams: dict[Any, Any] = {}
    flows: dict[Any, Any] = {}
    wrong = []
    for i, row in enumerate(said):
        theirs, mine = expected(row), ours(table, i, texts)
        for name, value in theirs.items():
            have = mine[name]
            if name == "stream" and value is not None and have is not None:
                same = streams.setdefault(value, have) == have and flows.setdefault(have, value) == value
            elif name in ("ip_checksum", "l4_checksum"):
                same = have in value
            elif name in ("ip_src", "ip_dst") and value:
                same = bool(have) and (IPv6Address if ":" in value else IPv4Address)(value).compressed == have
            else:
                same = have == value
            if not same:
                wrong.append(
                    f"frame {i + 1} {name}: tshark {value!r}, columns {have!r} ({row['frame.protocols']})"
                )
    return wrong
