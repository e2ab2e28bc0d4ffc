"""DNS messages: golden bytes, scapy both ways, compression, EDNS, damaged input."""

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRMX, DNSRROPT, DNSRRSOA, DNSRRSRV

from netstack.errors import WireError
from netstack.wire.dns import DnsEdns, DnsMessage, DnsQuestion, DnsRecord, rdata_build, type_number
from netstack.wire.dns_name import name_from_text, name_take, name_to_text

QUERY = bytes.fromhex("1234 0100 0001 0000 0000 0000 03777777 076578616d706c65 03636f6d 00 0001 0001")
# The same question with two answers (CNAME example.com, then its address) and an OPT record; compressed.
RESPONSE = bytes.fromhex(
    "1234 8180 0001 0002 0000 0001 03777777 076578616d706c65 03636f6d 00 0001 0001"
    "c00c 0005 0001 0000003c 0002 c010"
    "c010 0001 0001 0000012c 0004 5db8d822"
    "00 0029 04d0 00 00 8000 0000"
)

label = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=63)
host = st.lists(label, min_size=1, max_size=4).map(".".join).filter(lambda n: len(n) < 250)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)


def header(qd=0, an=0, ns=0, ar=0, flags=0, id=0x1234):
    return struct.pack("!6H", id, flags, qd, an, ns, ar)


def test_golden_query():
    message = DnsMessage.query("www.example.com", id=0x1234)
    assert message.build() == QUERY
    assert DnsMessage.parse(QUERY) == message


def test_golden_response():
    message = DnsMessage.parse(RESPONSE)
    assert message.response
    assert message.recursion_desired
    assert message.recursion_available
    assert not message.authoritative
    assert not message.truncated
    assert message.rcode == 0
    assert message.questions == [DnsQuestion("www.example.com", "A")]
    assert message.answers == [
        DnsRecord.of("www.example.com", "CNAME", "example.com", ttl=60),
        DnsRecord.of("example.com", "A", "93.184.216.34", ttl=300),
    ]
    assert message.answers[0].rdata == b"\x07example\x03com\x00"
    assert message.additional == []
    assert message.edns == DnsEdns(1232, flags=0x8000)
    assert message.edns.dnssec_ok
    assert message.build() == RESPONSE


def test_repr_says_what_matters():
    text = repr(DnsMessage.parse(RESPONSE))
    for part in ("id=4660", "NOERROR", "rd ra", "'www.example.com'", "'93.184.216.34'", "udp_size=1232"):
        assert part in text
    assert "TYPE65280" in repr(DnsRecord("a", 65280, b"x"))


@settings(max_examples=60)
@given(u16, host, u16, st.lists(st.tuples(host, u32, st.ip_addresses(v=4)), max_size=4))
def test_reads_what_scapy_writes(id, name, kind, records):
    packet = DNS(
        id=id,
        qr=1,
        ra=0,
        rd=1,
        qd=[DNSQR(qname=name, qtype=kind)],
        an=[DNSRR(rrname=n, type="A", ttl=ttl, rdata=str(a)) for n, ttl, a in records],
        ns=[
            DNSRRSOA(rrname="z", mname="m.z", rname="r.z", serial=1, refresh=2, retry=3, expire=4, minimum=5)
        ],
        ar=[
            DNSRRMX(rrname="z", preference=7, exchange="x.z"),
            DNSRRSRV(rrname="s.z", priority=1, weight=2, port=3, target="t.z"),
            DNSRROPT(rclass=4096),
        ],
    )
    message = DnsMessage.parse(bytes(packet))
    assert message.id == id
    assert message.response
    assert message.questions == [DnsQuestion(name, kind)]
    assert message.questions[0].name == name
    assert message.answers == [DnsRecord.of(n, "A", a, ttl) for n, ttl, a in records]
    assert message.authority[0].value == ("m.z", "r.z", 1, 2, 3, 4, 5)
    assert [r.value for r in message.additional] == [(7, "x.z"), (1, 2, 3, "t.z")]
    assert message.edns.udp_size == 4096


