"""The DHCPv4 server: a client's walk through its states, who gets which address, where replies go, noise."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.errors import ConfigError
from netstack.services.dhcp4 import BROADCAST, BROADCAST_MAC, DhcpServer, DhcpSettings
from netstack.wire.dhcp4 import (
    ACK,
    DECLINE,
    DISCOVER,
    INFORM,
    NAK,
    OFFER,
    RELEASE,
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


@pytest.fixture
def server():
    return DhcpServer(settings_of())


def test_from_init_to_bound_and_on(server):
    c = Client(server)
    offer = c.discover()
    assert (offer.message_type, offer.yiaddr, offer.ciaddr) == (OFFER, ip(3), NONE)
    assert (offer.lease_time, offer.renewal_time, offer.rebinding_time) == (3600, 1800, 3150)
    ack = c.select(ip(3))
    assert (ack.message_type, ack.yiaddr, ack.lease_time) == (ACK, ip(3), 3600)
    c.now = 1800
    ack = c.renew(ip(3))
    assert (ack.message_type, ack.yiaddr, ack.ciaddr, ack.lease_time) == (ACK, ip(3), ip(3), 3600)
    assert (c.raw.address, c.raw.port, c.raw.mac) == (ip(3), 68, c.mac)
    assert server.leases(c.now)[0].expires == 1800 + 3600
    ack = c.reboot(ip(3))
    assert (ack.message_type, ack.yiaddr) == (ACK, ip(3))
    assert c.say(RELEASE, ciaddr=ip(3), server=SERVER) is None
    assert [x.state for x in server.leases(c.now)] == ["kept"]
    assert {k: v for k, v in server.counters.items() if v} == {
        "offered": 1,
        "acked_selecting": 1,
        "acked_renewing": 1,
        "acked_init_reboot": 1,
        "released": 1,
    }


def test_bare_discover_gets_every_option(server):
    """VPNKit's Go client sends option 53 alone and reads yiaddr of the broadcast reply."""
    c = Client(server, flags=0x8000)
    offer = c.discover()
    assert (c.raw.address, c.raw.port, c.raw.mac) == (BROADCAST, 68, BROADCAST_MAC)
    assert offer.flags == 0x8000
    assert offer.subnet_mask == IPv4Address("255.255.255.0")
    assert offer.routers == offer.dns_servers == (SERVER,)
    assert (offer.domain, offer.mtu, offer.broadcast_address) == ("internal", 1500, ip(255))
    assert set(offer.options) == {53, 54, 51, 58, 59, 1, 3, 6, 15, 26, 28}


def test_only_what_is_asked_for(server):
    offer = Client(server).discover(options={55: bytes([3, 1, 99, 6])})
    assert set(offer.options) == {53, 54, 51, 58, 59, 1, 3, 6}
    codes = list(offer.options)
    assert codes.index(1) < codes.index(3)  # RFC 2132 section 3.3
    assert set(Client(server, 2).discover(options={55: bytes([99])}).options) == {53, 54, 51, 58, 59}


def test_options_that_are_switched_off():
    server = DhcpServer(settings_of(domain="", mtu=0, routers=(), dns_servers=(), extra=((42, b"\1\2\3\4"),)))
    assert set(Client(server).discover().options) == {53, 54, 51, 58, 59, 1, 28, 42}


class TestDestination:
    """RFC 2131 section 4.1."""

    def test_unicast_to_the_new_address(self, server):
        c = Client(server)
        c.discover()
        assert (c.raw.address, c.raw.port, c.raw.mac) == (ip(3), 68, c.mac)

    def test_relay(self, server):
        c = Client(server, giaddr=ip(9), flags=0x8000)
        c.discover()
        assert (c.raw.address, c.raw.port, c.raw.mac) == (ip(9), 67, None)
        message = DhcpMessage(1, 1, mac(1), {53: b"\1"}, giaddr=ip(9))
        assert server.handle(message.build(), 0.0, mac(99)).mac == mac(99)

    def test_nak_is_broadcast(self, server):
        c = Client(server)
        nak = c.reboot("10.0.0.9")
        assert (nak.message_type, nak.yiaddr, nak.ciaddr, nak.siaddr) == (NAK, NONE, NONE, NONE)
        assert set(nak.options) == {53, 54, 56}
        assert (c.raw.address, c.raw.port, c.raw.mac) == (BROADCAST, 68, BROADCAST_MAC)
        assert nak.flags == 0

    def test_nak_through_a_relay(self, server):
        c = Client(server, giaddr=ip(9))
        assert c.reboot("10.0.0.9").flags == 0x8000
        assert (c.raw.address, c.raw.port) == (ip(9), 67)

    def test_hardware_that_is_not_ethernet(self, server):
        message = DhcpMessage(1, 1, b"\1" * 8, {53: b"\1"}, htype=27)
        reply = server.handle(message.build(), 0.0)
        assert (reply.address, reply.mac) == (BROADCAST, BROADCAST_MAC)


