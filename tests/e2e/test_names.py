"""Names with dig: the gateway's own, and the host's resolver with every type and code intact."""

from __future__ import annotations

import shutil
import socket
import time

import pytest
from dig import dig as asked
from programs import DNSMASQ

from netstack.config import Config
from netstack.testing.lab import GATEWAY, HOST_ALIAS, Lab
from netstack.testing.servers import DnsResponder, TcpServer

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netstack_only")]

LONG = [f"{n:03d}" + "x" * 200 for n in range(20)]


@pytest.fixture(scope="module")
def dnsmasq(net):
    """The host's resolver."""
    for program in ("dnsmasq", "dig"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    server = net.host.spawn(
        *DNSMASQ,
        *("--listen-address=127.0.0.1", "--local=/test/", "--edns-packet-max=4096"),
        *("--host-record=one.test,192.0.2.7,2001:db8::7", "--cname=alias.test,one.test"),
        *("--mx-host=one.test,mail.test,5", "--srv-host=_http._tcp.test,one.test,8080,1,2"),
        "--txt-record=short.test,hello world",
        "--caa-record=one.test,0,issue,ca.test",
        *(f"--txt-record=long.test,{text}" for text in LONG),
    )
    server.wait_listening(53)
    net.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    yield server
    server.stop()


def dig(net, *args, server=GATEWAY):
    """Status, flags and answer lines of one query."""
    status, flags, records = asked(net.guest, server, "+noauthority", *args)
    return status, flags, [words[4] for words in records]


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("one.test", "A", ["192.0.2.7"]),
        ("one.test", "AAAA", ["2001:db8::7"]),
        ("alias.test", "A", ["one.test.", "192.0.2.7"]),
        ("one.test", "MX", ["5 mail.test."]),
        ("_http._tcp.test", "SRV", ["1 2 8080 one.test."]),
        ("short.test", "TXT", ['"hello world"']),
        ("one.test", "CAA", ['0 issue "ca.test"']),
    ],
)
def test_the_host_s_resolver_answers(net, dnsmasq, transport, name, kind, answer):
    status, _, answers = dig(net, transport, name, kind)
    assert status == "NOERROR"
    assert answers == answer


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(
    ("name", "address"),
    [("gateway.internal", GATEWAY), ("host.internal", HOST_ALIAS), ("host.docker.internal", HOST_ALIAS)],
)
def test_built_in_names(net, dnsmasq, transport, name, address):
    assert dig(net, transport, name, "A")[::2] == ("NOERROR", [address])
    assert dig(net, transport, name, "AAAA")[::2] == ("NOERROR", [])


def test_the_guest_s_own_resolver_works(net, dnsmasq):
    done = net.guest.run("getent", "ahostsv4", "one.test")
    assert done.stdout.split()[0] == "192.0.2.7"


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_a_name_that_is_not_there(net, dnsmasq, transport):
    assert dig(net, transport, "nothing.test", "A")[::2] == ("NXDOMAIN", [])


def test_a_big_answer_is_truncated_and_then_fetched_over_tcp(net, dnsmasq):
    status, flags, _ = dig(net, "+notcp", "+noedns", "+ignore", "long.test", "TXT")
    assert status == "NOERROR"
    assert "tc" in flags
    _, flags, answers = dig(net, "+notcp", "+noedns", "long.test", "TXT")
    assert "tc" not in flags
    assert sorted(answers) == sorted(f'"{text}"' for text in LONG)


def test_a_big_answer_in_one_datagram_when_the_guest_has_room(net, dnsmasq):
    _, flags, answers = dig(net, "+notcp", "+bufsize=8192", "+ignore", "short.test", "TXT")
    assert "tc" not in flags
    assert answers == ['"hello world"']


def test_no_resolver_is_a_failure_and_no_silence(net, dnsmasq):
    net.host.resolv_conf.write_text("nameserver 127.0.0.9\n")  # nobody listens there
    try:
        reloaded(net, "one.test", "SERVFAIL")
        assert dig(net, "+notcp", "one.test", "A")[0] == "SERVFAIL"
        assert dig(net, "+tcp", "one.test", "A")[0] == "SERVFAIL"
        assert dig(net, "gateway.internal", "A")[2] == [GATEWAY]
    finally:
        net.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
    reloaded(net, "one.test", "NOERROR")
    assert dig(net, "one.test", "A")[2] == ["192.0.2.7"]


def reloaded(net, name, status, seconds=10.0):
    """Asks until a change of the host's resolv.conf shows: it is looked at every second or so."""
    end = time.monotonic() + seconds
    while (found := dig(net, "+notcp", "+noedns", name, "A")[0]) != status:
        assert time.monotonic() < end, f"{name} is still {found}"
        time.sleep(0.2)


