"""DNS: an answer from the table, and reading a message, beside scapy and dpkt doing the same."""

import pytest

from netstack.services.dns import ANSWERED, FORWARD, answer, failure, matches
from netstack.services.dns_table import DnsTable
from netstack.wire.dns import DnsEdns, DnsMessage, DnsRecord


@pytest.fixture(scope="module")
def table():
    return DnsTable(
        {f"host{i}.internal": f"10.0.{i // 250}.{i % 250 + 1}" for i in range(1000)}, zones=["internal"]
    )


def response():
    return DnsMessage(
        1,
        0x8180,
        DnsMessage.query("www.example.com").questions,
        [
            DnsRecord.of("www.example.com", "CNAME", "example.com", 60),
            *(DnsRecord.of("example.com", "A", f"10.0.0.{i}", 60) for i in range(4)),
        ],
        edns=DnsEdns(),
    ).build()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("host500.internal", ANSWERED), ("nowhere.internal", ANSWERED), ("www.example.com", FORWARD)],
    ids=["held", "nxdomain", "not-ours"],
)
def test_answer(benchmark, table, name, verdict):
    query = DnsMessage.query(name, id=1, edns=DnsEdns()).build()
    assert benchmark(answer, table, query)[0] == verdict


def test_match(benchmark):
    raw = response()
    assert benchmark(matches, DnsMessage.query("www.example.com", id=1).build(), raw)


def test_failure(benchmark):
    assert benchmark(failure, DnsMessage.query("www.example.com", id=1, edns=DnsEdns()).build())


def test_parse(benchmark):
    raw = response()
    assert len(benchmark(DnsMessage.parse, raw).answers) == 5


def test_parse_scapy(benchmark):
    from scapy.layers.dns import DNS

    raw = response()
    assert len(benchmark(lambda: DNS(raw).an)) == 5


def test_parse_dpkt(benchmark):
    import dpkt

    raw = response()
    assert len(benchmark(lambda: dpkt.dns.DNS(raw).an)) == 5


def test_build(benchmark):
    message = DnsMessage.parse(response())
    assert benchmark(message.build)
