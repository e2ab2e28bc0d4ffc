"""Names and name servers as a user writes them; hosts files."""

import ipaddress

import pytest

from netstack.errors import ConfigError
from netstack.services.dns_names import merge_names, parse_name, reverse_zones, search_option
from netstack.services.dns_servers import NameServer, merge_routes, parse_name_server, parse_routes
from netstack.services.dns_table import DnsTable
from netstack.services.hosts_file import parse_hosts


@pytest.mark.parametrize(
    ("text", "name", "records"),
    [
        ("web.corp=10.0.0.5", "web.corp", [("A", "10.0.0.5")]),
        ("web.corp=10.0.0.5, fd00::5", "web.corp", [("A", "10.0.0.5"), ("AAAA", "fd00::5")]),
        ("*.dev.corp=10.0.0.9", "*.dev.corp", [("A", "10.0.0.9")]),
        ("www.corp=cname web.corp", "www.corp", [("CNAME", "web.corp")]),
        ("corp=MX 10 mail.corp", "corp", [("MX", (10, "mail.corp"))]),
        ("_ldap._tcp.corp=SRV 0 5 389 dc.corp", "_ldap._tcp.corp", [("SRV", (0, 5, 389, "dc.corp"))]),
        ('corp=TXT "v=spf1 -all" more', "corp", [("TXT", ("v=spf1 -all", "more"))]),
        ("5.0.0.10.in-addr.arpa=PTR web.corp", "5.0.0.10.in-addr.arpa", [("PTR", "web.corp")]),
        ("corp=TYPE65280 00ff 10", "corp", [("TYPE65280", b"\x00\xff\x10")]),
    ],
)
def test_names(text, name, records):
    assert parse_name(text) == (name, records)
    DnsTable({name: records})  # which takes them


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web.corp", "NAME=ADDRESS"),
        ("=10.0.0.1", "NAME=ADDRESS"),
        ("web.corp=", "NAME=ADDRESS"),
        ("web.corp=10.0.0.256", "neither an address nor TYPE VALUE"),
        ("corp=MX mail.corp", "no value of type MX: it is written PREFERENCE NAME"),
        ("corp=SRV 1 2 x y", "PRIORITY WEIGHT PORT TARGET"),
        ("corp=TXT", "TXT: it is written TEXT"),
        ("corp=CNAME a b", "CNAME: it is written NAME"),
        ("corp=CAA 0 issue x", "hexadecimal digits"),
        ("corp=CAA", "hexadecimal digits"),
        ('corp=TXT "open', "neither an address"),
    ],
)
def test_names_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_name(text)


def test_an_earlier_layer_has_the_word_type_by_type():
    merged = merge_names(
        {"a": [("A", "10.0.0.1")], "alias": [("CNAME", "a")]},
        {
            "A": [("A", "10.0.0.2"), ("TXT", "x"), ("CNAME", "b")],
            "alias": [("A", "10.0.0.3")],
            "b.": [("A", "10.0.0.4")],
        },
    )
    assert merged == {
        "a": [("A", "10.0.0.1"), ("TXT", "x")],
        "alias": [("CNAME", "a")],
        "b": [("A", "10.0.0.4")],
    }


@pytest.mark.parametrize(
    ("network", "zones"),
    [
        ("192.168.65.0/24", ["65.168.192.in-addr.arpa"]),
        ("10.0.0.0/8", ["10.in-addr.arpa"]),
        ("172.16.4.0/23", ["4.16.172.in-addr.arpa", "5.16.172.in-addr.arpa"]),
        ("10.1.2.8/30", [f"{n}.2.1.10.in-addr.arpa" for n in (8, 9, 10, 11)]),
    ],
)
def test_reverse_zones(network, zones):
    assert reverse_zones(network) == zones


def test_search_option_holds_whole_names_only():
    assert search_option(["corp", "a.corp"]) == b"\x04corp\0" + b"\x01a\x04corp\0"
    assert len(search_option([f"{'x' * 60}.{n}" for n in range(10)])) == 3 * 64


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.0.0.53", NameServer("10.0.0.53")),
        ("10.0.0.53#5353", NameServer("10.0.0.53", 5353)),
        ("[fd00::53]:54", NameServer("fd00::53", 54)),
        ("tls://9.9.9.9#dns.quad9.net", NameServer("9.9.9.9", 853, "dns.quad9.net")),
        ("tls://9.9.9.9:8853#dns.quad9.net", NameServer("9.9.9.9", 8853, "dns.quad9.net")),
        ("tls://2620:fe::fe#dns.quad9.net", NameServer("2620:fe::fe", 853, "dns.quad9.net")),
        ("tls://[2620:fe::fe]:8853", NameServer("2620:fe::fe", 8853, "2620:fe::fe")),
    ],
)
def test_servers(text, server):
    assert parse_name_server(text) == server
    assert parse_name_server(str(server)) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "tls://dns.example#dns.example",
        "tls://9.9.9.9:0#x",
        "=10.0.0.1",
        "a..b=10.0.0.1",
        "corp=",
    ],
)
def test_servers_refused(text):
    with pytest.raises(ConfigError):
        parse_routes([text])


def test_routes():
    routes = parse_routes(["10.0.0.53", "Corp.Example.=10.8.0.1", "corp.example=10.8.0.2", "10.0.0.53"])
    assert {zone: [s.address for s in servers] for zone, servers in routes.items()} == {
        "": ["10.0.0.53"],
        "corp.example": ["10.8.0.1", "10.8.0.2"],
    }
    with pytest.raises(ConfigError, match="more than 8"):
        parse_routes([f"10.0.0.{n}" for n in range(9)])
    assert merge_routes(routes, parse_routes(["1.1.1.1", "lab=10.9.0.1"])) == {
        **routes,
        **parse_routes(["lab=10.9.0.1"]),
    }


def test_hosts_file():
    names = parse_hosts(
        "# a comment\r\n127.0.0.1\tlocalhost\n10.0.0.5  Web.Corp web # why\n\n"
        "fd00::5 web.corp.\n10.0.0.6 web.corp\n10.0.0.6 web.corp\nnonsense x\n10.0.0.7 a..b ok\nfe80::1%eth0 router\n"
    )
    assert names == {
        "localhost": ["127.0.0.1"],
        "web.corp": ["10.0.0.5", "fd00::5", "10.0.0.6"],
        "web": ["10.0.0.5"],
        "ok": ["10.0.0.7"],
        "router": ["fe80::1"],
    }
    assert all(ipaddress.ip_address(a) for addresses in names.values() for a in addresses)
