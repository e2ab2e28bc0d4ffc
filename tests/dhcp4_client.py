"""A DHCP client in Python, which takes what the server sends: for tests of the server."""

from ipaddress import IPv4Address

from netstack.services.dhcp4 import DhcpSettings
from netstack.wire.dhcp4 import (
    ACK,
    DISCOVER,
    REQUEST,
    DhcpMessage,
)

SERVER = IPv4Address("192.168.65.1")
NONE = IPv4Address(0)


def mac(n):
    return bytes([2, 0, 0, 0, n >> 8, n & 0xFF])


def ip(n):
    return IPv4Address(f"192.168.65.{n}")


def settings_of(**changes):
    values = {
        "server": "192.168.65.1",
        "network": "192.168.65.0/24",
        "first": "192.168.65.3",
        "last": "192.168.65.254",
        "routers": ("192.168.65.1",),
        "dns_servers": ("192.168.65.1",),
        "domain": "internal",
        "lease_seconds": 3600,
        "excluded": ("192.168.65.2",),
    }
    return DhcpSettings(**{**values, **changes})


class Client:
    """A DHCP client that says what it is told to say."""

    def __init__(self, server, n=1, client_id=None, **fields):
        self.server = server
        self.mac = mac(n)
        self.client_id = client_id
        self.fields = fields
        self.xid = n
        self.now = 0.0
        self.raw = None

    def say(self, kind, *, ciaddr=NONE, requested=None, server=None, options=(), **more):
        message = DhcpMessage(1, self.xid, self.mac, options, ciaddr=ciaddr, **{**self.fields, **more})
        message.message_type = kind
        message.requested_address = requested
        message.server_id = server
        message.client_id = self.client_id
        before = sum(self.server.counters.values())
        self.raw = self.server.handle(message.build(), self.now)
        assert sum(self.server.counters.values()) == before + 1
        if self.raw is None:
            return None
        reply = DhcpMessage.parse(self.raw.payload)
        assert (reply.op, reply.xid, reply.chaddr, reply.giaddr) == (2, self.xid, self.mac, message.giaddr)
        assert reply.server_id == self.server.settings.server
        assert len(self.raw.payload) >= 300
        return reply

    def discover(self, **more):
        return self.say(DISCOVER, **more)

    def select(self, address, server=SERVER, **more):
        return self.say(REQUEST, requested=address, server=server, **more)

    def reboot(self, address, **more):
        return self.say(REQUEST, requested=address, **more)

    def renew(self, address, **more):
        return self.say(REQUEST, ciaddr=address, **more)

    def join(self, **more):
        """DISCOVER to BOUND; the address."""
        offer = self.discover(**more)
        ack = self.select(offer.yiaddr)
        assert ack.message_type == ACK
        assert ack.yiaddr == offer.yiaddr
        return ack.yiaddr
