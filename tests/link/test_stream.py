"""Frames behind their lengths: HyperKit's and QEMU's framing over socket pairs and pipes."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tcp_frames import Segment

from netstack.link.stream import StreamLink

OK, AGAIN, CLOSED, BAD = 0, -1, -2, -3
FRAMINGS = ("hyperkit", "qemu")


def framed(framing: str, frame: bytes) -> bytes:
    return len(frame).to_bytes(*((2, "little") if framing == "hyperkit" else (4, "big"))) + frame


class Ends:
    """A link and the other end of its socket."""

    def __init__(self, framing: str, mtu: int = 1500) -> None:
        self.framing = framing
        self.other, ours = socket.socketpair()
        self.other.settimeout(5)
        self.link = StreamLink(ours.detach(), framing, mtu)

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        self.other.close()

    def frames(self) -> Iterator[bytes]:
        while (got := self.link.recv()) is not None:
            yield got[0]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_golden_arp(framing: str) -> None:
    """The ARP request of the protocol's worked example, and its length in each framing."""
    arp = bytes.fromhex(
        "ffffffffffff02500000000108060001080006040001025000000001c0a841fa000000000000c0a84101"
    )
    assert len(arp) == 42
    with Ends(framing) as ends:
        ends.other.sendall((b"\x2a\0" if framing == "hyperkit" else b"\0\0\0\x2a") + arp)
        assert list(ends.frames()) == [arp]
        assert ends.link.send([arp[:14], arp[14:]]) == OK
        assert ends.link.flush() == OK
        assert ends.other.recv(100) == framed(framing, arp)


@given(
    st.sampled_from(FRAMINGS),
    st.lists(st.integers(0, 3000), max_size=20),
    st.lists(st.integers(1, 4000), min_size=1, max_size=20),
)
def test_any_cut(framing: str, lengths: list[int], cuts: list[int]) -> None:
    """However the stream is cut, the frames are the same; empty ones are stepped over."""
    frames = [bytes((i * 7 + k) % 256 for k in range(n)) for i, n in enumerate(lengths)]
    stream = b"".join(framed(framing, f) for f in frames)
    with Ends(framing) as ends:
        got: list[bytes] = []
        i = 0
        while stream:
            ends.other.sendall(stream[: cuts[i % len(cuts)]])
            stream = stream[cuts[i % len(cuts)] :]
            i += 1
            got += ends.frames()
        assert got == [f for f in frames if f]


@given(st.sampled_from(FRAMINGS), st.binary(max_size=600))
def test_any_bytes(framing: str, stream: bytes) -> None:
    """Noise gives frames, or the end; never more bytes than came."""
    with Ends(framing) as ends:
        ends.other.sendall(stream)
        ends.other.close()
        total = 0
        with contextlib.suppress(ConnectionError):
            while (got := ends.link.recv()) is not None:
                total += len(got[0])
        assert total <= len(stream)
        with pytest.raises(ConnectionError):
            ends.link.recv()


def test_largest_frames() -> None:
    with Ends("hyperkit") as ends:
        ends.other.sendall(framed("hyperkit", bytes(65535)))
        assert [len(f) for f in ends.frames()] == [65535]
    with Ends("qemu") as ends:
        ends.other.sendall(framed("qemu", bytes(69632)))
        assert [len(f) for f in ends.frames()] == [69632]


