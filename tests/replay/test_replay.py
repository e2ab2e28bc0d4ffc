"""Replays of captures that were made for one thing each."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from story import ARP, GUEST, GUEST_MAC, ICMP, PEER, ROUTER, ROUTER_MAC, TCP, UDP, Story, Talk

from netstack.capture.pcap import PcapWriter, read_pcap
from netstack.errors import ConfigError, NetstackError
from netstack.replay import plan, replay, run
from netstack.replay.result import Result, Verdict
from netstack.wire.ethernet import EthernetHeader
from netstack.wire.ipv4 import IPv4Header
from netstack.wire.tcp import TCPHeader


@pytest.fixture
def story() -> Story:
    return Story()


def only(result: Result, protocol: str = "tcp") -> Verdict:
    (verdict,) = [v for v in result.verdicts if v.protocol == protocol]
    return verdict


# --- TCP


def test_a_whole_conversation_is_right_and_leaves_the_peer_s_numbers(story: Story, tmp_path: Path) -> None:
    """Sequence numbers wrap in it."""
    Talk(story).open().ask(b"q" * 700, b"a" * 1400).ask().close()
    out = tmp_path / "out.pcapng"
    with PcapWriter(out) as writer:
        result = replay(story.save(tmp_path), out=writer)
    verdict = only(result)
    assert (verdict.verdict, verdict.difference, verdict.notes) == ("right", "", [])
    assert verdict.bytes == 700 + 1400 + 3 + 6
    assert result.guests[0].counters["tcp_closed_normally"] == 1
    sent, payload = [], b""
    for _, frame in read_pcap(out):
        ip = IPv4Header.parse(frame[14:])
        if str(ip.src) == PEER:
            tcp = TCPHeader.parse(frame[34:])
            sent.append(tcp)
            payload += frame[34 + tcp.data_offset : 14 + ip.total_length]
    assert sent[0].seq == 0xFFFFFF00
    assert payload == b"a" * 1400 + b"200 OK"


def test_the_same_capture_gives_the_same_bytes(story: Story, tmp_path: Path) -> None:
    Talk(story).open().ask().close()
    story.up(UDP(sport=5000, dport=5001) / b"x")
    path = story.save(tmp_path)
    results, files = [], []
    for name in ("one", "two"):
        with PcapWriter(tmp_path / name) as writer:
            results.append(json.dumps(replay(path, out=writer).as_dict()))
        files.append((tmp_path / name).read_bytes())
    assert results[0] == results[1]
    assert files[0] == files[1]


def test_a_stack_with_room_for_one_connection_is_found_out(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is said, with the frame at which it was seen."""
    Talk(story, 40000).open()
    Talk(story, 40001).open().ask()
    make = plan.plan_for

    def cramped(trace, guest):
        made = make(trace, guest)
        return plan.Plan(made.config.replace(max_tcp_flows=1), made.network, made.mask, made.gateway)

    monkeypatch.setattr("netstack.replay.run.plan_for", cramped)
    first, second = replay(story.save(tmp_path)).verdicts
    assert first.verdict == "right"
    assert second.verdict == "wrong"
    assert (
        second.difference == "at frame 4: the stack reset the conversation, which nobody in the capture did"
    )


@pytest.mark.parametrize("who", ["guest", "peer"])
def test_resets(story: Story, tmp_path: Path, who: str) -> None:
    talk = Talk(story).open().ask()
    if who == "guest":
        talk.up("RA")
    else:
        talk.down("RA")
    result = replay(story.save(tmp_path))
    assert only(result).verdict == "right"
    assert result.guests[0].counters[f"tcp_reset_by_{'guest' if who == 'guest' else 'host'}"] == 1


def test_a_blind_reset_is_not_the_peer_s(story: Story, tmp_path: Path) -> None:
    """Outside of the window: the guest goes on, and so must the stack."""
    talk = Talk(story).open()
    talk.down("R", seq=(talk.peer_seq - 100_000) & 0xFFFFFFFF)
    talk.ask().close()
    assert only(replay(story.save(tmp_path))).verdict == "right"


