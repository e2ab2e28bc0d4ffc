"""Path MTU (RFC 1191, 8201, 4821) with the checks of RFC 5927."""

from __future__ import annotations

import pytest

from tests.tcp.trace import ACK, DATA, SYN, SYN_ACK, Trace


def sent(n: int, **settings: object) -> Trace:
    t = Trace(nagle=False, **settings)
    g = t.connect(mss=1460)
    t.send(n)
    t.out.clear()
    assert g.rcv == n + 1
    return t


@pytest.mark.parametrize("packets", [1, 10])
def test_too_big_resends_at_once_in_smaller_pieces(packets: int) -> None:
    t = sent(1460 * packets)
    cwnd = t.info["cwnd"]
    t.icmp(1, mtu=1200)
    assert t.out
    assert all(len(p) <= 1160 for _, _, p, _ in t.out)
    total = sum(len(p) for _, _, p, _ in t.out)
    assert total == 1460 * packets
    assert t.info["cwnd"] == cwnd
    assert t.info["mss"] == 1160
    t.guest >> ACK(ack=1460 * packets + 1)
    assert t.info["lost"] == 0


@pytest.mark.parametrize("seq", [-1, 0, 1461, 100000])
def test_an_error_about_something_else_is_ignored(seq: int) -> None:
    t = sent(1460)
    t.icmp(seq, mtu=600)
    assert t.info["mss"] == 1460
    t.silence()


def test_only_reduces() -> None:
    t = sent(1460)
    t.icmp(1, mtu=9000)
    assert t.info["mss"] == 1460


@pytest.mark.parametrize(
    ("ipv6", "mtu", "mss"), [(False, 67, 1440), (True, 1279, 1440), (True, 1280, 1220), (False, 68, 64)]
)
def test_least_mtu(ipv6: bool, mtu: int, mss: int) -> None:
    t = Trace(nagle=False, ipv6=ipv6, mss=1440)
    t.connect(mss=1440)
    t.send(1440)
    t.icmp(1, mtu=mtu)
    assert t.info["mss"] == mss


def test_syn_ack_keeps_announcing_the_interface() -> None:
    t = sent(1460)
    t.icmp(1, mtu=1200)
    other = Trace()
    other.guest >> SYN(mss=1460)
    other.guest << SYN_ACK(mss=1460)


def test_raised_again_after_ten_minutes() -> None:
    t = sent(1460)
    t.icmp(1, mtu=1200)
    t.out.clear()
    t.guest >> ACK(ack=1461)
    t.after(599)
    t.guest >> DATA(10)
    assert t.info["mss"] == 1160
    t.after(2)
    t.guest >> DATA(10)
    assert t.info["mss"] == 1460


def test_black_hole_is_found_without_icmp() -> None:
    """Full-sized segments vanish, smaller ones pass: after two time-outs 1280 is tried, the least of IPv6."""
    t = sent(14600, sack=False)
    for _ in range(12):
        t.at(t.stack.next_timer() or 0.0)
        if t.out and len(t.out[0][2]) <= 1280 - 40:
            break
        t.out.clear()
    assert t.out
    assert t.now <= 3
    size = len(t.out[0][2])
    assert size < 1460
    t.out.clear()
    t.guest >> ACK(ack=1 + size)
    assert t.out
    assert all(len(p) <= size for _, _, p, _ in t.out)


def test_losses_where_full_segments_have_come_through_are_no_black_hole() -> None:
    t = sent(1460, sack=False)
    t.guest >> ACK(ack=1461)
    t.send(1460)
    t.out.clear()
    for _ in range(3):
        t.at(t.stack.next_timer() or 0.0)
    assert t.info["mss"] == 1460
