"""Zero window, silly window, Nagle, keep-alive, user time-out (RFC 9293 section 3.8)."""

from __future__ import annotations

import pytest

from netstack.tcp import Closed, SpaceAvailable, TimedOut
from tests.tcp.trace import ACK, DATA, FIN_ACK, RST, RST_ACK, Trace, reach

# --- zero window


def shut(**settings: object) -> Trace:
    """The peer's window is shut and 1000 bytes wait."""
    t = Trace(**settings)
    g = t.connect(mss=1000, win=3000)
    t.send(4000)
    g << DATA(3000, seq=1)
    g >> ACK(ack=3001, win=0)
    return t.silence()


def test_probes_back_off_for_as_long_as_the_peer_answers() -> None:
    t = shut(user_timeout=30.0)
    g = t.guest
    gap = 0.15
    total = 0.0
    while total < 400:
        start = t.now
        g << ACK(seq=3000, ack=1).within(gap * 0.99, max(2.1 * gap, 1.1))
        gap = t.now - start
        total += gap
        g >> ACK(ack=3001, win=0)
    assert gap == pytest.approx(60.0)
    assert t.state == "ESTABLISHED"
    g >> ACK(ack=3001, win=1000)
    g << DATA(1000, seq=3001)


def test_first_probe_after_one_rto() -> None:
    t = shut()
    rto = t.info["rto"]
    t.guest << ACK(seq=3000).within(0.99 * rto, 1.01 * rto)


def test_no_probe_without_data() -> None:
    t = Trace()
    g = t.connect(mss=1000, win=3000)
    t.send(3000)
    g << DATA(3000)
    g >> ACK(ack=3001, win=0)
    t.silence(1000)


def test_unanswered_probes_end_the_connection() -> None:
    t = shut(user_timeout=20.0)
    t.at(100)
    assert t.saw(TimedOut)
    assert t.saw(Closed)


def test_data_resume_with_the_update_and_fit_the_window() -> None:
    t = shut()
    t.guest >> ACK(ack=3001, win=600)
    t.guest >> ACK(ack=3001, win=1000)
    sent = [(t.stack_seq(h.seq), len(p)) for _, h, p, _ in t.out]
    assert sum(n for _, n in sent) == 1000
    assert all(seq + n <= 4001 for seq, n in sent)


def test_window_update_that_was_lost() -> None:
    """The update never came: the answer to the probe brings it."""
    t = shut()
    t.guest << ACK(seq=3000).within(0.1, 1.1)
    t.guest >> ACK(ack=3001, win=5000)
    t.guest << DATA(1000, seq=3001)


def test_the_peers_probe_is_answered() -> None:
    t = Trace(autoread=False, receive_buffer=2000, receive_buffer_max=2000)
    g = t.connect()
    g >> DATA(2000)
    t.after(0.05)
    g << ACK(ack=2001, win=0)
    g >> DATA(1, seq=2001)
    g << ACK(ack=2001, win=0)
    g.nxt = 2001
    t.after(1)
    g >> ACK(seq=2000)
    g << ACK(ack=2001, win=0)


def test_window_taken_back() -> None:
    """SHLD-15, MUST-34: no new data, no confusion, and no time-out of the connection because of it."""
    t = Trace(sack=False)
    g = t.connect(mss=1000, win=5000)
    t.send(8000)
    g << DATA(5000)
    g >> ACK(ack=1001, win=1000)
    t.silence()
    for _ in range(8):
        t.after(20)
        g >> ACK(ack=1001, win=0)
    assert t.state == "ESTABLISHED"
    t.out.clear()
    g >> ACK(ack=5001, win=5000)
    t.after(0.01)
    assert t.out


# --- silly window, Nagle


def test_sender_waits_for_a_useful_window() -> None:
    t = Trace()
    g = t.connect(mss=1000, win=4000)
    t.send(6000)
    g << DATA(4000)
    g >> ACK(ack=4001, win=100)
    t.silence()
    g >> ACK(ack=4001, win=1000)
    g << DATA(1000, seq=4001)


def test_sender_uses_half_the_largest_window() -> None:
    t = Trace()
    g = t.connect(mss=1000, win=800)
    t.send(2000)
    g << DATA(800)
    g >> ACK(ack=801, win=400)
    g << DATA(400, seq=801)


def test_override_of_silly_window_avoidance() -> None:
    """MUST-60: nothing is held for ever."""
    t = Trace()
    g = t.connect(mss=1000, win=4000)
    t.send(6000)
    g << DATA(4000)
    g >> ACK(ack=4001, win=100)
    g << DATA(100, seq=4001).within(0.1, 1.5)


