"""TAP links against the kernel's own stack, with and without offloads, in namespaces that the test makes."""

import contextlib
import os
import select
import socket
import time

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from netstack.host import namespace
from netstack.link.framing import segment
from netstack.link.tap import TapLink

pytestmark = pytest.mark.netns

OK, AGAIN, CLOSED, BAD = 0, -1, -2, -3
PARTIAL = 2
GUEST_MAC, OUR_MAC = "02:00:00:00:00:03", "02:00:00:00:00:01"
PLAIN = (0, 0, 0, 0, 0, 0)


def tap(want=namespace.TUN_ALL, mtu=1500):
    """A link, and its guest interface configured with a neighbour entry for us."""
    fd, name, granted = namespace.open_tap("tap0", want)
    namespace.set_interface(name, mac=bytes.fromhex(GUEST_MAC.replace(":", "")), mtu=mtu, up=True)
    namespace.add_address(name, "10.0.0.3/24")
    link = TapLink(fd, granted, mtu)
    return link, name, granted


def receive(link, wanted, seconds=10):
    """The next frame that ``wanted`` accepts; ARP requests for us are answered meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = link.recv()
        if got is None:
            select.select([link], [], [], 0.1)
            continue
        packet = Ether(got[0])
        if packet.haslayer(ARP) and packet[ARP].op == 1 and packet[ARP].pdst == "10.0.0.1":
            reply = Ether(src=OUR_MAC, dst=packet.src) / ARP(
                op=2, hwsrc=OUR_MAC, psrc="10.0.0.1", hwdst=packet.src, pdst=packet[ARP].psrc
            )
            assert link.send([bytes(reply)]) == OK
        elif wanted(packet):
            return packet, got[0], got[1]
    raise AssertionError("nothing of the kind came")


def udp_echo(want):
    """A datagram from the guest, and an answer in pieces that the guest's stack accepts."""
    link, _, granted = tap(want)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.bind(("10.0.0.3", 5000))
        s.sendto(b"question", ("10.0.0.1", 7))
        packet, frame, meta = receive(link, lambda p: p.haslayer(UDP) and p[UDP].dport == 7)
        assert bytes(packet[UDP].payload) == b"question"
        if granted & namespace.TUN_CSUM:
            assert (meta[0], meta[4], meta[5]) == (PARTIAL, 34, 6)
        else:
            assert meta == PLAIN
            assert bytes(Ether(frame)) == frame
        answer = (
            Ether(src=OUR_MAC, dst=GUEST_MAC) / IP(src="10.0.0.1", dst="10.0.0.3") / UDP(sport=7, dport=5000)
        )
        whole = bytes(answer / Raw(b"answer in pieces"))
        assert link.send([whole[:42], whole[42:50], whole[50:]]) == OK
        assert s.recv(100) == b"answer in pieces"
    stats = link.stats()
    assert stats["tx_frames"] >= 1
    assert stats["rx_bad"] == 0
    return granted


@pytest.mark.parametrize(
    "want", [0, namespace.TUN_VNET_HDR, namespace.TUN_VNET_HDR | namespace.TUN_CSUM, namespace.TUN_ALL]
)
def test_datagrams(isolated, want):
    granted = isolated(udp_echo, want)
    assert granted & want == granted