@settings(max_examples=60)
@given(
    u16,
    host,
    st.lists(st.tuples(host, u32, st.ip_addresses(v=6)), max_size=5),
    host,
    st.booleans(),
)
def test_scapy_reads_what_we_write(id, name, records, target, compress):
    message = DnsMessage(
        id,
        0x8400,
        [DnsQuestion(name, "AAAA")],
        [DnsRecord.of(n, "AAAA", a, ttl) for n, ttl, a in records],
        [DnsRecord.of(name, "NS", target, 5)],
        [DnsRecord.of(target, "MX", (9, name), 6)],
        DnsEdns(1400),
    )
    raw = message.build(compress=compress)
    assert DnsMessage.parse(raw) == message
    packet = DNS(raw)
    assert (packet.id, packet.qr, packet.aa, packet.rcode) == (id, 1, 1, 0)
    assert packet.qd[0].qname.decode() == name + "."
    assert [(r.rrname.decode(), r.ttl, ipaddress.ip_address(r.rdata)) for r in packet.an] == [
        (n + ".", ttl, a) for n, ttl, a in records
    ]
    assert packet.ns[0].rdata.decode() == target + "."
    assert (packet.ar[0].preference, packet.ar[0].exchange.decode()) == (9, name + ".")
    assert packet.ar[1].rclass == 1400


@settings(max_examples=80)
@given(st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda ls: sum(map(len, ls)) < 200))
def test_names_of_any_bytes_survive_text(labels):
    wire = b"".join(bytes([len(part)]) + part for part in labels) + b"\0"
    assert name_from_text(name_to_text(wire)) == wire


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (".", b"\0"),
        ("a", b"\x01a\0"),
        ("a.B.", b"\x01a\x01B\0"),
        (r"a\.b.c", b"\x03a.b\x01c\0"),
        (r"\000\255\\", b"\x03\x00\xff\\\0"),
        ("x" * 63, b"\x3f" + b"x" * 63 + b"\0"),
        (".".join(["y" * 63] * 3 + ["y" * 61]), (b"\x3f" + b"y" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0"),
    ],
)
def test_name_from_text(text, wire):
    assert name_from_text(text) == wire


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        ".a",
        "a..b",
        "x" * 64,
        ".".join(["y" * 63] * 3 + ["y" * 62]),
        "a b",
        "ä",
        "a\\",
        r"\25",
        r"\256",
    ],
)
def test_name_that_cannot_be_written(text):
    with pytest.raises(WireError):
        name_from_text(text)


def question_at(*parts):
    """A message of one question whose name is these bytes."""
    return header(qd=1) + b"".join(parts) + b"\0\x01\0\x01"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"\xc0\x0c", "compression loop"),  # to itself
        (b"\x01a\xc0\x0c", "compression loop"),  # to its own beginning
        (b"\x01a\xc0\x0e", "compression loop"),  # to the pointer itself
        (b"\xc0\x20" + b"\0" * 30, "compression loop"),  # forward
        (b"\xc0\x00", "bad value"),  # into the header
        (b"\x40a\0", "unsupported"),
        (b"\x80a\0", "unsupported"),
        (b"\x3f" + b"a" * 20, "truncated"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\0", "bad length"),
    ],
)
def test_names_refused(name, code):
    with pytest.raises(WireError, match=code):
        DnsMessage.parse(question_at(name))


