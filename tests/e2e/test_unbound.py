"""A validating resolver of the host's: what DNSSEC says of a name arrives in the guest as the resolver says it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from dig import dig as asked

from netstack.config import Config
from netstack.testing.lab import GATEWAY, Lab
from netstack.testing.namespace import Namespace, Process

pytestmark = pytest.mark.netns

ZONE = """\
$ORIGIN signed.test.
$TTL 300
@ SOA ns root 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.1
good A 192.0.2.7
bogus A 192.0.2.8
text TXT "hello world"
"""

UNBOUND = """\
server:
    directory: "{dir}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    interface: 127.0.0.1
    port: 53
    do-daemonize: no
    do-ip6: no
    trust-anchor-file: "{dir}/anchor"
    module-config: "validator iterator"
    local-zone: "test." nodefault
    local-zone: "plain.test." static
    local-data: "one.plain.test. 300 IN A 192.0.2.9"
remote-control:
    control-enable: no
auth-zone:
    name: "signed.test"
    zonefile: "{dir}/signed.zone"
    for-downstream: no
    for-upstream: yes
"""

#: What is asked, each straight and through the gateway.
QUESTIONS = [
    ("good.signed.test", "A"),
    ("good.signed.test", "A", "+dnssec"),
    ("good.signed.test", "A", "+noadflag"),
    ("text.signed.test", "TXT", "+dnssec", "+tcp"),
    ("bogus.signed.test", "A"),
    ("bogus.signed.test", "A", "+cd"),
    ("bogus.signed.test", "A", "+cd", "+dnssec"),
    ("nothing.signed.test", "A", "+dnssec"),
    ("good.signed.test", "AAAA", "+dnssec"),
    ("signed.test", "DNSKEY", "+dnssec", "+bufsize=1232"),
    ("one.plain.test", "A"),
    ("two.plain.test", "A"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for program in ("unbound", "dnssec-keygen", "dnssec-signzone", "dig"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    directory = tmp_path_factory.mktemp("unbound")
    with Lab() as made:
        host = made.host
        (directory / "zone").write_text(ZONE)
        key = host.run(
            "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K", str(directory), "signed.test"
        )
        name = key.stdout.strip()
        host.run(
            *("dnssec-signzone", "-S", "-z", "-K", str(directory), "-d", str(directory)),
            *("-o", "signed.test", "-f", str(directory / "signed.zone"), str(directory / "zone")),
        )
        text = (directory / "signed.zone").read_text()
        assert text.count("192.0.2.8") == 1
        (directory / "signed.zone").write_text(text.replace("192.0.2.8", "192.0.2.66"))
        (directory / "anchor").write_text((directory / f"{name}.key").read_text())
        (directory / "unbound.conf").write_text(UNBOUND.format(dir=directory))
        server: Process = host.spawn("unbound", "-c", str(directory / "unbound.conf"))
        server.wait_listening(53)
        host.resolv_conf.write_text("nameserver 127.0.0.1\n")
        yield made
        server.stop()


def dig(where: Namespace, server: str, *question: str) -> tuple[str, set[str], list[str]]:
    """Status, flags and answers without their TTLs."""
    status, flags, records = asked(where, server, *question)
    return status, set(flags), sorted(" ".join(words[:1] + words[2:]) for words in records)


@pytest.mark.parametrize("cache", [0, 4096])
def test_the_guest_is_told_what_the_resolver_says(lab: Lab, cache: int) -> None:
    straight = {question: dig(lab.host, "127.0.0.1", *question) for question in QUESTIONS}
    assert straight["good.signed.test", "A"][:2] == ("NOERROR", {"qr", "rd", "ra", "ad"})
    assert straight["bogus.signed.test", "A"][0] == "SERVFAIL"
    assert straight["bogus.signed.test", "A", "+cd"][2] == ["bogus.signed.test. IN A 192.0.2.66"]
    assert any(" RRSIG A " in line for line in straight["good.signed.test", "A", "+dnssec"][2])
    with lab.gateway(Config(dns_cache=cache)):
        for turn in range(2):  # the second time from the cache, where there is one
            for question, said in straight.items():
                assert dig(lab.guest, GATEWAY, *question) == said, (turn, question)
