"""The Python face: events, errors, checksums, the example."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import netstack.tcp
from netstack.errors import WireError
from netstack.tcp import (
    Closed,
    Connected,
    Connection,
    DataReceived,
    EndOfStream,
    Event,
    FinAcknowledged,
    Settings,
    SpaceAvailable,
)

ADDRESSES = ("192.168.65.1", "192.168.65.3")


def pair(
    settings: Settings | None = None, *, addresses: tuple[str, str] | None = None
) -> tuple[Connection, Connection]:
    back = None if addresses is None else (addresses[1], addresses[0])
    a = Connection(1, 2, iss=10, settings=settings, addresses=addresses)
    b = Connection(2, 1, iss=20, settings=settings, addresses=back)
    b.listen()
    a.open(0.0)
    return a, b


def exchange(a: Connection, b: Connection, now: float = 0.0) -> tuple[list[Event], list[Event]]:
    """Until neither has anything to say."""
    seen: tuple[list[Event], list[Event]] = ([], [])
    while True:
        up = a.segments_to_send(now)
        for data in up:
            seen[1].extend(b.receive_segment(data, now))
        down = b.segments_to_send(now)
        for data in down:
            seen[0].extend(a.receive_segment(data, now))
        if not up and not down:
            return seen


@pytest.mark.parametrize("addresses", [None, ADDRESSES, ("fd00::1", "fd00::2")])
def test_a_conversation(addresses: tuple[str, str] | None) -> None:
    a, b = pair(addresses=addresses)
    events = exchange(a, b)
    assert events == ([Connected()], [Connected()])
    assert a.send(b"ping", 0.0) == 4
    assert exchange(a, b)[1] == [DataReceived(b"ping")]
    a.close(0.0)
    events = exchange(a, b)
    assert events == ([FinAcknowledged()], [EndOfStream()])
    b.close(0.0)
    events = exchange(a, b)
    assert events == ([EndOfStream()], [FinAcknowledged(), Closed()])
    assert (a.state, b.state) == ("TIME-WAIT", "CLOSED")
    timer = a.next_timer()
    assert timer is not None
    while a.state != "CLOSED" and timer is not None:
        a.handle_timer(timer)
        timer = a.next_timer()
    assert a.state == "CLOSED"
    assert a.next_timer() is None


def test_a_wrong_checksum_is_refused() -> None:
    a, b = pair(addresses=ADDRESSES)
    (syn,) = a.segments_to_send(0.0)
    bad = bytearray(syn)
    bad[4] ^= 1
    with pytest.raises(WireError):
        b.receive_segment(bytes(bad), 0.0)
    with pytest.raises(WireError):
        b.receive_segment(syn[:19], 0.0)
    assert b.state == "CLOSED"
    assert b.receive_segment(syn, 0.0) == []
    assert b.state == "SYN-RECEIVED"


def test_back_pressure() -> None:
    a, b = pair(Settings(send_buffer=10_000, send_buffer_max=10_000))
    exchange(a, b)
    assert a.send(bytes(50_000), 0.0) == 10_000
    assert a.send(b"x", 0.0) == 0
    assert SpaceAvailable() in exchange(a, b, 0.1)[0]
    assert a.send(bytes(50_000), 0.1) >= 8000  # the tail may wait for a delayed ACK


def accounted() -> tuple[Connection, Connection]:
    """A pair that tells of its memory."""
    a = Connection(1, 2, iss=10, memory_limit=1 << 30)
    b = Connection(2, 1, iss=20, memory_limit=1 << 30)
    b.listen()
    a.open(0.0)
    exchange(a, b)
    return a, b


def test_time_wait_holds_no_memory() -> None:
    """A burst of short connections would else keep a ring for each of them."""
    a, b = accounted()
    a.send(bytes(500), 0.0)
    a.close(0.0)
    assert a.memory_used > 0
    exchange(a, b)
    assert (a.state, a.memory_used) == ("FIN-WAIT-2", 0)
    b.close(0.0)
    exchange(a, b)
    assert (a.state, a.memory_used) == ("TIME-WAIT", 0)
    assert (b.state, b.memory_used) == ("CLOSED", 0)


def test_an_idle_connection_holds_no_memory() -> None:
    a, b = accounted()
    a.send(bytes(200_000), 0.0)
    assert a.memory_used > 0
    for k in range(20):
        exchange(a, b, k / 10)
    now = 10.0
    for side in (a, b):
        while (timer := side.next_timer()) is not None:
            side.handle_timer(max(now, timer))
        assert side.memory_used == 0
    assert a.info()["control_block_bytes"] <= 680


def test_super_segments_are_cut_for_the_wire() -> None:
    a, b = pair(Settings(max_gso=65536, nagle=False, timestamps=False))
    exchange(a, b)
    a.send(bytes(10_000), 0.0)
    segments = a.segments_to_send(0.0)
    assert [len(s) - 20 for s in segments] == [1460] * 6 + [1240]
    assert [bool(s[13] & 8) for s in segments] == [False] * 6 + [True]  # PSH on the last


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="congestion"):
        Connection(1, 2, iss=0, settings=Settings(congestion="vegas"))
    with pytest.raises(ValueError, match="time"):
        Connection(1, 2, iss=0).open(-1.0)
    with pytest.raises(TypeError):
        Connection(1, 2)  # type: ignore[call-arg]


def test_public_names() -> None:
    for name in netstack.tcp.__all__:
        assert getattr(netstack.tcp, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = netstack.tcp.nothing


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "two_tcp_connections.py"
    runpy.run_path(str(example))
    out = capsys.readouterr().out
    assert "client DataReceived(data=b'HELLO OVER A WIRE" in out