class TestSelecting:
    def test_another_server_is_chosen(self, server):
        c = Client(server)
        assert c.discover().yiaddr == ip(3)
        assert c.select(ip(3), server="192.168.65.99") is None
        assert server.counters["ignored_other_server"] == 1
        assert [x.state for x in server.leases()] == ["kept"]
        small = DhcpServer(settings_of(last="192.168.65.3"))
        Client(small).discover()
        assert Client(small, 2).discover() is None
        Client(small).select(ip(3), server="192.168.65.99")
        assert Client(small, 2).discover().yiaddr == ip(3)

    def test_another_address_than_the_offered_one(self, server):
        c = Client(server)
        c.discover()
        assert c.select(ip(77)).message_type == NAK
        assert server.counters["refused_selecting"] == 1

    def test_an_address_that_is_not_to_be_had(self, server):
        Client(server, 1).join()
        for address in (ip(3), SERVER, ip(2), ip(0), ip(255), IPv4Address("10.0.0.1")):
            assert Client(server, 2).select(address).message_type == NAK

    def test_an_offer_that_has_expired_is_still_good_while_nobody_took_it(self, server):
        c = Client(server)
        c.discover()
        c.now = 1000
        assert c.select(ip(3)).message_type == ACK

    def test_an_offer_is_held(self):
        server = DhcpServer(settings_of(last="192.168.65.3"))
        a, b = Client(server, 1), Client(server, 2)
        assert a.discover().yiaddr == ip(3)
        b.now = 59.9
        assert b.discover() is None
        assert server.counters["dropped_exhausted"] == 1
        b.now = 60.0
        assert b.discover().yiaddr == ip(3)
        a.now = 61
        assert a.select(ip(3)).message_type == NAK

    def test_request_again_is_answered_again(self, server):
        c = Client(server)
        c.join()
        assert c.select(ip(3)).message_type == ACK


class TestInitReboot:
    def test_unknown_client_hears_nothing(self, server):
        assert Client(server).reboot(ip(3)) is None
        assert server.counters["ignored_unknown_client"] == 1

    def test_wrong_network(self, server):
        assert Client(server).reboot("10.0.0.3").message_type == NAK
        assert server.counters["refused_init_reboot"] == 1

    def test_another_address_than_its_own(self, server):
        c = Client(server)
        c.join()
        assert c.reboot(ip(4)).message_type == NAK

    def test_after_the_lease_has_ended(self, server):
        c = Client(server)
        c.join()
        c.now = 1e6
        assert c.reboot(ip(3)).message_type == ACK


class TestRenewing:
    def test_unknown_client_keeps_a_free_address(self, server):
        """We were restarted and have forgotten it."""
        c = Client(server)
        assert c.renew(ip(50)).message_type == ACK
        assert Client(server, 2).discover(requested=ip(50)).yiaddr != ip(50)

    def test_address_of_another(self, server):
        Client(server, 1).join()
        c = Client(server, 2)
        nak = c.renew(ip(3))
        assert nak.message_type == NAK
        assert c.raw.address == BROADCAST
        assert server.counters["refused_renewing"] == 1

    def test_another_address_than_its_own(self, server):
        c = Client(server)
        c.join()
        assert c.renew(ip(9)).message_type == NAK

    def test_outside_the_pool(self, server):
        assert Client(server).renew("10.0.0.3").message_type == NAK

    def test_rebinding_by_broadcast_is_answered_to_the_address(self, server):
        c = Client(server, flags=0x8000)
        c.join()
        assert c.renew(ip(3)).message_type == ACK
        assert c.raw.address == ip(3)

    def test_address_in_both_places(self, server):
        c = Client(server)
        c.join()
        assert c.renew(ip(3), requested=ip(3)).message_type == ACK
        assert c.renew(ip(3), requested=ip(4)) is None
        assert c.say(REQUEST) is None
        assert server.counters["dropped_contradictory"] == 2


