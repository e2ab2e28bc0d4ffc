"""``netstack ping`` at a running instance with a guest."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from instance import GUEST

Ask = Callable[..., Any]


def test_replies_and_summary(ask: Ask) -> None:
    done = ask("ping", "-c", "3", "-i", "0.05", "-s", "100", GUEST)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    title, *replies, blank, heading, counts, times = out.decode().splitlines()
    assert title == f"PING {GUEST} ({GUEST}): 100 data bytes"
    for number, line in enumerate(replies, 1):
        assert re.fullmatch(
            rf"108 bytes from {re.escape(GUEST)}: icmp_seq={number} time=\d+\.\d{{3}} ms", line
        )
    assert (blank, heading) == ("", f"--- {GUEST} ping statistics ---")
    assert counts == "3 packets transmitted, 3 received, 0% packet loss"
    low, mean, high, _ = map(float, times.removeprefix("rtt min/avg/max/mdev = ").split()[0].split("/"))
    assert 0 < low <= mean <= high


def test_a_path_made_bad_meanwhile(ask: Ask) -> None:
    """An instance that has slept holds what it sends for the whole delay, from then on."""

    def run(*arguments: str) -> bytes:
        out, _ = ask(*arguments).communicate(timeout=60)
        return out

    try:
        run("impair", "--down", "delay=60ms")
        # the second and third: the first may have asked for the guest's MAC
        replies = run("ping", "-c", "3", "-i", "0.4", "--json", GUEST).splitlines()[1:-1]
        assert len(replies) == 2
        assert all(json.loads(reply)["rtt"] >= 0.06 for reply in replies)
    finally:
        run("impair", "off")


def test_nobody_answers(ask: Ask) -> None:
    done = ask("ping", "-c", "2", "-i", "0.05", "-W", "0.2", "ghost")
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 1
    expected = ["PING ghost (192.168.65.99): 56 data bytes", "no answer: icmp_seq=1", "no answer: icmp_seq=2"]
    assert out.decode().splitlines()[:3] == expected
    assert out.endswith(b"2 packets transmitted, 0 received, 100% packet loss\n")


def test_unanswered_requests_do_not_hold_up_others(ask: Ask) -> None:
    done = ask("ping", "-c", "20", "-i", "0.01", "-W", "1.0", "--json", "192.168.65.99")
    out, _ = done.communicate(timeout=60)
    *replies, summary = map(json.loads, out.splitlines())
    assert sorted(r["seq"] for r in replies) == list(range(1, 21))
    assert summary == {"guest": "192.168.65.99", "transmitted": 20, "received": 0}


@pytest.mark.parametrize("size", [0, 1472, 20000])
def test_sizes(ask: Ask, size: int) -> None:
    done = ask("ping", "-c", "1", "-W", "10", "-s", str(size), "--json", GUEST)
    reply, summary = map(json.loads, done.communicate(timeout=60)[0].splitlines())
    assert (reply["bytes"], reply["address"]) == (size + 8, GUEST)
    assert reply["rtt"] == summary["min"] == summary["avg"] == summary["max"] > 0


def test_interrupt_prints_the_summary(ask: Ask) -> None:
    done = ask("ping", "-i", "0.05", GUEST)
    for _ in range(3):
        done.stdout.readline()
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert f"--- {GUEST} ping statistics ---".encode() in out
    assert b" 0% packet loss" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no guest has the name or address 'nobody'"),
        (["8.8.8.8"], "no guest has the name or address '8.8.8.8'"),
        (["-i", "0", GUEST], "0.01<=x<=3600"),
        (["-s", "65508", GUEST], "0<=x<=65507"),
    ],
)
def test_what_cannot_be(ask: Ask, arguments: list[str], words: str) -> None:
    done = ask("ping", *arguments)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out, err.count(b"\n")) == (2, b"", 1)
    assert words in err.decode()
