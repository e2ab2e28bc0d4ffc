"""One test for each class of flaw that slirp's code has had, by its CVEs: sent here, it must do nothing.

Each leaves the stack answering echo as before. Under the address sanitizer (./dev asan) they also show that
nothing was read or written out of bounds on the way.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from stack import (
    ARP,
    GATEWAY,
    GATEWAY_MAC,
    GUEST,
    HOST,
    ICMP,
    IP,
    MAC,
    TCP,
    UDP,
    Ether,
    GuestTcp,
    Packet,
    Raw,
    Stack,
    data_of,
)

import netstack
from netstack.wire.dhcp4 import DISCOVER, DhcpMessage

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
MORE = 1  # the "more fragments" flag


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack which must still answer when the test is over."""
    made = Stack()
    yield made
    made.run(120)  # whatever waits for a time-out meets it
    (reply,) = made.send(made.ip(ICMP(id=1, seq=2) / Raw(b"still there?"), dst=GATEWAY))
    assert bytes(reply[ICMP].payload).startswith(b"still there?")
    made.close()


def fragment(
    payload: bytes, offset: int, more: bool, ident: int = 7, protocol: int = 1, **fields: object
) -> Packet:
    """One fragment; the offset is in bytes."""
    head = IP(
        src=GUEST,
        dst=GATEWAY,
        id=ident,
        proto=protocol,
        flags=MORE if more else 0,
        frag=offset // 8,
        **fields,
    )
    return Ether(src=MAC, dst=GATEWAY_MAC) / head / Raw(payload)


def echo_message(size: int) -> bytes:
    return bytes(ICMP(id=5, seq=1) / Raw(bytes(i & 255 for i in range(size))))


# --- fragments


def test_fragment_beyond_64_kib_is_refused(stack: Stack) -> None:
    """CVE-2018-11806, heap overflow: the sum of offset and length is larger than any datagram."""
    assert stack.send(fragment(b"x" * 1480, 0, True), fragment(b"y" * 1480, 65528 - 8, False)) == []
    assert "fragment_bad" in stack.drops()


def test_first_fragment_larger_than_the_rest(stack: Stack) -> None:
    """CVE-2019-14378, heap overflow: the buffer was sized before the first fragment was seen."""
    whole = echo_message(2000)
    frames = [fragment(whole[1480:], 1480, False), fragment(whole[:1480], 0, True)]
    answers = stack.send(*frames)
    assert [bool(a[IP].flags & MORE) for a in answers] == [True, False]
    assert b"".join(bytes(a[IP])[20 : a[IP].len] for a in answers)[8:] == whole[8:]


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_fragments_are_refused(stack: Stack, seed: int) -> None:
    """CVE-2019-15890 and 2020-1983, use after free while fragments were merged: overlaps never merge."""
    rng = random.Random(seed)
    frames = []
    for ident in range(60):
        for _ in range(6):
            offset, size = rng.randrange(0, 60) * 8, rng.randrange(1, 60) * 8
            frames.append(fragment(rng.randbytes(size), offset, rng.random() < 0.7, ident, 99))
    rng.shuffle(frames)
    stack.send(*frames)
    drops = stack.drops()
    assert drops.get("fragment_overlap", 0) + drops.get("fragment_bad", 0) > 0


