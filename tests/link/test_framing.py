"""Segments are rebuilt with scapy: every header field and checksum must come out as scapy computes it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netstack.link.framing import segment

CSUM, TSO4, TSO6, ECN, USO = 1, 2, 4, 8, 16
FULL, VALID, PARTIAL = 0, 1, 2
GSO_TCP4, GSO_TCP6, GSO_UDP, GSO_ECN = 1, 4, 5, 0x80
OK, AGAIN, BAD = 0, -1, -3


def fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ones_sum(data):
    data += bytes(len(data) & 1)
    return fold(sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)))


def pseudo_sum(packet, protocol, length):
    """The folded pseudo header sum, from the definition."""
    if packet.haslayer(IP):
        ip = bytes(packet[IP])
        return ones_sum(ip[12:20] + bytes([0, protocol]) + length.to_bytes(2, "big"))
    ip = bytes(packet[IPv6])
    return ones_sum(ip[8:40] + length.to_bytes(4, "big") + bytes([0, 0, 0, protocol]))


def super_frame(v6, udp, payload, flags="A", options=(), extension=False):
    """A super-frame with a partial checksum as the kernel hands it over, and where its parts begin."""
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    if v6:
        ip = IPv6(src="fd00::1", dst="fd00::2", tc=2)
        if extension:
            ip = ip / IPv6ExtHdrHopByHop()
    else:
        ip = IP(src="10.0.0.1", dst="10.0.0.2", id=65534, tos=2, flags="DF")
    l4 = (
        UDP(sport=1000, dport=2000)
        if udp
        else TCP(sport=1, dport=2, seq=2**32 - 700, flags=flags, options=list(options))
    )
    packet = Ether(bytes(ether / ip / l4 / Raw(payload)))
    frame = bytearray(bytes(packet))
    start = len(frame) - len(payload) - (8 if udp else packet[TCP].dataofs * 4)
    offset = 6 if udp else 16
    total = pseudo_sum(packet, 17 if udp else 6, len(frame) - start)
    frame[start + offset : start + offset + 2] = total.to_bytes(2, "big")
    headers = len(frame) - len(payload)
    gso = GSO_UDP if udp else GSO_TCP6 if v6 else GSO_TCP4
    return bytes(frame), gso, headers, start, offset


def cut(frame, headers, cuts):
    """The frame as pieces, the first with all headers (and perhaps some payload)."""
    marks = sorted({headers + c % (len(frame) - headers + 1) for c in cuts})
    marks = [0, *[m for m in marks if m], len(frame)]
    return [frame[a:b] for a, b in pairwise(marks)]


def reference(frame):
    """The frame with every length and checksum made anew by scapy."""
    packet = Ether(frame)
    for layer in (IP, TCP, UDP):
        if packet.haslayer(layer):
            if hasattr(packet[layer], "chksum"):
                del packet[layer].chksum
            if layer is IP:
                del packet[layer].len
            if layer is UDP:
                del packet[layer].len
    if packet.haslayer(IPv6):
        del packet[IPv6].plen
    return bytes(packet)


CASES = st.tuples(st.booleans(), st.booleans())


@settings(max_examples=150, deadline=None)
@given(
    CASES,
    st.integers(1, 9000),
    st.integers(1, 3000),
    st.sampled_from(["A", "PA", "FPA", "AC", "FPAC"]),
    st.lists(st.integers(0, 10000), max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_segments(case, size, gso_size, flags, cuts, timestamps, partial):
    v6, udp = case
    payload = bytes((i * 13 + i // 251) & 0xFF for i in range(size))
    options = [("NOP", None), ("NOP", None), ("Timestamp", (7, 9))] if timestamps else []
    frame, gso, headers, start, offset = super_frame(v6, udp, payload, flags, options)
    if "C" in flags and not udp:
        gso |= GSO_ECN
    if -(-size // gso_size) > 3000:
        gso_size = 100
    meta = (PARTIAL, gso, gso_size, headers, start, offset)
    rc, sent, out = segment(cut(frame, headers, cuts), meta, CSUM if partial else 0)
    assert rc == OK
    assert sent == len(out) == -(-size // gso_size)
    base = Ether(frame)
    got = b""
    for i, (piece, piece_meta) in enumerate(out):
        packet = Ether(piece)
        body = piece[headers:]
        assert len(body) == min(gso_size, size - i * gso_size)
        if partial:
            assert piece_meta == (PARTIAL, 0, 0, 0, start, offset)
            assert int.from_bytes(piece[start + offset : start + offset + 2], "big") == pseudo_sum(
                packet, 17 if udp else 6, len(piece) - start
            )
        else:
            assert piece_meta == (FULL, 0, 0, 0, 0, 0)
            assert piece == reference(piece), "a length or checksum is not what scapy makes it"
        if not v6:
            assert packet[IP].id == (65534 + i) % 65536
            assert packet[IP].len == len(piece) - 14
        if not udp:
            tcp = packet[TCP]
            assert tcp.seq == (base[TCP].seq + i * gso_size) % 2**32
            last = i == len(out) - 1
            want = base[TCP].flags.value
            if not last:
                want &= ~0x09
            if i:
                want &= ~0x80
            assert tcp.flags.value == want
            assert tcp.options == base[TCP].options
        got += body
    assert got == payload


@settings(max_examples=100, deadline=None)
@given(CASES, st.integers(0, 1500), st.lists(st.integers(0, 2000), max_size=5))
def test_completion(case, size, cuts):
    v6, udp = case
    frame, _, headers, start, offset = super_frame(v6, udp, bytes(i * 7 & 0xFF for i in range(size)))
    rc, sent, out = segment(cut(frame, headers, cuts), (PARTIAL, 0, 0, 0, start, offset))
    assert (rc, sent) == (OK, 1)
    assert out[0][0] == reference(frame)
    assert out[0][1][0] == FULL


def test_udp_checksum_of_zero_is_sent_as_ones():
    frame, _, _, start, offset = super_frame(False, True, bytes(2))
    word = 0xFFFF - ones_sum(frame[start:])  # with this payload the sum is all ones, its complement zero
    frame = frame[:-2] + word.to_bytes(2, "big")
    _, _, out = segment([frame], (PARTIAL, 0, 0, 0, start, offset))
    assert out[0][0][start + offset : start + offset + 2] == b"\xff\xff"


@pytest.mark.parametrize(
    ("gso", "features"),
    [(GSO_TCP4, CSUM | TSO4), (GSO_TCP4 | GSO_ECN, CSUM | TSO4 | ECN), (GSO_UDP, CSUM | USO)],
)
def test_passes_what_the_link_carries(gso, features):
    frame, _, headers, start, offset = super_frame(False, gso == GSO_UDP, bytes(5000))
    meta = (PARTIAL, gso, 1000, headers, start, offset)
    assert segment([frame], meta, features) == (OK, 1, [(frame, meta)])
    for missing in (1, 2, 8, 16):
        if features & missing:
            assert segment([frame], meta, features & ~missing)[1] == 5


def test_extension_headers():
    frame, gso, headers, start, offset = super_frame(True, False, bytes(3000), extension=True)
    rc, sent, out = segment([frame], (PARTIAL, gso, 1400, headers, start, offset))
    assert (rc, sent) == (OK, 3)
    assert all(piece == reference(piece) for piece, _ in out)


def test_full_link_stops_in_the_middle():
    frame, gso, headers, start, offset = super_frame(False, False, bytes(5000))
    rc, sent, out = segment([frame], (PARTIAL, gso, 1000, headers, start, offset), 0, 3)
    assert (rc, sent, len(out)) == (AGAIN, 3, 3)


def test_lying_metadata_is_refused():
    frame, gso, headers, start, offset = super_frame(False, False, bytes(5000))
    good = (PARTIAL, gso, 1000, headers, start, offset)
    assert segment([frame], good)[0] == OK
    for bad in (
        (PARTIAL, gso, 0, headers, start, offset),  # no segment size
        (PARTIAL, GSO_TCP6, 1000, headers, start, offset),  # the frame is IPv4
        (PARTIAL, GSO_UDP, 1000, headers, start, offset),  # the frame is TCP
        (PARTIAL, 0, 0, 0, 5200, 16),  # the checksum lies behind the frame
        (PARTIAL, 0, 0, 0, 4, 2),  # the checksum lies in the Ethernet header
    ):
        assert segment([frame], bad) == (BAD, 0, []), bad
    assert segment([frame[:40]], good) == (BAD, 0, [])
    assert segment([frame[:12] + b"\x81\x00" + frame[14:]], good) == (BAD, 0, [])
    assert segment([frame[:30], frame[30:]], good) == (BAD, 0, [])  # not all headers in the first piece
