"""Closing: orderly, half, simultaneous, abortive; TIME-WAIT and FIN-WAIT-2 (RFC 9293 section 3.6)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from netstack.tcp import Closed, EndOfStream, FinAcknowledged, Reset, TimedOut
from netstack.tcp.states import STATES, TRANSITIONS, transition_allowed
from tests.tcp.trace import ACK, DATA, FIN_ACK, RST, RST_ACK, Segment, Trace, reach


def test_simultaneous_close() -> None:
    t = reach("FIN-WAIT-1")
    t.guest >> FIN_ACK(seq=1, ack=1)
    t.guest << ACK(seq=2, ack=2)
    assert t.state == "CLOSING"
    t.guest >> ACK(ack=2)
    assert t.state == "TIME-WAIT"
    assert t.saw(FinAcknowledged)
    t.silence(59)
    t.after(2)
    assert t.saw(Closed)


def test_fin_with_the_ack_of_ours() -> None:
    t = reach("FIN-WAIT-1")
    t.guest >> FIN_ACK(seq=1, ack=2)
    t.guest << ACK(seq=2, ack=2)
    assert t.state == "TIME-WAIT"


def test_half_close_goes_on_receiving() -> None:
    t = reach("FIN-WAIT-2")
    t.guest >> DATA(3000)
    assert len(t.received) == 3000
    t.guest << ACK(ack=3001)
    t.guest >> DATA(10, "FA")
    t.guest << ACK(ack=3012)
    assert t.saw(EndOfStream)
    assert t.state == "TIME-WAIT"


def test_half_close_goes_on_sending() -> None:
    t = reach("CLOSE-WAIT", nagle=False)
    t.send(2000)
    t.guest << DATA(2000, seq=1)
    t.guest >> ACK(ack=2001)
    t.close()
    t.guest << FIN_ACK(seq=2001)
    assert t.state == "LAST-ACK"


def test_fin_waits_behind_queued_data_and_goes_with_the_last() -> None:
    t = Trace()
    g = t.connect(mss=1000, win=2000)
    t.send(2500)
    t.close()
    assert t.state == "FIN-WAIT-1"
    g << DATA(2000, seq=1)
    t.silence()
    g >> ACK(ack=2001)
    g << DATA(500, "FPA", seq=2001, exact=True)


def test_bare_fin_is_repeated() -> None:
    t = reach("FIN-WAIT-1", sack=False)
    t.guest << FIN_ACK(seq=1).within(0.15, 1.1)
    t.guest << FIN_ACK(seq=1).within(0.3, 2.2)
    t.guest >> ACK(ack=2)
    assert t.state == "FIN-WAIT-2"


def test_old_fin_in_fin_wait_2_is_acknowledged() -> None:
    """A FIN whose ACK field is old, overtaken by the ACK of ours."""
    t = reach("FIN-WAIT-2")
    t.guest >> FIN_ACK(seq=1, ack=1)
    t.guest << ACK(ack=2)
    assert t.state == "TIME-WAIT"


def test_retransmitted_fin_in_last_ack_and_closing() -> None:
    for state in ("LAST-ACK", "CLOSING"):
        t = reach(state)
        t.guest >> FIN_ACK(seq=1, ack=1)
        t.guest << ACK(ack=2)
        assert t.state == state


def test_retransmitted_data_with_fin_is_no_reason_for_a_reset() -> None:
    t = reach("ESTABLISHED")
    t.guest >> DATA(100)
    t.close()
    t.guest << FIN_ACK(ack=101)
    t.guest >> DATA(100, "FA", seq=1, ack=1)
    t.guest << ACK(ack=102)
    assert t.state == "CLOSING"


def test_unread_data_at_close_of_both_directions_is_reset() -> None:
    t = Trace(autoread=False)
    g = t.connect()
    g >> DATA(100)
    t.stop_reading()
    g << RST_ACK(seq=1, ack=101)
    assert t.saw(Closed)


def test_data_after_reading_has_stopped_is_reset() -> None:
    t = reach("FIN-WAIT-2")
    t.stop_reading()
    t.guest >> DATA(10)
    t.guest << RST_ACK(seq=2)
    assert t.state == "CLOSED"


def test_a_fin_after_reading_has_stopped_is_taken() -> None:
    t = reach("FIN-WAIT-2")
    t.stop_reading()
    t.guest >> FIN_ACK()
    t.guest << ACK(ack=2)
    assert t.state == "TIME-WAIT"


@pytest.mark.parametrize(
    "state", ["SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "LAST-ACK"]
)
def test_abort(state: str) -> None:
    t = reach(state)
    nxt = t.guest.rcv
    t.abort()
    t.guest << RST_ACK(seq=nxt)
    assert t.saw(Closed)
    t.silence(100)


def test_abort_carries_a_current_timestamp() -> None:
    t = Trace(timestamps=True)
    g = t.connect()
    before = g.ts_recent
    t.after(3)
    t.abort()
    g << RST_ACK(seq=1)
    assert (g.ts_recent - before) & 0xFFFFFFFF == 3000


def test_fin_wait_2_ends_only_when_nobody_reads() -> None:
    t = reach("FIN-WAIT-2", fin_wait_2=10.0)
    t.silence(100)
    assert t.state == "FIN-WAIT-2"
    t.stop_reading()
    t.silence(11)
    assert t.state == "CLOSED"
    assert t.saw(TimedOut)
    t.guest >> FIN_ACK()
    t.guest << RST(seq=2)


def test_reset_of_the_peer_reaches_the_user() -> None:
    t = reach("CLOSE-WAIT")
    t.guest >> RST(seq=2)
    assert t.saw(Reset)
    assert t.saw(Closed)


def test_rst_may_carry_data() -> None:
    t = reach("ESTABLISHED")
    t.guest >> Segment("RA", length=5, seq=1)
    assert t.saw(Reset)
    assert not t.received


# --- the table


def walk() -> dict[tuple[str, str], Trace]:
    """A trace for each allowed transition."""
    seen: dict[tuple[str, str], Trace] = {}

    def add(t: Trace) -> None:
        history = t.stack.history
        for pair in pairwise(history):
            seen.setdefault(pair, t)

    t = reach("LISTEN")
    add(t)
    t.confirm()
    add(t)
    for state in STATES[1:]:
        t = reach(state)
        if state == "TIME-WAIT":
            t.after(100)
        elif state == "LAST-ACK":
            t.guest >> ACK(ack=2)
        else:
            t.abort()
        add(t)
    t = reach("SYN-SENT")
    t.guest >> Segment("S", seq=0, mss=1460)
    add(t)
    t = reach("SYN-SENT")
    t.guest >> Segment("SA", seq=0, ack=1)
    add(t)
    t = reach("CLOSING")
    t.guest >> ACK(ack=2)
    add(t)
    return seen


def test_every_transition_of_the_table_is_taken_and_no_other() -> None:
    assert set(walk()) == {(a, b) for a, b, _ in TRANSITIONS}


def test_the_table_as_a_question() -> None:
    assert transition_allowed("ESTABLISHED", "CLOSE-WAIT")
    assert not transition_allowed("CLOSED", "ESTABLISHED")
    with pytest.raises(ValueError, match="not in"):
        transition_allowed("OPEN", "CLOSED")
