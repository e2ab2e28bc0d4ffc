"""The receiving half: order, overlap, SACK, D-SACK, PAWS, windows, when an ACK is sent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from netstack.tcp import EndOfStream, UrgentData
from tests.tcp.trace import ACK, DATA, FIN_ACK, SYN, SYN_ACK, Segment, Trace, reach

# --- order


@pytest.mark.parametrize("order", list(permutations(range(5))), ids=lambda o: "".join(map(str, o)))
@pytest.mark.parametrize("fin", [False, True], ids=["", "fin"])
def test_every_order_of_five_segments(order: tuple[int, ...], fin: bool) -> None:
    """An immediate ACK with SACK for each that is out of order, one cumulative ACK at the end."""
    t = Trace()
    g = t.connect()
    have: set[int] = set()
    for i in order:
        last = fin and i == 4
        g >> DATA(100, "FA" if last else "A", seq=1 + 100 * i)
        have.add(i)
        edge = next(k for k in range(6) if k not in have)
        done = edge == 5
        if t.out:
            _, header, _, _ = t.out[-1]
            assert t.guest_seq(header.ack) == 1 + 100 * edge + (1 if fin and done else 0)
            held = sorted(have - set(range(edge)))
            if held:
                blocks = [(t.guest_seq(a), t.guest_seq(b)) for a, b in header.sack]
                # the first block holds the segment that has just come, if that is above the edge
                if i >= edge:
                    assert blocks[0][0] <= 1 + 100 * i < blocks[0][1]
                covered = {k for k in range(5) for a, b in blocks if a <= 1 + 100 * k < b}
                assert covered == set(held)
        else:
            assert not (have - set(range(edge))), "out of order, and no ACK"
        t.out.clear()
    assert len(t.received) == 500
    assert t.saw(EndOfStream) == fin


def test_hole_filled_is_acknowledged_at_once() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(100, seq=101)
    g << ACK(ack=1, sack=((101, 201),))
    g >> DATA(100, seq=1)
    g << ACK(ack=201, sack=())
    assert len(t.received) == 200


def test_sack_blocks_newest_first_at_most_three_old() -> None:
    t = Trace()
    g = t.connect()
    for k in (1, 3, 5, 7, 9):
        g >> DATA(100, seq=1 + 100 * k)
    assert len(t.out) == 5
    t.out = t.out[-1:]
    g << ACK(ack=1, sack=((901, 1001), (701, 801), (501, 601), (301, 401)))
    g >> DATA(100, seq=201)  # joins 101..201 and 301..401
    g << ACK(ack=1, sack=((101, 401), (901, 1001), (701, 801), (501, 601)))


def test_a_block_that_grows_does_not_push_the_others_out() -> None:
    t = Trace()
    g = t.connect()
    for k in (1, 3, 5, 6, 7, 8, 9, 10):  # the third block grows by five segments
        g >> DATA(100, seq=1 + 100 * k)
    t.out = t.out[-1:]
    g << ACK(ack=1, sack=((501, 1101), (301, 401), (101, 201)))


def test_three_blocks_beside_timestamps() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    for k in (1, 3, 5, 7):
        g >> DATA(100, seq=1 + 100 * k)
    t.out = t.out[-1:]
    g << ACK(ack=1, sack=((701, 801), (501, 601), (301, 401)))


def test_no_sack_unless_permitted() -> None:
    t = Trace()
    g = t.connect(sack=False)
    g >> DATA(100, seq=101)
    g << ACK(ack=1, sack=())


def test_d_sack_below_the_ack() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(1000)
    g >> DATA(1000)
    g << ACK(ack=2001)
    g >> DATA(1000, seq=1)
    g << ACK(ack=2001, sack=((1, 1001),))
    g >> DATA(1000, seq=2001)
    t.after(0.05)
    g << ACK(ack=3001, sack=())  # once


def test_d_sack_above_the_ack_names_the_block_second() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(300, seq=101)
    g << ACK(sack=((101, 401),))
    g >> DATA(100, seq=201)
    g << ACK(ack=1, sack=((201, 301), (101, 401)))


def test_partial_duplicate_takes_the_new_part() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(100)
    g >> DATA(150, seq=51)
    g << ACK(ack=201, sack=((51, 101),))
    assert len(t.received) == 200


def test_fin_first() -> None:
    t = Trace()
    g = t.connect()
    g >> FIN_ACK(seq=101)
    g << ACK(ack=1)
    assert not t.saw(EndOfStream)
    g >> DATA(100, seq=1)
    g << ACK(ack=102)
    assert t.saw(EndOfStream)


def test_holes_are_bounded() -> None:
    """However many holes a peer digs, what is kept stays bounded, and the stream is whole in the end."""
    t = Trace()
    g = t.connect()
    for k in range(1, 2000, 2):
        g >> DATA(1, seq=1 + k)
    t.out.clear()
    for k in range(2000):
        g >> DATA(1, seq=1 + k)
    t.out.clear()
    assert len(t.received) == 2000


def test_every_out_of_order_segment_is_acknowledged_to_a_peer_without_sack() -> None:
    t = Trace()
    g = t.connect(sack=False)
    for k in range(1, 4):
        g >> DATA(100, seq=1 + 100 * k)
        g << ACK(ack=1, exact=True)
    t.silence()


# --- timestamps


def test_paws() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    t.after(5)
    base = g.ts_base
    g >> DATA(100, seq=1, ts=(base + 1000, g.ts_recent))
    t.after(0.05)
    g << ACK(ack=101, ts=(0, base + 1000))
    g >> DATA(
        100, seq=101, ts=(base + 999, g.ts_recent)
    )  # older: dropped, and answered with the unchanged echo
    # and without a D-SACK: bytes 101 to 200 are not here, and a sender that is told so never sends them again
    g << ACK(ack=101, ts=(0, base + 1000), sack=())
    assert len(t.received) == 100
    g >> DATA(100, seq=101, ts=(base + 1001, g.ts_recent))
    t.after(0.05)
    g << ACK(ack=201, ts=(0, base + 1001))


def test_paws_reports_what_is_a_duplicate() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    base = g.ts_base
    g >> DATA(100, seq=1, ts=(base + 10, g.ts_recent))
    t.after(0.05)
    g << ACK(ack=101)
    g >> DATA(100, seq=51, ts=(base + 5, g.ts_recent))
    g << ACK(ack=101, sack=((51, 101),))


def test_old_data_with_a_new_timestamp() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    g >> DATA(100, seq=1, ts=(g.ts_base + 10, g.ts_recent))
    t.after(0.05)
    g << ACK(ack=101)
    g >> DATA(100, seq=1, ts=(g.ts_base + 9000, g.ts_recent))
    g << ACK(ack=101, ts=(0, g.ts_base + 10))
    assert len(t.received) == 100
    g >> DATA(100, seq=101, ts=(g.ts_base + 20, g.ts_recent))
    assert len(t.received) == 200


def test_delayed_ack_echoes_the_earliest() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    first = g.ts_base + 100
    g >> DATA(600, seq=1, ts=(first, g.ts_recent))
    g >> DATA(600, seq=601, ts=(first + 10, g.ts_recent))
    g << ACK(ack=1201, ts=(0, first))


def test_a_hole_keeps_the_old_echo_and_a_filled_one_brings_the_new() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    base = g.ts_base
    g >> DATA(100, seq=1, ts=(base + 10, g.ts_recent))
    t.after(0.05)
    g << ACK(ack=101, ts=(0, base + 10))
    g >> DATA(100, seq=201, ts=(base + 20, g.ts_recent))
    g << ACK(ack=101, ts=(0, base + 10))
    g >> DATA(100, seq=101, ts=(base + 30, g.ts_recent))
    g << ACK(ack=301, ts=(0, base + 30))


def test_invalid_ack_does_not_advance_ts_recent() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    g >> DATA(100, seq=1, ack=5000, ts=(g.ts_base + 9000, g.ts_recent))
    g << ACK(ack=1, ts=(0, g.ts_base))


def test_segment_without_the_negotiated_timestamp_is_dropped_silently() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    g >> DATA(100, no_ts=True)
    t.silence()
    assert not t.received


def test_ts_recent_expires_after_24_days() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    t.after(25 * 86400)
    g >> DATA(100, seq=1, ts=(g.ts_base - 5, g.ts_recent))
    assert len(t.received) == 100


# --- when


def test_delayed_ack_and_every_second_segment() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(1460)
    t.silence()
    g << ACK(ack=1461).within(0.001, 0.499)
    g >> DATA(1460)
    t.silence()
    g >> DATA(1460)
    g << ACK(ack=4381)


def test_super_segment_counts_as_the_packets_in_it() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(14600)
    g << ACK(ack=14601)


def test_ack_rides_on_data() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(100)
    t.send(50)
    g << DATA(50, seq=1, ack=101)
    t.silence(0.1)


def test_one_ack_for_a_batch() -> None:
    """MUST-58: whoever asks once after several segments gets one ACK."""
    t = Trace()
    g = t.connect()
    for k in range(6):
        t.stack.receive_segment(t.build(DATA(1460, seq=1 + 1460 * k)), t.now)
    t.collect()
    g << ACK(ack=8761)
    t.silence(1)


# --- window


def test_window_closes_and_an_update_follows_reading() -> None:
    t = Trace(autoread=False, receive_buffer=10000, receive_buffer_max=10000)
    g = t.connect()
    for k in range(10):
        g >> DATA(1000, seq=1 + 1000 * k)
        t.after(0.05)
    t.out = t.out[-1:]
    g << ACK(ack=10001, win=0)
    t.read(500)  # less than a segment: no silly window
    t.silence(5)
    t.read(9500)
    g << ACK(ack=10001, win=10000)


def test_window_never_shrinks() -> None:
    t = Trace(autoread=False, receive_buffer=20000, receive_buffer_max=1 << 20)
    g = t.connect(wscale=3)
    edge = 0
    for k in range(60):
        g >> DATA(313, seq=1 + 313 * k)
        t.after(0.05)
        if k % 7 == 3:
            t.read(200)
        for _, header, _, _ in t.out:
            now = t.guest_seq(header.ack) + (header.window << g.peer_scale)
            assert now >= edge
            edge = now
        t.out.clear()


def test_data_beyond_the_window_is_cut() -> None:
    t = Trace(autoread=False, receive_buffer=5000, receive_buffer_max=5000)
    g = t.connect()
    g >> DATA(8000, seq=1)
    g << ACK(ack=5001, win=0)
    assert t.stack.readable == 5000


def test_zero_window_takes_a_bare_fin_an_ack_and_a_reset_but_no_data() -> None:
    t = Trace(autoread=False, receive_buffer=2000, receive_buffer_max=2000)
    g = t.connect()
    t.send(100)
    g << DATA(100)
    g >> DATA(2000, ack=1)
    t.after(0.05)
    g << ACK(ack=2001, win=0)
    g >> DATA(1, seq=2001, ack=101)  # the octet is refused, the ACK counts
    g << ACK(ack=2001, win=0)
    assert t.stack.unacked == 0
    g.nxt = 2001
    g >> FIN_ACK(seq=2001)
    g << ACK(ack=2002)
    assert t.saw(EndOfStream)


def test_receive_buffer_grows_with_the_user() -> None:
    t = Trace(receive_buffer=16384, receive_buffer_max=1 << 20)
    g = t.connect(wscale=0)
    for _ in range(100):
        for _ in range(8):
            g >> DATA(1460)
        t.after(0.02)
        t.out.clear()
    assert t.info["receive_buffer"] > 16384


def bulk(t: Trace, echo: Callable[[int], int] | None = None) -> int:
    """A quarter of a second of data at 800 Mbit/s, a segment each half millisecond: the receive buffer then."""
    g = t.guest
    for ms in range(250):
        for half in (0, 50_000):
            g >> DATA(50_000, seq=1 + 100_000 * ms + half, ts=echo and (g.ts_base + 100 + ms, echo(ms)))
        t.after(0.001)
        t.out.clear()
    return int(t.info["receive_buffer"])


def test_receive_buffer_follows_the_path_and_not_the_queue() -> None:
    """A window that grew with the round trip of its own queue would take a link from those that came later."""
    ample = 1 << 20
    settings: dict[str, Any] = {"receive_buffer": 1 << 17, "receive_buffer_max": 1 << 24}

    long = Trace(**settings)  # the handshake says 40 ms: 4 MB are twice what comes in a round trip
    g = long.guest
    g >> SYN(mss=1460, wscale=7)
    g << SYN_ACK(seq=0, ack=1)
    long.after(0.04)
    g >> ACK()
    assert bulk(long) > 2 * ample

    queue = Trace(timestamps=True, **settings)  # the handshake says nothing, what data echo says 40 ms
    g = queue.connect(wscale=7)
    assert bulk(queue, lambda ms: g.ts_recent + max(0, ms - 40)) == ample


def test_window_widens_before_data_behind_a_hole_fill_it() -> None:
    """What is sent after a lost retransmission finds it (RFC 8985 section 6.2): the window must leave room for that."""
    t = Trace(receive_buffer=16384, receive_buffer_max=1 << 18)
    g = t.connect(wscale=0)
    for k in range(1, 8):
        g >> DATA(1460, seq=1 + 1460 * k)
    assert t.info["receive_buffer"] == 16384  # a quarter is left
    g >> DATA(1460, seq=1 + 1460 * 8)
    assert t.info["receive_buffer"] == 32768
    for k in range(9, 100):
        g >> DATA(1460, seq=1 + 1460 * k)
    assert 100 * 1460 < t.info["receive_buffer"] <= 1 << 18  # the sender was never stopped

    limited = Trace(receive_buffer=16384, receive_buffer_max=20000)
    g = limited.connect(wscale=0)
    for k in range(1, 11):
        g >> DATA(1460, seq=1 + 1460 * k)
    assert limited.info["receive_buffer"] == 20000


def test_memory_pressure_shrinks_the_window_and_loses_nothing() -> None:
    t = Trace(autoread=False, receive_buffer=1 << 18, receive_buffer_max=1 << 18)
    from netstack.tcp import Connection

    t.stack = Connection(80, 40000, iss=0xFFFFF000, settings=t.settings, autoread=False, memory_limit=70000)
    t.stack.listen()
    g = t.connect(wscale=0)
    sent = 0
    window = 65535
    for _ in range(300):
        n = min(1460, window)
        if n == 0:
            break
        g >> DATA(n)
        sent += n
        t.after(0.05)
        for _, header, _, _ in t.out:
            window = t.guest_seq(header.ack) + (header.window << g.peer_scale) - g.nxt
        t.out.clear()
    assert t.stack.readable == t.guest_seq(t.info["rcv_nxt"]) - 1
    assert window < 1460
    assert t.stack.memory_used <= 4 * 70000
    while t.stack.readable:
        t.read(5000)
    assert t.read_bytes <= sent


# --- urgent


def test_urgent_data_travel_in_band() -> None:
    t = Trace()
    g = t.connect()
    g >> DATA(100, "UA", urgent=50)
    assert t.saw(UrgentData)
    assert len(t.received) == 100


def test_urgent_pointer_names_the_octet_behind() -> None:
    t = Trace()
    g = t.connect()
    t.stack.send(bytes([0, 7, 14]), t.now)
    t.stack.mark_urgent()
    t.collect()
    g << Segment("UA", length=3, urgent=3)


# --- ECN


def test_ecn() -> None:
    t = Trace(ecn=True)
    t.guest >> Segment("SEC", mss=1460, sack_permitted=True)
    t.guest << Segment("SAE", ack=1)
    g = t.guest
    g >> ACK()
    t.send(1000)
    g << DATA(1000, ecn=2)
    g >> DATA(10, ack=1001, ecn=3)
    g << Segment("AE", ack=11, ecn=0)  # CE seen: ECE until CWR
    g >> DATA(10, "CA", ecn=2)
    t.after(0.05)
    _, header, _, _ = t.out.pop()
    assert not header.flags & 0x40
    cwnd = t.info["cwnd"]
    t.send(1000)
    g << DATA(1000)
    g >> Segment("AE", ack=2001)
    assert t.info["ssthresh"] < cwnd
    t.send(1000)
    g << DATA(1000, "CA", seq=2001)


def test_ecn_only_when_both_want_it() -> None:
    t = Trace(ecn=False)
    t.guest >> Segment("SEC", mss=1460)
    t.guest << SYN_ACK(exact=True)
    t = Trace(active=True, ecn=True)
    t.guest << Segment("SEC")
    t.guest << SYN(exact=True).within(0.9, 1.1)  # no answer: without


def test_unknown_flags_and_options_do_no_harm() -> None:
    t = reach("SYN-RECEIVED")
    raw = bytearray(t.build(ACK(ack=1)))
    raw[12] = 10 << 4  # 20 bytes of options: MD5 signature (kind 19, length 18), NOP, NOP
    raw += bytes([19, 18]) + bytes(16) + b"\1\1"
    t.note(t.stack.receive_segment(bytes(raw), t.now))
    assert t.state == "ESTABLISHED"