class TestChoice:
    def test_one_after_the_other(self, server):
        assert [Client(server, n).join() for n in range(1, 5)] == [ip(3), ip(4), ip(5), ip(6)]

    def test_same_client_same_address(self, server):
        c = Client(server)
        first = c.join()
        Client(server, 2).join()
        assert c.discover().yiaddr == first
        assert server.leases()[0].state == "bound"  # a DISCOVER does not take the lease away
        c.say(RELEASE, ciaddr=first)
        c.now = 1e7
        assert c.join() == first

    def test_requested_when_free(self, server):
        assert Client(server, 1).discover(requested=ip(100)).yiaddr == ip(100)
        assert Client(server, 2).discover(requested=ip(100)).yiaddr == ip(3)
        for address in (SERVER, ip(2), ip(255), IPv4Address("10.0.0.9")):
            offer = Client(server, 3).discover(requested=address)
            assert offer.yiaddr == ip(4)

    def test_current_before_requested(self, server):
        c = Client(server)
        c.join()
        assert c.discover(requested=ip(100)).yiaddr == ip(3)

    def test_client_identifier_before_hardware_address(self, server):
        a = Client(server, 1, client_id=b"\0one").join()
        b = Client(server, 1, client_id=b"\0two").join()
        assert a != b
        assert Client(server, 2, client_id=b"\0one").discover().yiaddr == a
        assert {x.client_id for x in server.leases()} == {b"\0one", b"\0two"}

    def test_identifier_that_is_the_hardware_address(self, server):
        a = Client(server, 1).join()
        assert Client(server, 1, client_id=b"\1" + mac(1)).discover().yiaddr == a

    def test_identifier_and_relay_information_come_back(self, server):
        c = Client(server, 1, client_id=b"\0one")
        for reply in (c.discover(options={82: b"\1\4port"}), c.reboot("10.0.0.1", options={82: b"\1\4port"})):
            assert reply.client_id == b"\0one"
            assert list(reply.options)[-1] == 82
            assert reply.options[82] == b"\1\4port"

    def test_exhausted_pool(self):
        server = DhcpServer(settings_of(last="192.168.65.5"))
        assert [Client(server, n).join() for n in range(1, 4)] == [ip(3), ip(4), ip(5)]
        late = Client(server, 9)
        assert late.discover() is None
        assert server.counters["dropped_exhausted"] == 1
        c = Client(server, 2)
        c.now = 100
        c.renew(ip(4))
        late.now = 3600  # the others' leases have ended: the one that ended first goes
        assert late.discover(requested=ip(3)).yiaddr == ip(3)
        assert Client(server, 1).renew(ip(3)).message_type == NAK

    def test_released_address_is_taken_last(self):
        server = DhcpServer(settings_of(last="192.168.65.4"))
        a = Client(server, 1)
        a.join()
        a.say(RELEASE, ciaddr=ip(3))
        assert Client(server, 2).join() == ip(4)
        assert Client(server, 3).join() == ip(3)
        assert a.discover() is None

    def test_moving_to_another_address_frees_the_first(self):
        server = DhcpServer(settings_of(last="192.168.65.4"))
        a = Client(server, 1)
        assert a.join() == ip(3)
        server.reserve(mac(1), ip(50))
        assert a.discover().yiaddr == ip(50)
        assert {Client(server, n).join() for n in (2, 3)} == {ip(3), ip(4)}

    def test_tables_stay_bounded(self):
        server = DhcpServer(settings_of(last="192.168.65.10", offer_seconds=1))
        for n in range(3000):
            c = Client(server, n, client_id=b"\0" + str(n).encode())
            c.now = n / 4
            c.discover()
        assert len(server.leases()) <= 8
        assert len(server._ending) <= 2 * 8 + 64
        assert len(server._clients) <= 8
        assert server.counters["offered"] + server.counters["dropped_exhausted"] == 3000