@pytest.mark.parametrize(("size", "counter"), [(400, "fragment_duplicate"), (800, "fragment_overlap")])
def test_an_overlap_changes_nothing_of_what_was_there(stack: Stack, size: int, counter: str) -> None:
    whole = echo_message(1600)
    answers = stack.send(
        fragment(whole[:800], 0, True),
        fragment(b"EVIL" * (size // 4), 400, True),
        fragment(whole[800:], 800, False),
    )
    assert not any(b"EVIL" in bytes(answer) for answer in answers)
    assert stack.drops().get(counter, 0) >= 1


def test_fragments_are_bounded_in_count_and_time(stack: Stack) -> None:
    """Endless first fragments: old ones make room, and the rest goes when its time is over."""
    for ident in range(5000):
        assert stack.send(fragment(b"z" * 1480, 0, True, ident & 0xFFFF)) == []
    assert stack.drops()["fragment_limit"] > 0
    stack.run(120)
    assert stack.drops()["fragment_timeout"] > 0


def test_tcp_in_fragments_is_reassembled_or_dropped(stack: Stack) -> None:
    """libslirp 4.8.0: TCP looked at the last-fragment flag of a datagram that was whole again."""
    syn = bytes(TCP(sport=4000, dport=80, flags="S", seq=9, options=[("MSS", 1460)] + [("NOP", None)] * 4))
    packet = IP(src=GUEST, dst=GATEWAY, proto=6) / Raw(syn)
    pieces = [fragment(syn[:8], 0, True, 3, 6), fragment(syn[8:], 8, False, 3, 6)]
    stack.send(*pieces)
    assert len(packet) < 100
    stack.drops()


# --- lengths that lie


@pytest.mark.parametrize("claimed", [29, 60, 1000, 1500, 65535])
def test_echo_longer_than_its_frame_leaks_nothing(stack: Stack, claimed: int) -> None:
    """CVE-2020-10756, over-read: the reply was as long as the header said, filled with the host's memory."""
    frame = stack.ip(ICMP(id=1, seq=1) / Raw(b""), dst=GATEWAY, len=claimed)
    assert stack.send(frame) == []
    assert sum(stack.drops().values()) == 1


def test_echo_shorter_than_its_frame_answers_what_the_header_says(stack: Stack) -> None:
    """CVE-2026-115449, length out of step: what lies behind the datagram is padding and is not echoed."""
    raw = bytes(stack.ip(ICMP(id=1, seq=1) / Raw(b"0123456789"), dst=GATEWAY)) + b"SECRET" * 20
    (reply,) = stack.send(raw)
    assert b"SECRET" not in bytes(reply)
    assert reply[IP].len == 38
    assert bytes(reply[IP])[28:38] == b"0123456789"


@pytest.mark.parametrize("length", range(14, 42))
def test_short_arp_is_not_answered(stack: Stack, length: int) -> None:
    """CVE-2020-29129 and 29130, over-read of short ARP frames."""
    raw = bytes(Ether(src=MAC, dst=BROADCAST_MAC) / ARP(hwsrc=MAC, psrc=GUEST, pdst=GATEWAY))
    assert stack.send(raw[:length]) == []
    assert sum(stack.drops().values()) == 1


@pytest.mark.parametrize("field", ["hwlen", "plen", "hwtype", "ptype"])
def test_arp_of_other_kinds_is_not_answered(stack: Stack, field: str) -> None:
    arp = ARP(hwsrc=MAC, psrc=GUEST, pdst=GATEWAY, **{field: 200})
    raw = bytearray(bytes(Ether(src=MAC, dst=BROADCAST_MAC) / ARP(hwsrc=MAC, psrc=GUEST, pdst=GATEWAY)))
    place = {"hwtype": (14, 2), "ptype": (16, 2), "hwlen": (18, 1), "plen": (19, 1)}[field]
    raw[place[0] : place[0] + place[1]] = (200).to_bytes(place[1], "big")
    assert arp is not None
    assert stack.send(bytes(raw)) == []
    assert stack.drops() == {"arp_bad": 1}


@pytest.mark.parametrize("length", [0, 1, 7, 9, 100, 65535])
@pytest.mark.parametrize("port", [53, 67, 69, 7])
def test_udp_with_a_length_that_lies(stack: Stack, port: int, length: int) -> None:
    """CVE-2021-3593, 3594 and 3595, over-read by UDP and TFTP of datagrams shorter than they said."""
    stack.send(stack.ip(UDP(sport=4000, dport=port, len=length, chksum=0), dst=GATEWAY))
    drops = stack.drops()
    assert drops.get("udp_bad_header", 0) == 1
    assert sum(drops.values()) == 1


@pytest.mark.parametrize("size", [1, 10, 100, 235, 236, 239, 240, 242])
def test_short_dhcp_message_is_not_answered(stack: Stack, size: int) -> None:
    """CVE-2021-3592, over-read and leak: a BOOTP message shorter than its fixed part."""
    whole = DhcpMessage(1, 1, bytes.fromhex("020000000003"), {53: bytes([DISCOVER])}).build()
    assert dhcp(stack, whole[:size]) == []


@pytest.mark.parametrize("option", [50, 53, 54, 55, 57, 61, 12, 82])
@pytest.mark.parametrize("tail", [b"", b"\xff", b"\xff\xff", b"\xfe" + b"x" * 10])
def test_dhcp_option_that_runs_past_the_end(stack: Stack, option: int, tail: bytes) -> None:
    """CVE-2017-11434, out-of-bounds read: the length of an option reaches beyond the message."""
    whole = DhcpMessage(1, 1, bytes.fromhex("020000000003"), {53: bytes([DISCOVER])}).build(minimum=0)
    for answer in dhcp(stack, whole.rstrip(b"\0").removesuffix(b"\xff") + bytes([option]) + tail):
        assert len(answer) <= 14 + 576


@pytest.mark.parametrize("mtu", [576, 1500])
def test_replies_never_exceed_the_mtu(mtu: int) -> None:
    """CVE-2026-95508, heap overflow: a reply that repeats what the client sent exceeded a small MTU."""
    stack = Stack(netstack.Config(dns=(), mtu=mtu))
    try:
        options = {
            53: bytes([DISCOVER]), 61: b"\1" + os.urandom(254), 12: b"h" * 255, 82: os.urandom(255),
            57: struct.pack("!H", 65535), 55: bytes(range(1, 255)),
        }  # fmt: skip
        message = DhcpMessage(1, 1, bytes.fromhex("020000000003"), options).build()
        raw = bytes(
            IP(src="0.0.0.0", dst="255.255.255.255", id=1) / UDP(sport=68, dport=67, chksum=0) / Raw(message)
        )
        frames = [
            bytes(Ether(src=MAC, dst=BROADCAST_MAC, type=0x0800))
            + bytes(
                IP(src="0.0.0.0", dst="255.255.255.255", id=1, proto=17, frag=at // 8,
                   flags=MORE if at + 552 < len(raw) - 20 else 0)
            )
            + raw[20 + at : 20 + at + 552]
            for at in range(0, len(raw) - 20, 552)
        ]  # fmt: skip
        for answer in stack.send(*frames):
            assert len(answer) <= 14 + mtu
        (reply,) = stack.send(stack.ip(ICMP(id=1, seq=1) / Raw(b"k" * 400), dst=GATEWAY))
        assert reply[IP].len == 428
    finally:
        stack.close()


def dhcp(stack: Stack, message: bytes) -> list[Packet]:
    return stack.send(
        Ether(src=MAC, dst=BROADCAST_MAC)
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / Raw(message)
    )


# --- errors that quote


@pytest.mark.parametrize("options", [b"", b"\x01" * 4, b"\x01" * 40])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 1400])
def test_icmp_errors_quote_no_more_than_came(stack: Stack, options: bytes, size: int) -> None:
    """CVE-2026-120830, over-read: the quotation was as long as the quoted header claimed."""
    head = (
        IP(src=GUEST, dst=GATEWAY, proto=99, options=options)
        if options
        else IP(src=GUEST, dst=GATEWAY, proto=99)
    )
    sent = Ether(src=MAC, dst=GATEWAY_MAC) / head / Raw(os.urandom(size))
    raw = bytes(sent)[14:]
    padded = bytes(sent) + b"PADDING-AT-THE-END"
    answers = stack.send(padded)
    if not answers:
        assert size < 8, "an error is due where there are 8 bytes to quote"
        return
    (error,) = answers
    assert error[ICMP].type == 3
    quoted = bytes(error[IP])[28 : error[IP].len]
    assert raw.startswith(quoted)
    assert len(quoted) >= min(len(raw), 28)
    assert error[IP].len <= 576
    assert b"PADDING" not in quoted