@pytest.mark.parametrize("length", [69633, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_nobody_means_ends_the_link(length: int) -> None:
    with Ends("qemu") as ends:
        ends.other.sendall(framed("qemu", b"first") + length.to_bytes(4, "big"))
        first = ends.link.recv()
        assert first is not None
        assert first[0] == b"first"
        with pytest.raises(ConnectionError):
            ends.link.recv()
        assert ends.link.stats()["rx_bad"] == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_end_in_mid_frame(framing: str) -> None:
    with Ends(framing) as ends:
        ends.other.sendall(framed(framing, b"whole") + framed(framing, b"half of it")[:-5])
        ends.other.close()
        assert ends.link.recv() is not None
        with pytest.raises(ConnectionError):
            ends.link.recv()
        assert ends.link.stats()["rx_bad"] == 1


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("mtu", [1500, 65521])
def test_back_pressure(framing: str, mtu: int) -> None:
    """A reader that does not read: send refuses whole frames, flush says so, and what was taken arrives complete."""
    with Ends(framing, mtu) as ends:
        head = 2 if framing == "hyperkit" else 4
        most = min(mtu, 65535 - 14)
        taken: list[bytes] = []
        while True:
            frame = len(taken).to_bytes(4, "big") * ((most + 14) // 4)
            if ends.link.send([frame]) != OK:
                break
            taken.append(frame)
            assert len(taken) < 100_000
        assert ends.link.room() == 0
        assert ends.link.flush() == AGAIN
        assert ends.link.stats()["tx_full"] == 1
        ends.other.setblocking(False)
        stream = bytearray()
        expected = b"".join(framed(framing, f) for f in taken)
        while len(stream) < len(expected):
            try:
                stream += ends.other.recv(1 << 20)
            except BlockingIOError:
                ends.link.flush()
        assert bytes(stream) == expected
        assert ends.link.flush() == OK
        assert ends.link.room() > 0
        assert head


def test_frames_that_do_not_fit_are_refused() -> None:
    with Ends("hyperkit") as ends:
        assert ends.link.send([bytes(1515)]) == BAD
        assert ends.link.send([bytes(13)]) == BAD
        assert ends.link.send([bytes(100)], (2, 0, 0, 0, 34, 16)) == BAD  # a partial checksum
        assert ends.link.stats()["tx_frames"] == 0


def test_the_other_side_has_gone() -> None:
    with Ends("hyperkit") as ends:
        ends.other.close()
        assert ends.link.send([bytes(60)]) == OK
        assert ends.link.flush() == CLOSED


def test_pipes() -> None:
    up_read, up_write = os.pipe()
    down_read, down_write = os.pipe()
    link = StreamLink(up_read, "qemu", 1500, out_fd=down_write)
    os.write(up_write, framed("qemu", b"x" * 60))
    got = link.recv()
    assert got is not None
    assert got[0] == b"x" * 60
    assert link.recv() is None
    assert link.send([b"y" * 60]) == OK
    assert link.flush() == OK
    assert os.read(down_read, 100) == framed("qemu", b"y" * 60)
    os.close(up_write)
    with pytest.raises(ConnectionError):
        link.recv()
    link.close()
    os.close(down_read)


def test_not_a_framing() -> None:
    with pytest.raises(ValueError, match="hyperkit"):
        StreamLink(0, "hyperkitten")
    with pytest.raises(OSError, match="descriptor"):
        StreamLink(99999, "qemu")


# --- with the offload metadata of a relay


def test_golden_super_frame() -> None:
    """The length, then a virtio header, little-endian: needs a checksum, TCPv4, hdr_len, gso_size, start, offset."""
    frame = Segment(bytes(3000), options=b"").frame()
    meta = (2, 1, 1000, 54, 34, 16)
    header = bytes.fromhex("00000bee 01 01 3600 e803 2200 1000 0000")
    with Ends("offload") as ends:
        assert ends.link.features == 31
        assert ends.link.send([frame[:54], frame[54:]], meta) == OK
        assert ends.link.flush() == OK
        assert ends.other.recv(1 << 16) == header + frame
        ends.other.sendall(header + frame)
        assert ends.link.recv() == (frame, meta)
        assert ends.link.recv() is None


@pytest.mark.parametrize(
    "meta", [(0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0), (2, 0, 0, 0, 34, 16), (2, 0x81, 500, 66, 34, 16)]
)
def test_metadata_travels(meta: tuple[int, ...]) -> None:
    frame = Segment(bytes(1000)).frame()
    theirs, ours = socket.socketpair()
    a, b = StreamLink(ours.detach(), "offload"), StreamLink(theirs.detach(), "offload")
    for _ in range(3):
        assert a.send([frame], meta) == OK
    assert a.flush() == OK
    assert [b.recv() for _ in range(4)] == [(frame, meta)] * 3 + [None]
    a.close()
    b.close()


@pytest.mark.parametrize(
    "header",
    [
        "01 00 0000 0000 0000 1000 0000",  # a checksum in the MACs
        "01 00 0000 0000 ffff 1000 0000",  # and behind the frame
        "01 01 0000 0000 2200 1000 0000",  # segments of nothing
        "01 02 0000 e803 2200 1000 0000",  # of no kind that there is
        "01 05 0000 0100 2200 0600 0000",  # more of them than one frame is worth
    ],
)
def test_metadata_that_contradicts_the_frame(header: str) -> None:
    """The frame is dropped and counted; the link stays."""
    frame = Segment(bytes(3000), options=b"").frame()
    good = len(frame).to_bytes(4, "big") + bytes(12) + frame
    with Ends("offload", 9000) as ends:
        ends.other.sendall(good[:4] + bytes.fromhex(header) + frame + good)
        assert list(ends.frames()) == [frame]
        assert ends.link.stats()["rx_bad"] == 1


def test_an_offloaded_length_that_nobody_means_ends_the_link() -> None:
    with Ends("offload") as ends:
        ends.other.sendall((65554).to_bytes(4, "big") + bytes(12))
        with pytest.raises(ConnectionError):
            ends.link.recv()
