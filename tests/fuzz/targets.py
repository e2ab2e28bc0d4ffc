"""What is fuzzed: each target takes bytes, and raises, or is caught by the address sanitizer, when something is wrong.

A target is made anew by its factory, so that an input does the same whenever it is run. Bytes go to the parsers in
memory that ends where they end.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import uuid
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from netstack.errors import WireError

__all__ = ["TARGETS", "Target"]

ROOT = Path(__file__).resolve().parents[2]
GATEWAY, HOST, GUEST = "192.168.65.1", "192.168.65.2", "192.168.65.3"
MAC, GATEWAY_MAC = bytes((2, 0, 0, 0, 0, 3)), bytes.fromhex("f61636bcf9c6")
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Target:
    """One of them: ``make`` gives what takes the bytes; ``seeds`` are good inputs to begin with."""

    make: Callable[[], Callable[[bytes], None]]
    seeds: Callable[[], Iterator[bytes]]
    longest: int = 2048


def exact(data: bytes) -> memoryview:
    """The bytes in memory of exactly their size (with PYTHONMALLOC=malloc, where the sanitizer sees its end)."""
    return memoryview(array("B", data))


def pieces(data: bytes) -> Iterator[bytes]:
    """The parts of an input that is several: each behind its length, in two bytes; the last may be short."""
    at = 0
    while at + 2 <= len(data):
        n = int.from_bytes(data[at : at + 2], "big") & 0x7FF
        yield data[at + 2 : at + 2 + n]
        at += 2 + n


def joined(*parts: bytes) -> bytes:
    """An input of these parts."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def captured() -> Iterator[bytes]:
    """The Ethernet frames of the captures in pcaps/."""
    from netstack.capture.pcap import read_pcap

    for path in sorted((ROOT / "pcaps").glob("*.pcapng")):
        with contextlib.suppress(WireError):
            for _, frame in read_pcap(path):
                yield frame


# --- headers


def wire() -> Callable[[bytes], None]:
    """Every header's parser; the first byte chooses it."""
    from netstack.wire.arp import ArpPacket
    from netstack.wire.dhcp4 import DhcpMessage
    from netstack.wire.dns import DnsMessage
    from netstack.wire.ethernet import EthernetHeader
    from netstack.wire.icmp4 import ICMPv4Message
    from netstack.wire.icmp6 import ICMPv6Message, nd_options
    from netstack.wire.ipv4 import IPv4Header
    from netstack.wire.ipv6 import IPv6Header
    from netstack.wire.socks import SocksUDPHeader
    from netstack.wire.tcp import TCPHeader
    from netstack.wire.udp import UDPHeader

    parsers: tuple[Callable[[Any], Any], ...] = (
        EthernetHeader.parse,
        ArpPacket.parse,
        IPv4Header.parse,
        IPv6Header.parse,
        ICMPv4Message.parse,
        ICMPv6Message.parse,
        nd_options,
        UDPHeader.parse,
        TCPHeader.parse,
        DhcpMessage.parse,
        DnsMessage.parse,
        SocksUDPHeader.parse,
    )

    def run(data: bytes) -> None:
        if data:
            with contextlib.suppress(WireError):
                repr(parsers[data[0] % len(parsers)](exact(data[1:])))

    return run


def wire_seeds() -> Iterator[bytes]:
    for frame in captured():
        yield b"\0" + frame
        kind, l3 = frame[12:14], frame[14:]
        if kind == b"\x08\x06":
            yield b"\1" + l3
        elif kind == b"\x08\0" and l3:
            yield b"\2" + l3
            l4 = l3[(l3[0] & 15) * 4 :]
            number = {1: 4, 17: 7, 6: 8}.get(int.from_bytes(l3[9:10], "big"))
            if number:
                yield bytes((number,)) + l4
            if number == 7 and len(l4) > 8:
                yield (b"\x09" if l4[1] in (67, 68) else b"\x0a") + l4[8:]
        elif kind == b"\x86\xdd":
            yield b"\3" + l3
            yield b"\5" + l3[40:]
            yield b"\6" + l3[64:]
    yield b"\x0b\0\0\0\1\1\2\3\4\0\x50body"


# --- the interface, and what stands behind it


