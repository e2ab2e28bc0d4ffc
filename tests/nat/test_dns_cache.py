"""The cache: answers as long as they say, and after that for the time when no server answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dns_stack import SOA, Server, asking

from netstack.wire.dns import DnsEdns, DnsRecord

DO = 0x8000


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.sock.close()


def address(name: str, ttl: int, value: str = "192.0.2.7") -> DnsRecord:
    return DnsRecord.of(name, "A", value, ttl)


def test_an_answer_is_kept_for_its_smallest_ttl_which_counts_down(server: Server) -> None:
    with asking(server) as guest:
        assert guest.ask("one.test") is None
        server.answer(server.take(), address("one.test", 30), address("one.test", 10, "192.0.2.8"))
        assert [r.ttl for r in guest.wait().answers] == [30, 10]
        kept = guest.ask("ONE.test", seconds=0)
        assert kept is not None
        assert kept.questions[0].name == "ONE.test"  # as it was asked
        guest.stack.run(4)
        kept = guest.ask("one.test")
        assert kept is not None
        assert [(str(r.value), r.ttl) for r in kept.answers] == [("192.0.2.7", 26), ("192.0.2.8", 6)]
        assert server.idle()
        guest.stack.run(6)
        assert guest.ask("one.test") is None  # over: asked again
        assert server.take().questions[0].name == "one.test"
        assert guest.stat("cached") == 2


@pytest.mark.parametrize("rcode", [0, 3])
def test_what_is_not_there_is_kept_as_long_as_the_soa_record_says(server: Server, rcode: int) -> None:
    with asking(server) as guest:
        guest.ask("none.test")
        server.answer(server.take(), rcode=rcode, authority=[SOA])
        assert guest.wait().rcode == rcode
        guest.stack.run(19)
        kept = guest.ask("none.test")
        assert kept is not None
        assert (kept.rcode, kept.answers, kept.authority[0].ttl) == (rcode, [], 41)
        guest.stack.run(1)
        assert guest.ask("none.test") is None


@pytest.mark.parametrize(
    ("answers", "more"),
    [
        ((), {"rcode": 3}),  # nothing, and nothing says for how long (RFC 2308 section 5)
        ((), {}),
        ((address("one.test", 0),), {}),
        ((), {"rcode": 2, "authority": [SOA]}),
        ((), {"rcode": 5, "authority": [SOA]}),
    ],
)
def test_what_is_not_kept(server: Server, answers: tuple[DnsRecord, ...], more: dict[str, object]) -> None:
    with asking(server) as guest:
        for _ in range(2):
            assert guest.ask("one.test") is None
            server.answer(server.take(), *answers, **more)
            guest.wait()


def test_a_truncated_answer_is_not_kept(server: Server) -> None:
    with asking(server) as guest:
        for _ in range(2):
            assert guest.ask("one.test") is None
            query = server.take()
            query.truncated = query.response = True
            server.sock.sendto(query.build(), server.peer)
            assert guest.wait().truncated


def test_bits_that_change_an_answer_are_part_of_the_question(server: Server) -> None:
    """DO, CD and AD, RD, and whether there is an OPT record at all."""
    asked = [
        (None, 0x100),
        (DnsEdns(1232), 0x100),
        (DnsEdns(1232, flags=DO), 0x100),
        (None, 0x110),
        (None, 0x120),
        (None, 0),
    ]
    with asking(server) as guest:
        for number, (edns, flags) in enumerate(asked):
            assert guest.ask("one.test", edns=edns, flags=flags) is None
            server.answer(server.take(), address("one.test", 60, f"192.0.2.{number}"))
            guest.wait()
        for number, (edns, flags) in enumerate(asked):
            kept = guest.ask("one.test", edns=edns, flags=flags)
            assert kept is not None
            assert str(kept.answers[0].value) == f"192.0.2.{number}"
            assert (kept.edns is None) == (edns is None)
        assert server.idle()


def test_edns_options_pass_by_the_cache(server: Server) -> None:
    cookie = DnsEdns(1232, options=[(10, b"12345678")])
    with asking(server) as guest:
        guest.ask("one.test", edns=DnsEdns(1232))
        server.answer(server.take(), address("one.test", 60))
        guest.wait()
        assert guest.ask("one.test", edns=cookie) is None
        query = server.take()
        assert query.edns is not None
        assert query.edns.options == ((10, b"12345678"),)


def test_without_a_cache_every_question_is_asked(server: Server) -> None:
    with asking(server, dns_cache=0) as guest:
        for _ in range(2):
            assert guest.ask("one.test") is None
            server.answer(server.take(), address("one.test", 60))
            guest.wait()


def test_the_cache_is_bounded_and_the_longest_unused_makes_room(server: Server) -> None:
    with asking(server, dns_cache=4) as guest:
        for i in range(5):
            guest.ask(f"n{i}.test")
            server.answer(server.take(), address(f"n{i}.test", 60))
            guest.wait()
        assert guest.ask("n4.test") is not None
        assert guest.ask("n0.test") is None


def test_other_servers_make_it_forget(server: Server) -> None:
    other = Server()
    with asking(server) as guest:
        guest.ask("one.test")
        server.answer(server.take(), rcode=3, authority=[SOA])
        guest.wait()
        guest.stack.gateway._engine.set_dns_routes([("", [("127.0.0.1", other.port, 0)])])
        assert guest.ask("one.test") is None
        other.answer(other.take(), address("one.test", 60))
        assert guest.wait().rcode == 0
    other.sock.close()


class TestStale:
    """RFC 8767."""

    def begin(self, guest, server, ttl=5):
        guest.ask("one.test")
        server.answer(server.take(), address("one.test", ttl))
        guest.wait()
        guest.stack.run(ttl + 1)

    def test_after_the_patience_of_a_client_and_refreshed_by_what_comes(self, server):
        with asking(server) as guest:
            self.begin(guest, server)
            assert guest.ask("one.test", seconds=1.7) is None
            stale = guest.wait(0.2)
            assert [(r.ttl, str(r.value)) for r in stale.answers] == [(30, "192.0.2.7")]
            assert guest.stat("stale") == 1
            server.take()
            query = server.take()  # sent once more meanwhile
            server.answer(query, address("one.test", 60, "192.0.2.9"))
            guest.quiet()  # the guest has had its answer
            fresh = guest.ask("one.test")
            assert fresh is not None
            assert str(fresh.answers[0].value) == "192.0.2.9"

    def test_at_once_when_the_server_refuses_or_fails(self, server):
        with asking(server) as guest:
            self.begin(guest, server)
            guest.ask("one.test")
            server.answer(server.take(), rcode=2)
            assert guest.wait().answers[0].ttl == 30
            server.sock.close()
            stale = guest.ask("one.test") or guest.wait()
            assert stale.answers[0].ttl == 30
            assert guest.stat("servfail") == 0

    def test_not_for_ever(self, server):
        with asking(server) as guest:
            self.begin(guest, server)
            guest.stack.run(86400)
            server.sock.close()
            assert (guest.ask("one.test") or guest.wait()).rcode == 2
