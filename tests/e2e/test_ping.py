"""Echo and traceroute with the real programs: answers are true, and so is their absence."""

from __future__ import annotations

import re

import pytest

from netstack.testing.lab import GATEWAY, HOST_ALIAS, NOBODY, ROUTER, SILENT, UNREACHABLE, WORLD

pytestmark = pytest.mark.netns


def received(output: str) -> int:
    found = re.search(r"(\d+) received", output)
    assert found, output
    return int(found[1])


@pytest.mark.parametrize("address", [GATEWAY, HOST_ALIAS, WORLD])
def test_whoever_is_there_answers(net, address):
    done = net.guest.run("ping", "-c", "3", "-i", "0.05", "-W", "5", address)
    assert received(done.stdout) == 3
    assert "DUP" not in done.stdout


@pytest.mark.parametrize("size", [0, 8, 1472, 1473, 4000, 30000])
@pytest.mark.parametrize("address", [GATEWAY, WORLD])
def test_echo_carries_any_payload(net, address, size):
    done = net.guest.run("ping", "-c", "1", "-W", "5", "-s", str(size), address)
    assert received(done.stdout) == 1
    assert f"{size + 8} bytes from {address}" in done.stdout
    assert "wrong data byte" not in done.stdout


def test_nobody_answers_for_a_dead_address(net):
    done = net.guest.run("ping", "-c", "2", "-i", "0.2", "-W", "1", SILENT, check=False)
    assert received(done.stdout) == 0
    assert "errors" not in done.stdout


def test_nobody_answers_for_an_address_that_nobody_has(net):
    done = net.guest.run("ping", "-c", "2", "-i", "0.2", "-W", "1", NOBODY, check=False)
    assert received(done.stdout) == 0


def test_unreachable_is_relayed_from_the_router_that_said_so(net):
    done = net.guest.run("ping", "-c", "1", "-W", "5", UNREACHABLE, check=False)
    assert received(done.stdout) == 0
    assert f"From {ROUTER}" in done.stdout
    assert "Destination Host Unreachable" in done.stdout


def test_time_to_live_is_carried(net):
    done = net.guest.run("ping", "-c", "1", "-W", "5", "-t", "2", WORLD, check=False)
    assert f"From {ROUTER}" in done.stdout
    assert "Time to live exceeded" in done.stdout


def test_traceroute_sees_every_hop(net):
    done = net.guest.run("traceroute", "-I", "-n", "-q", "1", "-w", "5", "-m", "6", WORLD)
    hops = re.findall(r"^ *(\d+)  (\S+)", done.stdout, re.MULTILINE)
    assert hops == [("1", GATEWAY), ("2", ROUTER), ("3", WORLD)]


def test_traceroute_to_the_gateway_is_one_hop(net):
    done = net.guest.run("traceroute", "-I", "-n", "-q", "1", "-w", "5", "-m", "3", GATEWAY)
    assert re.findall(r"^ *(\d+)  (\S+)", done.stdout, re.MULTILINE) == [("1", GATEWAY)]
