"""DNS as the gateway answers it: golden exchanges, tables, truncation, matching, damaged input."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.errors import ConfigError
from netstack.services.dns import (
    ANSWERED,
    DROP,
    FORWARD,
    answer,
    client_limit,
    failure,
    matches,
    question_hash,
    truncate,
)
from netstack.services.dns_table import DnsTable
from netstack.wire.dns import DnsEdns, DnsMessage, DnsQuestion, DnsRecord

STREAM = 0
NAMES = {
    "gateway.internal": "192.168.65.1",
    "host.internal": ["192.168.65.2", "fd00::2"],
    "WEB.internal": [("A", "10.0.0.5"), ("TXT", "hi"), ("MX", (10, "mail.internal"))],
    "www.internal": ("CNAME", "Web.internal"),
    "deep.internal": ("CNAME", "www.internal"),
    "out.internal": ("CNAME", "example.com"),
    "*.dev.internal": "10.0.0.9",
    "fixed.dev.internal": "10.0.0.10",
}


@pytest.fixture(scope="module")
def table():
    return DnsTable(NAMES, zones=["corp.test"], ttl=30)


def ask(table, name, kind="A", max_udp=1232, **more):
    query = DnsMessage.query(name, kind, id=0xBEEF, **more)
    verdict, raw = answer(table, query.build(), max_udp)
    if raw is None:
        return verdict
    assert verdict == ANSWERED
    reply = DnsMessage.parse(raw)
    assert (reply.id, reply.response, reply.opcode) == (0xBEEF, True, 0)
    assert reply.recursion_available
    assert reply.recursion_desired == query.recursion_desired
    assert reply.questions[0].name == name  # with its case
    assert reply.questions == query.questions
    return reply


def test_golden_answer(table):
    query = bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\x07gateWAY\x08internal\0" + b"\0\1\0\1"
    expected = (
        bytes.fromhex("1234 8580 0001 0001 0000 0000")
        + query[12:]
        + bytes.fromhex("c00c 0001 0001 0000001e 0004 c0a84101")
    )
    assert answer(table, query) == (ANSWERED, expected)


def test_golden_nodata_with_edns(table):
    name = b"\x07gateway\x08internal\0"
    query = bytes.fromhex("00070000 0001 0000 0000 0001") + name + b"\0\x1c\0\x01"
    query += bytes.fromhex("00 0029 1000 0000 8000 0000")
    soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\x1e" + struct.pack("!H", 18 + 29 + 20)
    soa += name + b"\x0ahostmaster" + name + struct.pack("!5I", 1, 3600, 600, 86400, 30)
    reply = bytes.fromhex("00078480 0001 0000 0001 0001") + name + b"\0\x1c\0\x01" + soa
    assert answer(table, query) == (ANSWERED, reply + bytes.fromhex("00 0029 04d0 0000 8000 0000"))


def test_addresses_of_both_kinds(table):
    assert [str(r.value) for r in ask(table, "host.internal").answers] == ["192.168.65.2"]
    assert [str(r.value) for r in ask(table, "host.internal", "AAAA").answers] == ["fd00::2"]
    reply = ask(table, "hOsT.InTeRnAl")
    assert reply.authoritative
    assert reply.answers[0].name == "hOsT.InTeRnAl"
    assert reply.answers[0].ttl == 30
    assert reply.edns is None


def test_existing_name_without_that_type(table):
    reply = ask(table, "gateway.internal", "HTTPS")
    assert (reply.rcode, reply.answers, reply.authoritative) == (0, [], True)
    assert [r.type for r in reply.authority] == [6]
    assert reply.authority[0].name == "gateway.internal"


def test_any_gets_everything(table):
    assert sorted(r.type for r in ask(table, "web.internal", "ANY").answers) == [1, 15, 16]


def test_other_names_go_upstream(table):
    for name in (
        "example.com",
        "internal",
        "x.internal",
        "ateway.internal",
        "x.gateway.internal",
        "dev.internal",
        ".",
    ):
        assert ask(table, name) == FORWARD
    assert ask(None, "gateway.internal") == FORWARD
    assert ask(DnsTable(), "gateway.internal") == FORWARD


def test_other_classes_go_upstream(table):
    query = DnsMessage(questions=[DnsQuestion("gateway.internal", "TXT", 3)]).build()
    assert answer(table, query) == (FORWARD, None)
    query = DnsMessage(questions=[DnsQuestion("gateway.internal", "A", 255)]).build()
    assert answer(table, query)[0] == ANSWERED


def test_aliases_are_followed_inside_the_table(table):
    reply = ask(table, "Deep.internal")
    assert reply.answers == [
        DnsRecord.of("deep.internal", "CNAME", "www.internal", 30),
        DnsRecord.of("www.internal", "CNAME", "Web.internal", 30),
        DnsRecord.of("web.internal", "A", "10.0.0.5", 30),
    ]
    assert [r.type for r in ask(table, "www.internal", "CNAME").answers] == [5]
    nodata = ask(table, "www.internal", "AAAA")
    assert [r.type for r in nodata.answers] == [5]
    assert nodata.authority[0].name == "Web.internal"
    assert [r.value for r in ask(table, "out.internal").answers] == ["example.com"]


def test_wildcards(table):
    for name in ("a.dev.internal", "a.b.dev.internal"):
        reply = ask(table, name)
        assert reply.answers == [DnsRecord.of(name, "A", "10.0.0.9", 30)]
    assert [str(r.value) for r in ask(table, "fixed.dev.internal").answers] == ["10.0.0.10"]
    # RFC 4592 section 2.2.1: a name that exists is not covered, nor is what lies below it.
    assert ask(table, "x.fixed.dev.internal") == FORWARD
    assert ask(table, "*.dev.internal").answers[0].name == "*.dev.internal"
    nodata = ask(table, "a.dev.internal", "MX")
    assert (nodata.answers, nodata.authority[0].name) == ([], "dev.internal")


def test_zones(table):
    reply = ask(table, "no.such.Corp.test")
    assert (reply.rcode, reply.answers, reply.authoritative) == (3, [], True)
    assert reply.authority[0].name == "Corp.test"
    assert reply.authority[0].value[-1] == 30
    assert ask(table, "corp.test", "SOA").answers[0].value[0] == "gateway.internal"
    assert ask(table, "corp.test", "NS").answers[0].value == "gateway.internal"
    assert ask(table, "corp.test").rcode == 0
    assert ask(table, "corp.test").authority
    whole = DnsTable({"a.b": "1.2.3.4"}, zones=["."])
    assert ask(whole, "com").rcode == 3
    assert ask(whole, "b").rcode == 0
    assert ask(whole, "a.b").answers


def test_names_between_exist_in_a_zone():
    table = DnsTable({"a.b.corp.test": "1.2.3.4"}, zones=["corp.test"])
    assert ask(table, "b.corp.test").rcode == 0
    assert ask(table, "c.corp.test").rcode == 3
    alias = DnsTable({"www.corp.test": ("CNAME", "gone.corp.test")}, zones=["corp.test"])
    reply = ask(alias, "www.corp.test")
    assert (reply.rcode, len(reply.answers), reply.authority[0].name) == (3, 1, "corp.test")


def test_reverse_names():
    table = DnsTable({"a.internal": ["10.0.0.1", "fd00::1"], "b.internal": "10.0.0.1"}, reverse=True)
    assert [r.value for r in ask(table, "1.0.0.10.in-addr.arpa", "PTR").answers] == ["a.internal"]
    assert ask(table, "1" + ".0" * 29 + ".d.f.ip6.arpa", "PTR").answers[0].value == "a.internal"
    own = {"a.internal": "10.0.0.1", "1.0.0.10.in-addr.arpa": ("PTR", "other.internal")}
    assert (
        ask(DnsTable(own, reverse=True), "1.0.0.10.in-addr.arpa", "PTR").answers[0].value == "other.internal"
    )


def test_table_of_many_names():
    names = {f"h{i}.z{i % 7}.internal": f"10.0.{i // 256}.{i % 256}" for i in range(2000)}
    table = DnsTable(names)
    assert len(table) == 2000
    for i in (0, 1, 777, 1999):
        assert str(ask(table, f"H{i}.z{i % 7}.internal").answers[0].value) == f"10.0.{i // 256}.{i % 256}"
    assert ask(table, "h2000.z5.internal") == FORWARD
    assert "h5.z5.INTERNAL" in table
    assert "h5.z6.internal" not in table


@pytest.mark.parametrize(
    ("names", "zones"),
    [
        ({"a..b": "1.2.3.4"}, ()),
        ({"a": "1.2.3"}, ()),
        ({"a": [("A", "::1")]}, ()),
        ({"a": [("NOSUCH", "x")]}, ()),
        ({"a": [("SOA", ("a", "b", 1, 2, 3, 4, 5))]}, ()),
        ({"a": [("OPT", b"")]}, ()),
        ({"a": [("AXFR", b"")]}, ()),
        ({"a": [("CNAME", "b"), ("A", "1.2.3.4")]}, ()),
        ({"a": [("CNAME", "b"), ("CNAME", "c")]}, ()),
        ({"a": ("CNAME", "a")}, ()),
        ({"a": ("CNAME", "b"), "b": ("CNAME", "A")}, ()),
        ({"*.a": ("CNAME", "x.a")}, ()),
        ({"a": ("CNAME", b"\xc0\x0c")}, ()),
        ({"a": ("CNAME", "b")}, ("a",)),
        ({"a": ("TXT", b"x" * 65535)}, ()),
        ({}, ("x..y",)),
    ],
)
def test_tables_refused(names, zones):
    with pytest.raises(ConfigError):
        DnsTable(names, zones=zones)


def test_alias_chain_is_bounded():
    chain = {f"n{i}": ("CNAME", f"n{i + 1}") for i in range(15)} | {"n15": "1.2.3.4"}
    assert len(ask(DnsTable(chain), "n0", max_udp=STREAM).answers) == 16
    with pytest.raises(ConfigError, match="in a row"):
        DnsTable({f"n{i}": ("CNAME", f"n{i + 1}") for i in range(17)})


class TestRefusals:
    def reply(self, table, raw):
        verdict, out = answer(table, raw)
        assert verdict == ANSWERED
        return DnsMessage.parse(out)

    def test_short_junk_and_responses_are_dropped(self, table):
        query = DnsMessage.query("gateway.internal", id=1).build()
        for n in range(12):
            assert answer(table, query[:n]) == (DROP, None)
            assert failure(query[:n]) is None
        response = bytearray(query)
        response[2] |= 0x80
        assert answer(table, response) == (DROP, None)
        assert failure(response) is None

    def test_malformed(self, table):
        query = DnsMessage.query("gateway.internal", id=1).build()
        for n in range(12, len(query)):
            reply = self.reply(table, query[:n])
            assert (reply.rcode, reply.questions) == (1, [])
        for count in (0, 2):
            raw = bytearray(query)
            raw[5] = count
            assert self.reply(table, bytes(raw)).rcode == 1
        for count in (7, 9, 11):  # records announced that are not there
            raw = bytearray(query)
            raw[count] = 1
            reply = self.reply(table, bytes(raw))
            assert reply.rcode == 1
            assert len(reply.questions) == 1

    def test_compression_loop(self, table):
        raw = b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c\0\1\0\1"
        assert self.reply(table, raw).rcode == 1

    def test_other_opcodes(self, table):
        for opcode in (1, 2, 4, 5, 15):
            query = DnsMessage.query("example.com", id=9)
            query.opcode = opcode
            reply = self.reply(table, query.build())
            assert (reply.rcode, reply.opcode, reply.id) == (4, opcode, 9)
            assert reply.questions == query.questions

    def test_edns_versions(self, table):
        reply = ask(table, "gateway.internal", edns=DnsEdns(version=1))
        assert (reply.rcode, reply.answers, reply.edns.version) == (16, [], 0)
        assert ask(table, "example.com", edns=DnsEdns(version=1)) == FORWARD

    def test_two_opt_records(self, table):
        raw = bytearray(DnsMessage.query("gateway.internal", edns=DnsEdns()).build())
        raw += raw[-11:]
        raw[11] = 2
        assert self.reply(table, bytes(raw)).rcode == 1

    def test_zone_transfers(self, table):
        for kind in ("AXFR", "IXFR"):
            assert ask(table, "gateway.internal", kind).rcode == 5
            assert ask(table, "example.com", kind) == FORWARD


def test_edns_is_echoed(table):
    edns = DnsEdns(4096, flags=0x8000, options=[(10, b"12345678"), (65001, b"?")])
    reply = ask(table, "gateway.internal", edns=edns)
    assert reply.edns == DnsEdns(1232, flags=0x8000)
    assert ask(table, "gateway.internal", edns=DnsEdns()).edns == DnsEdns(1232)


def test_checking_disabled_is_copied(table):
    query = DnsMessage.query("gateway.internal")
    query.flags |= 0x0030  # AD and CD
    assert DnsMessage.parse(answer(table, query.build())[1]).flags & 0x0030 == 0x0010


class TestSizes:
    @pytest.fixture
    def big(self):
        return DnsTable({"big.internal": [f"10.0.{i // 250}.{i % 250 + 1}" for i in range(400)]})

    @pytest.mark.parametrize(
        ("edns", "max_udp", "limit"),
        [
            (None, 1232, 512),
            (0, 1232, 512),
            (600, 1232, 600),
            (4096, 1232, 1232),
            (4096, 8000, 4096),
            (4096, 100, 512),
            (None, STREAM, 65535),
            (600, STREAM, 65535),
        ],
    )
    def test_limit_of_an_answer(self, big, edns, max_udp, limit):
        query = DnsMessage.query("big.internal", edns=None if edns is None else DnsEdns(edns))
        raw = answer(big, query.build(), max_udp)[1]
        reply = DnsMessage.parse(raw)
        overhead = 12 + 18 + (0 if edns is None else 11)
        fits = min(400, (limit - overhead) // 16)
        assert len(reply.answers) == fits
        assert len(raw) == overhead + 16 * fits <= limit
        assert reply.truncated == (fits < 400)
        assert (reply.edns is None) == (edns is None)

    def test_nothing_but_the_question_fits(self):
        table = DnsTable({"big.internal": ("TXT", "x" * 600)})
        reply = ask(table, "big.internal", "TXT")
        assert (reply.truncated, reply.answers, reply.authority, reply.rcode) == (True, [], [], 0)
        assert len(ask(table, "big.internal", "TXT", STREAM).answers) == 1

    def test_client_limit(self):
        query = DnsMessage.query("a")
        assert client_limit(query.build()) == 512
        query.edns = DnsEdns(4096)
        assert client_limit(query.build()) == 1232
        assert client_limit(query.build(), 9000) == 4096
        query.edns = DnsEdns(100)
        assert client_limit(query.build()) == 512
        assert client_limit(b"") == 512


class TestTruncate:
    def response(self, edns=True):
        return DnsMessage(
            5,
            0x8180,
            [DnsQuestion("a.example")],
            [DnsRecord.of("a.example", "A", f"10.0.0.{i}", 60) for i in range(10)],
            [DnsRecord.of("example", "NS", "ns.example", 60)],
            [DnsRecord.of("ns.example", "A", "10.1.0.1", 60)],
            DnsEdns(4096, options=[(10, b"cookie!!")]) if edns else None,
        )

    def test_every_limit(self):
        for edns in (True, False):
            whole = self.response(edns)
            raw = whole.build()
            for limit in range(len(raw) + 20):
                cut = truncate(raw, limit)
                if limit < 12 + 11 + 4:
                    assert cut is None
                    continue
                assert len(cut) <= limit
                if limit >= len(raw):
                    assert cut == raw
                    continue
                m = DnsMessage.parse(cut)
                assert m.questions == whole.questions
                assert m.answers == whole.answers[: len(m.answers)]
                assert m.authority == (whole.authority if m.authority else [])
                assert m.truncated == (len(m.answers) < 10 or not m.authority)
                if len(m.answers) < 10:
                    assert not m.authority
                    assert len(cut) + 16 > limit
                if not m.authority:
                    assert not m.additional
                assert m.edns == (whole.edns if edns and limit >= 27 + 23 else None)

    def test_unreadable_response_is_cut_to_its_question(self):
        raw = bytearray(self.response().build())
        raw[7] = 200
        assert truncate(raw, len(raw)) == raw
        m = DnsMessage.parse(truncate(raw, 100))
        assert (m.truncated, m.answers, m.edns, len(m.questions)) == (True, [], None, 1)
        assert truncate(b"\0" * 11, 5) is None

    @settings(max_examples=200)
    @given(st.data())
    def test_damaged(self, data):
        raw = bytearray(self.response().build())
        for _ in range(data.draw(st.integers(1, 5))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        limit = data.draw(st.integers(0, len(raw)))
        cut = truncate(bytes(raw), limit)
        assert cut is None or len(cut) <= limit


class TestMatch:
    query = DnsMessage.query("Www.Example.com", id=77).build()

    def response(self, id=77, flags=0x8180, questions=None):
        if questions is None:
            questions = [DnsQuestion("wWW.eXAMPLE.COM")]
        return DnsMessage(id, flags, questions).build()

    def test_right(self):
        assert matches(self.query, self.response())

    @pytest.mark.parametrize(
        "changes",
        [
            {"id": 78},
            {"flags": 0x0180},  # not a response
            {"flags": 0xA980},  # another opcode
            {"questions": [DnsQuestion("www.example.org")]},
            {"questions": [DnsQuestion("example.com")]},
            {"questions": [DnsQuestion("www.example.com", "AAAA")]},
            {"questions": [DnsQuestion("www.example.com", "A", 3)]},
            {"questions": [DnsQuestion("www.example.com")] * 2},
            {"questions": []},
            {"questions": [], "flags": 0x8183},
        ],
    )
    def test_wrong(self, changes):
        assert not matches(self.query, self.response(**changes))

    def test_question_left_out_of_a_refusal(self):
        for rcode in (1, 2, 4, 5):
            assert matches(self.query, self.response(flags=0x8180 | rcode, questions=()))

    def test_every_prefix(self):
        for n in range(len(self.query)):
            assert not matches(self.query, self.response()[:n])
            assert not matches(self.query[:n], self.response())


def test_failure_says_servfail_with_question_and_edns():
    query = DnsMessage.query(
        "wWw.example.com", "SRV", id=3, edns=DnsEdns(4096, flags=0x8000, options=[(3, b"")])
    )
    reply = DnsMessage.parse(failure(query.build()))
    assert (reply.id, reply.rcode, reply.response, reply.authoritative) == (3, 2, True, False)
    assert reply.questions[0].name == "wWw.example.com"
    assert reply.edns == DnsEdns(1232, flags=0x8000)
    assert matches(query.build(), failure(query.build()))
    assert DnsMessage.parse(failure(query.build(), 16)).rcode == 16
    assert DnsMessage.parse(failure(DnsMessage.query("a").build(), 5)).edns is None


def test_question_hash_sets_case_aside():
    def h(name, kind="A", qclass=1, **key):
        return question_hash(DnsMessage(questions=[DnsQuestion(name, kind, qclass)]).build(), **key)

    assert h("Www.example") == h("wWW.EXAMPLE") != 0
    others = {h("www.example", "AAAA"), h("www.example", "A", 3), h("ww.example"), h("www.example", k0=1)}
    assert len(others | {h("www.example")}) == 5
    assert question_hash(b"\0" * 12) == question_hash(b"") == 0


@settings(max_examples=400)
@given(st.data())
def test_damaged_queries(table, data):
    """Whatever comes, the reply is a message to this id that fits, or there is none."""
    name = data.draw(st.sampled_from([*NAMES, "x.dev.internal", "x.corp.test", "example.com"]))
    raw = bytearray(DnsMessage.query(name, data.draw(st.integers(0, 300)), id=9, edns=DnsEdns()).build())
    for _ in range(data.draw(st.integers(0, 5))):
        raw[data.draw(st.integers(2, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    verdict, reply = answer(table, raw)
    if verdict == ANSWERED:
        assert len(reply) <= 1232
        message = DnsMessage.parse(reply)
        assert (message.id, message.response) == (9, True)
    else:
        assert verdict in (DROP, FORWARD)
        assert reply is None
    failed = failure(raw)
    if failed is not None:
        assert DnsMessage.parse(failed).rcode == 2