def test_refused_and_unanswered(story: Story, tmp_path: Path) -> None:
    refused, silent = Talk(story, 40000), Talk(story, 40001)
    refused.up("S")
    refused.down("RA")
    silent.up("S")
    story.wait(1)
    silent.up("S", seq=1000)
    first, second = replay(story.save(tmp_path)).verdicts
    assert (first.verdict, first.notes) == ("right", ["refused"])
    assert (second.verdict, second.notes) == ("right", ["the peer does not answer: neither may the stack"])


def test_the_peer_opens(story: Story, tmp_path: Path) -> None:
    talk = Talk(story, sport=22, dport=50000)
    talk.down("S", options=[("MSS", 1460)])
    talk.up("SA", options=[("MSS", 1460)])
    talk.down()
    talk.up("PA", b"SSH-2.0-x")
    talk.down("PA", b"SSH-2.0-y")
    talk.up()
    talk.close()
    verdict = only(replay(story.save(tmp_path), guests=[GUEST]))
    assert (verdict.verdict, verdict.difference) == ("right", "")
    assert "←" in verdict.flow


def test_options_that_the_peer_refused_are_not_used(story: Story, tmp_path: Path) -> None:
    """The guest offers timestamps and a window scale, the peer has neither: later segments have none."""
    talk = Talk(story)
    talk.up(
        "S", options=[("MSS", 1460), ("Timestamp", (5, 0)), ("NOP", None), ("WScale", 7), ("SAckOK", b"")]
    )
    talk.down("SA", options=[("MSS", 1460)])
    talk.up()
    talk.window = 20_000
    talk.ask(b"q" * 1000, b"a" * 1460).close()
    out = tmp_path / "out.pcapng"
    with PcapWriter(out) as writer:
        assert only(replay(story.save(tmp_path), out=writer)).verdict == "right"
    answers = [f for _, f in read_pcap(out) if EthernetHeader.parse(f).dst == GUEST_MAC]
    syn = TCPHeader.parse(answers[0][34:])
    assert syn.flags & 2
    assert syn.wscale is None
    assert syn.timestamps is None


def test_bytes_that_the_capture_misses(story: Story, tmp_path: Path) -> None:
    """The guest acknowledges what was not captured: zeros stand for it, and that is said."""
    talk = Talk(story).open()
    talk.peer_seq = (talk.peer_seq + 100) & 0xFFFFFFFF  # sent, but not captured
    talk.down("PA", b"seen")
    talk.up()
    talk.close()
    verdict = only(replay(story.save(tmp_path)))
    assert verdict.verdict == "partly"
    assert "100 bytes of the peer's are missing" in verdict.notes


def test_an_acknowledgement_before_its_data(story: Story, tmp_path: Path) -> None:
    """The capture has mixed two frames up: nothing is missing."""
    talk = Talk(story).open()
    talk.down("PA", b"late")
    talk.up()
    story.frames[-1], story.frames[-2] = (
        (story.frames[-2][0], story.frames[-1][1]), (story.frames[-1][0], story.frames[-2][1]),
    )  # fmt: skip
    talk.close()
    verdict = only(replay(story.save(tmp_path)))
    assert (verdict.verdict, verdict.notes) == ("right", [])


def test_begun_in_the_middle(story: Story, tmp_path: Path) -> None:
    Talk(story).ask().close()
    verdict = only(replay(story.save(tmp_path)))
    assert verdict.verdict == "partly"
    assert verdict.notes[0].startswith("begins in the middle")


