"""VPNKit's handshake against golden bytes, and against whatever may come."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.link.hyperkit import (
    ClientHandshake,
    Command,
    Disconnect,
    HandshakeError,
    Init,
    ServerHandshake,
    UuidTable,
    Vif,
    parse_response,
)

WHO = uuid.UUID("d1d9cd61-d0dc-4715-9bb3-4c11da7ad7a5")
INIT = bytes.fromhex("564d4e335416000000") + b"0123456789" * 4
PREFERRED = b"\x08d1d9cd61-d0dc-4715-9bb3-4c11da7ad7a5\xfa\x41\xa8\xc0"
ETHERNET = b"\x01d1d9cd61-d0dc-4715-9bb3-4c11da7ad7a5\0\0\0\0"
VIF = bytes.fromhex("01dc050e06025000000001") + bytes(247)
NONE_LEFT = b"\x02\x1aNo IP addresses available." + bytes(230)


class Pool:
    """Addresses from .3 to .5."""

    def __init__(self, last: int = 5) -> None:
        self.taken: dict[bytes, IPv4Address] = {}
        self.all = [IPv4Address(f"192.168.65.{n}") for n in range(3, last + 1)]

    def within(self, address: IPv4Address) -> bool:
        return address in self.all

    def take(self, mac: bytes, address: IPv4Address | None) -> IPv4Address | None:
        free = [a for a in self.all if a not in self.taken.values()]
        if address is None:
            address = free[0] if free else None
        if address is None or address not in free:
            return None
        self.taken[mac] = address
        return address

    def give_back(self, mac: bytes) -> None:
        del self.taken[mac]


def test_golden_messages() -> None:
    assert Init().build() == INIT
    assert len(INIT) == 49
    assert Init.parse(INIT) == Init()
    preferred = Command(WHO, IPv4Address("192.168.65.250"))
    assert preferred.build() == PREFERRED
    assert len(PREFERRED) == 41
    assert Command.parse(PREFERRED) == preferred
    assert Command(WHO).build() == ETHERNET
    assert Command.parse(ETHERNET) == Command(WHO)
    assert Vif(1500, b"\x02\x50\0\0\0\x01").build() == VIF
    assert len(VIF) == 258
    assert parse_response(VIF) == Vif(1500, b"\x02\x50\0\0\0\x01", 1550)
    assert Disconnect("No IP addresses available.").build() == NONE_LEFT
    assert len(NONE_LEFT) == 258
    assert parse_response(NONE_LEFT) == Disconnect("No IP addresses available.")


def test_a_whole_conversation() -> None:
    server = ServerHandshake(lambda command: UuidTable(Pool(), 1500).assign(command)[2])
    client = ClientHandshake(WHO)
    assert client.begin() == INIT
    assert server.need == 49
    assert server.receive(INIT) == INIT
    assert client.receive(INIT) == ETHERNET
    assert server.need == 41
    answer = server.receive(ETHERNET)
    assert answer == VIF
    assert client.need == 258
    assert client.receive(answer) == b""
    assert (server.need, client.need) == (0, 0)
    assert client.vif == server.result.__class__(1500, b"\x02\x50\0\0\0\x01", 1550)


def test_two_of_ours_agree_on_offload() -> None:
    server, client = ServerHandshake(lambda command: Disconnect("")), ClientHandshake(WHO, ask_offload=True)
    asked = client.begin()
    assert asked == INIT[:9] + b"netstack relay: offload 1" + bytes(15)
    answer = server.receive(asked)
    assert answer == INIT[:9] + b"netstack serve: offload 1" + bytes(15)
    client.receive(answer)
    assert (server.offload, client.offload) == (True, True)


@pytest.mark.parametrize("answer", ["plain", "echo"])
def test_no_offload_with_others(answer: str) -> None:
    """VPNKit answers with a commit of its own; whoever sends back what came has agreed to nothing."""
    client = ClientHandshake(WHO, ask_offload=True)
    asked = client.begin()
    client.receive(INIT if answer == "plain" else asked)
    assert not client.offload
    silent = ClientHandshake(WHO)
    silent.receive(INIT[:9] + b"netstack serve: offload 1" + bytes(15))
    assert not silent.offload
    for other in (INIT, b"\xff" + asked[1:], asked[:-1] + b"x"):
        server = ServerHandshake(lambda command: Disconnect(""))
        assert server.receive(other) == INIT
        assert not server.offload


def test_magic_and_commit_are_not_looked_at() -> None:
    server = ServerHandshake(lambda command: Disconnect(""))
    assert server.receive(b"\xffMNET" + INIT[5:9] + bytes(40)) == INIT
    assert server.error is None


@pytest.mark.parametrize("version", [0, 1, 21, 23, 22 << 24, 0xFFFFFFFF])
def test_another_version_is_answered_and_closed(version: int) -> None:
    server = ServerHandshake(lambda command: Disconnect(""))
    assert server.receive(INIT[:5] + version.to_bytes(4, "little") + INIT[9:]) == INIT
    assert server.need == 0
    assert str(version) in (server.error or "")


@pytest.mark.parametrize(
    "command",
    [
        b"\x06" + PREFERRED[1:],
        b"\0" + ETHERNET[1:],
        b"\x01" + b"x" * 36 + bytes(4),
        b"\x01" + bytes(35) + b"1" + bytes(4),
    ],
    ids=["bind", "zero", "no uuid", "half a uuid"],
)
def test_a_bad_command_closes_without_a_word(command: bytes) -> None:
    server = ServerHandshake(lambda command: Disconnect("never"))
    server.receive(INIT)
    with pytest.raises(HandshakeError):
        server.receive(command)
    assert server.result is None


@pytest.mark.parametrize(
    "init", [b"VMNET" + INIT[5:], INIT[:5] + b"\x01\0\0\0" + INIT[9:]], ids=["magic", "version"]
)
def test_the_client_is_strict(init: bytes) -> None:
    with pytest.raises(HandshakeError):
        ClientHandshake().receive(init)


def test_refusals() -> None:
    table = UuidTable(Pool(), 1500)

    def ask(who: uuid.UUID, address: str | None) -> Vif | Disconnect:
        return table.assign(Command(who, IPv4Address(address) if address else None))[2]

    other = uuid.uuid4()
    first = ask(WHO, "192.168.65.4")
    assert first == Vif(1500, b"\x02\x50\0\0\0\x01")
    assert ask(WHO, "192.168.65.4") == first
    assert ask(WHO, None) == first
    assert ask(WHO, "192.168.65.5") == Disconnect(
        "UUID already assigned to a different IP than the IP requested by the client"
    )
    assert ask(other, "192.168.65.4") == Disconnect("Preferred IP address 192.168.65.4 already used.")
    for outside in ("192.168.65.2", "192.168.65.6", "10.0.0.3", "255.255.255.255", "0.0.0.0"):
        assert ask(other, outside) == Disconnect("Preferred IP address out of range.")
    assert ask(other, None) == Vif(1500, b"\x02\x50\0\0\0\x02")


def test_none_left_and_whose_place_is_given_away() -> None:
    pool = Pool(4)
    table = UuidTable(pool, 1500)
    one, two, three = (uuid.uuid4() for _ in range(3))
    for who in (one, two):
        table.assign(Command(who))
        table.connected(who)
    assert table.assign(Command(three))[2] == Disconnect("No IP addresses available.")
    table.connected(one)  # two connections of the same
    table.disconnected(one)
    assert table.assign(Command(three))[2] == Disconnect("No IP addresses available.")
    table.disconnected(two)
    _, entry, answer = table.assign(Command(three))
    assert isinstance(answer, Vif)
    assert entry is not None
    assert entry.address == IPv4Address("192.168.65.4")
    assert len(table) == 2


def test_no_uuid_gets_a_new_one_each_time() -> None:
    table = UuidTable(Pool(), 1500)
    command = Command.parse(b"\x01" + bytes(40))
    assert command.uuid is None
    assert table.assign(command)[0] != table.assign(command)[0]


@given(st.binary(min_size=49, max_size=49), st.binary(min_size=41, max_size=41))
def test_any_bytes_to_the_server(init: bytes, command: bytes) -> None:
    server = ServerHandshake(lambda command: Disconnect("x"))
    assert server.receive(init) == INIT
    if server.need:
        try:
            assert len(server.receive(command)) == 258
        except HandshakeError:
            assert server.result is None


@given(st.binary(min_size=258, max_size=258))
def test_any_bytes_to_the_client(response: bytes) -> None:
    client = ClientHandshake()
    client.receive(INIT)
    try:
        client.receive(response)
    except HandshakeError:
        assert client.vif is None
    else:
        assert client.vif is not None
        assert not client.vif.mac[0] & 1


@given(st.text(max_size=300))
def test_any_refusal_fits(text: str) -> None:
    assert len(Disconnect(text).build()) == 258