RCODES = {"FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6, "NOTAUTH": 9}


def test_every_code_and_every_type_is_passed_on(net):
    if shutil.which("dig") is None:
        pytest.skip("the program 'dig' is missing")
    sock = net.host.socket(kind=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.8", 53))
    table = {(f"{name.lower()}.example", 1): (code, None) for name, code in RCODES.items()}
    table |= {("odd.example", kind): (0, bytes(range(kind % 200))) for kind in (1234, 4321, 65280, 65534)}
    with DnsResponder(sock, table) as server:
        net.host.resolv_conf.write_text("nameserver 127.0.0.8\n")
        reloaded(net, "notauth.example", "NOTAUTH")
        server.questions.clear()
        for name in RCODES:
            assert dig(net, "+notcp", "+noedns", f"{name.lower()}.example", "A")[0] == name
        for _, kind in [key for key in table if key[0] == "odd.example"]:
            status, _, answers = dig(net, "+notcp", "+noedns", "+unknownformat", "odd.example", f"TYPE{kind}")
            assert status == "NOERROR"
            want = bytes(range(kind % 200)).hex().upper()
            assert (
                answers == [rf"\# {len(want) // 2} {want}".strip()]
                or "".join(answers[0].split()[2:]).upper() == want
            )
        assert len(server.questions) == len(table)


def test_names_and_files_that_change_while_traffic_runs(net, dnsmasq, tmp_path):
    """The hosts file and the host's resolver: followed within two seconds, and no connection breaks."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.1.1.1 moving.corp\n")
    with Lab() as lab:
        servers = []
        for n in (1, 2):
            asked = lab.host.socket(kind=socket.SOCK_DGRAM)
            asked.bind((f"127.0.0.{n}", 53))
            servers.append(DnsResponder(asked, {("where.example", 1): (0, bytes([192, 0, 2, n]))}))
        echo = lab.host.listen("127.0.0.1", 8000)
        lab.host.resolv_conf.write_text("nameserver 127.0.0.1\n")
        config = Config(
            dns_cache=0,
            names=("web.corp=10.0.0.5", "*.dev.corp=10.0.0.9"),
            zones=("corp",),
            hosts_file=str(hosts),
        )
        with (
            lab.gateway(config),
            servers[0],
            servers[1],
            TcpServer(echo) as server,
            lab.guest.connect(HOST_ALIAS, server.port) as sock,
        ):
            assert dig(lab, "WeB.cOrP", "A") == ("NOERROR", ["qr", "aa", "rd", "ra"], ["10.0.0.5"])
            assert dig(lab, "x.dev.corp", "A")[2] == ["10.0.0.9"]
            assert dig(lab, "+tcp", "none.corp", "A")[0] == "NXDOMAIN"
            assert dig(lab, "-x", "10.0.0.5")[2] == ["web.corp."]
            assert dig(lab, "moving.corp", "A")[2] == ["10.1.1.1"]

            def followed(name, want):
                """Seconds until the guest is told so; a byte goes there and back over the connection meanwhile."""
                begun = time.monotonic()
                while dig(lab, "+noedns", name, "A")[2] != [want]:
                    assert time.monotonic() < begun + 10
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                    time.sleep(0.05)
                return time.monotonic() - begun

            took = {"hosts file": [], "resolver": []}
            for n in (2, 1, 2):
                hosts.write_text(f"10.1.1.{n} moving.corp\n")
                took["hosts file"].append(followed("moving.corp", f"10.1.1.{n}"))
                lab.host.resolv_conf.write_text(f"nameserver 127.0.0.{n}\n")
                took["resolver"].append(followed("where.example", f"192.0.2.{n}"))
            for what, seconds in took.items():  # a machine with other work may be late, but not each time
                assert min(seconds) < 2.0, (what, took)


def test_what_is_known_is_still_said_when_the_resolver_has_gone(net, dnsmasq):
    """RFC 8767, over UDP and TCP; and from the cache while it is fresh."""
    with Lab() as lab:
        resolver = lab.host.spawn(
            *DNSMASQ,
            "--local-ttl=1",
            *("--listen-address=127.0.0.1", "--local=/test/", "--host-record=one.test,192.0.2.7"),
        )
        resolver.wait_listening(53)
        with lab.gateway(Config(dns=("127.0.0.1",))) as gateway:
            for transport in ("+notcp", "+tcp"):
                assert dig(lab, transport, "+nocookie", "one.test", "A")[2] == ["192.0.2.7"]
            resolver.stop()
            time.sleep(1.1)
            for transport in ("+notcp", "+tcp"):
                assert dig(lab, transport, "+nocookie", "one.test", "A")[::2] == ("NOERROR", ["192.0.2.7"])
                assert dig(lab, transport, "+nocookie", "two.test", "A")[0] == "SERVFAIL"
            assert gateway.stats()["dns_stale"] == 2