def frames() -> Callable[[bytes], None]:
    """A stepped gateway that guests send frames to; half of them with metadata, and time that passes."""
    import netstack
    from netstack.gateway import Gateway
    from netstack.link.memory import FrameMeta, MemoryLink
    from netstack.testing.virtual import run_until

    every = ("csum", "tso4", "tso6", "uso")
    ends: list[socket.socket] = []

    def dial(flow: Any) -> socket.socket | None:
        if len(ends) > 64 or flow.peer[1] & 1:
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ends.append(ours)
        return theirs

    state: dict[str, Any] = {}

    def begin() -> None:
        state["link"] = MemoryLink(features=every)
        state["gateway"] = Gateway(netstack.Config(dns=(), proxy="off"), dialer=dial, now_ns=SECOND)
        state["gateway"].add_memory(state["link"])
        state["now"], state["inputs"] = SECOND, 0

    begin()

    def run(data: bytes) -> None:
        if state["inputs"] >= 500:
            state["gateway"].stop()
            while ends:
                ends.pop().close()
            begin()
        state["inputs"] += 1
        link = state["link"]
        for piece in pieces(data):
            if not piece:
                continue
            meta = None
            if piece[0] & 1 and len(piece) > 11:
                csum, gso, size, head, start, offset = struct.unpack_from(">BBHHHH", piece, 1)
                with contextlib.suppress(ValueError):
                    meta = FrameMeta(csum % 3, gso, size, head, start, offset)
                piece = piece[10:]
            with contextlib.suppress(ValueError, WireError):
                link.inject(piece[1:], meta)
            state["now"] = run_until(
                state["gateway"], state["now"], state["now"] + (piece[0] >> 1) * 10_000_000
            )
            for end in ends:
                with contextlib.suppress(OSError):
                    end.send(end.recv(4096) or b"x")
        for frame, meta in link.drain():
            assert len(frame) >= 14
            assert meta.gso_type or len(frame) <= 1514

    return run


def frame_seeds() -> Iterator[bytes]:
    arp = (
        b"\xff" * 6 + MAC + bytes.fromhex("08060001080006040001") + MAC + IPv4Address(GUEST).packed + bytes(6)
    )
    yield joined(b"\0" + arp + IPv4Address(GATEWAY).packed)
    run: list[bytes] = []
    for frame in captured():
        if len(frame) < 2000:
            run.append(b"\2" + GATEWAY_MAC + MAC + readdressed(frame[12:]))
        if len(run) == 4:
            yield joined(*run)
            run = []


def readdressed(packet: bytes) -> bytes:
    """An IPv4 packet as from the guest to the host, its checksums right again."""
    from netstack.wire.checksum import checksum

    if packet[:2] != b"\x08\0" or len(packet) < 22 or packet[2] >> 4 != 4:
        return packet
    ip = bytearray(packet[2:])
    ip[12:20] = IPv4Address(GUEST).packed + IPv4Address(HOST).packed
    head = (ip[0] & 15) * 4
    ip[10:12] = bytes(2)
    ip[10:12] = checksum(bytes(ip[:head])).to_bytes(2, "big")
    at = {6: 16, 17: 6}.get(ip[9])
    total = int.from_bytes(ip[2:4], "big")
    if at is not None and head + at + 2 <= total <= len(ip) and not int.from_bytes(ip[6:8], "big") & 0x3FFF:
        ip[head + at : head + at + 2] = bytes(2)
        pseudo = bytes(ip[12:20]) + bytes((0, ip[9])) + (total - head).to_bytes(2, "big")
        ip[head + at : head + at + 2] = checksum(pseudo + bytes(ip[head:total])).to_bytes(2, "big")
    return packet[:2] + bytes(ip)


# --- TCP


