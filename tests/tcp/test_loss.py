"""Loss detection and recovery, and the windows that follow: RFC 5681, 6298, 8985, 6937, 6582, 3042, 5682,
3522, 2883."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tcp.trace import ACK, DATA, FIN_ACK, SYN, SYN_ACK, Guest, Trace

MSS = 1000
RTT = 0.1


def established(
    *, rtt: float = RTT, sack: bool = True, mss: int = MSS, **settings: Any
) -> tuple[Trace, Guest]:
    """A connection whose RTT has been measured in the handshake, congestion window ten segments."""
    settings.setdefault("nagle", False)
    settings.setdefault("send_buffer", 1 << 20)
    t = Trace(**settings)
    g = t.guest
    options: dict[str, Any] = {"mss": mss + (12 if t.settings.timestamps else 0), "sack_permitted": sack}
    if t.settings.timestamps:
        options["ts"] = (g.ts_base, 0)
    g >> SYN(**options)
    g << SYN_ACK()
    t.after(rtt)
    g >> ACK()
    return t, g


def flight(n: int = 10, **settings: Any) -> tuple[Trace, Guest]:
    """n segments of 1000 bytes are out: 1..1001..2001.. and an RTT has passed."""
    t, g = established(**settings)
    t.send(n * MSS)
    g << DATA(n * MSS, seq=1)
    t.silence()
    t.after(settings.get("rtt", RTT))
    return t, g


# --- retransmission time-out


def test_rto_doubles_and_resends_the_oldest_alone() -> None:
    t, g = established(sack=False, mss=500)
    t.send(1500)
    g << DATA(1500)
    g << DATA(500, seq=1).within(0.1, 1.0)
    start = t.now
    g << DATA(500, seq=1).within(0.3, 1.0)
    first = t.now - start
    g << DATA(500, seq=1).within(1.9 * first, 2.1 * first)
    g << DATA(500, seq=1).within(3.8 * first, 4.2 * first)
    assert t.info["cwnd"] == 500


def test_rto_is_capped() -> None:
    t, g = established(sack=False, mss=500, rto_max=2.0, user_timeout=1000.0)
    t.send(500)
    g << DATA(500)
    for _ in range(6):
        t.expect(DATA(500, seq=1).within(0.1, 2.0))
    g << DATA(500, seq=1).within(1.99, 2.01)


def test_rto_first_sample() -> None:
    t, _ = established(rtt=0.2)
    assert t.info["srtt"] == pytest.approx(0.2, abs=0.001)
    assert t.info["rto"] == pytest.approx(0.2 + 4 * 0.1, abs=0.002)


def test_rto_uses_the_old_srtt_for_the_variance() -> None:
    t, g = established(rtt=0.2)
    t.send(100)
    g << DATA(100)
    t.after(0.4)
    t.silence()
    g >> ACK()
    assert t.info["srtt"] == pytest.approx(0.225, abs=0.001)
    assert t.info["rto"] == pytest.approx(0.225 + 4 * (0.75 * 0.1 + 0.25 * 0.2), abs=0.002)


def test_karn_no_sample_from_a_retransmitted_segment() -> None:
    t, g = flight(1, sack=False)
    before = t.info["srtt"]
    g << DATA(1000, seq=1).within(0.1, 1.0)
    t.after(0.3)
    g >> ACK(ack=1001)
    assert t.info["srtt"] == before


def test_back_off_stays_until_a_sample_comes() -> None:
    t, g = flight(1, sack=False)
    g << DATA(1000, seq=1).within(0.1, 1.0)
    g >> ACK(ack=1001)
    assert t.info["backoff"] == 1
    t.send(1000)
    g << DATA(1000, seq=1001)
    t.after(0.05)
    g >> ACK(ack=2001)
    assert t.info["backoff"] == 0


def test_slow_start_after_a_time_out() -> None:
    t, g = flight(10, sack=False, rtt=0.05)
    g << DATA(1000, seq=1).within(0.1, 1.0)
    t.after(0.05)
    g >> ACK(ack=1001)
    # F-RTO: two segments that had not been sent would come first; there are none, so the lost ones follow in
    # slow start
    g << DATA(2000, seq=1001)
    t.after(0.05)
    g >> ACK(ack=3001)
    g << DATA(4000, seq=3001)
    t.silence()
    assert t.info["ssthresh"] < 10 * MSS


def test_timer_restarts_with_each_new_ack() -> None:
    t, g = flight(3, sack=False)
    rto = t.info["rto"]
    t.after(0.15)
    g >> ACK(ack=1001)
    g << DATA(1000, seq=1001).within(0.9 * min(rto, t.info["rto"]), 1.1 * max(rto, t.info["rto"]))


# --- fast retransmit, without SACK


def test_third_duplicate_ack() -> None:
    t, g = flight(4, sack=False)
    for _ in range(2):
        g >> ACK(ack=1)
        t.silence()
    g >> ACK(ack=1)
    g << DATA(1000, seq=1, exact=True)
    g >> ACK(ack=4001)
    t.silence(5)
    assert t.info["recovery"] == "open"


def test_window_updates_and_data_are_no_duplicate_acks() -> None:
    t, g = flight(4, sack=False)
    for k in range(4):
        g >> ACK(ack=1, win=60000 - 1000 * k)
    for _ in range(4):
        g >> DATA(1, ack=1)
    assert all(not payload for _, _, payload, _ in t.out)
    assert t.info["recovery"] == "open"


def test_newreno_partial_acks() -> None:
    """Two losses in one window, no SACK: the partial ACK brings the second at once."""
    t, g = flight(6, sack=False)
    for _ in range(3):
        g >> ACK(ack=1)
    g << DATA(1000, seq=1)
    g >> ACK(ack=1)
    t.out.clear()
    g >> ACK(ack=2001)
    g << DATA(1000, seq=2001)
    g >> ACK(ack=6001)
    t.silence(5)


@pytest.mark.parametrize("sack", [False, True])
def test_limited_transmit(sack: bool) -> None:
    t, g = established(sack=sack)
    t.send(13 * MSS)
    g << DATA(10 * MSS, seq=1)
    t.silence()
    t.after(RTT)
    for k in range(2):
        g >> ACK(ack=1, sack=((1001, 2001 + 1000 * k),) if sack else None)
        g << DATA(1000, seq=10001 + 1000 * k)
        t.silence()


# --- RACK


def test_three_sacked_segments_bring_the_head_at_once() -> None:
    t, g = flight(4)
    g >> ACK(ack=1, sack=((1001, 2001),))
    g >> ACK(ack=1, sack=((1001, 3001),))
    t.silence()
    g >> ACK(ack=1, sack=((1001, 4001),))
    g << DATA(1000, seq=1)
    g >> ACK(ack=4001)
    t.silence(5)


def test_one_sack_for_the_last_waits_for_the_reordering_window() -> None:
    t, g = flight(4)
    g >> ACK(ack=1, sack=((3001, 4001),))
    t.silence()
    g << DATA(1000, seq=1).within(0.2 * RTT, 0.3 * RTT)
    assert t.info["recovery"] == "recovery"


def test_sack_of_a_part_of_a_packet_proves_nothing() -> None:
    t, g = flight(4)
    g >> ACK(ack=1, sack=((4000, 4001),))
    assert t.info["sacked"] == 0
    assert t.info["lost"] == 0
    t.silence(0.05)


def test_lost_retransmission_is_found_without_a_time_out() -> None:
    t, g = flight(10)
    g >> ACK(ack=1, sack=((1001, 5001),))
    g << DATA(1000, seq=1)
    t.send(5000)
    g << DATA(1000, seq=10001)
    t.out.clear()
    t.after(RTT)
    g >> ACK(ack=1, sack=((1001, 11001),))  # what was sent after the retransmission has arrived
    t.after(0.03)
    seqs = [t.stack_seq(h.seq) for _, h, _, _ in t.out]
    assert 1 in seqs
    assert t.info["recovery"] == "recovery"


def test_reordering_is_learnt() -> None:
    """A first transmission that arrives after one sent later: no reduction, and from now on a reordering
    window."""
    t, g = flight(4)
    g >> ACK(ack=1, sack=((1001, 2001),))
    g >> ACK(ack=2001)
    assert t.info["reordering_seen"]
    g >> ACK(ack=4001)
    t.silence(5)
    assert t.info["recovery"] == "open"
    assert t.info["ssthresh"] > 100000


def test_d_sack_widens_the_reordering_window() -> None:
    t, g = flight(4)
    g >> ACK(ack=1, sack=((1001, 4001),))
    g << DATA(1000, seq=1)
    g >> ACK(ack=4001)
    before = t.info["reordering_multiple"]
    g >> ACK(ack=4001, sack=((1, 1001),))
    assert t.info["reordering_multiple"] == before + 1


def test_sack_on_an_old_ack_counts() -> None:
    t, g = flight(10)
    g >> ACK(ack=2001)
    g >> ACK(ack=1001, sack=((5001, 8001),))
    assert t.info["sacked"] == 3000


def test_sack_blocks_in_odd_orders() -> None:
    t, g = flight(10)
    g >> ACK(ack=1, sack=((7001, 8001), (1001, 2001)))
    g >> ACK(ack=1, sack=((4001, 5001), (7001, 9001), (1001, 3001)))
    g >> ACK(ack=1, sack=((3001, 5001), (1001, 3001), (7001, 9001)))
    assert t.info["sacked"] == 6000
    g >> ACK(ack=1, sack=((9001, 10001), (1001, 9001)))
    assert t.info["sacked"] == 9000
    g >> ACK(ack=10001)
    assert t.info["sacked"] == t.info["lost"] == t.info["records"] == 0


@pytest.mark.parametrize("block", [(5001, 4001), (20001, 30001), (-5000, -4000), (1, 100001)])
def test_impossible_sack_blocks_are_ignored(block: tuple[int, int]) -> None:
    t, g = flight(10)
    g >> ACK(ack=1, sack=(block,))
    assert t.info["sacked"] == 0


def test_reneging_is_survived() -> None:
    """What was SACKed and then thrown away is sent again after time-outs."""
    t, g = flight(4)
    g >> ACK(ack=1, sack=((1001, 4001),))
    g << DATA(1000, seq=1)
    for _ in range(3):
        t.expect(DATA(1000, seq=1).within(0.01, 3.0))
    g >> ACK(ack=1001)
    t.after(0.01)
    sent = {t.stack_seq(h.seq) for _, h, p, _ in t.out if p}
    assert 1001 in sent


# --- tail loss probe


def test_tail_loss_probe_then_time_out() -> None:
    t, g = established()
    t.send(10 * MSS)
    g << DATA(10 * MSS)
    g << DATA(1000, seq=9001).within(1.9 * RTT, 2.1 * RTT)  # the last segment
    assert t.info["cwnd"] >= 10 * MSS
    g << DATA(1000, seq=1).within(0.2, 1.0)  # then the RTO
    assert t.info["cwnd"] == MSS


def test_probe_prefers_new_data() -> None:
    t, g = established()
    t.send(12 * MSS)
    g << DATA(10 * MSS)
    g << DATA(1000, seq=10001).within(1.9 * RTT, 2.1 * RTT)


def test_probe_for_a_single_segment_allows_for_a_delayed_ack() -> None:
    t, g = established(rtt=0.02)
    t.send(1000)
    g << DATA(1000)
    g << DATA(1000, seq=1).within(0.2, 0.3)


def test_loss_repaired_by_the_probe_reduces_the_window() -> None:
    t, g = established()
    t.send(10 * MSS)
    g << DATA(10 * MSS)
    t.after(RTT)
    g >> ACK(ack=9001)
    g << DATA(1000, seq=9001).within(0.1, 0.5)
    cwnd = t.info["cwnd"]
    t.after(RTT)
    g >> ACK(ack=10001)
    t.send(10 * MSS)
    t.out.clear()
    g >> ACK(ack=11001)
    assert t.info["ssthresh"] < cwnd


def test_probe_of_what_was_not_lost_leaves_the_window() -> None:
    t, g = established()
    t.send(10 * MSS)
    g << DATA(10 * MSS)
    t.after(RTT)
    g >> ACK(ack=9001)
    g << DATA(1000, seq=9001).within(0.1, 0.5)
    g >> ACK(ack=10001)
    t.send(2000)
    t.out.clear()
    g >> ACK(ack=10001, sack=((9001, 10001),))
    g >> ACK(ack=12001)
    assert t.info["ssthresh"] > 100000


def test_one_probe_until_a_new_sample() -> None:
    t, g = established()
    t.send(3000)
    g << DATA(3000)
    g << DATA(1000, seq=2001).within(0.1, 0.5)
    g << DATA(1000, seq=1).within(0.2, 1.0)
    assert t.info["recovery"] == "loss"


# --- PRR


def test_prr_sends_in_proportion() -> None:
    """One of thirty lost: in recovery about seven new segments go for ten that arrive (CUBIC's 0.7)."""
    t, g = established()
    t.send(300 * MSS)
    acked = 1
    while t.info["cwnd"] < 30 * MSS:
        t.after(RTT)
        t.out.clear()
        acked += 10 * MSS
        g >> ACK(ack=acked)
    t.out.clear()
    outstanding = (g.rcv - acked) // MSS
    t.after(RTT)
    for k in range(1, outstanding):
        g >> ACK(ack=acked, sack=((acked + MSS, acked + (k + 1) * MSS),))
    sent = sum(len(p) for _, _, p, _ in t.out)
    assert 0.5 * (outstanding - 1) * MSS <= sent <= 0.85 * (outstanding - 1) * MSS
    g >> ACK(ack=g.rcv)
    assert t.info["recovery"] == "open"
    assert t.info["cwnd"] <= 1.05 * t.info["ssthresh"] + MSS


def test_one_reduction_for_each_window() -> None:
    t, g = flight(10)
    g >> ACK(ack=1, sack=((1001, 4001),))
    threshold = t.info["ssthresh"]
    g >> ACK(ack=1, sack=((6001, 10001), (1001, 4001)))
    assert t.info["ssthresh"] == threshold


# --- undo


def test_f_rto_detects_a_spurious_time_out() -> None:
    t, g = flight(10, rtt=0.05)
    cwnd = t.info["cwnd"]
    t.out.clear()
    g << DATA(1000, seq=9001).within(0.01, 0.5)  # probe
    g << DATA(1000, seq=1).within(0.1, 1.0)  # RTO
    g >> ACK(ack=4001)  # the originals were only slow
    assert t.info["recovery"] == "open"
    assert t.info["cwnd"] >= cwnd
    assert t.info["lost"] == 0


def test_f_rto_second_ack_decides() -> None:
    t, g = established(rtt=0.05, sack=False)
    t.send(20 * MSS)
    g << DATA(10 * MSS)
    cwnd = t.info["cwnd"]
    g << DATA(1000, seq=1).within(0.1, 1.0)
    g >> ACK(ack=1001)
    g << DATA(2000, seq=10001)  # new data rather than what is marked lost
    g >> ACK(ack=2001)  # never sent again, and here
    assert t.info["recovery"] == "open"
    assert t.info["cwnd"] >= cwnd


def test_eifel_by_timestamps() -> None:
    t, g = flight(10, timestamps=True)
    cwnd = t.info["cwnd"]
    echo = g.ts_recent
    t.after(0.05)
    g >> ACK(ack=1, sack=((1001, 5001),), ts=(g.ts_base + 300, echo))
    g << DATA(1000, seq=1)
    assert t.info["recovery"] == "recovery"
    g >> ACK(ack=5001, ts=(g.ts_base + 310, echo))  # answers the original
    assert t.info["recovery"] == "open"
    assert t.info["cwnd"] >= cwnd
    assert t.info["ssthresh"] > 100000


def test_d_sack_undoes_a_fast_retransmit() -> None:
    t, g = flight(10)
    cwnd = t.info["cwnd"]
    g >> ACK(ack=1, sack=((1001, 5001),))
    g << DATA(1000, seq=1)
    t.out.clear()
    g >> ACK(ack=5001, sack=((1, 1001),))
    assert t.info["recovery"] == "open"
    assert t.info["cwnd"] >= cwnd


# --- congestion window


def test_slow_start_doubles() -> None:
    t, g = established(congestion="reno")
    t.send(60 * MSS)
    g << DATA(10 * MSS)
    t.after(RTT)
    for k in range(5):
        g >> ACK(ack=2001 + 2000 * k)
        g << DATA(4 * MSS)
    assert t.info["cwnd"] == 20 * MSS


def test_reno_grows_by_a_segment_each_round_trip() -> None:
    t, g = established(congestion="reno")
    t.send(400 * MSS)
    g << DATA(10 * MSS)
    t.after(RTT)
    g >> ACK(ack=1, sack=((1001, 10001),))
    t.out.clear()
    g >> ACK(ack=10001)
    cwnd = t.info["cwnd"]
    assert t.info["ssthresh"] == pytest.approx(cwnd, abs=MSS)
    acked = 10001
    for _ in range(4):
        t.after(RTT)
        acked = g.rcv
        t.out.clear()
        g >> ACK(ack=acked)
    assert cwnd + 3 * MSS <= t.info["cwnd"] <= cwnd + 6 * MSS


def test_cubic_returns_to_where_it_was() -> None:
    t, g = established()
    t.send(1000 * MSS)
    g << DATA(10 * MSS)
    for _ in range(3):
        t.after(RTT)
        t.out.clear()
        g >> ACK(ack=g.rcv)
    before = t.info["cwnd"]
    t.after(RTT)
    t.out.clear()
    una = t.info["snd_una"]
    first = t.stack_seq(una)
    g >> ACK(ack=first, sack=((first + MSS, g.rcv),))
    g >> ACK(ack=g.rcv)
    low = t.info["ssthresh"]
    assert low == pytest.approx(0.7 * before, rel=0.05)
    rounds = 0
    while t.info["cwnd"] < 0.95 * before and rounds < 200:
        t.send(100 * MSS)
        t.after(RTT)
        t.out.clear()
        g >> ACK(ack=g.rcv)
        rounds += 1
    # K = cbrt(0.3 W / 0.4) seconds, W in segments
    k = (0.3 * before / MSS / 0.4) ** (1 / 3)
    assert 0.3 * k / RTT <= rounds <= 1.2 * k / RTT


def test_idle_connection_starts_again_from_the_initial_window() -> None:
    t, g = established()
    t.send(60 * MSS)
    for _ in range(4):
        t.after(RTT)
        t.out.clear()
        g >> ACK(ack=g.rcv)
    assert t.info["cwnd"] > 20 * MSS
    t.after(10)
    t.send(30 * MSS)
    g << DATA(10 * MSS)
    t.silence()


def test_window_does_not_grow_while_the_user_is_what_limits() -> None:
    t, g = established()
    for _ in range(50):
        t.send(1000)
        t.after(RTT)
        t.out.clear()
        g >> ACK(ack=g.rcv)
    assert t.info["cwnd"] == 10 * MSS


def test_none_obeys_the_peer_alone() -> None:
    t, g = established(congestion="none")
    t.send(60 * MSS)
    g << DATA(60 * MSS)


def test_fin_is_part_of_recovery() -> None:
    t, g = established()
    t.send(3000)
    t.close()
    g << DATA(3000)
    g << FIN_ACK(seq=3001)
    t.after(RTT)
    g >> ACK(ack=2001, sack=((3001, 3002),))  # the FIN came, the data before it did not
    g << DATA(1000, seq=2001).within(0.01, 0.1)
    g >> ACK(ack=3002)
    assert t.state == "FIN-WAIT-2"
    g >> FIN_ACK()
    g << ACK(ack=2)