class TestDecline:
    def test_address_stays_out_of_the_pool(self):
        server = DhcpServer(settings_of(last="192.168.65.4"))
        c = Client(server)
        c.join()
        assert c.say(DECLINE, requested=ip(3), server=SERVER) is None
        assert server.counters["declined"] == 1
        assert server.leases()[0].state == "declined"
        assert c.discover().yiaddr == ip(4)
        assert Client(server, 2).discover(requested=ip(3)) is None
        late = Client(server, 2)
        late.now = 600
        assert late.discover(requested=ip(3)).yiaddr == ip(3)

    def test_only_the_holder_can(self, server):
        Client(server, 1).join()
        assert Client(server, 2).say(DECLINE, requested=ip(3), server=SERVER) is None
        assert Client(server, 1).say(DECLINE, requested=ip(4), server=SERVER) is None
        assert Client(server, 1).say(DECLINE, requested=ip(3), server="10.0.0.1") is None
        assert Client(server, 1).say(DECLINE, server=SERVER) is None
        assert [x.state for x in server.leases()] == ["bound"]
        assert server.counters["ignored_unknown_client"] == 2
        assert server.counters["ignored_other_server"] == server.counters["dropped_contradictory"] == 1


class TestRelease:
    def test_only_the_holder_can(self, server):
        Client(server, 1).join()
        Client(server, 2).say(RELEASE, ciaddr=ip(3), server=SERVER)
        Client(server, 1).say(RELEASE, ciaddr=ip(4), server=SERVER)
        Client(server, 1).say(RELEASE, ciaddr=ip(3), server="10.0.0.1")
        assert [x.state for x in server.leases()] == ["bound"]
        assert server.counters["released"] == 0


class TestInform:
    def test_configuration_without_a_lease(self, server):
        c = Client(server, flags=0x8000)
        ack = c.say(INFORM, ciaddr=ip(200), options={55: bytes([6, 15])})
        assert (ack.message_type, ack.yiaddr, ack.ciaddr) == (ACK, NONE, ip(200))
        assert set(ack.options) == {53, 54, 6, 15}
        assert (c.raw.address, c.raw.port, c.raw.mac) == (ip(200), 68, c.mac)
        assert server.leases() == []
        assert server.counters["acked_inform"] == 1

    def test_without_an_address(self, server):
        assert Client(server).say(INFORM) is None
        assert server.counters["dropped_contradictory"] == 1


class TestStatic:
    @pytest.fixture
    def server(self):
        return DhcpServer(
            settings_of(
                last="192.168.65.10",
                static=(
                    ("02:00:00:00:00:01", "192.168.65.4", "web"),
                    ("02-00-00-00-00-02", "192.168.65.200", ""),
                ),
            )
        )

    def test_address_and_name(self, server):
        for client_id in (None, b"\0any"):
            c = Client(server, 1, client_id=client_id)
            assert c.join(requested=ip(9)) == ip(4)
            assert c.discover().hostname == "web"
            assert c.renew(ip(4)).message_type == ACK
            assert c.reboot(ip(4)).message_type == ACK
            assert c.reboot(ip(5)).message_type == NAK
            assert c.renew(ip(5)).message_type == NAK
        assert Client(server, 2).join() == ip(200)
        assert [(x.address, x.name, x.state) for x in server.leases()] == [
            (ip(4), "web", "static"),
            (ip(200), "", "static"),
        ]

    def test_nobody_else_gets_it(self, server):
        got = {Client(server, n).join() for n in range(10, 17)}
        assert got == {ip(n) for n in (3, 5, 6, 7, 8, 9, 10)}
        assert Client(server, 20).discover(requested=ip(4)) is None
        assert Client(server, 10).renew(ip(4)).message_type == NAK

    def test_stays_whatever_the_client_says(self, server):
        c = Client(server, 1)
        c.join()
        c.say(RELEASE, ciaddr=ip(4), server=SERVER)
        c.say(DECLINE, requested=ip(4), server=SERVER)
        assert server.counters["released"] == server.counters["declined"] == 1
        assert c.discover().yiaddr == ip(4)

    def test_reserve_and_unreserve(self, server):
        before = server.generation
        assert server.reserve(mac(50), name="box") == ip(3)
        assert server.reserve(mac(50), name="box2") == ip(3)
        assert server.generation > before
        assert server.reserve(mac(51), "192.168.65.5") == ip(5)
        assert Client(server, 51).discover().yiaddr == ip(5)
        assert server.unreserve(mac(50))
        assert not server.unreserve(mac(50))
        assert {Client(server, n).join() for n in range(10, 16)} == {ip(n) for n in (3, 6, 7, 8, 9, 10)}

    def test_reserve_takes_the_lease_that_is_there(self, server):
        c = Client(server, 60)
        address = c.join()
        assert server.reserve(mac(60)) == address
        assert [x.state for x in server.leases() if x.address == address] == ["static"]
        server.reserve(mac(61), address := ip(9))
        holder = Client(server, 62)
        assert holder.renew(address).message_type == NAK

    def test_moving_a_reservation(self, server):
        server.reserve(mac(1), "192.168.65.7")
        assert Client(server, 1).discover().yiaddr == ip(7)
        assert Client(server, 9).discover(requested=ip(4)).yiaddr == ip(4)

    @pytest.mark.parametrize(
        ("who", "address", "name"),
        [
            (mac(9), "192.168.65.4", ""),  # another's
            (mac(9), "192.168.65.1", ""),  # the server's
            (mac(9), "192.168.65.2", ""),  # excluded
            (mac(9), "192.168.65.255", ""),
            (mac(9), "10.0.0.1", ""),
            (mac(9), "x", ""),
            (mac(9), None, "not a name"),
            (mac(9), None, "-a"),
            (b"\1" * 6, None, ""),
            (b"\0" * 6, None, ""),
            ("02:00", None, ""),
            ("zz:00:00:00:00:00", None, ""),
            ("id:", None, ""),
            ("id:x", None, ""),
            ("id:a b", None, ""),
            ("id:" + "01:" * 255 + "01", None, ""),
            ("id:ff:00,02:00:00:00:00:09", None, "not a name"),
            ("02:00:00:00:00:09,ff:00", None, ""),
        ],
    )
    def test_reservations_refused(self, server, who, address, name):
        before = server.leases()
        with pytest.raises(ConfigError):
            server.reserve(who, address, name)
        assert server.leases() == before

    def test_reserve_from_an_empty_pool(self):
        server = DhcpServer(settings_of(last="192.168.65.3"))
        server.reserve(mac(1))
        with pytest.raises(ConfigError, match="no address is left"):
            server.reserve(mac(2))


