"""A TAP behind a bad path, through the command that users run."""

from __future__ import annotations

import re
import socket
import statistics
import time

import pytest

from netstack import Config, Gateway
from netstack.errors import ConfigError
from netstack.link.impair import Impairment
from netstack.testing.lab import GATEWAY, HOST_ALIAS
from netstack.testing.namespace import in_thread


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (
            "loss=1%,delay=20ms±5ms,reorder=0.5%,rate=10mbit",
            Impairment(loss=1, delay=20, jitter=5, reorder=0.5, rate=10),
        ),
        ("delay=1s+-250us,queue=7", Impairment(delay=1000, jitter=0.25, queue=7)),
        ("rate=64kbit duplicate=2", Impairment(rate=0.064, duplicate=2)),
        (
            "rate=1Gbit,corrupt=0.1%,ordered=1,seed=9",
            Impairment(rate=1000, corrupt=0.1, ordered=True, seed=9),
        ),
        ("", Impairment()),
    ],
)
def test_the_words_with_units(text: str, same: Impairment) -> None:
    assert repr(Impairment.parse(text)) == repr(same)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("delay=5%", "not a number"),
        ("loss=1ms", "not a number"),
        ("delay=5ms±", "not a number"),
        ("queue=1.5", "not a number"),
        ("lost=1%", "not an impairment"),
        ("loss=200%", "percent"),
    ],
)
def test_what_is_not_understood(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Impairment.parse(text)
    with pytest.raises(ConfigError, match="impair_up"):
        Gateway(Config(impair_up=text))


def round_trips(lab, count: int = 5, size: int = 56) -> list[float]:
    done = lab.guest.run(
        "ping", "-c", str(count), "-i", "0.2", "-s", str(size), "-W", "2", GATEWAY, check=False
    )
    return [float(x) for x in re.findall(r"time=([\d.]+) ms", done.stdout)]


@pytest.mark.netns
def test_delay_of_both_ways_and_of_one(lab) -> None:
    lab.attach("--impair", "delay=20ms", "--impair-down", "delay=30ms")
    times = round_trips(lab)
    assert len(times) == 5
    assert min(times) >= 50
    assert statistics.median(times) < 90


@pytest.mark.netns
def test_everything_is_lost_one_way(lab) -> None:
    process = lab.attach("--impair-up", "loss=100%", "-v")
    assert round_trips(lab, 2) == []
    assert process.stop() == 0
    (lost,) = re.findall(r"^ *impair_lost\W+(\d+)", process.text, re.MULTILINE)
    assert int(lost) >= 2


@pytest.mark.netns
def test_rate_and_loss_leave_a_transfer_whole(lab) -> None:
    """40 Mbit/s: 1.5 MB take at least 0.3 s, and arrive whole; super-frames are cut into packets."""
    lab.attach("--impair", "loss=0.5%,delay=2ms±1ms,rate=40mbit,duplicate=1%")
    data = bytes(range(256)) * 6000
    with lab.host.listen() as listener:
        listener.settimeout(20)
        for up in (True, False):
            guest = lab.guest.connect(HOST_ALIAS, listener.getsockname()[1], timeout=60)
            host, _ = listener.accept()
            host.settimeout(60)
            with guest, host:
                source, sink = (guest, host) if up else (host, guest)

                def send(source: socket.socket = source) -> None:
                    source.sendall(data)
                    source.shutdown(socket.SHUT_WR)

                begin = time.monotonic()
                sender = in_thread(send)
                got = bytearray()
                while piece := sink.recv(1 << 16):
                    got += piece
                sender(60)
                assert bytes(got) == data
                assert time.monotonic() - begin > len(data) * 8 / 40e6 * 0.9