def tcp_exchange(want, size):
    """A TCP connection served by hand: super-frames both ways, bytes compared."""
    link, _, granted = tap(want)
    data = bytes(i * 7 % 251 for i in range(size))
    back = bytes(i * 11 % 241 for i in range(size))
    largest = 0
    with socket.socket() as s:
        s.setblocking(False)
        s.connect_ex(("10.0.0.1", 80))
        syn, _, _ = receive(link, lambda p: p.haslayer(TCP) and p[TCP].flags == "S")
        port = syn[TCP].sport
        base = Ether(src=OUR_MAC, dst=GUEST_MAC) / IP(src="10.0.0.1", dst="10.0.0.3")
        expected = syn[TCP].seq + 1

        def send(flags, seq, payload=b"", options=(), gso=0):
            packet = base / TCP(
                sport=80, dport=port, seq=seq, ack=expected, flags=flags, window=65535, options=list(options)
            )
            frame = bytearray(bytes(packet / Raw(payload)) if payload else bytes(packet))
            if not gso:
                assert link.send([bytes(frame)]) == OK
                return
            length = len(frame) - 34
            total = sum(int.from_bytes(frame[i : i + 2], "big") for i in range(26, 34, 2)) + 6 + length
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            frame[50:52] = total.to_bytes(2, "big")
            meta = (PARTIAL, 1, gso, 54, 34, 16)
            if granted & namespace.TUN_TSO4:
                assert link.send([bytes(frame[:54]), bytes(frame[54:])], meta) == OK
            else:
                assert link.send([bytes(frame[:54]), bytes(frame[54:])], meta) == BAD
                rc, _, out = segment([bytes(frame)], meta)
                assert rc == 0
                for piece, piece_meta in out:
                    assert link.send([piece], piece_meta) == OK

        send("SA", 1000, options=[("MSS", 1460), ("NOP", None), ("WScale", 10)])
        receive(link, lambda p: p.haslayer(TCP) and p[TCP].flags == "A")
        # from the guest
        got, sent = b"", 0
        while len(got) < size:
            if sent < size:
                with contextlib.suppress(BlockingIOError):
                    sent += s.send(data[sent:])
            packet, _, meta = receive(link, lambda p: p.haslayer(TCP))
            body = bytes(packet[IP])[packet[IP].ihl * 4 + packet[TCP].dataofs * 4 : packet[IP].len]
            if not body or packet[TCP].seq != expected:
                continue
            largest = max(largest, len(body))
            if len(body) > 1460:
                assert meta[1] == 1
                assert meta[2] <= 1460
                assert meta[3] == 14 + 20 + packet[TCP].dataofs * 4
            got += body
            expected += len(body)
            send("A", 1001)
        assert got == data
        # to the guest
        at, received = 0, b""
        s.settimeout(10)
        while at < size:
            piece = back[at : at + 40_000]
            send("PA", 1001 + at, piece, gso=1460)
            at += len(piece)
            while len(received) < at:
                received += s.recv(65536)
        assert received == back
    return granted, largest


def test_super_frames(isolated):
    granted, largest = isolated(tcp_exchange, namespace.TUN_ALL, 300_000)
    if granted & namespace.TUN_TSO4:
        assert largest > 1460


def test_software_segments_are_accepted(isolated):
    _, largest = isolated(tcp_exchange, 0, 100_000)
    assert largest <= 1460


def uso():
    link, _, granted = tap(namespace.TUN_ALL)
    if not granted & namespace.TUN_USO:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.bind(("10.0.0.3", 5000))
        s.setsockopt(17, 103, 1000)  # UDP_SEGMENT
        s.sendto(bytes(4500), ("10.0.0.1", 7))
        packet, _, meta = receive(link, lambda p: p.haslayer(UDP) and p[UDP].dport == 7)
        s.setsockopt(17, 103, 0)
        answer = (
            Ether(src=OUR_MAC, dst=GUEST_MAC) / IP(src="10.0.0.1", dst="10.0.0.3") / UDP(sport=7, dport=5000)
        )
        frame = bytearray(bytes(answer / Raw(b"x" * 2500)))
        total = sum(int.from_bytes(frame[i : i + 2], "big") for i in range(26, 34, 2)) + 17 + 2508
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        frame[40:42] = total.to_bytes(2, "big")
        assert link.send([bytes(frame)], (PARTIAL, 5, 1000, 42, 34, 6)) == OK
        return meta, len(bytes(packet[UDP].payload)), [len(s.recv(5000)) for _ in range(3)]


def test_datagram_super_frames(isolated):
    got = isolated(uso)
    if got is None:
        pytest.skip("this kernel has no USO on TAP (Linux 6.2)")
    assert got == ((PARTIAL, 5, 1000, 42, 34, 6), 4500, [1000, 1000, 500])


def down_and_gone():
    link, name, _ = tap(namespace.TUN_ALL)
    frame = bytes(
        Ether(src=OUR_MAC, dst=GUEST_MAC) / IP(src="10.0.0.1", dst="10.0.0.3") / UDP() / Raw(b"x" * 20)
    )
    out = [link.send([frame])]
    namespace.set_interface(name, up=False)
    out.append(link.send([frame]))
    namespace.set_interface(name, up=True)
    out.append(link.send([frame]))
    out += [link.send([bytes(1515)]), link.send([bytes(13)])]
    namespace.delete_interface(name)
    out.append(link.send([frame]))
    try:
        while link.recv() is not None:
            pass
        out.append("open")
    except ConnectionError:
        out.append("gone")
    fd = link.fileno()
    link.close()
    link.close()
    try:
        os.fstat(fd)
        out.append("open")
    except OSError:
        out.append("closed")
    return out


def test_interface_down_and_gone(isolated):
    assert isolated(down_and_gone) == [OK, AGAIN, OK, BAD, BAD, CLOSED, "gone", "closed"]
