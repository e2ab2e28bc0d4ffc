"""Frames of a stream joined to super-frames: only what segmentation takes apart again, byte for byte."""

from __future__ import annotations

import dataclasses
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tcp_frames import ACK, CWR, DF, ECE, FIN, MF, MSS, PLAIN, PSH, RST, SYN, TIMES, URG, Segment, ones_sum

from netstack.link.coalesce import coalesce
from netstack.link.framing import segment
from netstack.link.stream import StreamLink

FULL, PARTIAL = 0, 2
GSO_TCP4, GSO_TCP6 = 1, 4


def following(first: Segment, n: int = 2) -> list[Segment]:
    """First, and what a sender puts behind it."""
    size = len(first.payload)
    return [dataclasses.replace(first, seq=first.seq + i * size, ident=first.ident + i) for i in range(n)]


def frames_of(segments: list[Segment]) -> list[bytes]:
    return [s.frame() for s in segments]


def apart(made: list[tuple[bytes, tuple[int, ...]]]) -> list[bytes]:
    """The frames after segmentation of those that are super-frames."""
    out = []
    for frame, meta in made:
        if meta == PLAIN:
            out.append(frame)
        else:
            rc, sent, parts = segment([frame], meta)
            assert (rc, sent) == (0, len(parts))
            out += [part for part, _ in parts]
    return out


def without_ident(frame: bytes) -> bytes:
    """An IPv4 frame whose DF makes the identification meaningless, with that and the header's checksum blanked."""
    if frame[12:14] == b"\x08\0" and frame[20] & 0x40:
        return frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]
    return frame


@pytest.mark.parametrize("v6", [False, True])
def test_golden(v6: bool) -> None:
    """Three full segments and a short one with PSH and FIN, sequence numbers that wrap."""
    segments = following(Segment(bytes(range(256)) * 5 + bytes(148), seq=2**32 - 1000, v6=v6, ident=65534), 4)
    segments[-1] = dataclasses.replace(segments[-1], payload=b"the end", flags=ACK | PSH | FIN)
    ((frame, meta),) = coalesce(frames_of(segments))
    l4 = 54 if v6 else 34
    assert meta == (PARTIAL, GSO_TCP6 if v6 else GSO_TCP4, MSS, l4 + 32, l4, 16)
    assert frame[l4 + 32 :] == b"".join(s.payload for s in segments)
    assert frame[l4 + 13] == ACK | PSH | FIN
    assert len(frame) == l4 + 32 + 3 * MSS + 7
    assert apart([(frame, meta)]) == frames_of(segments)


def test_scapy_reads_the_super_frame() -> None:
    segments = following(Segment(), 3)
    ((frame, _),) = coalesce(frames_of(segments))
    packet = Ether(frame)
    assert (packet[IP].len, packet[TCP].seq, len(packet[Raw].load)) == (len(frame) - 14, 0, 3 * MSS)
    checked = packet[IP].chksum
    del packet[IP].chksum
    assert IP(bytes(packet[IP])).chksum == checked
    pseudo = bytes(packet[IP])[12:20] + struct.pack(">HH", 6, len(frame) - 34)
    assert packet[TCP].chksum == ones_sum(pseudo)  # what a partial checksum begins with


EQUAL: list[dict[str, object]] = [  # that two frames must have in common
    {"seq": MSS + 1},
    {"seq": MSS - 1},
    {"seq": 0},
    {"ack": 78},
    {"window": 501},
    {"flags": ACK | ECE},
    {"options": TIMES[:-1] + b"\x03"},
    {"options": b""},
    {"options": TIMES + TIMES},
    {"payload": bytes(MSS + 1)},
    {"tos": 1},
    {"ttl": 63},
    {"port": 1001},
    {"source": 2},
    {"fragment": 0},
    {"v6": True},
]
NEVER: list[dict[str, object]] = [  # of either frame, or of both
    {"flags": ACK | CWR},
    {"flags": ACK | URG},
    {"flags": ACK | RST},
    {"flags": ACK | SYN},
    {"flags": PSH},
    {"fragment": DF | MF},
    {"fragment": MF},
    {"fragment": 1},
    {"fragment": 0x8000 | DF},
    {"ip_options": b"\x94\x04\0\0"},
    {"wrong_ip": True},
    {"wrong_tcp": True},
    {"trailer": b"\0"},
    {"payload": b""},
]


@pytest.mark.parametrize(
    ("changed", "which"),
    [(changed, [1]) for changed in EQUAL]
    + [(changed, which) for changed in NEVER for which in ([0], [1], [0, 1])],
    ids=str,
)
def test_what_is_not_joined(changed: dict[str, object], which: list[int]) -> None:
    pair = following(Segment())
    for i in which:
        pair[i] = dataclasses.replace(pair[i], **changed)  # type: ignore[arg-type]
    frames = frames_of(pair)
    assert coalesce(frames) == [(frame, PLAIN) for frame in frames]