def test_cut_and_offloaded_frames(story: Story, tmp_path: Path) -> None:
    """A snap length of 80, and a checksum that the guest's card was to fill in."""
    talk = Talk(story).open().ask(b"q" * 500, b"a" * 500)
    cut = only(replay(story.save(tmp_path, "cut.pcapng", snaplen=80)))
    assert cut.verdict == "partly"
    assert any("snap length" in note for note in cut.notes)
    when, frame = story.frames[3]
    # the folded sum of the pseudo header alone, as Linux leaves it
    total = sum(int.from_bytes(frame[i : i + 2], "big") for i in range(26, 34, 2)) + 6 + len(frame) - 34
    total = (total & 0xFFFF) + (total >> 16)
    story.frames[3] = (when, frame[:50] + total.to_bytes(2, "big") + frame[52:])
    left = only(replay(story.save(tmp_path, "offload.pcapng")))
    assert (left.verdict, left.notes) == ("right", ["checksums were left to the network card"])
    story.frames[3] = (when, frame[:50] + b"\x12\x34" + frame[52:])
    result = replay(story.save(tmp_path, "wrong.pcapng"))
    assert [v.flow for v in result.verdicts if v.protocol == "dropped"] == ["TCP: tcp_bad_checksum"]
    assert talk


def test_more_than_the_guest_s_window_is_held_back(story: Story, tmp_path: Path) -> None:
    """A peer that does not heed the window: the stack does, and is right."""
    talk = Talk(story)
    talk.window = 100
    talk.up("S", options=[("MSS", 1460)])
    talk.down("SA", options=[("MSS", 1460)])
    talk.up()
    talk.down("PA", b"a" * 1000)
    assert only(replay(story.save(tmp_path))).verdict == "right"


# --- datagrams


def test_udp_there_and_back(story: Story, tmp_path: Path) -> None:
    for n in range(3):
        story.up(UDP(sport=5000, dport=5001) / bytes([n] * 50))
        story.down(UDP(sport=5001, dport=5000) / bytes([n] * 70))
    story.down(UDP(sport=6000, dport=6001) / b"unasked")
    asked, unasked = replay(story.save(tmp_path)).verdicts
    assert (asked.verdict, asked.frames, asked.bytes) == ("right", 6, 360)
    assert unasked.verdict == "partly"


def test_datagrams_in_fragments(story: Story, tmp_path: Path) -> None:
    whole = (
        Ether(src=GUEST_MAC, dst=ROUTER_MAC)
        / plain(GUEST, PEER)
        / UDP(sport=5000, dport=5001)
        / Raw(b"u" * 4000)
    )
    for piece in fragment(whole, 1400):
        story.raw(bytes(piece))
    back = (
        Ether(src=ROUTER_MAC, dst=GUEST_MAC)
        / plain(PEER, GUEST)
        / UDP(sport=5001, dport=5000)
        / Raw(b"d" * 4000)
    )
    for piece in fragment(back, 1400):
        story.raw(bytes(piece))
    result = replay(story.save(tmp_path))
    assert result.verdict != "wrong", [v for v in result.verdicts if v.difference]
    assert result.guests[0].counters["udp_up"] == 1
    assert result.guests[0].counters["udp_down"] == 1


def plain(src: str, dst: str):
    from scapy.layers.inet import IP

    return IP(src=src, dst=dst, id=7)


def test_the_resolver_passes_the_capture_s_answers_on(story: Story, tmp_path: Path) -> None:
    """The name server is in the guest's network: it becomes the gateway, and the capture's answers its upstream's."""
    for ident, name in ((1, "a.test"), (2, "b.test")):
        story.up(UDP(sport=5353 + ident, dport=53) / DNS(id=ident, qd=DNSQR(qname=name)), dst=ROUTER)
    for ident, name in ((2, "b.test"), (1, "a.test")):
        answer = DNS(id=ident, qr=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata=f"192.0.2.{ident}"))
        story.down(UDP(sport=53, dport=5353 + ident) / answer, src=ROUTER)
    result = replay(story.save(tmp_path))
    assert [v.verdict for v in result.verdicts if v.protocol == "dns"] == ["right", "right"]
    assert result.guests[0].gateway == ROUTER
    assert result.guests[0].counters["dns_replies"] == 2