def tcp() -> Callable[[bytes], None]:
    """A connection with a peer who sends whatever segments, near the numbers that matter, in whatever order."""
    from netstack.tcp import Connection, Settings

    variants = (
        Settings(),
        Settings(ecn=True, max_gso=65536, keepalive_idle=10.0),
        Settings(timestamps=False, sack=False, nagle=False, congestion="reno"),
        Settings(
            receive_buffer=2000, receive_buffer_max=4000, send_buffer=3000, send_buffer_max=3000, mss=536
        ),
        Settings(congestion="none", delayed_ack=0.0, burst_packets=10),
    )
    theirs = 0xFFFFF000  # the peer's first sequence number: its next ones wrap

    def run(data: bytes) -> None:
        if len(data) < 2:
            return
        c = Connection(80, 40000, iss=0xFFFFFE00, settings=variants[data[0] % len(variants)])
        now, sent = 1.0, 0xFFFFFE00
        got = theirs
        if data[1] & 1:
            c.open(now)
        else:
            c.listen(confirm=bool(data[1] & 2))
        at = 2
        while at < len(data):
            op, at = data[at], at + 1
            what = op & 15
            if what < 8:  # a segment: flags, how far its numbers are from those that are due, options, length
                flags, seq, ack, size, choice = struct.unpack(">BbbBB", data[at : at + 5].ljust(5, b"\0"))
                at += 5
                scale = (1, 1, 100, 1460)[op >> 4 & 3]
                options = b""
                if flags & 2:
                    options += (b"\2\4\5\xb4", b"\2\4\0\x40", b"", b"\2\4\xff\xff")[choice & 3]
                    options += (b"\1\3\3\7", b"\1\3\3\x0f", b"", b"\4\2\1\1")[choice >> 2 & 3]
                if choice & 0x10:
                    options += b"\1\1\x08\x0a" + struct.pack(">II", int(now * 1000) & 0xFFFFFFFF, choice)
                if choice & 0x20:
                    edge = (sent + ack * scale) & 0xFFFFFFFF
                    options += b"\1\1\5\x0a" + struct.pack(">II", edge, (edge + size) & 0xFFFFFFFF)
                payload = bytes(size * (8 if choice & 0x40 else 1))
                window = 65535 if choice & 0x80 else size
                head = struct.pack(
                    ">HHIIBBHHH", 40000, 80, (got + seq * scale) & 0xFFFFFFFF, (sent + ack * scale) & 0xFFFFFFFF,
                    (20 + len(options)) << 2, flags, window, 0, size,
                )  # fmt: skip
                with contextlib.suppress(WireError):
                    c.receive_segment(exact(head + options + payload), now, ecn=op >> 6)
                if seq == 0:
                    got = (got + len(payload) + (flags & 1) + (flags >> 1 & 1)) & 0xFFFFFFFF
            else:
                argument = data[at] if at < len(data) else 0
                at += 1
                with contextlib.suppress(ValueError, ConnectionError):
                    if what == 8:
                        c.send(bytes(argument * 64), now)
                    elif what == 9:
                        c.read(argument * 64, now)
                    elif what == 10:
                        (c.close, c.abort, c.stop_reading, c.confirm_open)[argument & 3](now)
                    elif what == 11:
                        c.icmp_error(sent, now, hard=bool(argument & 1), mtu=argument * 8)
                    else:
                        due = c.next_timer()
                        now = max(now, due) if due is not None and argument & 1 else now + argument / 8
                        c.handle_timer(now)
            for number, segment in enumerate(c.segments_to_send(now)):
                assert number < 5000
                assert 20 <= len(segment) <= 65536 + 60
                flags = segment[13]
                end = int.from_bytes(segment[4:8], "big") + len(segment) - (segment[12] >> 4) * 4
                end = (end + (flags & 1) + (flags >> 1 & 1)) & 0xFFFFFFFF
                if (end - sent) & 0x80000000 == 0:
                    sent = end
        assert not c.info()["bad_transition"]
        assert c.memory_used < 64 << 20

    return run


def tcp_seeds() -> Iterator[bytes]:
    syn, synack = b"\0\2\0\0\0\xc5", b"\0\x12\0\0\0\xc5"
    data, fin = b"\0\x18\0\0\x40\x90", b"\0\x11\0\0\0\x90"
    for variant in range(5):
        for opening in (b"\2" + syn + b"\x0a\3" + b"\0\x10\0\0\0\x90", b"\1" + synack):
            base = bytes((variant,)) + opening
            yield base + data * 3 + b"\x09\xff" + fin + b"\x0a\0" + b"\0\x10\0\0\0\x90"
            yield base + b"\x08\x40" * 4 + b"\x0c\1" * 6 + b"\0\x10\0\0\0\xb0" + b"\x0a\0\x0c\1"
            yield base + b"\x10\x18\x02\0\x40\x90" + b"\x10\x18\x01\0\x40\x90" + data + b"\x0a\1"


# --- services