def test_names_that_clients_give_themselves(server):
    c = Client(server)
    c.join(options={12: b"laptop.example.com"})
    assert server.leases()[0].name == "laptop"
    generation = server.generation
    c.renew(ip(3), options={12: b"laptop"})
    assert server.generation == generation
    c.renew(ip(3), options={12: b"desk"})
    assert server.leases()[0].name == "desk"
    assert server.generation > generation
    for bad in (b"", b"-x", b"a b", b"x" * 64, b"\xff\xfe", b"a\0b"):
        c.renew(ip(3), options={12: bad})
        assert server.leases()[0].name == "desk"


def test_reply_fits_what_the_client_takes():
    server = DhcpServer(settings_of(mtu=1500, extra=tuple((200 + i, bytes(100)) for i in range(20))))
    for size, payload in ((None, 548), (100, 548), (576, 548), (1000, 972), (65535, 1472)):
        c = Client(server)
        options = {} if size is None else {57: size.to_bytes(2, "big")}
        offer = c.discover(options=options)
        assert payload - 102 < len(c.raw.payload) <= payload
        assert offer.subnet_mask
        assert offer.options[200] == bytes(100)
    c = Client(server, 2, client_id=bytes(300))
    offer = c.discover(options={82: bytes(60)})
    assert len(c.raw.payload) <= 548 + 150  # what goes back as it came is never cut
    assert (offer.client_id, offer.message_type) == (bytes(300), OFFER)


DUID = b"\xff\x56\x50\x4d\x98\0\2\0\0\xab\x11"


