"""Opening: active, passive, simultaneous; options; the handshake's own timers (RFC 9293 sections 3.5, 3.7.1,
3.8.3)."""

from __future__ import annotations

import pytest

from netstack.tcp import Closed, Connected, EndOfStream, Reset, TimedOut
from tests.tcp.trace import ACK, DATA, FIN_ACK, RST, RST_ACK, SYN, SYN_ACK, Segment, Trace, reach


def test_passive_open_data_and_close() -> None:
    t = Trace()
    guest = t.guest
    guest >> SYN(seq=0, mss=1460)
    guest << SYN_ACK(seq=0, ack=1, mss=1460)
    guest >> ACK(ack=1)
    assert t.saw(Connected)
    t.send(1000)
    guest << DATA(1000, "PA", seq=1, ack=1)
    guest >> ACK(ack=1001)
    guest >> FIN_ACK()
    guest << ACK(ack=2)
    assert t.saw(EndOfStream)
    t.close()
    guest << FIN_ACK(seq=1001, ack=2)
    guest >> ACK(ack=1002)
    assert t.saw(Closed)
    assert t.state == "CLOSED"
    guest >> ACK(ack=1002)  # afterwards any segment meets a closed port
    guest << RST(seq=1002)


def test_active_open_data_and_close() -> None:
    t = Trace(active=True)
    guest = t.connect()
    t.send(1000)
    guest << DATA(1000, seq=1, ack=1)
    guest >> ACK(ack=1001)
    t.close()
    guest << FIN_ACK(seq=1001)
    guest >> ACK(ack=1002)
    assert t.state == "FIN-WAIT-2"
    guest >> FIN_ACK()
    guest << ACK(seq=1002, ack=2)
    assert t.state == "TIME-WAIT"


def test_answer_is_held_back_until_confirmed() -> None:
    t = Trace(confirm=False)
    t.guest >> SYN(mss=1460)
    t.silence()
    t.guest >> SYN(seq=0, mss=1460)  # absorbed
    t.silence(2)
    t.confirm()
    t.guest << SYN_ACK(seq=0, ack=1)


def test_refusal() -> None:
    t = Trace(confirm=False)
    t.guest >> SYN(mss=1460)
    t.abort()
    _, header, _, _ = t.out.pop()
    assert header.flags == 0x14
    assert header.seq == 0
    assert t.guest_seq(header.ack) == 1
    assert t.state == "CLOSED"


def test_guest_gives_up_before_the_answer() -> None:
    t = Trace(confirm=False)
    t.guest >> SYN(mss=1460)
    t.guest >> RST(seq=1)
    assert t.saw(Reset)
    assert t.saw(Closed)
    t.silence()


@pytest.mark.parametrize("mss", [536, 1220, 1460, 9000, 65495])
def test_syn_carries_mss_of_the_interface(mss: int) -> None:
    t = Trace(active=True, mss=mss)
    t.guest << SYN(seq=0, mss=mss)


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("sack", [False, True])
def test_syn_options_can_be_off(sack: bool, timestamps: bool) -> None:
    t = Trace(active=True, sack=sack, timestamps=timestamps)
    _, header, _, _ = t.out[0]
    assert (header.timestamps is not None) == timestamps
    t.guest << SYN(seq=0, sack_permitted=sack, wscale=7)


@pytest.mark.parametrize(("buffer", "scale"), [(65535, 0), (65536, 1), (4 << 20, 7), (1 << 30, 14)])
def test_window_scale_follows_the_largest_buffer(buffer: int, scale: int) -> None:
    t = Trace(active=True, receive_buffer=4096, receive_buffer_max=buffer)
    t.guest << SYN(wscale=scale, win=4096)


@pytest.mark.parametrize("offered", [True, False])
def test_syn_ack_answers_only_what_was_offered(offered: bool) -> None:
    t = Trace(timestamps=True)
    if offered:
        t.guest >> SYN(mss=1460, sack_permitted=True, wscale=3, ts=(77, 0))
        t.guest << SYN_ACK(sack_permitted=True, wscale=7, ts=(0, 77))
    else:
        t.guest >> SYN(mss=1460)
        _, header, _, _ = t.out[0]
        assert header.wscale is None
        t.guest << SYN_ACK(sack_permitted=False, no_ts=True)


def test_window_scale_above_14_counts_as_14() -> None:
    t = Trace()
    t.guest >> SYN(mss=1460, wscale=15)
    t.guest << SYN_ACK()
    t.guest.scale = 0
    t.guest >> ACK(win=1)
    assert t.info["snd_wnd"] == 1 << 14


def test_window_in_syn_is_unscaled_and_the_latest_counts() -> None:
    t = Trace()
    t.guest >> SYN(mss=1460, win=0)
    t.guest << SYN_ACK()
    t.guest >> ACK(win=0x8001)
    assert t.info["snd_wnd"] == 0x8001


@pytest.mark.parametrize(("ipv6", "mss"), [(False, 536), (True, 1220)])
def test_no_mss_from_the_peer(ipv6: bool, mss: int) -> None:
    t = Trace(ipv6=ipv6, nagle=False)
    t.guest >> SYN()
    t.guest << SYN_ACK(mss=1460)
    t.guest >> ACK()
    t.send(mss + 1)
    t.guest << DATA(mss, seq=1, exact=True)


