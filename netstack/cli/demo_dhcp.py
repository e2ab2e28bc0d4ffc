"""A DHCP client, just large enough to get a lease for an interface without an address (RFC 2131 §3.1)."""

from __future__ import annotations

import os
import socket
import time
from ipaddress import IPv4Network
from typing import Any

from netstack.errors import NetstackError, WireError
from netstack.host import namespace
from netstack.wire import dhcp4
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.udp import UDPHeader

__all__ = ["obtain_lease"]

CLIENT_PORT, SERVER_PORT = 68, 67
ETH_P_IP = 0x0800
BROADCAST_MAC = b"\xff" * 6
WANTED = (1, 3, 6, 15, 26, 51)  # mask, router, DNS, domain, MTU, lease time
ANSWER_SECONDS = 1.0  # before a message is repeated
ATTEMPTS = 5


class DhcpError(NetstackError):
    """No lease could be had."""


def obtain_lease(interface: str) -> dict[str, Any]:
    """Asks for an address and puts it into effect: address, default route and /etc/resolv.conf.

    Returns ``address``, ``prefix``, ``router``, ``dns`` and ``lease`` (seconds).

    Raises:
        DhcpError: no server answers, or it refuses.
        OSError: the interface cannot be configured.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as link:
        link.bind((interface, ETH_P_IP))
        client = _Client(link, interface)
        offer = client.ask(dhcp4.DISCOVER, {dhcp4.OFFER}, {})
        if offer.server_id is None:
            raise DhcpError("the DHCP offer names no server")
        # RFC 2131 §4.3.2, SELECTING: the chosen server and its address, ciaddr zero.
        chosen = {50: offer.yiaddr.packed, 54: offer.server_id.packed}
        ack = client.ask(dhcp4.REQUEST, {dhcp4.ACK, dhcp4.NAK}, chosen)
    if ack.message_type == dhcp4.NAK:
        raise DhcpError(f"the DHCP server refuses {offer.yiaddr}: {ack.message or 'it does not say why'}")
    if ack.subnet_mask is None or not ack.routers or not ack.dns_servers or ack.lease_time is None:
        raise DhcpError("the DHCP server leaves out the mask, the router, the DNS server or the lease time")
    address, router = str(ack.yiaddr), str(ack.routers[0])
    prefix = IPv4Network((0, str(ack.subnet_mask))).prefixlen
    namespace.add_address(interface, address, prefix)
    namespace.add_default_route(router, interface)
    servers = [str(server) for server in ack.dns_servers]
    with open("/etc/resolv.conf", "w") as file:
        file.write(f"search {ack.domain}\n" if ack.domain else "")
        file.writelines(f"nameserver {server}\n" for server in servers)
    return {
        "address": address,
        "prefix": prefix,
        "router": router,
        "dns": ", ".join(servers),
        "lease": ack.lease_time,
    }


class _Client:
    """One exchange, told by its transaction id."""

    def __init__(self, link: socket.socket, interface: str) -> None:
        self._link = link
        self._interface = interface
        self._mac: bytes = link.getsockname()[4]
        self._xid = int.from_bytes(os.urandom(4), "big")

    def ask(self, kind: int, answers: set[int], options: dict[int, bytes]) -> dhcp4.DhcpMessage:
        """Sends a message until one of the answers comes.

        Raises:
            DhcpError: none does.
        """
        message = dhcp4.DhcpMessage(1, self._xid, self._mac, {53: bytes([kind]), **options})
        message.parameter_list = WANTED
        payload = UDPHeader(CLIENT_PORT, SERVER_PORT).build(
            message.build(), src="0.0.0.0", dst="255.255.255.255"
        )
        packet = IPv4Header("0.0.0.0", "255.255.255.255", socket.IPPROTO_UDP).build(payload)
        for _ in range(ATTEMPTS):
            self._link.sendto(packet, (self._interface, ETH_P_IP, 0, 0, BROADCAST_MAC))
            until = time.monotonic() + ANSWER_SECONDS
            while (left := until - time.monotonic()) > 0:
                self._link.settimeout(left)
                try:
                    reply = self._reply(self._link.recv(65535))
                except TimeoutError:
                    break
                if reply is not None and reply.message_type in answers:
                    return reply
        raise DhcpError("no DHCP server answers")

    def _reply(self, packet: bytes) -> dhcp4.DhcpMessage | None:
        """The message in a packet if it is for us. Checksums stay unchecked: they may be partial."""
        try:
            ip = IPv4Header.parse(packet)
            datagram = packet[ip.header_length : ip.total_length]
            if ip.protocol != socket.IPPROTO_UDP or UDPHeader.parse(datagram).dport != CLIENT_PORT:
                return None
            message = dhcp4.DhcpMessage.parse(datagram[8:])
        except WireError:
            return None
        ours = message.op == 2 and message.xid == self._xid and message.chaddr[:6] == self._mac
        return message if ours else None