def test_name_of_255_bytes_is_read_and_of_256_is_not():
    fits = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\0"
    assert len(fits) == 255
    assert name_from_text(DnsMessage.parse(question_at(fits)).questions[0].name) == fits
    with pytest.raises(WireError, match="bad length"):
        DnsMessage.parse(question_at((b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"b" * 62 + b"\0"))


def test_long_chains_of_pointers_are_refused():
    """Each hop leads backwards, but no name needs that many: the work stays linear in the message."""
    raw = bytearray(header(qd=1, an=1) + b"\0\0\x01\0\x01")
    raw += b"\0" + struct.pack("!HHIH", 65280, 1, 0, 400)
    at = len(raw)
    raw += b"\xc0\x0c" + b"".join(struct.pack("!H", 0xC000 | (at + 2 * i)) for i in range(199))

    def asked_through(hops):
        copy = bytearray(raw)
        struct.pack_into("!H", copy, 6, 2)
        return bytes(copy) + struct.pack("!HHHIH", 0xC000 | (at + 2 * (hops - 2)), 1, 1, 0, 0)

    assert DnsMessage.parse(asked_through(126)).answers[1].name == "."
    with pytest.raises(WireError, match="loop"):
        DnsMessage.parse(asked_through(127))


def test_names_inside_data_lose_their_compression():
    raw = header(qd=1, an=3, flags=0x8000) + b"\x01a\x01z\0" + b"\0\x0f\0\x01"
    raw += b"\xc0\x0c" + struct.pack("!HHIH", 15, 1, 9, 6) + b"\0\x05\x01m\xc0\x0e"
    raw += b"\xc0\x0c" + struct.pack("!HHIH", 33, 1, 9, 8) + b"\0\x01\0\x02\0\x03\xc0\x0e"
    raw += b"\xc0\x0c" + struct.pack("!HHIH", 65280, 1, 9, 2) + b"\xc0\x0e"
    mx, srv, unknown = DnsMessage.parse(raw).answers
    assert mx.rdata == b"\0\x05\x01m\x01z\0"
    assert mx.value == (5, "m.z")
    assert srv.value == (1, 2, 3, "z")
    assert unknown.value == unknown.rdata == b"\xc0\x0e"
    # A name that runs past the data of its record, though not past the message.
    cut = raw.replace(b"\0\x06\0\x05\x01m\xc0\x0e", b"\0\x03\0\x05\x01")
    with pytest.raises(WireError):
        DnsMessage.parse(cut)


def test_writing_compresses_only_where_the_rfc_allows():
    mx = DnsMessage(answers=[DnsRecord.of("z", "MX", (1, "z"))]).build()
    srv = DnsMessage(answers=[DnsRecord.of("z", "SRV", (1, 2, 3, "z"))]).build()
    assert mx.endswith(b"\0\x04\0\x01\xc0\x0c")
    assert srv.endswith(b"\0\x09\0\x01\0\x02\0\x03\x01z\0")


def test_case_is_kept_and_set_aside_in_comparison():
    a = DnsMessage.query("WwW.ExAmPlE.cOm", id=0x1234)
    assert a == DnsMessage.parse(QUERY)
    assert DnsMessage.parse(a.build()).questions[0].name == "WwW.ExAmPlE.cOm"
    assert hash(DnsQuestion("A.b")) == hash(DnsQuestion("a.B"))
    assert DnsQuestion("a", 1) != DnsQuestion("a", 28)


@pytest.mark.parametrize("whole", [QUERY, RESPONSE], ids=["query", "response"])
def test_every_prefix_is_refused(whole):
    for n in range(len(whole)):
        with pytest.raises(WireError):
            DnsMessage.parse(whole[:n])
    DnsMessage.parse(whole + b"trailing")


@settings(max_examples=300)
@given(st.data())
def test_damaged_messages_are_read_or_refused(data):
    raw = bytearray(RESPONSE)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = DnsMessage.parse(bytes(raw))
    except WireError:
        return
    repr(message)
    again = DnsMessage.parse(message.build(compress=False))
    assert again == message


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_noise_is_read_or_refused(noise):
    with contextlib.suppress(WireError):
        repr(DnsMessage.parse(noise))


class TestEdns:
    def opt(self, options=b"", owner=b"\0"):
        return owner + struct.pack("!HHIH", 41, 1232, 0, len(options)) + options

    def test_options_round_trip(self):
        edns = DnsEdns(4096, version=1, flags=0x8001, ext_rcode=1, options=[(10, b"12345678"), (12, b"")])
        message = DnsMessage.query("a", edns=edns)
        again = DnsMessage.parse(message.build())
        assert again.edns == edns
        assert again.rcode == 16
        again.rcode = 0x123
        assert DnsMessage.parse(again.build()).rcode == 0x123

    @pytest.mark.parametrize(
        ("counts", "tail"),
        [
            ({"ar": 2}, ("", "")),  # two of them
            ({"an": 1}, ("",)),  # not in the additional section
        ],
    )
    def test_misplaced(self, counts, tail):
        raw = header(**counts) + b"".join(self.opt() for _ in tail)
        with pytest.raises(WireError, match="bad value"):
            DnsMessage.parse(raw)

    def test_owner_must_be_the_root(self):
        with pytest.raises(WireError, match="bad value"):
            DnsMessage.parse(header(ar=1) + self.opt(owner=b"\x01a\0"))

    @pytest.mark.parametrize("options", [b"\0", b"\0\x0a\0", b"\0\x0a\0\x05abcd", b"\0\x0a\0\0\0"])
    def test_option_past_the_data(self, options):
        with pytest.raises(WireError, match="bad option"):
            DnsMessage.parse(header(ar=1) + self.opt(options))

    def test_signature_stays_last(self):
        message = DnsMessage(
            additional=[DnsRecord("x", "A", b"1234"), DnsRecord("k", "TSIG", b"s")], edns=DnsEdns()
        )
        raw = message.build()
        assert raw.endswith(b"\x01k\0\0\xfa\0\x01\0\0\0\0\0\x01s")
        assert DnsMessage.parse(raw) == message


def test_header_bits():
    message = DnsMessage(7)
    for i, name in enumerate(
        ("response", "authoritative", "truncated", "recursion_desired", "recursion_available")
    ):
        setattr(message, name, True)
        assert bin(message.flags).count("1") == i + 1
        assert getattr(message, name)
    message.opcode = 5
    message.rcode = 9
    assert DNS(message.build()).opcode == 5
    assert (message.opcode, message.rcode, message.flags) == (5, 9, 0xAF89)
    message.response = False
    assert message.flags == 0x2F89
    with pytest.raises(WireError):
        message.rcode = 16
    with pytest.raises(WireError):
        message.opcode = 16


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("A", ipaddress.ip_address("1.2.3.4")),
        ("AAAA", ipaddress.ip_address("fe80::1")),
        ("NS", "ns.example.com"),
        ("TXT", (b"one", b"two")),
        ("TXT", (b"x" * 255, b"y")),
        ("MX", (10, "mail.example.com")),
        ("SRV", (1, 2, 443, "web.example.com")),
        ("SOA", ("ns.z", "root.z", 1, 2, 3, 4, 5)),
        ("CAA", b"\0\x05issueca.example"),
    ],
)
def test_values_round_trip(kind, value):
    record = DnsRecord.of("z", kind, value)
    assert record.value == value
    assert DnsMessage.parse(DnsMessage(answers=[record]).build()).answers == [record]