def test_pings_and_errors(story: Story, tmp_path: Path) -> None:
    story.up(ICMP(id=9, seq=1) / (b"e" * 40))
    story.down(ICMP(type=0, id=9, seq=1) / (b"e" * 40))
    story.up(ICMP(id=9, seq=2) / (b"e" * 40))
    story.down(ICMP(type=11, code=0) / (plain(GUEST, PEER) / ICMP(id=9, seq=2)), src="10.9.9.9")
    story.up(UDP(sport=5000, dport=5001) / b"closed")
    story.down(ICMP(type=3, code=3) / (plain(GUEST, PEER) / UDP(sport=5000, dport=5001) / b"closed"))
    story.up(UDP(sport=5000, dport=5002) / b"near", ttl=1)
    result = replay(story.save(tmp_path))
    assert {v.protocol: v.verdict for v in result.verdicts} == {"icmp": "right", "udp": "right"}
    assert result.guests[0].counters["icmp_errors_sent"] == 3


def test_arp_and_a_gateway_with_another_mac(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in (ROUTER, "10.1.0.77"):
        story.raw(
            bytes(
                Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=GUEST_MAC, psrc=GUEST, pdst=target)
            )
        )
    story.raw(
        bytes(Ether(src=ROUTER_MAC, dst=GUEST_MAC) / ARP(op=2, hwsrc=ROUTER_MAC, psrc=ROUTER, pdst=GUEST))
    )
    path = story.save(tmp_path)
    assert only(replay(path, guests=[GUEST]), "arp").verdict == "right"
    make = plan.plan_for

    def lying(trace, guest):
        made = make(trace, guest)
        gone = made.config.replace(gateway=str(made.config.gateway)[:-1] + "3")
        return plan.Plan(gone, made.network, made.mask, made.gateway)

    monkeypatch.setattr("netstack.replay.run.plan_for", lying)
    verdict = only(replay(path, guests=[GUEST]), "arp")
    assert verdict.verdict == "wrong"
    assert verdict.difference.startswith("at frame 1: 0 answers to the question who has 10.1.0.1")


def dhcp(kind: str, **options: str) -> bytes:
    message = BOOTP(chaddr=bytes.fromhex(GUEST_MAC.replace(":", "")), xid=77, flags=0x8000) / DHCP(
        options=[("message-type", kind), *options.items(), "end"]
    )
    packet = plain("0.0.0.0", "255.255.255.255") / UDP(sport=68, dport=67) / message
    return bytes(Ether(src=GUEST_MAC, dst="ff:ff:ff:ff:ff:ff") / packet)


