"""Acknowledgments inside a burst of frames, which the engine reads before it sends anything else."""

from __future__ import annotations

from stack import TCP, GuestTcp, Packet, Stack


def burst(stack: Stack, frames: list[Packet]) -> list[Packet]:
    """All frames are there before the engine looks."""
    for frame in frames:
        stack.link.inject(bytes(frame))
    return [p for p in stack.run() if TCP in p]


def test_a_burst_is_acknowledged_on_the_way(stack: Stack) -> None:
    guest = GuestTcp(stack)
    guest.open()
    frames = [guest.segment("A", bytes(1460), seq=guest.seq + 1460 * k) for k in range(16)]
    acks = [(p[TCP].ack - guest.seq) // 1460 for p in burst(stack, frames)]
    assert acks == [2, 6, 14, 16]


def test_out_of_order_is_reported_each_time(stack: Stack) -> None:
    guest = GuestTcp(stack, options=[("MSS", 1460), ("SAckOK", b"")])
    guest.open()
    frames = [guest.segment("A", bytes(100), seq=guest.seq + 100 * k) for k in (1, 2, 3, 4)]
    answers = burst(stack, frames)
    assert [p[TCP].ack for p in answers] == [guest.seq] * 4
    blocks = [dict(p[TCP].options)["SAck"] for p in answers]
    assert blocks == [(guest.seq + 100, guest.seq + 200 + 100 * k) for k in range(4)]


def test_a_hole_that_is_known_is_reported_less_often(stack: Stack) -> None:
    """Three duplicate ACKs start the fast retransmission; what comes behind the hole then shares an ACK."""
    guest = GuestTcp(stack, options=[("MSS", 1460), ("SAckOK", b"")])
    guest.open()
    frames = [guest.segment("A", bytes(1000), seq=guest.seq + 1000 * k) for k in range(1, 61)]
    answers = burst(stack, frames)
    assert [p[TCP].ack for p in answers] == [guest.seq] * len(answers)
    ends = [(dict(p[TCP].options)["SAck"][1] - guest.seq) // 1000 for p in answers]
    assert ends == [2, 3, 4, 4 + 44, 61]


def test_blocks_share_an_ack_that_has_room_for_them(stack: Stack) -> None:
    guest = GuestTcp(stack, options=[("MSS", 1460), ("SAckOK", b"")])
    guest.open()
    frames = [guest.segment("A", bytes(100), seq=guest.seq + 200 * k) for k in range(1, 13)]
    told = [dict(p[TCP].options)["SAck"] for p in burst(stack, frames)]
    assert len(told) == 6  # three at once, then one for each three blocks
    blocks = {
        (left - guest.seq, right - guest.seq)
        for t in told
        for left, right in zip(t[::2], t[1::2], strict=True)
    }
    assert blocks == {(200 * k, 200 * k + 100) for k in range(1, 13)}  # and none is missing
