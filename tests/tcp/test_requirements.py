"""Requirements of RFC 9293, 1122, 5681, 6298, 7323, 9438, 9406 and 3168 that have no better place."""

from __future__ import annotations

import pytest

from netstack import Config
from netstack.tcp import TimedOut
from tests.tcp.test_loss import MSS, RTT, established, flight
from tests.tcp.trace import ACK, DATA, RST, SYN, SYN_ACK, Segment, Trace

# --- RFC 9293 and 1122


def test_window_is_unsigned() -> None:
    t, g = established(congestion="none")
    g.win = 65000
    g >> ACK()
    t.send(70000)
    g << DATA(65000, seq=1)
    t.silence()


def test_mss_only_in_syn() -> None:
    t, g = established()
    t.send(5000)
    t.close()
    g >> DATA(100, seq=101)
    for _, header, _, _ in t.out:
        assert header.mss is None
        assert header.wscale is None
        assert not header.sack_permitted
    assert len(t.out) >= 6


def test_syn_is_tried_for_three_minutes() -> None:
    t = Trace(active=True)
    t.guest << SYN()
    t.after(179)
    assert t.state == "SYN-SENT"
    assert len(t.out) >= 6
    t.after(60)
    assert t.state == "CLOSED"
    assert t.saw(TimedOut)


def test_keep_alive_of_the_gateway_is_two_hours() -> None:
    assert Config().tcp_keepalive >= 7200


def test_source_quench_and_soft_errors_do_nothing() -> None:
    """Type 4, and unreachable 0, 1 and 5, time exceeded, parameter problem: neither hard nor too big."""
    t, _g = flight(10)
    cwnd = t.info["cwnd"]
    t.icmp(1, hard=False, mtu=0)
    t.silence()
    assert t.state == "ESTABLISHED"
    assert t.info["cwnd"] == cwnd
    t = Trace(active=True)
    t.guest << SYN()
    t.icmp(0, hard=False, mtu=0)
    assert t.state == "SYN-SENT"


# --- RFC 5681, 6298


def test_ssthresh_is_two_segments_at_least() -> None:
    t, g = established()
    t.send(MSS)
    g << DATA(MSS)
    g << DATA(MSS, seq=1).within(0.1, 1.5)
    g << DATA(MSS, seq=1).within(0.1, 1.5)
    assert t.info["ssthresh"] >= 2 * MSS


def test_second_time_out_keeps_ssthresh() -> None:
    t, g = flight(10, sack=False)
    g << DATA(MSS, seq=1).within(0.05, 1.0)
    first = t.info["ssthresh"]
    assert first == pytest.approx(7 * MSS, abs=MSS)
    g << DATA(MSS, seq=1).within(0.3, 2.0)
    assert t.info["ssthresh"] == first


def test_timer_is_off_when_all_is_acknowledged() -> None:
    t, g = flight(10)
    g >> ACK(ack=10 * MSS + 1)
    t.silence(60)


def test_three_seconds_after_a_syn_that_timed_out() -> None:
    t = Trace(nagle=False)
    g = t.guest
    g >> SYN(mss=MSS)
    g << SYN_ACK()
    g << SYN_ACK().within(0.9, 1.1)
    t.after(0.1)
    g >> ACK()
    t.send(500)
    g << DATA(500)
    g << DATA(500, seq=1).within(2.9, 3.1)


# --- RFC 7323


def test_timestamps_in_every_segment() -> None:
    t, g = established(timestamps=True)
    offset = None
    for step in range(4):
        t.send(100)
        t.after(1.0)
        g >> DATA(10, ack=1 + 100 * (step + 1))
        t.after(0.1)
    t.close()
    assert len(t.out) >= 8
    for when, header, _, _ in t.out:
        assert header.timestamps is not None
        offset = header.timestamps[0] - int(when * 1000) if offset is None else offset
        assert (header.timestamps[0] - int(when * 1000) - offset) % 2**32 in (0, 1, 2**32 - 1)


def test_an_old_timestamp_does_not_save_from_a_reset() -> None:
    t, g = established(timestamps=True)
    g >> RST(ts=(g.ts_base - 1000, 0))
    assert t.state == "CLOSED"


# --- RFC 9438, 9406


def rounds(t: Trace, n: int, rtt: float) -> None:
    for _ in range(n):
        t.send(400 * MSS)
        t.after(rtt)
        t.out.clear()
        t.guest >> ACK(ack=t.guest.rcv)


def lose_one(t: Trace, rtt: float) -> None:
    """One segment of a full window is lost, and recovered."""
    g = t.guest
    t.send(400 * MSS)
    t.after(rtt)
    t.out.clear()
    first = t.stack_seq(t.info["snd_una"])
    g >> ACK(ack=first, sack=((first + MSS, g.rcv),))
    t.after(rtt)
    t.out.clear()
    g >> ACK(ack=g.rcv)


def test_cubic_is_not_slower_than_reno_on_a_short_path() -> None:
    """At 5 ms a window of twenty segments grows by Reno's estimate: the curve would need seconds."""
    grown = {}
    for control in ("cubic", "reno"):
        t, g = established(rtt=0.005, congestion=control)
        g.win = 65535
        rounds(t, 1, 0.005)
        lose_one(t, 0.005)
        start = t.info["cwnd"]
        rounds(t, 20, 0.005)
        grown[control] = (t.info["cwnd"] - start) / MSS
    assert grown["reno"] >= 10
    assert grown["cubic"] >= 0.5 * grown["reno"]


def test_fast_convergence() -> None:
    """A second loss below the last one's window lowers the plateau, so that others get room."""
    t, _g = established()
    rounds(t, 2, RTT)
    lose_one(t, RTT)
    high = t.info["ssthresh"]
    lose_one(t, RTT)
    low = t.info["ssthresh"]
    assert low == pytest.approx(0.7 * high, rel=0.15)
    rounds(t, 60, RTT)
    assert t.info["cwnd"] > low


def round_trip(t: Trace, rtt: float) -> None:
    """All that may be sent, and an acknowledgement for each segment."""
    t.send(400 * MSS)
    packets = list(t.out)
    t.out.clear()
    t.after(rtt)
    for _, header, payload, _ in packets:
        t.guest >> ACK(ack=t.stack_seq(header.seq) + len(payload))


def test_hystart_leaves_slow_start_when_the_round_trip_grows() -> None:
    t, _g = established(send_buffer=1 << 22)
    rtt = 0.05
    for step in range(12):
        round_trip(t, rtt)
        if t.info["ssthresh"] < 1 << 29:
            break
        if step >= 1:
            rtt += 0.02
    assert t.info["ssthresh"] < 1 << 29, "slow start never ended"
    assert t.info["recovery"] == "open"
    assert step >= 5  # the rounds of conservative slow start


def test_hystart_forgives_jitter() -> None:
    t, _g = established(send_buffer=1 << 22)
    for rtt in (0.05, 0.05, 0.09, 0.05, 0.05, 0.05):
        round_trip(t, rtt)
    assert t.info["ssthresh"] > 1 << 29


# --- RFC 3168


def test_no_ect_on_retransmissions() -> None:
    t = Trace(ecn=True, nagle=False)
    g = t.guest
    g >> Segment("SEC", mss=1460, sack_permitted=True)
    g << Segment("SAE", ack=1)
    g >> ACK()
    t.send(1000)
    g << DATA(1000, ecn=2)
    g << DATA(1000, seq=1, ecn=0).within(0.01, 2.0)
    g >> ACK(ack=1001, win=0)
    t.send(1000)
    t.silence()
    g << ACK(seq=1000, ecn=0).within(0.1, 3.0)
