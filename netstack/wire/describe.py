"""One line of text for any Ethernet frame, in the manner of ``tcpdump -n``."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from netstack.errors import WireError
from netstack.wire import arp, icmp4, icmp6
from netstack.wire.arp import ArpPacket
from netstack.wire.dhcp4 import MESSAGE_TYPES, DhcpMessage
from netstack.wire.dns import RCODES, TYPE_NAMES, DnsMessage, DnsRecord
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.icmp import ICMPMessage
from netstack.wire.icmp4 import ICMPv4Message
from netstack.wire.icmp6 import ICMPv6Message, nd_options
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.ipv6 import IPv6Header
from netstack.wire.tcp import TCPHeader
from netstack.wire.udp import UDPHeader

Address = IPv4Address | IPv6Address

TRUNCATED = -1  # the wire_code of that name

PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    50: "ESP",
    51: "AH",
    58: "ICMP6",
    59: "none",
    132: "SCTP",
}
TCP_FLAGS = "FSRP.UEW"  # from the lowest bit

UNREACHABLE4 = {
    0: "net",
    1: "host",
    2: "protocol",
    3: "port",
    4: "fragmentation needed",
    9: "net prohibited",
    10: "host prohibited",
    13: "admin prohibited",
}
UNREACHABLE6 = {
    0: "no route",
    1: "admin prohibited",
    2: "beyond scope",
    3: "address",
    4: "port",
    5: "source policy",
    6: "reject route",
}


def describe(frame: bytes | bytearray | memoryview) -> str:
    """One line that says what an Ethernet frame is.

    Whatever cannot be read is said in brackets, so no contents make this raise. A frame that was cut short by
    a snapshot length is described as far as it goes.
    """
    data = bytes(frame)
    try:
        ethernet = EthernetHeader.parse(data)
    except WireError as error:
        return f"[Ethernet: {error}, {len(data)} bytes]"
    tags = f"vlan {ethernet.vlan_tci & 0xFFF}, p {ethernet.vlan_tci >> 13}, " if ethernet.vlan_tags else ""
    return tags + _payload(ethernet, data[ethernet.header_length :])


def describe_packet(packet: bytes | bytearray | memoryview) -> str:
    """The same for an IPv4 or IPv6 packet without an Ethernet header."""
    data = bytes(packet)
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _ipv4(data)
    if version == 6:
        return _ipv6(data)
    return f"[IP: version {version}, {len(data)} bytes]"


def _payload(ethernet: EthernetHeader, data: bytes) -> str:
    if ethernet.ethertype == 0x0800:
        return _ipv4(data)
    if ethernet.ethertype == 0x86DD:
        return _ipv6(data)
    if ethernet.ethertype == 0x0806:
        return _arp(data)
    kind = "802.3, length" if ethernet.ethertype < 0x600 else "ethertype"
    return f"{ethernet.src} > {ethernet.dst}, {kind} {ethernet.ethertype:#06x}, length {len(data)}"


def _arp(data: bytes) -> str:
    try:
        packet = ArpPacket.parse(data)
    except WireError as error:
        return f"[ARP: {error}, {len(data)} bytes]"
    if packet.op == arp.REQUEST:
        return f"ARP, Request who-has {packet.tpa} tell {packet.spa}, length {len(data)}"
    if packet.op == arp.REPLY:
        return f"ARP, Reply {packet.spa} is-at {packet.sha}, length {len(data)}"
    return f"ARP, operation {packet.op}, {packet.spa} > {packet.tpa}, length {len(data)}"


def _ipv4(data: bytes) -> str:
    cut = ""
    try:
        header = IPv4Header.parse(data)
    except WireError as error:
        if error.code != TRUNCATED or len(data) < 20:
            return f"[IP: {error}, {len(data)} bytes]"
        claimed = int.from_bytes(data[2:4], "big")
        cut = f" [cut at {len(data)} of {claimed} bytes]"
        data = data[:2] + len(data).to_bytes(2, "big") + data[4:]
        try:
            header = IPv4Header.parse(data)
        except WireError as deeper:
            return f"[IP: {deeper}, {len(data)} bytes]"
    content = data[header.header_length : header.total_length]
    if header.frag_offset:
        text = _fragment(
            header.src, header.dst, header.protocol, header.ident, header.frag_offset, len(content)
        )
    else:
        text = _upper(header.protocol, header.src, header.dst, content)
        if header.more_fragments:
            text += f" (first fragment, id {header.ident})"
    return f"IP {text}{cut}"


def _ipv6(data: bytes) -> str:
    cut = ""
    try:
        header = IPv6Header.parse(data)
    except WireError as error:
        present = len(data) - 40
        claimed = int.from_bytes(data[4:6], "big")
        if error.code != TRUNCATED or present < 0 or claimed <= present:
            return f"[IP6: {error}, {len(data)} bytes]"
        cut = f" [cut at {len(data)} of {claimed + 40} bytes]"
        data = data[:4] + present.to_bytes(2, "big") + data[6:]
        try:
            header = IPv6Header.parse(data)
        except WireError as deeper:
            return f"[IP6: {deeper}, {len(data)} bytes]"
    content = data[header.l4_offset : header.l4_offset + header.l4_length]
    if header.frag_offset:
        following = data[header.l4_offset - 8]
        text = _fragment(
            header.src, header.dst, following, header.frag_ident, header.frag_offset, len(content)
        )
    else:
        text = _upper(header.protocol, header.src, header.dst, content)
        if header.more_fragments:
            text += f" (first fragment, id {header.frag_ident})"
    return f"IP6 {text}{cut}"


def _protocol(number: int) -> str:
    return PROTOCOLS.get(number, f"protocol {number}")


def _fragment(src: Address, dst: Address, protocol: int, ident: int, offset: int, length: int) -> str:
    return f"{src} > {dst}: {_protocol(protocol)} fragment, id {ident}, offset {offset}, length {length}"


def _upper(protocol: int, src: Address, dst: Address, content: bytes) -> str:
    read = UPPER.get((src.version, protocol))
    if read is None:
        return f"{src} > {dst}: {_protocol(protocol)}, length {len(content)}"
    try:
        return read(src, dst, content)
    except WireError as error:
        return f"{src} > {dst}: [{_protocol(protocol)}: {error}, {len(content)} bytes]"


def _tcp(src: Address, dst: Address, content: bytes) -> str:
    header = TCPHeader.parse(content)
    flags = "".join(letter for bit, letter in enumerate(TCP_FLAGS) if header.flags >> bit & 1) or "none"
    length = len(content) - header.data_offset
    text = f"{src}.{header.sport} > {dst}.{header.dport}: Flags [{flags}]"
    text += f", seq {header.seq}:{(header.seq + length) & 0xFFFFFFFF}" if length else f", seq {header.seq}"
    if "." in flags:
        text += f", ack {header.ack}"
    text += f", win {header.window}"
    if "U" in flags:
        text += f", urg {header.urgent}"
    options = []
    if header.mss is not None:
        options.append(f"mss {header.mss}")
    if header.sack_permitted:
        options.append("sackOK")
    if header.timestamps is not None:
        options.append("TS val {} ecr {}".format(*header.timestamps))
    if header.wscale is not None:
        options.append(f"wscale {header.wscale}")
    if header.sack:
        blocks = "".join(f"{{{left}:{right}}}" for left, right in header.sack)
        options.append(f"sack {len(header.sack)} {blocks}")
    if options:
        text += f", options [{','.join(options)}]"
    return f"{text}, length {length}"


def _udp(src: Address, dst: Address, content: bytes) -> str:
    try:
        header = UDPHeader.parse(content)
    except WireError as error:
        # The first of several fragments, or a frame cut short, holds less than the length says.
        if error.code != TRUNCATED or len(content) < 8:
            raise
        claimed = int.from_bytes(content[4:6], "big")
        header = UDPHeader.parse(content[:4] + b"\x00\x08" + content[6:8])
        return f"{src}.{header.sport} > {dst}.{header.dport}: UDP, length {claimed - 8}"
    ends = f"{src}.{header.sport} > {dst}.{header.dport}"
    if 53 in (header.sport, header.dport):
        return f"{ends}: {_dns(content[8 : header.length])}"
    if {header.sport, header.dport} <= {67, 68}:
        return f"{ends}: {_dhcp(content[8 : header.length])}"
    return f"{ends}: UDP, length {header.length - 8}"


def _dns(data: bytes) -> str:
    """A query as ``7+ A? example.com (29)``, a response with its numbers of records and the first answers."""
    try:
        message = DnsMessage.parse(data)
    except WireError as error:
        return f"[DNS: {error}, {len(data)} bytes]"
    asked = ", ".join(f"{_rr_type(question.type)}? {question.name}" for question in message.questions[:2])
    if not message.response:
        text = f"{message.id}{'+' if message.recursion_desired else ''} {asked or 'no question'}"
    else:
        state = "" if message.rcode == 0 else f" {RCODES.get(message.rcode, f'rcode {message.rcode}')}"
        state += " truncated" if message.truncated else ""
        counts = f"{len(message.answers)}/{len(message.authority)}/{len(message.additional)}"
        text = f"{message.id}{state} q: {asked or 'no question'} {counts}"
        if message.answers:
            text += " " + ", ".join(_answer(record) for record in message.answers[:4])
    return f"{_printable(text)} ({len(data)})"


def _dhcp(data: bytes) -> str:
    """The kind of message, the client's Ethernet address, and the address that it is about."""
    try:
        message = DhcpMessage.parse(data)
        kind = MESSAGE_TYPES.get(message.message_type or 0, "without a type")
        address = message.yiaddr if int(message.yiaddr) else message.requested_address or message.ciaddr
    except WireError as error:
        return f"[DHCP: {error}, {len(data)} bytes]"
    about = f" {address}" if int(address) else ""
    direction = "from" if message.op == 1 else "to"
    return f"DHCP {kind}{about} {direction} {message.chaddr.hex(':') or 'no address'}, length {len(data)}"


