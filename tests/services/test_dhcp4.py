"""The DHCPv4 server: a client's walk through its states, who gets which address, where replies go, noise."""

from ipaddress import IPv4Address

import pytest
from dhcp4_client import NONE, SERVER, Client, ip, mac, settings_of
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.errors import ConfigError
from netstack.services.dhcp4 import BROADCAST, BROADCAST_MAC, DhcpServer
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
