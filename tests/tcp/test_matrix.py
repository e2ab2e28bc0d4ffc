"""Every state, every kind of segment, every position: RFC 9293 section 3.10.7 and RFC 5961, generated.

Positions are L- (one before RCV.NXT), L (RCV.NXT), R (the last sequence number of the window) and R+ (the
first behind it).
"""

from __future__ import annotations

import pytest

from netstack.tcp import Closed, Reset
from tests.tcp.trace import ACK, DATA, FIN, FIN_ACK, RST, RST_ACK, SYN, SYN_ACK, Segment, Trace, reach

OPEN = ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT")
SYNCHRONIZED = (*OPEN, "CLOSING", "LAST-ACK")
POSITIONS = ("L-", "L", "R", "R+")


def position(t: Trace, name: str) -> int:
    window = t.info["rcv_wnd"]
    left = t.guest.nxt
    return {"L-": left - 1, "L": left, "R": left + window - 1, "R+": left + window}[name]


def fresh(state: str) -> Trace:
    """The state, long enough ago that the limit on challenge ACKs is no matter (and no tail loss probe)."""
    t = reach(state, sack=False, rto_initial=10.0, rto_min=10.0, rto_max=60.0, time_wait=300.0)
    return t.after(1.0).silence()


@pytest.mark.parametrize("acked", [False, True])
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("state", [*SYNCHRONIZED, "SYN-RECEIVED"])
def test_rst(state: str, where: str, acked: bool) -> None:
    t = fresh(state)
    seq = position(t, where)
    t.guest >> (RST_ACK if acked else RST)(seq=seq)
    if where == "L":
        assert t.saw(Reset)
        assert t.saw(Closed)
        assert t.state == "CLOSED"
        t.silence()
    else:
        assert t.state == state
        if where == "R":
            t.guest << ACK(ack=t.guest.nxt)  # the challenge
        t.silence()


@pytest.mark.parametrize("where", POSITIONS)
def test_rst_in_time_wait_is_ignored(where: str) -> None:
    t = fresh("TIME-WAIT")
    t.guest >> RST(seq=position(t, where))
    t.silence()
    assert t.state == "TIME-WAIT"


def test_challenged_rst_with_the_right_number_resets() -> None:
    """RFC 5961 section 3.2: the peer answers the challenge with a RST that takes its number from the ACK."""
    t = fresh("ESTABLISHED")
    t.guest >> RST(seq=t.guest.nxt + 100)
    t.guest << ACK(ack=1)
    t.guest >> RST(seq=1)
    assert t.saw(Reset)


@pytest.mark.parametrize("with_ack", [False, True])
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_syn_in_a_synchronized_state_is_challenged(state: str, where: str, with_ack: bool) -> None:
    t = fresh(state)
    nxt = t.guest.nxt
    seq = position(t, where)
    t.guest >> (SYN_ACK if with_ack else SYN)(seq=seq)
    t.guest << ACK(ack=nxt)
    t.silence()
    assert t.state == state


@pytest.mark.parametrize("where", POSITIONS)
def test_syn_in_time_wait_leaves_it(where: str) -> None:
    t = fresh("TIME-WAIT")
    nxt = t.guest.nxt
    t.guest >> SYN(seq=position(t, where))
    t.guest << ACK(ack=nxt)
    assert t.state == "TIME-WAIT"


def test_syn_in_syn_received() -> None:
    """The peer's own SYN again: the SYN-ACK again. Another one in the window: challenged."""
    t = fresh("SYN-RECEIVED")
    t.guest >> SYN(seq=0, mss=1460)
    t.guest << SYN_ACK(seq=0, ack=1)
    t.guest >> SYN(seq=100)
    t.guest << ACK(ack=1)
    assert t.state == "SYN-RECEIVED"


@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("state", [*SYNCHRONIZED, "SYN-RECEIVED"])
def test_no_ack_bit_is_dropped_with_its_data(state: str, where: str) -> None:
    t = fresh(state)
    nxt = t.guest.nxt
    seq = position(t, where)
    t.guest >> Segment("", length=1, seq=seq)
    if where in ("L-", "R+"):
        t.guest << ACK(ack=nxt)
    assert t.state == state
    assert not t.received
    t.silence()


