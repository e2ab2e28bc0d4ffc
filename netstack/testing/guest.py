"""A guest in memory: a small host that speaks to a gateway over a :class:`netstack.link.memory.MemoryLink`.

It needs no privilege and no device, is ready in a few milliseconds, and runs in real time against a gateway
that has been started (before or after the guest was made)::

    gw = Gateway(Config())
    guest = memory_guest(gw)
    with gw, guest:
        guest.dhcp()
        with guest.connect(guest.resolve("host.internal"), 8000) as stream:
            stream.sendall(b"hello")

One thread, started with the first call that needs an answer, takes what the gateway sends and what falls due.
Every call may be made from any thread. IPv4 only; large datagrams travel as fragments both ways.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import random
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from netstack.errors import NetstackError, WireError
from netstack.link.memory import MemoryLink
from netstack.wire import arp, dhcp4, icmp4
from netstack.wire.arp import ArpPacket
from netstack.wire.dhcp4 import DhcpMessage
from netstack.wire.dns import RCODES, DnsMessage, DnsQuestion
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.icmp4 import ICMPv4Message
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TCPHeader
from netstack.wire.udp import UDPHeader

from .guest_sockets import IP_HEADER, TCP, UDP, TcpStream, UdpEndpoint

if TYPE_CHECKING:
    from netstack.gateway import Gateway
    from netstack.link.impair import Impairment

__all__ = ["Guest"]

T = TypeVar("T")

ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0800, 0x0806
ICMP = 1
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
ZERO = "0.0.0.0"
EPHEMERAL = range(32768, 61000)
NS = 1_000_000_000
UNRESOLVED = 64  # datagrams that wait for one neighbour's MAC
INCOMPLETE = 64  # datagrams of which fragments are missing
RETRY_SECONDS = 1.0  # between two queries of one question (ARP, DHCP, DNS, echo)

# How an ICMP "unreachable" code is known to programs (RFC 1122 section 3.2.2.1).
ERRNO_OF_CODE = {0: errno.ENETUNREACH, 1: errno.EHOSTUNREACH, 2: errno.ENOPROTOOPT, 3: errno.ECONNREFUSED}


class Guest:
    """One guest of a gateway. See the module for an example.

    Args:
        gateway: gets the guest's link; it need not be started yet.
        mtu: IP bytes, by default the network's.
        mac: the guest's address.
        impair: makes the link a bad one, both ways; or (from the guest, to the guest), with None for a good way.
        timeout: seconds that any one call waits for its answer.

    Attributes:
        address: the guest's IPv4 address, "" until :meth:`dhcp` or :meth:`configure`.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        mtu: int | None = None,
        mac: str = "02:00:00:00:00:03",
        impair: Impairment | tuple[Impairment | None, Impairment | None] | None = None,
        timeout: float = 20.0,
    ) -> None:
        self.mtu = mtu or gateway.config.mtu
        self.mac = mac
        self.timeout = timeout
        self.address = ""
        self.prefix = 0
        self.router = ""
        self.dns = ""
        self.link = MemoryLink(mtu=self.mtu, queue=4096, impair=impair, real_time=True)
        self.port = gateway.add_memory(self.link)
        self._changed = threading.Condition()
        self._neighbors: dict[str, str] = {}
        self._udp: dict[int, UdpEndpoint] = {}
        self._tcp: dict[tuple[int, str, int], TcpStream] = {}
        self._pings: dict[tuple[int, int], tuple[float, float | OSError | None]] = {}
        self._unresolved: dict[str, deque[tuple[str, int, bytes, int, int]]] = {}
        self._fragments: dict[tuple[str, int, int], dict[int, tuple[bytes, bool]]] = {}
        self._random = random.Random()
        self._ident = self._random.randrange(65536)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread: threading.Thread | None = None
        self._closing = False

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Resets what is open and ends the guest's thread. Harmless when called again."""
        with self._changed:
            if self._closing:
                return
            for stream in list(self._tcp.values()):
                stream._abort()
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._wake()
            self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # --- addresses

    def configure(self, address: str, prefix: int = 24, router: str = "", dns: str = "") -> None:
        """Sets the address by hand."""
        self.address, self.prefix, self.router, self.dns = address, prefix, router, dns or router

    def dhcp(self) -> dict[str, Any]:
        """Gets an address (RFC 2131 section 3.1) and uses it.

        Returns:
            ``address``, ``prefix``, ``router``, ``dns`` (text) and ``lease`` (seconds), ``mtu`` (bytes or
            None).

        Raises:
            TimeoutError: no server answered.
            NetstackError: the server refused.
        """
        with self.udp(port=68) as client:
            xid = self._random.getrandbits(32)
            options = {53: bytes([dhcp4.DISCOVER]), 55: bytes([1, 3, 6, 15, 26, 51])}
            offer = self._dhcp_exchange(client, xid, options, (dhcp4.OFFER,))
            if offer.server_id is None:
                raise NetstackError("the DHCP offer does not name its server")
            options = {
                53: bytes([dhcp4.REQUEST]),
                50: offer.yiaddr.packed,
                54: offer.server_id.packed,
                55: options[55],
            }
            ack = self._dhcp_exchange(client, xid, options, (dhcp4.ACK, dhcp4.NAK))
        if ack.message_type == dhcp4.NAK:
            raise NetstackError(f"the DHCP server refused {offer.yiaddr}: {ack.message or 'no reason given'}")
        mask = ack.subnet_mask or ipaddress.IPv4Address("255.255.255.0")
        prefix = bin(int(mask)).count("1")
        router = str(ack.routers[0]) if ack.routers else ""
        dns = str(ack.dns_servers[0]) if ack.dns_servers else ""
        self.configure(str(ack.yiaddr), prefix, router, dns)
        return {
            "address": self.address,
            "prefix": prefix,
            "router": router,
            "dns": dns,
            "lease": ack.lease_time,
            "mtu": ack.mtu,
        }

    def _dhcp_exchange(
        self, client: UdpEndpoint, xid: int, options: dict[int, bytes], wanted: tuple[int, ...]
    ) -> DhcpMessage:
        hardware = bytes.fromhex(self.mac.replace(":", ""))
        request = DhcpMessage(1, xid, hardware, options, flags=0x8000).build()  # answers by broadcast

        def ask() -> None:
            packet = UDPHeader(68, 67).build(request, src=ZERO, dst="255.255.255.255")
            self._transmit(BROADCAST_MAC, ZERO, "255.255.255.255", UDP, packet)

        def answer() -> DhcpMessage | None:
            while client._waiting:
                data, _ = client._waiting.popleft()
                with contextlib.suppress(WireError):
                    message = DhcpMessage.parse(data)
                    if message.xid == xid and message.op == 2 and message.message_type in wanted:
                        return message
            return None

        return self._ask(ask, answer, "no DHCP server answered")

    # --- names and echo

    def resolve(self, name: str) -> str:
        """The IPv4 address of a name, asked of the network's name server (RFC 1035).

        Raises:
            TimeoutError: the server did not answer.
            NetstackError: it says that there is none.
        """
        ident = self._random.randrange(65536)
        query = DnsMessage(ident, 0x0100, [DnsQuestion(name)]).build()
        with self.udp() as client:

            def answer() -> DnsMessage | None:
                while client._waiting:
                    data, source = client._waiting.popleft()
                    with contextlib.suppress(WireError):
                        message = DnsMessage.parse(data)
                        if message.id == ident and message.response and source == (self.dns, 53):
                            return message
                return None

            reply = self._ask(
                lambda: client._send(query, self.dns, 53), answer, f"{self.dns} did not answer for {name}"
            )
        for record in reply.answers:
            if record.type == 1 and len(record.rdata) == 4:
                return str(ipaddress.IPv4Address(record.rdata))
        code = RCODES.get(reply.rcode, f"code {reply.rcode}")
        raise NetstackError(f"{name} has no address: the name server says {code}")

    def ping(self, address: str, size: int = 56, ttl: int = 64) -> float:
        """Sends one echo request of ``size`` bytes; the seconds until its reply came.

        Raises:
            TimeoutError: nothing came.
            OSError: an ICMP error came instead; its errno tells which.
        """
        key = (self._random.randrange(65536), self._random.randrange(65536))
        body = self._random.randbytes(size)

        def ask() -> None:
            self._pings.setdefault(
                key, (time.monotonic(), None)
            )  # a request sent again counts from the first
            self._send_ip(address, ICMP, ICMPv4Message.echo(*key, body).build(), ttl=ttl)

        def answer() -> list[float | OSError] | None:
            outcome = self._pings[key][1]
            return None if outcome is None else [outcome]

        try:
            (result,) = self._ask(ask, answer, f"{address} did not answer a ping")
        finally:
            self._pings.pop(key, None)
        if isinstance(result, OSError):
            raise result
        return result

    # --- sockets

    def udp(self, port: int = 0) -> UdpEndpoint:
        """A UDP endpoint of the guest; ``port`` 0 chooses one.

        Raises:
            OSError: the port is taken (EADDRINUSE).
        """
        with self._changed:
            chosen = port or self._free_port(lambda p: p not in self._udp)
            if chosen in self._udp:
                raise OSError(errno.EADDRINUSE, f"UDP port {chosen} is in use")
            endpoint = self._udp[chosen] = UdpEndpoint(self, chosen)
        return endpoint

    def udp_echo(self, address: str, port: int, data: bytes) -> bytes:
        """Sends a datagram from a new port; the first datagram that comes back from there.

        Raises:
            TimeoutError: nothing came.
            OSError: an ICMP error came instead.
        """
        with self.udp() as endpoint:
            endpoint.sendto(data, (address, port))
            while True:
                answer, source = endpoint.recvfrom()
                if source == (address, port):
                    return answer

    def connect(self, address: str, port: int) -> TcpStream:
        """Opens a TCP connection to an IPv4 address or a name, for which the network's name server is asked.

        Raises:
            ConnectionRefusedError, TimeoutError, OSError: as from a socket's connect.
            NetstackError: there is no such name.
        """
        if not self.address:
            raise OSError(errno.ENETUNREACH, "the guest has no address: call dhcp() or configure() first")
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            address = self.resolve(address)
        with self._changed:
            local = self._free_port(lambda p: (p, address, port) not in self._tcp)
            stream = self._tcp[local, address, port] = TcpStream(self, local, address, port)
        self._start()
        try:
            stream._open()
        except BaseException:
            stream.close()
            raise
        return stream

    def _free_port(self, free: Callable[[int], bool]) -> int:
        for _ in range(10_000):
            port = self._random.choice(EPHEMERAL)
            if free(port):
                return port
        raise OSError(errno.EADDRNOTAVAIL, "no port is free")

    # --- the thread

    def _start(self) -> None:
        with self._changed:
            if self._closing:
                raise NetstackError("this guest is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="netstack-guest", daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.link.out_fd, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._closing:
            wait = self._next_due()
            for fd, _ in poll.poll(None if wait is None else max(0.0, wait * 1000)):
                if fd == self._wake_read:
                    os.read(self._wake_read, 4096)
            with self._changed:
                now = time.monotonic()
                self.link.step()  # frames that an impaired link holds fall due, both ways
                for frame, _ in self.link.drain():
                    with contextlib.suppress(WireError, ValueError):
                        self._frame_arrives(frame)
                for stream in list(self._tcp.values()):
                    stream._advance(now)
                    if stream._finished:
                        del self._tcp[stream.key]
                self._changed.notify_all()

    def _next_due(self) -> float | None:
        """Seconds until the first thing falls due."""
        with self._changed:
            due = [at for stream in self._tcp.values() if (at := stream._connection.next_timer()) is not None]
        arrival = self.link.next_deadline()
        if arrival is not None:
            due.append(arrival / NS)
        return min(due) - time.monotonic() if due else None

    def _ask(self, ask: Callable[[], None], answer: Callable[[], T | None], failure: str) -> T:
        """Asks, again every second, until there is an answer."""
        self._start()
        end = time.monotonic() + self.timeout
        with self._changed:
            while not self._closing and (left := end - time.monotonic()) > 0:
                ask()
                again = time.monotonic() + min(RETRY_SECONDS, left)
                while (found := answer()) is None and not self._closing:
                    wait = again - time.monotonic()
                    if wait <= 0:
                        break
                    self._changed.wait(wait)
                if found is not None:
                    return found
        raise TimeoutError(errno.ETIMEDOUT, failure)

    # --- out

    def _transmit(
        self, mac: str, src: str, dst: str, protocol: int, payload: bytes, ttl: int = 64, ecn: int = 0
    ) -> None:
        """One datagram to a known MAC, in fragments where it is larger than the MTU."""
        self._ident = (self._ident + 1) & 0xFFFF
        room = self.mtu - IP_HEADER
        step = room if len(payload) <= room else room & ~7
        for at in range(0, max(len(payload), 1), step):
            piece = payload[at : at + step]
            header = IPv4Header(
                *(src, dst, protocol),
                ttl=ttl,
                tos=ecn,
                ident=self._ident,
                frag_offset=at,
                more_fragments=at + step < len(payload),
            )
            frame = EthernetHeader(mac, self.mac, ETHERTYPE_IPV4).build(header.build(piece))
            self.link.inject(frame)

    def _send_ip(self, dst: str, protocol: int, payload: bytes, ttl: int = 64, ecn: int = 0) -> None:
        """One datagram by way of ARP; it waits, within limits, while the next hop's MAC is not known."""
        if not self.address:
            raise OSError(errno.ENETUNREACH, "the guest has no address: call dhcp() or configure() first")
        hop = dst if self._on_link(dst) else self.router
        if not hop:
            raise OSError(errno.ENETUNREACH, f"the guest has no route to {dst}")
        mac = self._neighbors.get(hop)
        if mac is not None:
            self._transmit(mac, self.address, dst, protocol, payload, ttl, ecn)
            return
        waiting = self._unresolved.setdefault(hop, deque(maxlen=UNRESOLVED))
        waiting.append((dst, protocol, payload, ttl, ecn))
        self._send_arp(BROADCAST_MAC, arp.REQUEST, hop, "00:00:00:00:00:00")

    def _on_link(self, address: str) -> bool:
        network = ipaddress.IPv4Network(f"{self.address}/{self.prefix}", strict=False)
        return ipaddress.IPv4Address(address) in network

    def _send_arp(self, mac: str, op: int, address: str, hardware: str) -> None:
        packet = ArpPacket(op, self.mac, self.address, hardware, address).build()
        self.link.inject(EthernetHeader(mac, self.mac, ETHERTYPE_ARP).build(packet))

    # --- in

    def _frame_arrives(self, frame: bytes) -> None:
        ethernet = EthernetHeader.parse(frame)
        if ethernet.dst not in (self.mac, BROADCAST_MAC):
            return
        payload = frame[ethernet.header_length :]
        if ethernet.ethertype == ETHERTYPE_ARP:
            self._arp_arrives(ArpPacket.parse(payload))
        elif ethernet.ethertype == ETHERTYPE_IPV4:
            header = IPv4Header.parse(payload, verify=True)
            data = payload[header.header_length : header.total_length]
            if header.frag_offset or header.more_fragments:
                whole = self._fragment_arrives(header, data)
                if whole is None:
                    return
                data = whole
            self._packet_arrives(header, data)

    def _arp_arrives(self, packet: ArpPacket) -> None:
        sender = str(packet.spa)
        if not self.address or str(packet.tpa) != self.address:
            return
        self._neighbors[sender] = packet.sha
        if packet.op == arp.REQUEST:
            self._send_arp(packet.sha, arp.REPLY, sender, packet.sha)
        for dst, protocol, payload, ttl, ecn in self._unresolved.pop(sender, ()):
            self._transmit(packet.sha, self.address, dst, protocol, payload, ttl, ecn)

    def _fragment_arrives(self, header: IPv4Header, data: bytes) -> bytes | None:
        """The payload of the datagram that this fragment completes."""
        key = (str(header.src), header.protocol, header.ident)
        parts = self._fragments.setdefault(key, {})
        parts[header.frag_offset] = (data, header.more_fragments)
        whole, at = [], 0
        while at in parts:
            piece, more = parts[at]
            whole.append(piece)
            at += len(piece)
            if not more:
                del self._fragments[key]
                return b"".join(whole)
            if not piece:
                break
        while len(self._fragments) > INCOMPLETE:  # the oldest will not be completed any more
            del self._fragments[next(iter(self._fragments))]
        return None

    def _packet_arrives(self, header: IPv4Header, data: bytes) -> None:
        src, dst = str(header.src), str(header.dst)
        if header.protocol == UDP:
            udp = UDPHeader.parse(data, src=src, dst=dst)
            endpoint = self._udp.get(udp.dport)
            if endpoint is not None:
                endpoint._waiting.append((data[8 : udp.length], (src, udp.sport)))
        elif dst != self.address:
            return
        elif header.protocol == TCP:
            tcp = TCPHeader.parse(data, src=src, dst=dst)
            stream = self._tcp.get((tcp.dport, src, tcp.sport))
            if stream is not None:
                stream._segment_arrives(data, header.tos & 3)
        elif header.protocol == ICMP:
            self._icmp_arrives(ICMPv4Message.parse(data, verify=True), src)

    def _icmp_arrives(self, message: ICMPv4Message, src: str) -> None:
        if message.type == icmp4.ECHO:
            reply = ICMPv4Message.echo(message.identifier, message.sequence, message.body, reply=True)
            self._send_ip(src, ICMP, reply.build())
        elif message.type == icmp4.ECHO_REPLY:
            key = (message.identifier, message.sequence)
            if key in self._pings:
                began, _ = self._pings[key]
                self._pings[key] = (began, time.monotonic() - began)
        elif message.type in (icmp4.UNREACHABLE, icmp4.TIME_EXCEEDED):
            self._error_arrives(message, src)

    def _error_arrives(self, message: ICMPv4Message, src: str) -> None:
        if message.type == icmp4.TIME_EXCEEDED:
            error = OSError(errno.EHOSTUNREACH, f"{src} says: time to live exceeded")
        else:
            number = ERRNO_OF_CODE.get(message.code, errno.EHOSTUNREACH)
            error = OSError(number, f"{src} says: {os.strerror(number).lower()}")
        length = (message.body[0] & 15) * 4 if message.body else 0
        if len(message.body) < max(length, IP_HEADER) + 8:
            return
        protocol, peer = message.body[9], str(ipaddress.IPv4Address(message.body[16:20]))
        first, second, third, fourth = struct.unpack_from("!4H", message.body, length)
        if protocol == UDP and (endpoint := self._udp.get(first)):
            endpoint._errors.append(error)
        elif protocol == ICMP and (third, fourth) in self._pings:
            self._pings[third, fourth] = (self._pings[third, fourth][0], error)
        elif protocol == TCP and (stream := self._tcp.get((first, peer, second))):
            stream._icmp_error(error, third << 16 | fourth)
