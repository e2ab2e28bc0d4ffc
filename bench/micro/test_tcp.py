"""The TCP state machine alone, without sockets: segments in, segments out, no clock.

The Python face is measured: an object for each segment and event beside the C below it.
"""

from __future__ import annotations

from typing import Any

import pytest

from netstack.tcp import Connection, Settings

MSS = 1448  #: with timestamps
BULK = 32  #: segments of one round


def pair(**settings: Any) -> tuple[Connection, Connection]:
    """Two connections that have found each other."""
    active = Connection(1, 2, iss=1000, settings=Settings(**settings))
    passive = Connection(2, 1, iss=5000, settings=Settings(**settings))
    passive.listen()
    active.open(0.0)
    exchange(active, passive, 0.0)
    assert active.state == passive.state == "ESTABLISHED"
    return active, passive


def exchange(one: Connection, other: Connection, now: float) -> int:
    """Carries segments until both are silent; how many."""
    carried = 0
    while True:
        out, back = one.segments_to_send(now), other.segments_to_send(now)
        if not out and not back:
            return carried
        for segment in out:
            other.receive_segment(segment, now)
        for segment in back:
            one.receive_segment(segment, now)
        carried += len(out) + len(back)


def test_handshake(benchmark: Any) -> None:
    """Two state machines made, and three segments."""
    benchmark(pair)


@pytest.mark.parametrize("size", [64, MSS])
def test_one_segment_and_its_acknowledgement(benchmark: Any, size: int) -> None:
    active, passive = pair()
    data, clock = bytes(size), [0.0]

    def round_trip() -> None:
        clock[0] += 1e-3
        active.send(data, clock[0])
        for segment in active.segments_to_send(clock[0]):
            passive.receive_segment(segment, clock[0])
        clock[0] += 0.2  # the delayed acknowledgement's time
        passive.handle_timer(clock[0])
        for segment in passive.segments_to_send(clock[0]):
            active.receive_segment(segment, clock[0])

    benchmark(round_trip)
    assert active.unacked == 0


def test_bulk_32_segments(benchmark: Any) -> None:
    """Written, sent, received and acknowledged: divide by 32."""
    active, passive = pair()
    data, clock = bytes(BULK * MSS), [0.0]

    def transfer() -> int:
        clock[0] += 1e-3
        assert active.send(data, clock[0]) == len(data)
        carried = 0
        while active.unacked:
            carried += exchange(active, passive, clock[0])
            clock[0] += 0.05
            passive.handle_timer(clock[0])
            active.handle_timer(clock[0])
        return carried

    assert benchmark(transfer) > BULK


def test_bulk_32_segments_every_eighth_lost(benchmark: Any) -> None:
    """With SACK and recovery."""
    active, passive = pair()
    data, clock, count = bytes(BULK * MSS), [0.0], [0]

    def transfer() -> None:
        clock[0] += 1e-3
        active.send(data, clock[0])
        while active.unacked:
            for segment in active.segments_to_send(clock[0]):
                count[0] += 1
                if count[0] % 8:
                    passive.receive_segment(segment, clock[0])
            for segment in passive.segments_to_send(clock[0]):
                active.receive_segment(segment, clock[0])
            clock[0] += 0.05
            for connection in (passive, active):
                timer = connection.next_timer()
                if timer is not None and timer <= clock[0]:
                    connection.handle_timer(clock[0])

    benchmark.pedantic(transfer, rounds=50, warmup_rounds=2)
    assert active.unacked == 0