def test_no_error_about_an_error(stack: Stack) -> None:
    """RFC 1122 section 3.2.2: or two stacks talk for ever."""
    inner = IP(src=GATEWAY, dst=GUEST, proto=99) / Raw(b"12345678")
    assert stack.send(stack.ip(ICMP(type=3, code=1) / Raw(bytes(inner)), dst=GATEWAY)) == []
    assert stack.send(stack.ip(ICMP(type=11, code=0) / Raw(b"x"), dst=GATEWAY)) == []


# --- flows and queues


def test_flow_that_ends_while_its_data_waits(stack: Stack) -> None:
    """CVE-2017-13711, use after free: a socket was freed while its frames were still queued."""
    for number in range(50):
        guest = GuestTcp(stack, sport=20000 + number, window=2000)
        guest.open()
        stack.peers[-1].sendall(b"d" * 50000)  # more than the window takes: the rest waits
        stack.run()
        stack.send(guest.segment("RA" if number % 2 else "R"))
        stack.peers[-1].close()
        stack.run(0.01)
    assert stack.gateway.flows() == []


def test_burst_larger_than_every_queue(stack: Stack) -> None:
    """CVE-2026-120831, corrupted queue pointers on bursts: what does not fit is dropped and counted."""
    frame = bytes(stack.ip(ICMP(id=1, seq=1) / Raw(b"b" * 1000), dst=GATEWAY))
    taken = sum(stack.link.inject(frame) for _ in range(20000))
    assert 0 < taken < 20000
    answers = stack.run(1)
    assert 0 < len(answers) <= taken
    assert len(answers) + sum(stack.drops().values()) >= taken


