"""What comes in from a guest before anything is known of it, by the million: handshakes, framings, hellos, and what
joins frames.

Each case is a message or a frame, made from a good one by a seeded generator: cut, extended, with bytes changed, or
with a length that lies. The quick run is part of the suite; ``--slow`` does a million for each kind, best in the build
of ``./dev asan``. ``NETSTACK_FUZZ_SEED`` chooses others than the usual ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import tempfile
import uuid
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tcp_frames import ACK, FIN, PLAIN, PSH, Segment

from netstack.link.coalesce import coalesce
from netstack.link.datagram import DatagramLink
from netstack.link.framing import segment
from netstack.link.hyperkit import (
    ClientHandshake,
    Command,
    Disconnect,
    HandshakeError,
    Init,
    ServerHandshake,
    UuidTable,
    Vif,
)
from netstack.link.stream import StreamLink

SEED = int(os.environ.get("NETSTACK_FUZZ_SEED", "1"))
QUICK, MANY = 30_000, 1_000_000
BATCH = 32  # frames that lie ready together
MTU = 1500
HELLO = b"VFKT"


def packets() -> list[bytes]:
    """Frames that guests send: what a stream of TCP is cut into, and others."""
    arp = (
        b"\xff" * 6
        + bytes.fromhex("020000000001080600010800060400010200000000010a000001")
        + bytes(6)
        + b"\x0a\0\0\x02"
    )
    frames = [arp, b"", b"\0", HELLO]
    for v6 in (False, True):
        for i in range(12):
            flags = ACK | (PSH if i == 9 else 0) | (FIN if i == 11 else 0)
            payload = bytes(40 if i < 10 else 7)
            frames.append(
                Segment(payload, seq=2**32 - 150 + i * 40, v6=v6, ident=i, flags=flags, fragment=0).frame()
            )
    return frames


PACKETS = packets()


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A message with one or two things wrong, or as it was."""
    for _ in range(rng.choice((0, 1, 1, 2))):
        what = rng.randrange(5)
        if what == 0:
            data = data[: rng.randint(0, len(data))]
        elif what == 1:
            data += rng.randbytes(rng.choice((1, 2, 3, 60, 1600)))
        elif what == 2:
            data = rng.randbytes(len(data))
        elif data:
            at = rng.randrange(len(data))
            value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ (1 << rng.randrange(8))))
            data = data[:at] + bytes((value,)) + data[at + 1 :]
    return data


def batch(rng: random.Random) -> list[bytes]:
    """Frames in the order of a stream, some of them damaged, left out or repeated."""
    at = rng.randrange(len(PACKETS))
    run = (PACKETS[at:] + PACKETS * 2)[:BATCH]
    odds = rng.choice((0.0, 0.05, 0.3, 1.0))
    return [damaged(rng, frame) if rng.random() < odds else frame for frame in run]


# --- each takes a generator and a number of cases


class Pool:
    """Eight addresses."""

    def __init__(self) -> None:
        self.given: dict[bytes, IPv4Address] = {}
        self.all = [IPv4Address(f"192.168.65.{n}") for n in range(3, 11)]

    def within(self, address: IPv4Address) -> bool:
        return address in self.all

    def take(self, mac: bytes, address: IPv4Address | None) -> IPv4Address | None:
        free = [a for a in self.all if a not in self.given.values()]
        wanted = (free[0] if free else None) if address is None else address
        if wanted not in free:
            return None
        self.given[mac] = wanted  # type: ignore[assignment]
        return wanted

    def give_back(self, mac: bytes) -> None:
        del self.given[mac]


