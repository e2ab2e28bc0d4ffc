"""Which name server is asked, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dns_stack import Server, asking
from stack import GATEWAY, GATEWAY_MAC, GUEST, IP, MAC, UDP, Ether, data_of

from netstack.wire.dns import DnsEdns, DnsMessage, DnsRecord


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made = [Server() for _ in range(3)]
    yield made
    for server in made:
        server.sock.close()


def records(n: int = 1) -> list[DnsRecord]:
    return [DnsRecord.of("one.test", "TXT", "x" * 200, 60) for _ in range(n)]


def test_the_longest_zone_has_the_name(servers: list[Server]) -> None:
    everything, corp, lab = servers
    with asking(dns=(everything.text, f"corp.example={corp.text}", f"Lab.Corp.Example={lab.text}")) as guest:
        for name, server in (
            ("example", everything), ("example.corp", everything), ("notcorp.example", everything),
            ("corp.example", corp), ("a.CORP.example", corp), ("xlab.corp.example", corp),
            ("lab.corp.example", lab), ("b.a.lab.corp.EXAMPLE", lab),
        ):  # fmt: skip
            guest.ask(name)
            query = server.take()
            assert query.questions[0].name == name
            server.answer(query)
            guest.wait()


def test_a_failing_server_is_followed_by_the_next_and_the_last_one_s_word_counts(
    servers: list[Server],
) -> None:
    first, second, _ = servers
    with asking(first, second) as guest:
        for rcode, final in ((2, 0), (4, 3), (5, 5)):
            guest.ask("one.test")
            first.answer(first.take(), rcode=rcode)
            guest.quiet()
            second.answer(second.take(), rcode=final)
            assert guest.wait().rcode == final


def test_no_such_name_is_an_answer(servers: list[Server]) -> None:
    """NXDOMAIN stays NXDOMAIN, and an empty answer stays empty: VPNKit made the one into the other."""
    first, second, _ = servers
    with asking(first, second) as guest:
        for rcode in (3, 0):
            guest.ask("one.test")
            first.answer(first.take(), rcode=rcode)
            reply = guest.wait()
            assert (reply.rcode, reply.answers) == (rcode, [])
        assert second.idle()


def test_a_silent_server_is_given_up_after_a_while_and_tried_again(servers: list[Server]) -> None:
    first, second, _ = servers
    with asking(first, second) as guest:
        for _ in range(3):
            guest.ask("one.test")
            guest.stack.run(0.8)
            second.answer(second.take())
            guest.wait()
            first.take()
        assert guest.stat("servers_down") == 1
        guest.ask("one.test")  # does not wait for the first any more
        second.answer(second.take())
        guest.wait()
        assert first.idle()
        guest.stack.run(2)
        guest.ask("one.test")
        first.answer(first.take())  # it is back
        guest.wait()
        guest.ask("one.test")
        first.answer(first.take())
        guest.wait()
        assert second.idle()


def test_when_all_are_given_up_they_are_asked_all_the_same(servers: list[Server]) -> None:
    first = servers[0]
    with asking(first) as guest:
        for _ in range(3):
            guest.ask("one.test")
            assert guest.wait(5).rcode == 2
        while not first.idle():
            pass
        guest.ask("one.test")
        first.answer(first.take())
        assert guest.wait().rcode == 0


def test_silence_is_servfail_before_a_resolver_loses_its_patience(servers: list[Server]) -> None:
    """VPNKit said nothing at all."""
    with asking(*servers) as guest:
        assert guest.ask("one.test", seconds=4.4) is None
        assert guest.wait(0.2).rcode == 2


def test_a_late_answer_to_the_first_of_two_datagrams_counts(servers: list[Server]) -> None:
    first = servers[0]
    with asking(first) as guest:
        guest.ask("one.test")
        query = first.take()
        guest.stack.run(1)
        again = first.take()
        assert again.id == query.id
        first.answer(query)
        guest.wait()


def test_ids_and_ports_cannot_be_guessed(servers: list[Server]) -> None:
    first = servers[0]
    ids, ports = set(), set()
    with asking(first) as guest:
        for i in range(40):
            guest.ask(f"n{i}.test", sport=5353)
            ids.add(first.take().id)
            ports.add(first.peer[1])
        for i in range(200):
            guest.ask(f"m{i}.test", sport=5353)
            ids.add(first.take().id)
            ports.add(first.peer[1])
    assert len(ids) > 230
    assert len(ports) == 16  # at this rate they share sockets, at a bounded number


def test_a_burst_is_whole_whatever_its_lengths(servers: list[Server]) -> None:
    """Those of one length leave by one message, which the kernel cuts again; long ones and single ones as they are."""
    first = servers[0]
    names = [f"{'x' * (i % 3)}{i:02}.test" for i in range(40)] + [".".join(["y" * 60] * 4), "odd-one.test"]
    with asking(first) as guest:
        frames = [
            Ether(src=MAC, dst=GATEWAY_MAC)
            / IP(src=GUEST, dst=GATEWAY)
            / UDP(sport=6000 + i, dport=53)
            / DnsMessage.query(name, id=i).build()
            for i, name in enumerate(names)
        ]
        assert guest.stack.send(*frames) == []
        asked = []
        for _ in names:
            query = first.take()
            asked.append(query.questions[0].name)
            first.answer(query)
        assert sorted(asked) == sorted(names)
        assert first.idle()
        assert guest.stat("forwarded") == len(names)
        answers: dict[int, str] = {}
        while len(answers) < len(names):
            for frame in guest.stack.run():
                reply = DnsMessage.parse(data_of(frame))
                assert frame[UDP].dport == 6000 + reply.id
                answers[reply.id] = reply.questions[0].name
        assert [answers[i] for i in range(len(names))] == names


def test_a_low_rate_uses_a_port_for_each_query(servers: list[Server]) -> None:
    first = servers[0]
    ports = []
    with asking(first) as guest:
        for i in range(8):
            guest.ask(f"n{i}.test")
            first.answer(first.take())
            ports.append(first.peer[1])
            guest.wait()
            guest.stack.run(1.5)
    assert len(set(ports)) > 4  # each chosen by the system; one may come twice


@pytest.mark.parametrize(("edns", "whole"), [(None, False), (DnsEdns(1232), False), (DnsEdns(4096), True)])
def test_an_answer_is_cut_only_where_the_client_cannot_take_it(servers, edns, whole):
    """VPNKit knew 512 bytes and nothing else."""
    first = servers[0]
    with asking(first, mtu=9000) as guest:
        guest.ask("one.test", "TXT", edns=edns)
        query = first.take()
        assert (query.edns is None) == (edns is None)
        first.answer(query, *records(10))
        reply = guest.wait()
        assert reply.truncated != whole
        assert len(reply.answers) == (10 if whole else 2 if edns is None else 5)
        assert (reply.edns is None) == (edns is None)
        assert guest.stat("truncated") == (not whole)


def test_no_server_for_a_name_is_servfail(servers: list[Server]) -> None:
    first = servers[0]
    with asking(first) as guest:
        guest.stack.gateway._engine.set_dns_routes([("corp", [("127.0.0.1", first.port, 0)])])
        reply = guest.ask("one.test")
        assert reply is not None
        assert reply.rcode == 2
        assert guest.ask("a.corp") is None
        assert first.take().questions[0].name == "a.corp"


def test_reverse_names_of_the_network_are_nobody_else_s(servers: list[Server]) -> None:
    """RFC 6303: an address that nobody has is NXDOMAIN here, and not asked of the world."""
    with asking(servers[0]) as guest:
        known = guest.ask("1.65.168.192.in-addr.arpa", "PTR")
        assert known is not None
        assert known.answers[0].value == "gateway.internal"
        unknown = guest.ask("77.65.168.192.in-addr.arpa", "PTR")
        assert unknown is not None
        assert unknown.rcode == 3
        assert unknown.authority[0].type == 6
        assert servers[0].idle()