class TestIdentifiers:
    """RFC 2131 section 4.2, RFC 4361: a lease is an identifier's, where there is one."""

    def test_a_static_lease_by_identifier(self):
        server = DhcpServer(settings_of(static=((f"id:{DUID.hex(':')}", "192.168.65.50", "web"),)))
        assert [(x.mac, x.client_id, x.state) for x in server.leases()] == [(b"", DUID, "static")]
        c = Client(server, 1, client_id=DUID)
        assert c.join() == ip(50)
        assert c.discover().hostname == "web"
        assert c.discover().client_id == DUID  # RFC 6842
        assert [(x.mac, x.name) for x in server.leases()] == [(mac(1), "web")]
        assert Client(server, 9, client_id=DUID).join() == ip(50), "with another card it is the same machine"
        assert [x.mac for x in server.leases()] == [mac(9)], "who speaks from there is known"
        assert Client(server, 2, client_id=b"\0two").join() == ip(3)
        assert Client(server, 9).say(RELEASE, ciaddr=ip(50), server=SERVER) is None
        assert [x.mac for x in server.leases()] == [mac(2), b""]

    @pytest.mark.parametrize("sent", [b"db-1", b"\0db-1"])
    def test_text_with_or_without_its_type(self, sent):
        server = DhcpServer(settings_of(static=(("id:db-1", "192.168.65.50", ""),)))
        assert Client(server, 1, client_id=sent).join() == ip(50)
        assert Client(server, 2, client_id=b"\1db-1").join() == ip(3)

    def test_both_are_one_machine(self):
        who = f"02:00:00:00:00:01,id:{DUID.hex(':')}"
        server = DhcpServer(settings_of(static=((who, "192.168.65.50", "web"),)))
        for client_id in (None, DUID, b"\0other"):
            assert Client(server, 1, client_id=client_id).join() == ip(50)
        assert Client(server, 2, client_id=DUID).join() == ip(50)
        assert Client(server, 3).join() == ip(3)
        with pytest.raises(ConfigError, match="already belongs to 02:00:00:00:00:01,id:ff"):
            server.reserve("id:second", "192.168.65.50")
        assert server.unreserve("id:" + DUID.hex(":"))
        assert server.leases()[-1].state == "bound"

    def test_the_identifier_counts_before_the_hardware(self):
        server = DhcpServer(
            settings_of(
                static=(
                    (f"id:{DUID.hex(':')}", "192.168.65.50", ""),
                    ("02:00:00:00:00:01", "192.168.65.60", ""),
                )
            )
        )
        assert Client(server, 1, client_id=DUID).join() == ip(50)
        assert Client(server, 1, client_id=b"\0no").join() == ip(60)

    def test_a_machine_boots_without_one_and_runs_with_one(self, server):
        assert Client(server, 1).join() == ip(3)
        system = Client(server, 1, client_id=DUID)
        assert system.join() == ip(3)
        assert [(x.client_id, x.state) for x in server.leases()] == [(DUID, "bound")]
        assert Client(server, 1).join() == ip(3), "and boots again"
        assert system.renew(ip(3)).message_type == ACK
        assert len(server.leases()) == 1

    def test_a_reserved_system_s_machine_boots_at_its_address(self):
        server = DhcpServer(settings_of(static=((f"id:{DUID.hex(':')}", "192.168.65.50", ""),)))
        Client(server, 1, client_id=DUID).join()
        assert Client(server, 1).join() == ip(50)

    def test_two_identifiers_of_one_card_are_two(self, server):
        """As behind an ipvlan device."""
        assert Client(server, 1, client_id=b"\1" + mac(1)).join() == ip(3)
        assert Client(server, 1, client_id=b"\0a").join() == ip(4)
        assert Client(server, 1, client_id=b"\0b").join() == ip(5)
        assert [
            Client(server, 1, client_id=i).renew(ip(n)).message_type for i, n in ((b"\0a", 4), (b"\0b", 5))
        ] == [
            ACK,
            ACK,
        ]
        assert Client(server, 2).join() == ip(6)

    def test_reserving_what_an_identifier_has(self, server):
        assert Client(server, 1, client_id=DUID).join() == ip(3)
        assert server.reserve(f"id:{DUID.hex(':')}", name="web") == ip(3)
        assert [(x.mac, x.state, x.name) for x in server.leases()] == [(mac(1), "static", "web")]
        assert server.release(ip(3))
        assert server.leases() == []


class TestLeaseTimes:
    def test_a_client_may_ask_for_less(self, server):
        for asked, got in ((600, 600), (7200, 3600), (1, 120), (0xFFFFFFFF, 3600)):
            offer = Client(server).discover(options={51: asked.to_bytes(4, "big")})
            assert (offer.lease_time, offer.renewal_time, offer.rebinding_time) == (
                got,
                got // 2,
                got * 7 // 8,
            )
        c = Client(server)
        assert c.select(ip(3), options={51: (600).to_bytes(4, "big")}).lease_time == 600
        assert server.leases()[0].expires == 600

    def test_not_below_short_leases_of_the_server(self):
        server = DhcpServer(settings_of(lease_seconds=10))
        assert Client(server).discover(options={51: b"\0\0\0\1"}).lease_time == 10