def test_long_text_is_cut_into_strings():
    assert DnsRecord.of("z", "TXT", "x" * 300).value == (b"x" * 255, b"x" * 45)
    assert rdata_build("TXT", "") == b"\0"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("A", "::1"),
        ("AAAA", "1.2.3.4"),
        ("MX", "mail"),
        ("MX", (70000, "mail")),
        ("SRV", (1, 2)),
        ("SOA", ("a", "b", 1)),
        ("NS", 5),
        ("TXT", []),
        ("TXT", 7),
        ("CAA", "text"),
        ("NOSUCH", b""),
    ],
)
def test_values_refused(kind, value):
    with pytest.raises(ValueError):  # noqa: PT011
        rdata_build(kind, value)


def test_data_that_do_not_suit_their_type_stay_bytes():
    for kind, raw in (("A", b"123"), ("TXT", b"\x05a"), ("SOA", b"\0\0"), ("MX", b"\0"), ("NS", b"\xc0\x0c")):
        assert DnsRecord("z", kind, raw).value == raw


def test_type_numbers():
    assert type_number("aaaa") == type_number("TYPE28") == type_number(28) == 28
    for bad in ("TYPE65536", "TYPE-1", 65536, -1, ""):
        with pytest.raises(ValueError, match="not a DNS record type"):
            type_number(bad)


def test_message_that_cannot_be_written():
    for message in (
        DnsMessage(65536),
        DnsMessage(answers=[DnsRecord("a", "NULL", b"x" * 40000)] * 2),
        DnsMessage(answers=[DnsRecord("a", "CNAME", b"\x03ab")]),
        DnsMessage(answers=[DnsRecord("a", "CNAME", b"\xc0\x0c")]),
        DnsMessage(edns=DnsEdns(version=256)),
    ):
        with pytest.raises(WireError):
            message.build()


def test_name_take_wants_a_whole_name():
    assert name_take(b"xx\x01a\0rest", 2) == b"\x01a\0"
    for raw, at in ((b"\x01a", 0), (b"\x01a\0", 4), (b"\x01a\0", -1), (b"\x00" * 20 + b"\xc0\x0c", 20)):
        with pytest.raises(WireError):
            name_take(raw, at)