def dns() -> Callable[[bytes], None]:
    """Questions to the gateway, and answers of name servers to questions."""
    from netstack.services import dns as service
    from netstack.services.dns_table import DnsTable

    table = DnsTable(
        {
            "gateway.internal": GATEWAY,
            "*.wild.test": "10.0.0.1",
            "alias.test": ("CNAME", "gateway.internal"),
            "mail.test": [("MX", (10, "gateway.internal")), ("TXT", "x" * 200)],
            "many.test": [f"10.1.0.{i}" for i in range(200)],
        },
        zones=("test",),
        reverse=True,
    )

    def run(data: bytes) -> None:
        parts = list(pieces(data))
        if not parts:
            return
        query = exact(parts[0])
        for limit in (512, 1232, 0):
            verdict, reply = service.answer(table, query, limit)
            if verdict == service.ANSWERED:
                assert reply is not None
                assert reply[:2] == bytes(query[:2])
                assert len(reply) <= (max(limit, 512) if limit else 65535)
        service.question(query)
        service.question_hash(query)
        service.failure(query)
        limit = service.client_limit(query)
        if len(parts) > 1:
            response = exact(parts[1])
            service.matches(query, response)
            cut = service.truncate(response, limit)
            assert cut is None or len(cut) <= max(limit, 512)

    return run


def dns_seeds() -> Iterator[bytes]:
    from netstack.wire.dns import DnsMessage

    for name, kind in (
        ("gateway.internal", "A"), ("x.wild.test", "A"), ("alias.test", "A"), ("mail.test", "MX"), ("many.test", "A"),
        ("1.65.168.192.in-addr.arpa", "PTR"), ("nobody.test", "AAAA"), ("mail.test", "ANY"), ("example.com", "TXT"),
    ):  # fmt: skip
        yield joined(DnsMessage.query(name, kind, id=7).build())
    asked: dict[bytes, bytes] = {}
    for frame in captured():
        if (
            frame[12:14] == b"\x08\0"
            and frame[23:24] == b"\x11"
            and b"\0\x35" in (frame[34:36], frame[36:38])
        ):
            message = frame[42:]
            if frame[36:38] == b"\0\x35":
                asked[message[:2]] = message
            elif message[:2] in asked:
                yield joined(asked[message[:2]], message)


def dhcp() -> Callable[[bytes], None]:
    """A DHCP server with few addresses, several messages of several clients, and time."""
    from netstack.services.dhcp4 import DhcpServer, DhcpSettings
    from netstack.wire.dhcp4 import DhcpMessage

    settings = DhcpSettings(
        server=GATEWAY, network="192.168.65.0/24", first=GUEST, last="192.168.65.6", routers=(GATEWAY,),
        dns_servers=(GATEWAY,), domain="internal", lease_seconds=60,
    )  # fmt: skip

    def run(data: bytes) -> None:
        server = DhcpServer(settings)
        now = 0.0
        for number, message in enumerate(pieces(data)):
            reply = server.handle(exact(message), now, MAC)
            now += len(message) % 40
            if reply is not None:
                assert len(DhcpMessage.parse(reply.payload).options) > 0
            assert sum(server.counters.values()) == number + 1
        leases = [lease.address for lease in server.leases()]
        assert len(leases) == len(set(leases)) <= 4

    return run


def dhcp_seeds() -> Iterator[bytes]:
    said: list[bytes] = []
    for frame in captured():
        if frame[12:14] == b"\x08\0" and frame[23:24] == b"\x11" and frame[36:38] == b"\0\x43":
            said.append(frame[42:])
            yield joined(said[-1])
            yield joined(*said[-4:])


# --- who speaks to the service


class _Pool:
    """Four addresses for HyperKit's guests."""

    def __init__(self) -> None:
        self.free = [IPv4Address(f"192.168.65.{n}") for n in range(3, 7)]

    def within(self, address: IPv4Address) -> bool:
        return 3 <= address.packed[3] < 7

    def take(self, mac: bytes, address: IPv4Address | None) -> IPv4Address | None:
        wanted = address or (self.free[0] if self.free else None)
        if wanted not in self.free:
            return None
        self.free.remove(wanted)
        return wanted

    def give_back(self, mac: bytes) -> None:
        pass