class TestConflicts:
    """RFC 2131 section 2.2: an address that somebody uses is not given away."""

    def test_a_squatter_s_address_is_passed_over(self):
        speakers = {int(ip(3)): mac(77), int(ip(4)): mac(1)}
        server = DhcpServer(settings_of(), lambda: speakers)
        assert Client(server, 1).join() == ip(4), "where it speaks itself it is at home"
        assert server.conflicts == 1
        assert next((x.address, x.mac, x.state) for x in server.leases()) == (ip(3), mac(77), "declined")
        assert Client(server, 2).discover(requested=ip(3)).yiaddr == ip(5)
        speakers[int(ip(9))] = mac(77)
        assert Client(server, 3).discover(requested=ip(9)).yiaddr == ip(6)
        assert server.conflicts == 2
        speakers.clear()
        later = Client(server, 4)
        later.now = 700
        assert later.discover(requested=ip(3)).yiaddr == ip(3)

    def test_who_had_it_before_is_not_in_the_way(self):
        speakers = {int(ip(3)): mac(1)}
        server = DhcpServer(settings_of(last="192.168.65.3"), lambda: speakers)
        Client(server, 1).join()
        assert server.release(ip(3))
        assert Client(server, 2).join() == ip(3)
        assert server.conflicts == 0


def test_what_is_stored_is_taken_up_again(server):
    """Everything that was promised, and nothing else."""
    server.reserve("id:db-1", "192.168.65.50", "db", added=True)
    Client(server, 1).join(options={12: b"laptop"})
    Client(server, 2, client_id=DUID).join()
    Client(server, 3).join()
    Client(server, 3).say(RELEASE, ciaddr=ip(5), server=SERVER)
    Client(server, 4).join()
    Client(server, 4).say(DECLINE, requested=ip(6), server=SERVER)
    Client(server, 5).discover()
    stored = [entry for entry in server.take_changes().values() if entry is not None]
    assert {entry.address: entry.state for entry in stored} == {
        "192.168.65.3": "bound", "192.168.65.4": "bound", "192.168.65.5": "kept", "192.168.65.6": "declined",
        "192.168.65.50": "reserved",
    }  # fmt: skip
    assert server.take_changes() == {}
    again = DhcpServer(settings_of())
    assert again.restore(stored, 10.0) == []
    assert again.take_changes() == {}
    assert [x for x in server.leases() if x.state != "offered"] == again.leases()
    c = Client(again, 1)
    c.now = 10
    assert c.reboot(ip(3)).message_type == ACK
    assert list(again.take_changes()) == ["192.168.65.3"], "a plain renewal is to be stored as well"
    assert Client(again, 2, client_id=DUID).renew(ip(4)).message_type == ACK
    assert Client(again, 1, client_id=b"\0db-1").join() == ip(50)
    assert Client(again, 9).join() == ip(7)
    late = DhcpServer(settings_of())
    late.restore(stored, 1e6)
    assert {x.state for x in late.leases()} == {"kept", "static"}
    other = DhcpServer(settings_of(first="192.168.65.200", static=((mac(9).hex(":"), "192.168.65.4", ""),)))
    assert {x.address for x in other.restore(stored, 10.0)} == {f"192.168.65.{n}" for n in (3, 4, 5, 6)}


