"""Lists of hosts, by table and by generated names; and prefixes of URLs."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.errors import ConfigError
from netstack.proxy.patterns import host_key, parse_hosts, parse_url_prefix, split_authority

MAC_DEFAULT = "*.local, 169.254/16"

TABLE = [
    # list, host, port, on it?
    ("mit.edu", "mit.edu", 80, True),
    ("mit.edu", "dave.mit.edu", 80, True),
    ("mit.edu", "summit.edu", 80, False),
    ("mit.edu", "MIT.EDU.", 80, True),
    ("Mit.Edu.", "dave.mit.edu", 80, True),
    (".mit.edu", "mit.edu", 80, False),
    (".mit.edu", "dave.mit.edu", 80, True),
    ("*.mit.edu", "a.b.mit.edu", 80, True),
    ("*.mit.edu", "mit.edu", 80, False),
    (MAC_DEFAULT, "printer.local", 80, True),
    (MAC_DEFAULT, "local", 80, False),
    (MAC_DEFAULT, "169.254.7.9", 80, True),
    (MAC_DEFAULT, "169.255.0.1", 80, False),
    ("10/8", "10.255.255.255", 80, True),
    ("10/8", "11.0.0.1", 80, False),
    ("172.16/12", "172.31.0.1", 80, True),
    ("192.168.1/24", "192.168.1.77", 80, True),
    ("192.168.1.5/24", "192.168.1.77", 80, True),
    ("192.0.2.7", "192.0.2.7", 80, True),
    ("192.0.2.7", "192.0.2.70", 80, False),
    ("2.7", "192.0.2.7", 80, False),
    ("10.*", "10.1.2.3", 80, True),
    ("10.*", "10.example.com", 80, True),
    ("*corp*", "www.corp.example", 80, True),
    ("fd00::/8", "[fd12::1]", 80, True),
    ("fd00::/8", "fe80::1", 80, False),
    ("::1", "0:0:0:0:0:0:0:1", 80, True),
    ("192.0.2.0/24", "::ffff:192.0.2.9", 80, True),
    ("*", "anything.example", 80, True),
    ("*", "192.0.2.1", 80, True),
    ("host:8080", "host", 8080, True),
    ("host:8080", "host", 80, False),
    ("[::1]:80", "::1", 80, True),
    ("[::1]:80", "::1", 81, False),
    ("10.0.0.0/8:443", "10.1.1.1", 443, True),
    ("10.0.0.0/8:443", "10.1.1.1", 80, False),
    ("<local>", "printer", 80, True),
    ("<local>", "printer.corp", 80, False),
    ("<local>", "::1", 80, False),
    ("bücher.example", "xn--bcher-kva.example", 80, True),
    ("a,b;c\td\n e", "e", 80, True),
    ("", "e", 80, False),
    ("fe80::/10", "fe80::1%eth0", 80, True),
]


@pytest.mark.parametrize(("words", "host", "port", "expected"), TABLE)
def test_table(words: str, host: str, port: int, expected: bool) -> None:
    assert parse_hosts(words).matches(host, port) is expected


@pytest.mark.parametrize("word", ["host:99999", "host:", "10/33", "300.1/16", "fd00::/200", "a/b", ".", "*."])
def test_what_is_no_host(word: str) -> None:
    with pytest.raises(ConfigError, match="in a list of hosts"):
        parse_hosts(word)


labels = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(names, names)
def test_a_name_means_itself_and_what_lies_below(name: str, front: str) -> None:
    hosts = parse_hosts(name.upper())
    assert hosts.matches(name)
    assert hosts.matches(f"{front}.{name}")
    assert not hosts.matches(f"x{name}")
    assert not parse_hosts(f".{name}").matches(name)
    assert parse_hosts(f"*.{name}").matches(f"{front}.{name}")


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_prefixes_short_and_in_full_are_the_same(
    address: ipaddress.IPv4Address, length: int, other: ipaddress.IPv4Address
) -> None:
    network = ipaddress.ip_network((address, length), strict=False)
    needed = -(-length // 8) or 1
    short = ".".join(str(network.network_address).split(".")[:needed]) + f"/{length}"
    for text in (short, f"{address}/{length}"):
        assert parse_hosts(text).matches(str(other)) == (other in network)


@given(st.lists(st.one_of(names, names.map("*.{}".format), st.ip_addresses().map(str)), max_size=5), names)
def test_what_is_printed_means_the_same(words: list[str], host: str) -> None:
    hosts = parse_hosts(words)
    again = parse_hosts(str(hosts))
    assert again == hosts
    assert again.matches(host) == hosts.matches(host)


@given(st.text(max_size=40))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        hosts = parse_hosts(text)
    except ConfigError:
        return
    hosts.matches(text, 80)
    host_key(text)


@pytest.mark.parametrize(
    ("prefix", "scheme", "host", "port", "path", "expected"),
    [
        ("http://a.test/files", "http", "a.test", 80, "/files", True),
        ("http://a.test/files", "http", "A.TEST", 80, "/files/x", True),
        ("http://a.test/files", "http", "a.test", 80, "/files?x=1", True),
        ("http://a.test/files", "http", "a.test", 80, "/filesystem", False),
        ("http://a.test/files/", "http", "a.test", 80, "/files/../etc", False),
        ("http://a.test/files/", "http", "a.test", 80, "/files/%2e%2E/etc", False),
        ("http://a.test/files/", "http", "a.test", 80, "/files/..%2fetc", False),
        ("http://a.test/v*", "http", "a.test", 80, "/v2/x", True),
        ("http://a.test/files", "http", "b.a.test", 80, "/files", False),
        ("http://*.a.test", "http", "b.a.test", 80, "/x", True),
        ("http://a.test:8080", "http", "a.test", 80, "/", False),
        ("http://a.test:8080", "http", "a.test", 8080, "/any", True),
        ("http://a.test", "https", "a.test", 443, None, False),
        ("https://a.test", "https", "a.test", 443, None, True),
        ("https://a.test", "https", "a.test", 8443, None, False),
    ],
)
def test_url_prefixes(
    prefix: str, scheme: str, host: str, port: int, path: str | None, expected: bool
) -> None:
    assert parse_url_prefix(prefix).matches(scheme, host, port, path) is expected


@pytest.mark.parametrize("text", ["a.test", "ftp://a.test", "https://a.test/path", "http://", "http://a:b/x"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_url_prefix(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", ("a", 80)), ("a:1", ("a", 1)), ("[::1]", ("::1", 80)), ("[::1]:9", ("::1", 9)), ("a:", ("a", 80))],
)
def test_authority(text: str, expected: tuple[str, int]) -> None:
    assert split_authority(text, 80) == expected


@pytest.mark.parametrize("text", ["", "::1", "a:0", "a:65536", "a b", "a/b", "u@a", "[x]y", "a:b"])
def test_no_authority(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST|port"):
        split_authority(text, 80)
