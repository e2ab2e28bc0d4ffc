"""Reassembly: every order, and every way of lying about it."""

from __future__ import annotations

import random

import pytest
from stack import GATEWAY, GATEWAY_MAC, GUEST, ICMP, IP, MAC, Ether, Raw, Stack


def parts(data: bytes, ident: int, size: int = 512) -> list[Ether]:
    """An echo request to the gateway in fragments of ``size`` bytes."""
    raw = bytes(IP(src=GUEST, dst=GATEWAY) / ICMP(id=3, seq=4) / Raw(data))[20:]
    return [piece(ident, at, raw[at : at + size], at + size < len(raw)) for at in range(0, len(raw), size)]


def piece(ident: int, at: int, data: bytes, more: bool) -> Ether:
    ip = IP(src=GUEST, dst=GATEWAY, id=ident, proto=1, flags=int(more), frag=at // 8)
    return Ether(src=MAC, dst=GATEWAY_MAC) / ip / Raw(data)


@pytest.mark.parametrize("seed", range(10))
def test_any_order(stack: Stack, seed: int) -> None:
    frames = parts(b"0123456789" * 300, 7)
    random.Random(seed).shuffle(frames)
    assert stack.send(*frames[:-1]) == []
    replies = stack.send(frames[-1])
    assert sum(len(bytes(p[IP])) - 20 for p in replies) == 3008
    assert stack.drops() == {}


def test_datagrams_are_kept_apart_by_their_identification(stack: Stack) -> None:
    first, second = parts(b"a" * 1000, 1), parts(b"b" * 1000, 2)
    replies = stack.send(first[0], second[0], second[1], first[1])
    assert [bytes(p[ICMP].payload)[:1] for p in replies] == [b"b", b"a"]


def test_a_duplicate_changes_nothing(stack: Stack) -> None:
    frames = parts(b"c" * 1000, 1)
    assert len(stack.send(frames[0], frames[0], *frames[1:])) == 1
    assert stack.drops() == {"fragment_duplicate": 1}


def test_an_overlap_discards_the_datagram(stack: Stack) -> None:
    """The class of CVE-2018-11806 and 2019-14378: what overlaps is refused, whatever it holds."""
    assert stack.send(piece(1, 0, b"d" * 512, True), piece(1, 256, b"e" * 512, True)) == []
    assert stack.drops() == {"fragment_overlap": 1}
    assert stack.send(piece(1, 768, b"f" * 8, False)) == []


@pytest.mark.parametrize(
    ("at", "size", "more"),
    [(65528, 8, False), (65520, 16, True), (0, 7, True), (8, 0, True)],
    ids=["beyond", "beyond-more", "odd", "empty"],
)
def test_impossible_fragments(stack: Stack, at: int, size: int, more: bool) -> None:
    assert stack.send(piece(1, at, b"g" * size, more)) == []
    assert stack.drops() == {"fragment_bad": 1}


def test_two_ends(stack: Stack) -> None:
    assert stack.send(piece(1, 512, b"h" * 8, False), piece(1, 1024, b"i" * 8, False)) == []
    assert stack.drops() == {"fragment_bad": 1}


def test_time_is_limited_and_the_sender_is_told(stack: Stack) -> None:
    assert stack.send(piece(1, 0, b"\x08\0\0\0\0\0\0\0" + b"j" * 504, True)) == []
    (error,) = stack.run(31)
    assert (error[ICMP].type, error[ICMP].code) == (11, 1)
    assert stack.drops() == {"fragment_timeout": 1}


def test_nobody_is_told_about_a_datagram_without_its_head(stack: Stack) -> None:
    assert stack.send(piece(1, 512, b"k" * 8, True)) == []
    assert stack.run(31) == []
    assert stack.drops() == {"fragment_timeout": 1}


def test_a_flood_is_bounded(stack: Stack) -> None:
    for i in range(200):
        stack.send(piece(i, 0, b"l" * 512, True))
    assert stack.drops() == {"fragment_limit": 200 - 64}
    assert len(stack.send(*parts(b"m" * 1000, 999))) == 1


def test_bytes_are_bounded(stack: Stack) -> None:
    for i in range(64):
        for _ in range(1):
            stack.send(piece(i, 60000, b"n" * 1400, True))
    assert stack.drops() == {}
    stack.send(piece(64, 60000, b"o" * 1400, True))
    assert stack.drops() == {"fragment_limit": 1}
