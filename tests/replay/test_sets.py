"""Every capture of ``pcaps/``, and of the shared set where it lies beside the project, with its right verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from netstack.replay import replay
from netstack.replay.expectations import Expectations

ROOT = Path(__file__).resolve().parents[2]
OURS = sorted((ROOT / "pcaps").glob("*.pcapng"))
FOLDERS = (parent / "shared" / "pcaps" for parent in ROOT.parents)
SHARED = next((folder for folder in FOLDERS if folder.is_dir()), ROOT / "none")

# What is not plainly "right" in the shared set, and why. "refused" holds only what the interface must drop.
VERDICTS = {
    "dhcp-rfc4388": "partly",  # lease queries of a relay
    "heapoverflow-tcp_print": "refused",
    "ip_ts_opts_asan": "refused",
    "udp-length-heapoverflow": "refused",
    "ipv4_invalid_hdr_length": "refused",
    "ipv4_invalid_total_length": "refused",
    "ipv6_ext_headers": "refused",
    "LINKTYPE_RAW_ipv6": "refused",
    "arp-too-long-tha": "refused",
    "dhcpv6-ia-na": "refused",
    "edns-opts": "refused",  # its queries have wrong checksums
    "icmp-rfc8335": "refused",  # extended echo, which nobody here speaks
    "icmpv6": "refused",
    "ipv6-routing-header": "refused",
    "ipv6_invalid_length": "refused",
    "ipv6_jumbogram_1": "refused",
    "bad-chksum": "refused",  # of loopback addresses, which no link carries
    "ip4-tcp-good-chksum": "refused",
    "ip6-tcp-good-chksum": "refused",
    "dns__mdns": "refused",
    "ftp__ipv6": "refused",
    "icmp-destunreach-udp": "refused",
    "icmp-timeexceeded": "refused",
    "icmp6": "refused",
    "icmp_dot1q": "refused",
    "fragmented-1": "refused",  # fragments that never make a datagram
    "fragmented-3": "refused",
    "ipv6-fragmented-dns": "refused",
    "q-in-q": "refused",
    "icmp-header-trunc": "refused",
    "gso-ipv4": "partly",  # one segment out of the middle
    "tcp_rst_data": "refused",  # a reset of nothing
    "single-rst": "refused",
    "retransmit-timeout": "partly",
    "reassembly": "partly",  # the capture misses bytes
    "tfo-": "partly",
    "payload-syn": "partly",
    "fin_retransmission": "partly",  # the handshake is never completed
}
RIGHT = {"localhost-bad-chksum"}  # the network card's business: an exception to "bad-chksum"


def due(name: str) -> str:
    if any(part in name for part in RIGHT):
        return "right"
    return next((verdict for part, verdict in VERDICTS.items() if part in name), "right")


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours(path: Path) -> None:
    expected = Expectations.beside(path)
    assert expected.data, f"{path.name} has no .toml"
    assert expected.complaints(replay(str(path), guests=expected.guests)) == []


def test_ours_are_small_and_described() -> None:
    assert len(OURS) >= 20
    assert sum(path.stat().st_size for path in OURS) < 2_000_000
    for path in OURS:
        data = Expectations.beside(path).data
        assert data["origin"]
        assert data["shows"]


@pytest.mark.parametrize(
    "path",
    sorted(SHARED.glob("*.pcap*"))
    or [pytest.param(None, marks=pytest.mark.skip(reason="no shared captures here"))],
    ids=lambda path: path.stem if path else "none",
)
def test_shared(path: Path) -> None:
    result = replay(str(path))
    wrong = [(v.flow, v.difference) for v in result.verdicts if v.difference]
    assert wrong == []
    assert result.verdict == due(path.stem), [
        (v.protocol, v.flow, v.verdict, v.notes) for v in result.verdicts
    ]