def _rr_type(number: int) -> str:
    return TYPE_NAMES.get(number, f"type{number}")


def _answer(record: DnsRecord) -> str:
    kind = _rr_type(record.type)
    if kind in ("A", "AAAA", "CNAME", "NS", "PTR"):
        try:
            return f"{kind} {record.value}"
        except WireError as error:
            return f"{kind} [{error}]"
    return kind


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _quoted(body: bytes) -> str:
    """The destination that an ICMP error is about: address, and protocol and port where they are quoted."""
    version = body[0] >> 4 if body else 0
    if version == 4 and len(body) >= 20:
        target, protocol, start = str(IPv4Address(body[16:20])), body[9], (body[0] & 0x0F) * 4
    elif version == 6 and len(body) >= 40:
        target, protocol, start = str(IPv6Address(body[24:40])), body[6], 40
    else:
        return "[no quotation]"
    name = _protocol(protocol)
    if protocol in (6, 17) and start >= 20 and len(body) >= start + 4:
        return f"{target} {name} port {int.from_bytes(body[start + 2 : start + 4], 'big')}"
    return f"{target} {name}"


def _echo(message: ICMPMessage, *, reply: bool) -> str:
    return f"echo {'reply' if reply else 'request'}, id {message.identifier}, seq {message.sequence}"