IRC = b"PRIVMSG bob :\x01DCC SEND file 3232252162 5000 1000\x01\r\n"
IDENT = b"6193, 23\r\n" * 50
FTP = b"PORT 192,168,65,3,4,1\r\n227 Entering Passive Mode (10,0,2,15,19,137)\r\n"
REALAUDIO = b"\x50\x4e\x41\0\x0a\0\x14\0\x02\x62\0\xc0" * 10


@pytest.mark.parametrize(
    ("port", "said"),
    [(21, FTP), (113, IDENT), (194, IRC), (517, b"\0" * 84), (518, b"\1\1" + b"\0" * 82), (544, b"0\0root\0"),
     (6667, IRC), (7070, REALAUDIO), (6668, b"PRIVMSG x :\x01DCC MOVE " + b"9" * 400 + b"\x01\r\n")],
)  # fmt: skip
def test_no_protocol_is_rewritten(stack: Stack, port: int, said: bytes) -> None:
    """CVE-2019-6778, 2019-9824, 2020-7039, 2020-8608: slirp rewrote what some protocols say."""
    guest = GuestTcp(stack, dport=port)
    guest.open()
    guest.send(said)
    assert stack.peers[-1].recv(4096) == said
    stack.peers[-1].sendall(said)
    assert b"".join(data_of(p) for p in guest.take(stack.run()) if TCP in p) == said


def test_there_is_no_tftp_and_no_smb(stack: Stack) -> None:
    """CVE-2020-7211, path traversal in TFTP, and CVE-2015-4037, SMB's file names: nothing serves files."""
    read_request = b"\0\1" + b"..\\..\\etc/passwd\0octet\0blksize\065464\0"
    (error,) = stack.send(stack.ip(UDP(sport=4000, dport=69) / Raw(read_request), dst=GATEWAY))
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    for port in (139, 445):
        (reset,) = stack.send(stack.ip(TCP(sport=4000, dport=port, flags="S", seq=1), dst=GATEWAY))
        assert "R" in reset[TCP].flags


def test_answers_are_owed_to_the_sender_alone(stack: Stack) -> None:
    """A spoofed source gets nothing, wherever it points."""
    for source in (
        "192.168.65.1",
        "192.168.65.2",
        "127.0.0.1",
        "8.8.8.8",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
    ):
        frame = (
            Ether(src=MAC, dst=GATEWAY_MAC)
            / IP(src=source, dst=GATEWAY)
            / ICMP(id=1, seq=1)
            / Raw(b"reflect me")
        )
        assert stack.send(frame) == [], source
        assert sum(stack.drops().values()) == 1, source


def test_closed_host_alias_keeps_the_loopback_private() -> None:
    """The host's loopback is reached through the alias alone, and not at all without one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        stack = Stack(netstack.Config(dns=(), host_alias=None), dial=False)
        try:
            for address in ("127.0.0.1", HOST):
                answers = stack.send(
                    stack.ip(TCP(sport=4000, dport=port, flags="S", seq=1), dst=address), seconds=1
                )
                assert not [a for a in answers if TCP in a and a[TCP].flags == "SA"]
        finally:
            stack.close()
