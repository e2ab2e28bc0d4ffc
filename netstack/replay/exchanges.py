"""Exchanges that are no conversations: ARP, DHCP, ICMP errors, fragments, and what the interface must drop.

The answers are compared in what they mean, not in their bytes.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from netstack.errors import WireError
from netstack.wire import dhcp4
from netstack.wire.arp import ArpPacket
from netstack.wire.dhcp4 import DhcpMessage
from netstack.wire.icmp4 import ICMPv4Message
from netstack.wire.ipv4 import IPv4Header

from .result import PARTLY, REFUSED, Verdict
from .verdict import address

if TYPE_CHECKING:
    from .plan import Guest, Plan
    from .player import Player
    from .trace import Trace

__all__ = ["judge_exchanges"]

# frame_kind, frame_role, frame_expect and frame_result of trace.pxd
OTHER, BAD, VLAN, IPV6, ARP, FRAGMENT, IP_OTHER, TCP, UDP, ICMP = range(10)
KIND_NAMES = {
    OTHER: "other EtherTypes", BAD: "malformed frames", VLAN: "802.1Q", IPV6: "IPv6", FRAGMENT: "fragments",
    TCP: "TCP", UDP: "UDP", ICMP: "ICMP",
}  # fmt: skip
#: Why a kind of frame says nothing about the conversation in it. Not faults of the capture's: limits of this stack.
NOT_CARRIED = {
    OTHER: "the network carries IPv4 and ARP only",
    VLAN: "the network has no VLANs: what these tagged frames hold is not judged",
    IPV6: "the network does not carry IPv6: what these frames hold is not judged",
}
UP = 1
SILENCE, OURS = 1, 6
SPOKE = 4


def judge_exchanges(player: Player, trace: Trace, guest: Guest, plan: Plan) -> list[Verdict]:
    """The verdicts on everything that is no conversation, in a fixed order."""
    answers: dict[int, list[bytes]] = {}
    for _, cause, frame in player.outputs():
        if cause is not None:
            answers.setdefault(cause, []).append(frame)
    owned = player.owns()
    arp = Verdict("arp", f"{guest.text} asks")
    dhcp = Verdict("dhcp", f"{guest.mac.hex(':')} asks {plan.config.gateway}")
    errors = Verdict("icmp", f"{guest.text} gets errors")
    whole = Verdict("udp", f"{guest.text}, longer than the MTU")
    server = DhcpJudge(guest, plan)
    for index, _, _ in player.exchanges(OURS):
        row, got = trace.row(index), answers.get(index, [])
        if row["kind"] == ARP:
            judge_arp(arp, row, trace.frame(index), got, owned, plan)
        elif row["role"] != UP or (row["kind"] == ICMP and row["flags"] & 8):
            judge_long(whole, row, trace.payload(index), got)
        elif row["kind"] == UDP and row["dport"] == 67:
            server.judge(dhcp, row, trace.payload(index), got)
        else:
            judge_error(errors, row, got, owned, plan)
    return [v for v in (arp, dhcp, errors, whole) if v.frames] + judge_silence(player, trace)


def judge_arp(
    verdict: Verdict, row: dict[str, Any], frame: bytes, got: list[bytes], owned: set[int], plan: Plan
) -> None:
    """RFC 826: an answer for what is the gateway's, with its MAC; nothing for anybody else, replies and probes."""
    verdict.frames += 1
    due = row["type"] == 1 and row["dst"] in owned and legal_sender(row, frame, plan, owned)
    where = f"at frame {row['number']}: "
    if not due:
        if got:
            verdict.wrong(f"{where}the stack answered for {address(row['dst'])}, which is not its own")
        return
    if len(got) != 1:
        verdict.wrong(
            f"{where}{len(got)} answers to the question who has {address(row['dst'])}, instead of one"
        )
        return
    try:
        reply = ArpPacket.parse(got[0][14:])
    except WireError as err:
        verdict.wrong(f"{where}the answer is no ARP packet: {err}")
        return
    if reply.op != 2 or int(reply.spa) != row["dst"] or reply.sha != plan.config.gateway_mac:
        verdict.wrong(f"{where}the answer says that {reply.spa} is at {reply.sha}")