def servers(rng: random.Random, cases: int) -> None:
    """Clients of a HyperKit server: all are answered with whole messages, or closed; the table stays bounded."""
    pool = Pool()
    table = UuidTable(pool, MTU)
    inits = (Init().build(), Init(version=1).build(), Init(commit=bytes(40)).build())
    for _ in range(cases // 2):
        state = ServerHandshake(lambda command: table.assign(command)[2])
        who = uuid.UUID(int=rng.randrange(20)) if rng.random() < 0.9 else None
        address = IPv4Address(f"192.168.65.{rng.randrange(14)}") if rng.random() < 0.5 else None
        with contextlib.suppress(HandshakeError):
            for message in (rng.choice(inits), Command(who, address).build()):
                answer = state.receive(damaged(rng, message))
                assert len(answer) in (49, 258)
                assert state.need in (0, 41)
        assert (state.result is None) <= (state.command is None or state.need == 0)
        assert len(table) == len(pool.given) <= 8


def clients(rng: random.Random, cases: int) -> None:
    """Servers that lie to our relay."""
    answers = (Vif(MTU, b"\2\0\0\0\0\1").build(), Disconnect("no").build(), Vif(65535, bytes(6)).build())
    for _ in range(cases // 2):
        state = ClientHandshake(uuid.UUID(int=1))
        state.begin()
        with contextlib.suppress(HandshakeError):
            state.receive(damaged(rng, Init().build()))
            state.receive(damaged(rng, rng.choice(answers)))
            assert state.vif is not None
            assert 68 <= state.vif.mtu <= 65521
            assert any(state.vif.mac)
            assert not state.vif.mac[0] & 1


def judged(frame: bytes, meta: tuple[int, ...], told: bool = False) -> int:
    """Frames that this one was made of; what was joined can be taken apart again."""
    if meta == PLAIN:
        return 1
    rc, sent, parts = segment([frame], meta)
    if told:  # by the guest, who may be wrong
        assert sent <= 2048
        return 1
    assert rc == 0
    assert sent == len(parts) >= 2
    assert max(len(part) for part, _ in parts) <= MTU + 14
    return len(parts)


def streams(framing: str) -> Callable[[random.Random, int], None]:
    """Guests on a byte stream whose lengths may lie; a link that ends is replaced."""

    def run(rng: random.Random, cases: int) -> None:
        done = 0
        while done < cases:
            theirs, ours = socket.socketpair()
            link = StreamLink(ours.detach(), framing, MTU)
            with theirs, contextlib.suppress(ConnectionError):
                while done < cases:
                    frames = batch(rng)
                    lies = rng.random() < 0.2
                    data = b"".join(length(rng, framing, f, lies) + f for f in frames)
                    theirs.sendall(data)
                    done += len(frames)
                    given = 0
                    while (got := link.recv()) is not None:
                        given += judged(*got, framing == "offload")
                    assert given <= len(frames) or lies
                    if lies and rng.random() < 0.5:
                        break  # where the next frame begins, nobody knows any more
            assert link.stats()["rx_bad"] <= 1 or framing == "offload"
            link.close()

    return run


def length(rng: random.Random, framing: str, frame: bytes, lies: bool) -> bytes:
    n = len(frame)
    if lies and rng.random() < 0.1:
        n = rng.choice((0, 1, n + 1, max(n - 1, 0), 1514, 65535, 69632, 69633, 1 << 31, 2**32 - 1))
    if framing == "hyperkit":
        return struct.pack("<H", n & 0xFFFF)
    return struct.pack(">I", n) + (
        damaged(rng, metadata(rng, frame))[:12].ljust(12, b"\0") if framing == "offload" else b""
    )


def metadata(rng: random.Random, frame: bytes) -> bytes:
    """A virtio header that may go with the frame: none, a checksum to be made, or a super-frame of TCP or UDP."""
    v6 = frame[12:14] == b"\x86\xdd"
    l4 = 54 if v6 else 34
    kind = rng.choice((0, 0, 4 if v6 else 1, 5))
    return struct.pack("<BBHHHHH", rng.choice((0, 1, 2)), kind, l4 + 20, rng.choice((10, 100)), l4, 16, 0)


def joins(rng: random.Random, cases: int) -> None:
    """Frames in memory that ends where they end: what is joined and cut again is what was there."""
    for _ in range(cases // BATCH):
        frames = batch(rng)
        assert sum(judged(*made) for made in coalesce(frames, MTU)) == len(frames)


@contextlib.contextmanager
def sockets(kind: str) -> Iterator[tuple[list[socket.socket], DatagramLink]]:
    """Sockets to send from, and the link."""
    with contextlib.ExitStack() as stack:
        if kind == "learn":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.bind(str(folder / "us"))
            senders = []
            for name in ("one", "two", ""):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                if name:
                    sock.bind(str(folder / name))
                sock.connect(str(folder / "us"))
                senders.append(sock)
        else:
            types = {"connected": socket.SOCK_DGRAM, "packets": socket.SOCK_SEQPACKET}
            theirs, ours = socket.socketpair(socket.AF_UNIX, types[kind])
            senders = [stack.enter_context(theirs)]
        for sock in senders:
            sock.setblocking(False)
        link = DatagramLink(ours.detach(), kind, MTU)
        stack.callback(link.close)
        yield senders, link


def messages(kind: str) -> Callable[[random.Random, int], None]:
    """vfkit's, krunkit's, QEMU's and BESS's guests: hellos, frames, and messages that are neither."""

    def run(rng: random.Random, cases: int) -> None:
        done = 0
        while done < cases:
            with sockets(kind) as (senders, link), contextlib.suppress(ConnectionError):
                while done < cases:
                    sent = []
                    for frame in [damaged(rng, HELLO), *batch(rng)]:
                        done += 1
                        if not frame and kind == "packets" and rng.random() < 0.9:
                            continue  # it ends such a link
                        try:
                            rng.choice(senders).send(frame)
                        except BlockingIOError:
                            break
                        sent.append(frame)
                    while (got := link.recv()) is not None:
                        assert got[0] in sent
                        assert got[0] != HELLO
                        if rng.random() < 0.1:
                            assert link.send([got[0]]) in (0, -1, -3, -4)
                    assert link.flush() in (0, -1)
                    for sock in senders:
                        with contextlib.suppress(BlockingIOError):
                            while sock.recv(2048):
                                pass

    return run


KINDS: dict[str, Callable[[random.Random, int], None]] = {
    "server": servers,
    "client": clients,
    "hyperkit": streams("hyperkit"),
    "qemu": streams("qemu"),
    "offload": streams("offload"),
    "join": joins,
    "connected": messages("connected"),
    "packets": messages("packets"),
    "learn": messages("learn"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes(kind: str) -> None:
    KINDS[kind](random.Random(f"{kind} {SEED}"), QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_of_each(kind: str) -> None:
    KINDS[kind](random.Random(f"{kind} {SEED} many"), MANY)