def test_dhcp_gives_the_client_what_the_capture_s_server_gave(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.raw(dhcp("discover"))
    answer = BOOTP(op=2, chaddr=bytes.fromhex(GUEST_MAC.replace(":", "")), xid=77, yiaddr=GUEST)
    offer = DHCP(options=[("message-type", "offer"), ("server_id", ROUTER), "end"])
    story.down(UDP(sport=67, dport=68) / answer / offer, src=ROUTER)
    story.raw(dhcp("request", requested_addr=GUEST, server_id=ROUTER))
    story.raw(dhcp("request", requested_addr=GUEST, server_id="10.1.0.200"))  # another server was chosen
    story.raw(dhcp("request", requested_addr="10.1.0.99", server_id=ROUTER))  # not what was offered
    path = story.save(tmp_path)
    result = replay(path)
    assert only(result, "dhcp").verdict == "right", only(result, "dhcp")
    assert result.guests[0].guest == GUEST
    make = run.Gateway

    def other(config, **options):
        return make(config.replace(leases=(), network="10.1.0.0/24", first_guest="10.1.0.9", last_guest="10.1.0.9"),
                    **options)  # fmt: skip

    monkeypatch.setattr(run, "Gateway", other)
    verdict = only(replay(path), "dhcp")
    assert verdict.difference == "at frame 1: 10.1.0.9 is given where the capture's client has 10.1.0.2"


# --- what cannot be replayed


def test_what_the_interface_refuses_is_counted_and_not_answered(story: Story, tmp_path: Path) -> None:
    story.up(UDP(sport=1, dport=2) / b"x")
    good = story.frames[0][1]
    for frame in (good[:10], good[:20], good[:14] + b"\x65" + good[15:], good[:12] + b"\x86\xdd" + good[14:],
                  good[:12] + b"\x81\x00\x00\x05" + good[12:]):  # fmt: skip
        story.raw(frame)
    result = replay(story.save(tmp_path), guests=[GUEST])
    dropped = {v.flow: v for v in result.verdicts if v.protocol == "dropped"}
    assert {v.verdict for v in dropped.values()} == {"refused"}
    assert dropped["IPv6: frame_ipv6"].notes == [
        "the network does not carry IPv6: what these frames hold is not judged"
    ]
    assert dropped["802.1Q: frame_vlan"].notes == [
        "the network has no VLANs: what these tagged frames hold is not judged"
    ]
    faulty = [v.notes for flow, v in dropped.items() if flow.startswith("malformed")]
    assert faulty
    assert not any(faulty)  # it is not about what the network carries


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "text.pcap"
    path.write_bytes(b"this is no capture, is it?")
    with pytest.raises(NetstackError, match="is not a capture that can be read"):
        replay(str(path))
    empty = Story().save(tmp_path, "empty.pcapng")
    assert replay(empty).verdicts == []


def test_a_packed_file(story: Story, tmp_path: Path) -> None:
    Talk(story).open().ask().close()
    packed = tmp_path / "story.pcapng.gz"
    packed.write_bytes(gzip.compress(Path(story.save(tmp_path)).read_bytes()))
    assert only(replay(str(packed))).verdict == "right"


def test_a_file_that_ends_early(story: Story, tmp_path: Path) -> None:
    Talk(story).open().ask().close()
    path = Path(story.save(tmp_path))
    path.write_bytes(path.read_bytes()[:-30])
    result = replay(str(path))
    assert result.notes[0].startswith("the file ends early")
    assert only(result).verdict == "right"


@pytest.mark.parametrize("link_type", [0, 1, 101])
def test_a_record_that_claims_the_largest_length(tmp_path: Path, link_type: int) -> None:
    """Where the link's header is shorter than Ethernet's, the length that is claimed grows beyond 32 bits."""
    path = tmp_path / "claims.pcap"
    packet = (b"\x02\0\0\0" * (link_type == 0) + IPv4Header(GUEST, PEER, 17).build()).ljust(40, b"x")
    record = struct.pack("<IIII", 1, 0, len(packet), 0xFFFFFFFF) + packet
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type) + record)
    assert replay(path).frames == 1


def test_a_guest_that_is_not_there(story: Story, tmp_path: Path) -> None:
    Talk(story).open()
    with pytest.raises(ConfigError, match=r"no frame of .* comes from there"):
        replay(story.save(tmp_path), guests=["10.1.0.55"])
    with pytest.raises(ConfigError, match="neither an IPv4 address nor a MAC"):
        replay(story.save(tmp_path), guests=["here"])


def test_time_that_goes_back_and_leaps(story: Story, tmp_path: Path) -> None:
    talk = Talk(story).open()
    story.now -= 10_000_000_000
    talk.ask()
    story.wait(400 * 86400)
    talk.close()
    result = replay(story.save(tmp_path))
    assert only(result).verdict == "right"
    assert result.notes == ["1 gaps of more than a day were taken as a day"]
    assert result.seconds < 90_000


def test_two_guests_that_never_met(story: Story, tmp_path: Path) -> None:
    Talk(story).open()
    story.up(TCP(sport=1, dport=80, flags="S"), src="192.168.9.9", dst="198.51.100.1")
    result = replay(story.save(tmp_path))
    assert sorted(guest.guest for guest in result.guests) == [GUEST, "192.168.9.9"]
    assert result.unplayed == 0
