"""Who holds an address: static leases, identifiers of clients, names, and what is taken up after a restart."""

import pytest
from dhcp4_client import SERVER, Client, ip, mac, settings_of

from netstack.errors import ConfigError
from netstack.services.dhcp4 import DhcpServer
from netstack.wire.dhcp4 import (
    ACK,
    DECLINE,
    NAK,
    RELEASE,
)

DUID = b"\xff\x56\x50\x4d\x98\0\2\0\0\xab\x11"


@pytest.fixture
def server():
    return DhcpServer(settings_of())


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