@pytest.mark.parametrize(("where", "answered"), [("L-", True), ("L", False), ("R", False), ("R+", False)])
@pytest.mark.parametrize("state", OPEN)
def test_bare_ack(state: str, where: str, answered: bool) -> None:
    """An ACK at the right edge is what a peer sends that has filled the window; one further is answered."""
    t = fresh(state)
    nxt = t.guest.nxt
    acked = t.guest.rcv - 1 if state == "FIN-WAIT-1" else t.guest.rcv
    t.guest >> ACK(seq=position(t, where), ack=acked)
    if answered:
        t.guest << ACK(ack=nxt)
    t.silence()
    assert t.state == state


@pytest.mark.parametrize("state", OPEN)
def test_second_empty_segment_outside_the_window_is_not_answered(state: str) -> None:
    t = fresh(state)
    right = position(t, "R+")
    acked = t.guest.rcv - 1 if state == "FIN-WAIT-1" else t.guest.rcv
    t.guest >> ACK(seq=right + 1, ack=acked)
    t.guest << ACK()
    t.guest >> ACK(seq=right + 1, ack=acked)
    t.silence()
    for _ in range(2):  # data always is
        t.guest >> DATA(10, seq=right + 1, ack=acked)
        t.guest << ACK()
    t.after(0.6)
    t.out.clear()
    t.guest >> ACK(seq=right + 1, ack=acked)
    t.guest << ACK()


@pytest.mark.parametrize("length", [0, 10])
@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_ack_of_what_was_not_sent(state: str, length: int) -> None:
    """RFC 5961 section 5: answered and dropped."""
    t = fresh(state)
    nxt = t.guest.nxt
    t.guest >> Segment("A", length=length, ack=t.guest.rcv + 1, seq=nxt)
    t.guest << ACK(ack=nxt)
    assert t.state == state
    assert not t.received
    t.guest.nxt = nxt


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_ack_far_below(state: str) -> None:
    """An ACK older than the largest window ever offered: answered and dropped."""
    t = fresh(state)
    nxt = t.guest.nxt
    t.guest >> DATA(10, ack=-70000, seq=nxt)
    t.guest << ACK(ack=nxt)
    assert not t.received


# --- CLOSED, LISTEN, SYN-SENT


@pytest.mark.parametrize(
    ("segment", "answer"),
    [
        (ACK(seq=5, ack=9), RST(seq=9)),
        (FIN(seq=5), RST_ACK(seq=0, ack=6)),
        (FIN_ACK(seq=5, ack=9), RST(seq=9)),
        (SYN(seq=5), RST_ACK(seq=0, ack=6)),
        (SYN_ACK(seq=5, ack=9), RST(seq=9)),
        (Segment("SF", seq=5), RST_ACK(seq=0, ack=7)),
        (DATA(3, "", seq=5), RST_ACK(seq=0, ack=8)),
        (RST(seq=5), None),
        (RST_ACK(seq=5, ack=9), None),
    ],
    ids=lambda s: "nothing" if s is None else f"{s.flags or 'none'}{s.length or ''}",
)
def test_closed(segment: Segment, answer: Segment | None) -> None:
    t = reach("CLOSED")
    t.guest >> segment
    if answer is None:
        t.silence()
        return
    _, header, payload, _ = t.out.pop()
    assert not payload
    if answer.flags == "R":
        assert (header.flags, t.stack_seq(header.seq)) == (4, answer.seq)
    else:
        assert (header.flags, header.seq, t.guest_seq(header.ack)) == (0x14, 0, answer.ack)