@pytest.mark.parametrize("nagle", [True, False])
def test_nagle(nagle: bool) -> None:
    t = Trace(nagle=nagle)
    g = t.connect(mss=1000)
    t.send(10)
    g << DATA(10, "PA", seq=1)
    t.send(10)
    t.send(10)
    if nagle:
        t.silence()
        g >> ACK(ack=11)
    g << DATA(20, seq=11)


def test_nagle_lets_full_segments_go_and_holds_the_tail() -> None:
    t = Trace()
    g = t.connect(mss=1000)
    t.send(2500)
    g << DATA(2000, seq=1)
    t.silence()
    g >> ACK(ack=2001)
    g << DATA(500, "PA", seq=2001)


def test_nagle_does_not_hold_the_last_before_a_fin() -> None:
    t = Trace()
    g = t.connect(mss=1000)
    t.send(1000)
    g << DATA(1000)
    t.send(10)
    t.silence()
    t.close()
    g << DATA(10, "FPA", seq=1001, exact=True)


def test_push_on_the_last_of_a_burst() -> None:
    t = Trace(nagle=False)
    g = t.connect(mss=1000)
    t.send(2500)
    g << DATA(1000, "A", exact=True)
    g << DATA(1000, "A", exact=True)
    g << DATA(500, "PA", exact=True)


def test_writer_is_woken_when_a_third_is_free() -> None:
    t = Trace(send_buffer=8192, send_buffer_max=8192)
    g = t.connect(mss=1000)
    assert t.send(20000) == 8192
    assert t.send(1) == 0
    t.out.clear()
    g >> ACK(ack=1001)
    g >> ACK(ack=2001)
    assert not t.saw(SpaceAvailable)
    g >> ACK(ack=4001)
    assert t.saw(SpaceAvailable)
    t.events.clear()
    t.out.clear()
    g >> ACK(ack=5001)
    assert not t.saw(SpaceAvailable)


# --- keep-alive


def test_keep_alive() -> None:
    t = Trace(keepalive_idle=7200.0, keepalive_interval=75.0, keepalive_probes=3)
    g = t.connect()
    g << ACK(seq=0, ack=1).within(7199, 7201)
    g >> ACK(ack=1)
    g << ACK(seq=0, ack=1).within(7199, 7201)
    g << ACK(seq=0, ack=1).within(74, 76)  # one lost answer is not death
    g >> ACK(ack=1)
    for gap in (7200, 75, 75):
        g << ACK(seq=0).within(gap - 1, gap + 1)
    g << RST_ACK(seq=1).within(74, 76)
    assert t.saw(TimedOut)
    assert t.saw(Closed)


def test_keep_alive_is_off_by_default() -> None:
    t = reach("ESTABLISHED")
    t.silence(1e6)


def test_keep_alive_only_when_idle() -> None:
    t = Trace(keepalive_idle=10.0, keepalive_interval=1.0, keepalive_probes=2)
    g = t.connect()
    for _ in range(20):
        t.after(6)
        g >> DATA(10)
        t.after(0.1)
        g << ACK()
    t.silence()


def test_a_keep_alive_is_answered() -> None:
    t = reach("ESTABLISHED")
    t.guest >> ACK(seq=0)
    t.guest << ACK(seq=1, ack=1)
    t.after(1)
    t.guest >> DATA(1, seq=0, payload=b"x")  # with the garbage octet of MAY-6
    t.guest << ACK(seq=1, ack=1)


# --- user time-out


def test_user_timeout() -> None:
    t = Trace(user_timeout=20.0)
    g = t.connect()
    t.send(100)
    t.at(19.5)
    assert t.state == "ESTABLISHED"
    t.at(60)
    assert t.saw(TimedOut)
    t.out.clear()
    g >> ACK(ack=101)
    g << RST(seq=101)


def test_user_timeout_of_a_fin() -> None:
    t = Trace(user_timeout=20.0)
    g = t.connect()
    t.close()
    t.at(60)
    assert t.saw(TimedOut)
    t.out.clear()
    g >> FIN_ACK(ack=2)
    g << RST(seq=2)


def test_r2_is_at_least_100_seconds() -> None:
    t = Trace()
    t.connect()
    t.send(100)
    t.at(99)
    assert t.state == "ESTABLISHED"
    t.at(250)
    assert t.state == "CLOSED"


def test_a_late_timer_call_does_no_harm() -> None:
    t = Trace(sack=False)
    g = t.connect(mss=1000)
    t.send(1000)
    g << DATA(1000)
    t.now += 50
    t.note(t.stack.handle_timer(t.now))
    t.collect()
    g << DATA(1000, seq=1)
    t.note(t.stack.handle_timer(t.now))
    t.silence()