def legal_sender(row: dict[str, Any], frame: bytes, plan: Plan, owned: set[int]) -> bool:
    """The sender's address is one that a guest may have, and its hardware address the frame's own."""
    own = frame[6:12] == frame[22:28]
    inside = row["src"] & plan.mask == plan.network and row["src"] not in owned
    return own and (row["src"] == 0 or inside)


class DhcpJudge:
    """What a server that has one address for one client owes it (RFC 2131 section 4.3)."""

    def __init__(self, guest: Guest, plan: Plan) -> None:
        self.guest = guest
        self.server = ipaddress.IPv4Address(plan.gateway)
        self.address = ipaddress.IPv4Address(plan.config.first_guest)

    def judge(self, verdict: Verdict, row: dict[str, Any], payload: bytes, got: list[bytes]) -> None:
        verdict.frames += 1
        verdict.bytes += len(payload)
        where = f"at frame {row['number']}: "
        try:
            asked = DhcpMessage.parse(payload)
        except (WireError, ValueError):
            if got:
                verdict.wrong(f"{where}a message that cannot be read was answered")
            return
        if bytes(asked.chaddr[:6]) != self.guest.hardware or int(asked.giaddr) or asked.op != 1:
            self.note(verdict, "messages of relays, or about another client, are not judged")
            return
        due = self.due(asked)
        if due is None:
            self.note(verdict, "BOOTP and lease queries are not judged")
            return
        reply = self.reply_of(got)
        kind = reply.message_type if reply is not None else 0
        if kind not in due:
            names = " or ".join(self.name(k) for k in sorted(due))
            verdict.wrong(f"{where}{self.name(asked.message_type or 0)} was answered by {self.name(kind or 0)} "
                          f"instead of {names}")  # fmt: skip
        elif reply is not None:
            self.compare(verdict, where, asked, reply)

    @staticmethod
    def note(verdict: Verdict, text: str) -> None:
        if text not in verdict.notes:
            verdict.notes.append(text)
            verdict.verdict = PARTLY if not verdict.difference else verdict.verdict

    @staticmethod
    def name(kind: int) -> str:
        return dhcp4.MESSAGE_TYPES.get(kind, f"type {kind}").upper() if kind else "silence"

    @staticmethod
    def reply_of(got: list[bytes]) -> DhcpMessage | None:
        for frame in got:
            try:
                header = IPv4Header.parse(frame[14:])
                if header.protocol == 17:
                    return DhcpMessage.parse(frame[14 + header.header_length + 8 : 14 + header.total_length])
            except (WireError, ValueError):
                continue
        return None

    def due(self, asked: DhcpMessage) -> set[int] | None:
        kind = asked.message_type
        if kind == dhcp4.DISCOVER:
            return {dhcp4.OFFER}
        if kind in (dhcp4.DECLINE, dhcp4.RELEASE):
            return {0}
        if kind == dhcp4.INFORM:  # whose client has an address, and says so (RFC 2131 section 4.4.3)
            return {dhcp4.ACK} if int(asked.ciaddr) else {dhcp4.ACK, 0}
        if kind != dhcp4.REQUEST:
            return None
        wanted = asked.requested_address or asked.ciaddr
        if asked.server_id is not None:  # SELECTING
            if asked.server_id != self.server:
                return {0}
            return {dhcp4.ACK} if wanted == self.address else {dhcp4.NAK}
        if int(asked.ciaddr):  # RENEWING, REBINDING
            return {dhcp4.ACK} if asked.ciaddr == self.address else {dhcp4.NAK, 0}
        return {dhcp4.ACK} if wanted == self.address else {dhcp4.NAK}  # INIT-REBOOT

    def compare(self, verdict: Verdict, where: str, asked: DhcpMessage, reply: DhcpMessage) -> None:
        kind = reply.message_type
        if reply.op != 2 or reply.xid != asked.xid or bytes(reply.chaddr[:6]) != bytes(asked.chaddr[:6]):
            verdict.wrong(f"{where}the reply belongs to another transaction")
        elif reply.server_id != self.server:
            verdict.wrong(f"{where}the reply names the server {reply.server_id} instead of {self.server}")
        elif kind in (dhcp4.OFFER, dhcp4.ACK) and asked.message_type != dhcp4.INFORM:
            if reply.yiaddr != self.address:
                verdict.wrong(f"{where}{reply.yiaddr} is given where the capture's client has {self.address}")
            elif not reply.lease_time:
                verdict.wrong(f"{where}the reply has no lease time")