@pytest.mark.parametrize("mss", [1, 40])
def test_tiny_mss_is_clamped(mss: int) -> None:
    t = Trace()
    t.guest >> SYN(mss=mss)
    t.guest << SYN_ACK()
    t.guest >> ACK()
    assert t.info["mss"] == 64


def test_segments_leave_room_for_timestamps() -> None:
    t = Trace(timestamps=True)
    g = t.connect(mss=1460)
    t.send(3000)
    g << DATA(1448, seq=1, exact=True)
    g << DATA(1448, seq=1449, exact=True)


def test_syn_is_repeated_with_growing_gaps() -> None:
    t = Trace(active=True, timestamps=True)
    t.guest << SYN(seq=0)
    first = t.guest.ts_recent
    t.guest << SYN(seq=0).within(0.99, 1.01)
    assert t.guest.ts_recent != first
    t.guest << SYN(seq=0).within(1.99, 2.01)
    t.guest << SYN(seq=0).within(3.99, 4.01)
    t.at(181)
    assert t.saw(TimedOut)
    assert t.saw(Closed)
    assert t.now >= 180  # MUST-23: three minutes


def test_syn_ack_is_repeated_alike() -> None:
    t = Trace()
    t.guest >> SYN(mss=1460, sack_permitted=True, wscale=2)
    t.guest << SYN_ACK(seq=0, ack=1, mss=1460, wscale=7, sack_permitted=True)
    t.guest << SYN_ACK(seq=0, ack=1, mss=1460, wscale=7, sack_permitted=True).within(0.99, 1.01)
    t.guest << SYN_ACK(seq=0, ack=1).within(1.99, 2.01)
    t.guest >> ACK(ack=1)
    assert t.state == "ESTABLISHED"
    t.silence(30)


def test_initial_window_is_one_segment_after_a_lost_syn_ack() -> None:
    t = Trace()
    t.guest >> SYN(mss=1000)
    t.guest << SYN_ACK()
    t.guest << SYN_ACK().within(0.9, 1.1)
    t.guest >> ACK(ack=1)
    t.send(5000)
    t.guest << DATA(1000, seq=1)
    t.silence()


def test_simultaneous_open() -> None:
    t = reach("SYN-SENT")
    t.guest >> SYN(seq=0, mss=1460)
    t.guest << SYN_ACK(seq=0, ack=1)
    assert t.state == "SYN-RECEIVED"
    t.guest >> SYN_ACK(seq=0, ack=1, mss=1460)
    assert t.state == "ESTABLISHED"
    assert t.saw(Connected)
    t.guest << ACK(seq=1, ack=1)
    t.send(10)
    t.guest << DATA(10, seq=1)


def test_simultaneous_open_completed_by_an_ack() -> None:
    t = reach("SYN-SENT")
    t.guest >> SYN(seq=0, mss=1460)
    t.guest << SYN_ACK(seq=0, ack=1)
    t.guest >> ACK(ack=1)
    assert t.state == "ESTABLISHED"


def test_close_in_syn_sent_sends_nothing() -> None:
    t = reach("SYN-SENT")
    t.close()
    t.silence(10)
    assert t.state == "CLOSED"
    t.guest >> SYN_ACK(seq=0, ack=1)
    t.guest << RST(seq=1)


def test_refused() -> None:
    t = reach("SYN-SENT")
    t.guest >> RST_ACK(seq=0, ack=1)
    assert t.saw(Reset)


def test_data_written_before_the_handshake_is_over() -> None:
    t = reach("SYN-SENT")
    t.send(100)
    t.silence()
    t.guest >> SYN_ACK(seq=0, ack=1, mss=1460)
    t.guest << DATA(100, seq=1, ack=1)


def test_data_with_the_syn_ack() -> None:
    t = reach("SYN-SENT")
    t.guest >> Segment("SA", seq=0, ack=1, mss=1460, payload=bytes([0, 7, 14]), length=3)
    assert t.state == "ESTABLISHED"
    assert len(t.received) == 3


def test_data_and_fin_with_the_completing_ack() -> None:
    t = reach("SYN-RECEIVED")
    t.guest >> DATA(10, "FA", seq=1, ack=1)
    assert t.state == "CLOSE-WAIT"
    assert len(t.received) == 10
    t.guest << ACK(ack=12)


def test_syn_with_data_acknowledges_the_syn_alone() -> None:
    t = Trace()
    t.guest >> Segment("S", mss=1460, length=10, payload=b"0123456789")
    t.guest << SYN_ACK(ack=1)


def test_close_in_syn_received_waits_for_the_handshake() -> None:
    t = reach("SYN-RECEIVED")
    t.close()
    t.silence()
    t.guest >> ACK(ack=1)
    t.guest << FIN_ACK(seq=1)
    assert t.state == "FIN-WAIT-1"


def test_icmp_hard_error_ends_a_handshake_and_nothing_later() -> None:
    t = reach("SYN-SENT")
    t.icmp(5, hard=True)  # not what we sent
    assert t.state == "SYN-SENT"
    t.icmp(0, hard=False)
    assert t.state == "SYN-SENT"
    t.icmp(0, hard=True)
    assert t.state == "CLOSED"
    t = reach("ESTABLISHED")
    t.send(100)
    t.icmp(1, hard=True)
    assert t.state == "ESTABLISHED"


def test_passive_handshake_gives_up() -> None:
    t = Trace(syn_timeout=10.0)
    t.guest >> SYN(mss=1460)
    t.at(11)
    assert t.state == "CLOSED"
    assert t.saw(TimedOut)