class TestDropped:
    def drop(self, server, raw, outcome):
        assert server.handle(raw, 0.0) is None
        assert {k: v for k, v in server.counters.items() if v} == {outcome: 1}

    def test_not_a_request(self, server):
        self.drop(server, DhcpMessage(2, 1, mac(1), {53: b"\2"}).build(), "dropped_not_request")

    def test_bootp(self, server):
        self.drop(server, DhcpMessage(1, 1, mac(1)).build(), "dropped_no_type")

    @pytest.mark.parametrize("kind", [0, 2, 5, 6, 9, 13, 255])
    def test_types_that_clients_do_not_send(self, server, kind):
        self.drop(server, DhcpMessage(1, 1, mac(1), {53: bytes([kind])}).build(), "dropped_unexpected_type")

    @pytest.mark.parametrize("chaddr", [b"", bytes(6), b"\xff" * 6, b"\1" + bytes(5), b"\2" * 5])
    def test_nobody(self, server, chaddr):
        self.drop(server, DhcpMessage(1, 1, chaddr, {53: b"\1"}).build(), "dropped_no_client")

    @pytest.mark.parametrize(
        "options",
        [
            {53: b"\1\1"},
            {53: b"\1", 50: b"\1\2\3"},
            {53: b"\3", 54: b"\1\2\3\4\5"},
            {53: b"\1", 57: b"\1"},
            {53: b"\1", 61: b"\1"},
        ],
    )
    def test_options_of_a_wrong_size(self, server, options):
        self.drop(server, DhcpMessage(1, 1, mac(1), options).build(), "dropped_malformed")

    def test_every_prefix(self, server):
        m = DhcpMessage(1, 1, mac(1), {53: b"\1", 50: ip(9).packed, 61: b"\1" + mac(1)})
        raw = m.build(minimum=0)
        answered = [n for n in range(len(raw) + 1) if server.handle(raw[:n], 0.0) is not None]
        assert answered == [243, 249, 258, 259]
        assert server.counters["dropped_malformed"] + server.counters["dropped_no_type"] + 4 == len(raw) + 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),  # client
            st.sampled_from([DISCOVER, REQUEST, REQUEST, REQUEST, DECLINE, RELEASE, INFORM]),
            st.sampled_from([None, 3, 4, 5, 6, 200]),  # requested
            st.sampled_from([None, None, 3, 4, 5]),  # ciaddr
            st.sampled_from([None, "192.168.65.1", "192.168.65.1", "192.168.65.9"]),
            st.sampled_from([0, 0, 1, 30, 100, 4000]),  # seconds later
        ),
        max_size=60,
    )
)
def test_no_address_is_bound_twice(steps):
    """Any clients saying anything: what one client was promised is not promised to another meanwhile."""
    server = DhcpServer(settings_of(last="192.168.65.5", lease_seconds=1000))
    server.reserve(mac(4), ip(5))
    held = {}  # address to (client, until)
    now = 0.0
    for n, kind, requested, ciaddr, to, later in steps:
        now += later
        c = Client(server, n)
        c.now = now
        reply = c.say(
            kind,
            requested=ip(requested) if requested else None,
            ciaddr=ip(ciaddr) if ciaddr else NONE,
            server=to,
        )
        if kind in (DECLINE, RELEASE):
            assert reply is None
            held = {a: (who, until) for a, (who, until) in held.items() if who != n}
        if reply is not None and reply.message_type == ACK and kind == REQUEST:
            who, until = held.get(reply.yiaddr, (n, 0))
            assert who == n or until <= now
            assert (reply.yiaddr == ip(5)) == (n == 4)
            assert ip(3) <= reply.yiaddr <= ip(5)
            held = {a: entry for a, entry in held.items() if entry[0] != n}
            held[reply.yiaddr] = (n, now + 1000)
        addresses = [x.address for x in server.leases(now)]
        assert len(addresses) == len(set(addresses)) <= 3


@settings(max_examples=150)
@given(st.binary(min_size=0, max_size=60), st.integers(0, 8))
def test_noise(noise, kind):
    server = DhcpServer(settings_of())
    raw = DhcpMessage(1, 1, mac(1), {53: bytes([kind])}).build(minimum=0)[:-1] + noise
    server.handle(raw, 0.0)
    assert sum(server.counters.values()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"server": "10.0.0.1"},
        {"server": "x"},
        {"network": "192.168.65.0/33"},
        {"network": "192.168.65.1/24"},
        {"first": "192.168.66.1"},
        {"first": "192.168.65.9", "last": "192.168.65.8"},
        {"network": "10.0.0.0/8", "server": "10.0.0.1", "first": "10.0.0.3", "last": "10.9.0.0"},
        {"lease_seconds": 0},
        {"lease_seconds": 1 << 32},
        {"mtu": 67},
        {"mtu": 65536},
        {"domain": "ä"},
        {"dns_servers": ("::1",)},
        {"extra": ((53, b"\1"),)},
        {"extra": ((255, b""),)},
    ],
)
def test_settings_refused(changes):
    with pytest.raises(ConfigError):
        settings_of(**changes)


def test_static_leases_refused():
    with pytest.raises(ConfigError):
        DhcpServer(settings_of(static=(("02:00:00:00:00:01", "10.0.0.1", ""),)))