def judge_long(verdict: Verdict, row: dict[str, Any], payload: bytes, got: list[bytes]) -> None:
    """A datagram longer than the MTU comes back in fragments: put together they are the peer's."""
    verdict.frames += 1
    verdict.bytes += len(payload)
    pieces: dict[int, bytes] = {}
    for frame in got:
        try:
            header = IPv4Header.parse(frame[14:], verify=True)
        except WireError:
            continue
        pieces[header.frag_offset] = frame[14 + header.header_length : 14 + header.total_length]
    joined = b"".join(pieces[offset] for offset in sorted(pieces))
    if joined[8:] != payload:
        verdict.wrong(
            f"at frame {row['number']}: {max(0, len(joined) - 8)} bytes of the datagram's {len(payload)} came, "
            "or others"
        )


def judge_error(verdict: Verdict, row: dict[str, Any], got: list[bytes], owned: set[int], plan: Plan) -> None:
    """RFC 1122 3.2.2, RFC 792: time exceeded where the TTL ends here, else unreachable."""
    verdict.frames += 1
    where = f"at frame {row['number']}: "
    if row["ttl"] <= 1 and row["kind"] != IP_OTHER and row["dst"] not in owned:
        due = {(11, 0), (3, 1)} if row["dst"] & plan.mask == plan.network else {(11, 0)}
    elif row["kind"] == IP_OTHER:
        due = {(3, 2)}
    else:
        due = {(3, 1), (3, 3)}
    for frame in got:
        try:
            header = IPv4Header.parse(frame[14:], verify=True)
            message = ICMPv4Message.parse(
                frame[14 + header.header_length : 14 + header.total_length], verify=True
            )
        except WireError:
            continue
        if header.protocol == 1 and (message.type, message.code) in due:
            quoted = IPv4Header.parse(message.body + bytes(max(0, 20 - len(message.body))), verify=False)
            if int(quoted.dst) != row["dst"]:
                verdict.wrong(f"{where}the error quotes a datagram to {quoted.dst}")
            return
        verdict.wrong(f"{where}the guest got ICMP type {message.type}, code {message.code}")
        return
    verdict.wrong(f"{where}no ICMP error came to the guest ({sorted(due)} would be right)")


def judge_silence(player: Player, trace: Trace) -> list[Verdict]:
    """What the interface must drop: without a word, and counted."""
    groups: dict[tuple[str, str], Verdict] = {}
    for index, result, counter in player.exchanges(SILENCE):
        row = trace.row(index)
        what = KIND_NAMES.get(row["kind"], "frames")
        key = (what, counter)
        verdict = groups.get(key)
        if verdict is None:
            verdict = groups[key] = Verdict(
                "dropped", f"{what}: {counter or 'nothing is due'}", verdict=REFUSED
            )
            if row["kind"] in NOT_CARRIED:
                verdict.notes.append(NOT_CARRIED[row["kind"]])
        verdict.frames += 1
        verdict.bytes += row["length"]
        if result & SPOKE:
            verdict.wrong(f"at frame {row['number']}: the guest got an answer where silence was due")
        elif not counter and row["kind"] in (0, 1, 2, 3):
            verdict.wrong(f"at frame {row['number']}: the frame was dropped and no counter says so")
    return [groups[key] for key in sorted(groups)]