def handshakes() -> Callable[[bytes], None]:
    """HyperKit's both ends, SOCKS, a proxy's requests, TLS's hello, and 9P; the first byte chooses."""
    from netstack.control import ninep
    from netstack.link.hyperkit import ClientHandshake, HandshakeError, ServerHandshake, UuidTable
    from netstack.proxy import sniff
    from netstack.services import socks

    def fed(state: Any, data: bytes) -> None:
        at = 0
        while state.need and at + state.need <= len(data):
            need = state.need
            state.receive(data[at : at + need])
            at += need

    def run(data: bytes) -> None:
        kind, rest = data[0] % 6 if data else 0, data[1:]
        if kind == 0:
            table = UuidTable(_Pool(), 1500)
            with contextlib.suppress(HandshakeError):
                fed(ServerHandshake(lambda command: table.assign(command)[2]), rest)
        elif kind == 1:
            client = ClientHandshake(uuid.UUID(int=1))
            client.begin()
            with contextlib.suppress(HandshakeError):
                fed(client, rest)
        elif kind == 2:
            with contextlib.suppress(socks.Refused):
                fed(socks.SocksHandshake(), rest)
        elif kind == 3:
            with contextlib.suppress(socks.Refused):
                socks.http_request(rest[: socks.MAX_HEAD] + b"\r\n\r\n")
        elif kind == 4:
            assert sniff.protocol_of(rest) in (sniff.HTTP, sniff.TLS, sniff.OPAQUE, sniff.MORE)
            known, name = sniff.server_name(rest)
            assert known or name is None
        else:
            session = ninep.Session(ninep.Tree(lambda spec: (spec, lambda: None)))
            buffer = bytearray(rest)
            with contextlib.suppress(ninep.Malformed):
                while (message := ninep.take(buffer, session.limit)) is not None:
                    assert len(session.answer(message)) <= ninep.MAX_MESSAGE
            session.close()

    return run


def handshake_seeds() -> Iterator[bytes]:
    from netstack.link.hyperkit import Command, Init, Vif

    yield b"\0" + Init().build() + Command(uuid.UUID(int=5), None).build()
    yield b"\0" + Init(version=1).build() + Command(uuid.UUID(int=5), IPv4Address(GUEST)).build()
    yield b"\1" + Init().build() + Vif(1500, MAC).build()
    yield b"\2\5\1\0\5\1\0\1\1\2\3\4\0\x50"
    yield b"\2\5\1\0\5\1\0\3\x04host\0\x50"
    yield b"\2\4\1\0\x50\0\0\0\1user\0name\0"
    yield b"\3CONNECT host:80 HTTP/1.1\r\nHost: host:80"
    yield b"\3GET http://host/path HTTP/1.1\r\nHost: host\r\nAccept: */*"
    name = b"\0\0\0\x0e\0\x0c\0\0\x09host.test"
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(name).to_bytes(2, "big") + name
    hello = b"\1" + len(body).to_bytes(3, "big") + body
    yield b"\4\x16\3\1" + len(hello).to_bytes(2, "big") + hello
    yield b"\4GET / HTTP/1.1\r\n"

    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("<IBH", 7 + len(body), kind, 1) + body

    yield b"\5" + b"".join(
        (
            message(100, b"\0\x80\0\0\6\x009P2000"),
            message(104, b"\1\0\0\0\xff\xff\xff\xff\4\0user\0\0"),
            message(110, b"\1\0\0\0\2\0\0\0\1\0\3\0new"),
            message(114, b"\1\0\0\0\3\0one\xff\1\0\x80\0"),
            message(124, b"\1\0\0\0"),
            message(120, b"\1\0\0\0"),
        )
    )


# --- links