@pytest.mark.parametrize(
    ("segment", "answered"),
    [
        (ACK(ack=9), True),
        (FIN(), False),
        (FIN_ACK(ack=9), True),
        (SYN_ACK(ack=9), True),
        (Segment("SF"), False),
        (RST(), False),
        (RST_ACK(ack=9), False),
        (Segment("SR"), False),
        (Segment(""), False),
    ],
    ids=lambda s: s.flags or "none" if isinstance(s, Segment) else str(s),
)
def test_listen_before_any_syn(segment: Segment, answered: bool) -> None:
    """ACK is answered by RST with its number; nothing else is; a SYN still works afterwards."""
    t = Trace()
    t.guest >> segment
    if answered:
        t.guest << RST(seq=9)
    t.silence()
    t.guest.nxt = 0
    t.guest >> SYN(seq=0, mss=1460)
    t.guest << SYN_ACK(seq=0, ack=1)


@pytest.mark.parametrize("offset", [-1, 1])
@pytest.mark.parametrize("flags", ["A", "FA", "SA"])
def test_syn_sent_wrong_ack(flags: str, offset: int) -> None:
    """RST with the number of the ACK; the attempt goes on."""
    t = fresh("SYN-SENT")
    t.guest >> Segment(flags, seq=0, ack=1 + offset)
    t.guest << RST(seq=1 + offset)
    assert t.state == "SYN-SENT"
    t.guest.nxt = 0
    t.guest >> SYN_ACK(seq=0, ack=1, mss=1460)
    t.guest << ACK(seq=1, ack=1)
    assert t.state == "ESTABLISHED"


@pytest.mark.parametrize(
    ("segment", "state"),
    [
        (ACK(ack=1), "SYN-SENT"),
        (FIN(), "SYN-SENT"),
        (FIN_ACK(ack=1), "SYN-SENT"),
        (Segment("SF"), "SYN-SENT"),
        (RST(), "SYN-SENT"),
        (RST_ACK(ack=0), "SYN-SENT"),
        (RST_ACK(ack=2), "SYN-SENT"),
        (RST_ACK(ack=1), "CLOSED"),
    ],
)
def test_syn_sent(segment: Segment, state: str) -> None:
    t = fresh("SYN-SENT")
    t.guest >> segment
    t.silence()
    assert t.state == state
    assert t.saw(Reset) == (state == "CLOSED")


@pytest.mark.parametrize("ack", [0, 2, 100])
def test_syn_received_wrong_ack(ack: int) -> None:
    t = fresh("SYN-RECEIVED")
    t.guest >> ACK(ack=ack)
    t.guest << RST(seq=ack)
    assert t.state == "SYN-RECEIVED"
    t.guest >> ACK(ack=1)
    assert t.state == "ESTABLISHED"


# --- TIME-WAIT


@pytest.mark.parametrize(("where", "answered"), [("L-", True), ("L", False)])
def test_time_wait_ack(where: str, answered: bool) -> None:
    t = fresh("TIME-WAIT")
    t.guest >> ACK(seq=position(t, where))
    if answered:
        t.guest << ACK(seq=2, ack=2)
    t.silence()
    assert t.state == "TIME-WAIT"


def test_time_wait_fin_restarts_two_msl() -> None:
    t = reach("TIME-WAIT", time_wait=60.0)
    t.after(50)
    t.guest >> FIN(seq=1)
    t.silence()
    t.guest >> FIN_ACK(seq=1)
    t.guest << ACK(seq=2, ack=2)
    t.after(50)
    assert t.state == "TIME-WAIT"
    t.after(11)
    assert t.state == "CLOSED"
    assert t.saw(Closed)


def test_time_wait_reopened_only_by_a_newer_syn() -> None:
    t = fresh("TIME-WAIT")
    older = t.build(SYN(seq=1))
    newer = t.build(SYN(seq=5000))
    assert not t.stack.may_reopen(older, t.now)
    assert t.stack.may_reopen(newer, t.now)
    assert not t.stack.may_reopen(t.build(ACK(seq=5000)), t.now)


def test_time_wait_reopened_by_a_newer_timestamp() -> None:
    t = reach("TIME-WAIT", timestamps=True)
    old = t.guest.ts_base - 5
    new = t.guest.ts_base + 5000
    assert not t.stack.may_reopen(t.build(SYN(seq=5000, ts=(old, 0))), t.now)
    assert t.stack.may_reopen(t.build(SYN(seq=1, ts=(new, 0))), t.now)