def _unreachable(message: ICMPMessage, reasons: dict[int, str]) -> str:
    return f"{_quoted(message.body)} unreachable ({reasons.get(message.code, f'code {message.code}')})"


def _time_exceeded(message: ICMPMessage) -> str:
    where = "in reassembly" if message.code == 1 else "in transit"
    return f"time exceeded {where} for {_quoted(message.body)}"


def _icmp4(src: Address, dst: Address, content: bytes) -> str:
    message = ICMPv4Message.parse(content)
    if message.type in (icmp4.ECHO, icmp4.ECHO_REPLY):
        what = _echo(message, reply=message.type == icmp4.ECHO_REPLY)
    elif message.type == icmp4.UNREACHABLE:
        what = _unreachable(message, UNREACHABLE4)
        if message.code == 4:
            what += f", mtu {message.mtu}"
    elif message.type == icmp4.TIME_EXCEEDED:
        what = _time_exceeded(message)
    elif message.type == icmp4.REDIRECT:
        what = f"redirect {_quoted(message.body)} to {IPv4Address(message.rest)}"
    elif message.type == icmp4.PARAMETER:
        what = f"parameter problem at byte {message.rest >> 24} for {_quoted(message.body)}"
    else:
        what = f"type {message.type}, code {message.code}"
    return f"{src} > {dst}: ICMP {what}, length {len(content)}"


def _icmp6(src: Address, dst: Address, content: bytes) -> str:
    message = ICMPv6Message.parse(content)
    if message.type in (icmp6.ECHO, icmp6.ECHO_REPLY):
        what = _echo(message, reply=message.type == icmp6.ECHO_REPLY)
    elif message.type == icmp6.UNREACHABLE:
        what = _unreachable(message, UNREACHABLE6)
    elif message.type == icmp6.TOO_BIG:
        what = f"packet too big for {_quoted(message.body)}, mtu {message.mtu}"
    elif message.type == icmp6.TIME_EXCEEDED:
        what = _time_exceeded(message)
    elif message.type == icmp6.PARAMETER:
        what = f"parameter problem at byte {message.rest} for {_quoted(message.body)}"
    elif message.type == icmp6.ROUTER_SOLICIT:
        what = f"router solicitation{_link_address(message.body)}"
    elif message.type == icmp6.ROUTER_ADVERT:
        what = f"router advertisement, lifetime {message.rest & 0xFFFF} s{_link_address(message.body[8:])}"
    elif message.type in (icmp6.NEIGHBOR_SOLICIT, icmp6.NEIGHBOR_ADVERT) and len(message.body) >= 16:
        target = IPv6Address(message.body[:16])
        verb = "solicitation, who has" if message.type == icmp6.NEIGHBOR_SOLICIT else "advertisement, tgt is"
        what = f"neighbor {verb} {target}{_link_address(message.body[16:])}"
    else:
        what = f"type {message.type}, code {message.code}"
    return f"{src} > {dst}: ICMP6, {what}, length {len(content)}"


def _link_address(options: bytes) -> str:
    """The source or target link-layer address of a neighbour-discovery option list, as a suffix."""
    try:
        for kind, value in nd_options(options):
            if kind in (1, 2) and len(value) == 6:
                return f", link address {value.hex(':')}"
    except WireError as error:
        return f" [options: {error}]"
    return ""


UPPER: dict[tuple[int, int], Callable[[Address, Address, bytes], str]] = {
    (4, 6): _tcp,
    (6, 6): _tcp,
    (4, 17): _udp,
    (6, 17): _udp,
    (4, 1): _icmp4,
    (6, 58): _icmp6,
}