@pytest.mark.parametrize("fragment", [0, DF])
def test_identifications_follow_one_another_without_df(fragment: int) -> None:
    segments = [dataclasses.replace(s, ident=7, fragment=fragment) for s in following(Segment(), 3)]
    assert len(coalesce(frames_of(segments))) == (1 if fragment else 3)
    segments = following(Segment(ident=65535, fragment=fragment), 3)
    made = coalesce(frames_of(segments))
    assert len(made) == 1
    assert apart(made) == frames_of(segments)


@pytest.mark.parametrize("flags", [ACK | PSH, ACK | FIN, ACK | PSH | FIN])
def test_psh_and_fin_are_the_last(flags: int) -> None:
    segments = following(Segment(), 4)
    segments[1] = dataclasses.replace(segments[1], flags=flags)
    made = coalesce(frames_of(segments))
    assert [meta[1] for _, meta in made] == [GSO_TCP4, GSO_TCP4]
    assert apart(made) == frames_of(segments)


def test_a_short_one_is_the_last() -> None:
    segments = following(Segment(), 2)
    segments[1] = dataclasses.replace(segments[1], payload=b"short")
    segments.append(dataclasses.replace(segments[0], seq=MSS + 5))
    assert [meta[1] for _, meta in coalesce(frames_of(segments))] == [GSO_TCP4, 0]


@pytest.mark.parametrize("v6", [False, True])
def test_no_longer_than_the_length_field_can_say(v6: bool) -> None:
    segments = following(Segment(v6=v6), 50)
    made = coalesce(frames_of(segments))
    assert len(made) == 2
    assert len(made[0][0]) - (54 if v6 else 14) <= 65535 < len(made[0][0]) - (54 if v6 else 14) + MSS
    assert apart(made) == frames_of(segments)


def test_frames_beyond_the_mtu_are_left_for_the_interface_to_refuse() -> None:
    frames = frames_of(following(Segment()))
    assert coalesce(frames, mtu=1479) == [(frame, PLAIN) for frame in frames]
    assert len(coalesce(frames, mtu=1480)) == 1


@pytest.mark.parametrize("framing", ["hyperkit", "qemu"])
def test_a_stream_link_joins_what_lies_ready(framing: str) -> None:
    segments = following(Segment(bytes(range(250)) * 4), 20)
    other = Segment(port=5).frame()
    frames = [*frames_of(segments[:12]), other, b"", *frames_of(segments[12:])]
    order = "little" if framing == "hyperkit" else "big"
    size = 2 if framing == "hyperkit" else 4
    stream = b"".join(len(f).to_bytes(size, order) + f for f in frames)  # type: ignore[arg-type]
    theirs, ours = socket.socketpair()
    link = StreamLink(ours.detach(), framing)
    with theirs:
        theirs.sendall(stream[:-1])
        made = []
        while (got := link.recv()) is not None:
            made.append(got)
        theirs.sendall(stream[-1:])
        made.append(link.recv())
        stats = link.stats()
        link.close()
    assert [meta[1] for _, meta in made] == [GSO_TCP4, 0, GSO_TCP4, 0]
    assert apart(made) == [frame for frame in frames if frame]
    assert stats["rx_frames"] == len(frames)
    assert stats["rx_bytes"] == sum(map(len, frames))


CHANGES = st.sampled_from(
    [
        *[{}] * 10,
        {"flags": ACK | PSH},
        {"flags": ACK | PSH | FIN},
        {"flags": ACK | ECE},
        {"flags": ACK | CWR},
        {"ack": 78},
        {"tos": 3},
        {"window": 9},
        {"wrong_tcp": True},
        {"wrong_ip": True},
        {"source": 2},
        {"options": b""},
        {"trailer": bytes(6)},
        {"payload": b""},
    ]
)


@given(
    first=st.builds(
        Segment,
        payload=st.binary(min_size=1, max_size=300),
        seq=st.integers(2**32 - 2000, 2**32 - 1),
        v6=st.booleans(),
        ident=st.integers(0, 65535),
        fragment=st.sampled_from([0, DF]),
        options=st.sampled_from([b"", TIMES]),
    ),
    changes=st.lists(
        st.tuples(CHANGES, st.sampled_from(["", "", "", "", "again", "lost", "short"])), max_size=40
    ),
)
def test_segmentation_gives_the_same_frames(
    first: Segment, changes: list[tuple[dict[str, object], str]]
) -> None:
    """Whatever lies in the stream: nothing is lost, changed or put in another order by joining and cutting."""
    frames = []
    seq, ident = first.seq, first.ident
    for changed, fate in changes:
        s = dataclasses.replace(first, seq=seq, ident=ident)
        if fate == "short":
            s = dataclasses.replace(s, payload=s.payload[: len(s.payload) // 2])
        s = dataclasses.replace(s, **changed)  # type: ignore[arg-type]
        if fate != "again":
            seq += len(s.payload)
            ident += 1
        if fate != "lost":
            frames.append(s.frame())
    made = coalesce(frames)
    assert [without_ident(f) for f in apart(made)] == [without_ident(f) for f in frames]


@given(st.lists(st.binary(max_size=100), max_size=10), st.booleans())
def test_any_bytes(frames: list[bytes], headers: bool) -> None:
    if headers:  # so that some get past the first look
        frames = [Segment(b"").frame()[: 34 + len(f)] + f for f in frames]
    assert apart(coalesce(frames)) == frames