def links() -> Callable[[bytes], None]:
    """What guests send over streams and datagrams, and what joins and cuts frames; the first byte chooses."""
    from netstack.link.coalesce import coalesce
    from netstack.link.datagram import DatagramLink
    from netstack.link.framing import segment
    from netstack.link.stream import StreamLink

    streams = ("hyperkit", "qemu", "offload")
    messages = (("connected", socket.SOCK_DGRAM), ("packets", socket.SOCK_SEQPACKET))

    def received(link: Any) -> None:
        with contextlib.suppress(ConnectionError):
            while (got := link.recv()) is not None:
                frame, meta = got
                if any(meta):
                    segment([frame], meta)
        link.close()

    def run(data: bytes) -> None:
        kind, rest = data[0] % 7 if data else 0, data[1:]
        if kind < 3:
            theirs, ours = socket.socketpair()
            with theirs:
                theirs.sendall(rest)
                received(StreamLink(ours.detach(), streams[kind], 1500))
        elif kind < 5:
            name, how = messages[kind - 3]
            theirs, ours = socket.socketpair(socket.AF_UNIX, how)
            with theirs:
                theirs.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    for message in pieces(rest):
                        theirs.send(message)
                received(DatagramLink(ours.detach(), name, 1500))
        elif kind == 5:
            given = [piece for piece in pieces(rest) if len(piece) <= 1514]
            made = coalesce(given, 1500)
            assert sum(len(segment([f], m)[2]) if any(m) else 1 for f, m in made) == len(given)
        elif len(rest) > 10:
            meta = struct.unpack_from(">BBHHHH", rest)
            segment([bytes(exact(rest[10:]))], (meta[0] % 3, *meta[1:]), rest[0] >> 3, 65536)

    return run


def link_seeds() -> Iterator[bytes]:
    run: list[bytes] = []
    for frame in captured():
        if len(frame) > 1514:
            continue
        run.append(frame)
        if len(run) == 6:
            yield b"\0" + b"".join(struct.pack("<H", len(f)) + f for f in run)
            yield b"\1" + b"".join(struct.pack(">I", len(f)) + f for f in run)
            yield b"\2" + b"".join(struct.pack(">I", len(f)) + bytes(12) + f for f in run)
            for kind in (3, 4, 5):
                yield bytes((kind,)) + joined(*run)
            yield b"\6" + struct.pack(">BBHHHH", 2, 1, 20, 54, 34, 16) + run[0]
            run = []


# --- captures


def pcap() -> Callable[[bytes], None]:
    """Captures as columns, conversations and frames, whole and in two parts."""
    import numpy as np

    from netstack.capture.dissect import Dissector
    from netstack.capture.pcap import read_pcap
    from netstack.capture.table import COLUMNS

    names = tuple(name for name in COLUMNS if name != "dns_name")
    want = 0
    for column in COLUMNS.values():
        want |= column.want
    rows = 64
    arrays = [np.empty((rows, *COLUMNS[name].shape), dtype=COLUMNS[name].dtype) for name in names]

    def run(data: bytes) -> None:
        whole = exact(data)
        dissector = Dissector(names, want, dns_names=True)
        at = 0
        for end in (len(data) // 2, len(data)):
            part = exact(bytes(whole[at:end]))
            inside = 0
            while True:
                taken, n = dissector.feed(part, inside, arrays, 0, rows)
                inside += taken
                dissector.take_names()
                if n < rows or dissector.fault:
                    break
            at += inside
        if not dissector.fault:
            dissector.end(len(data) - at)
        dissector.conversations()
        with contextlib.suppress(WireError):
            for _ in read_pcap(io.BytesIO(data), link_type=None):
                pass

    return run


def pcap_seeds() -> Iterator[bytes]:
    for path in sorted((ROOT / "pcaps").glob("*.pcapng")):
        yield path.read_bytes()[:4000]
    for frame in list(captured())[::40]:
        for order in "<>":
            head = struct.pack(order + "IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
            yield head + struct.pack(order + "IIII", 1, 2, len(frame), len(frame)) + frame


def replay() -> Callable[[bytes], None]:
    """Captures replayed through the whole stack, against peers that are scripted."""
    from netstack.errors import NetstackError
    from netstack.replay import replay as replayed

    place = f"/dev/shm/netstack-fuzz-{os.getpid()}"

    def run(data: bytes) -> None:
        Path(place).write_bytes(data)
        try:
            with contextlib.suppress(NetstackError):
                replayed(place)
        finally:
            os.unlink(place)

    return run


TARGETS: dict[str, Target] = {
    "wire": Target(wire, wire_seeds, 600),
    "frames": Target(frames, frame_seeds, 4096),
    "tcp": Target(tcp, tcp_seeds, 300),
    "dns": Target(dns, dns_seeds, 1200),
    "dhcp": Target(dhcp, dhcp_seeds, 2400),
    "handshakes": Target(handshakes, handshake_seeds, 1000),
    "links": Target(links, link_seeds, 4096),
    "pcap": Target(pcap, pcap_seeds, 4096),
    "replay": Target(replay, pcap_seeds, 4096),
}
