"""What the player has seen of the conversations, in words."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from netstack.tcp.states import STATES

from .result import PARTLY, REFUSED, Verdict

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["address", "conversation"]

TCP, UDP, ICMP = 6, 17, 1
NO_FRAME = 0xFFFFFFFF
GONE = 255  # no such connection any more

# flow_fact and flow_seen of flows.pxd
(
    SYN_UP, SYN_DOWN, INBOUND, MIDDLE, FIN_UP, FIN_DOWN, RESET_UP, RESET_DOWN, HOLE_UP, HOLE_DOWN, CUT, OFFLOAD,
    WRONG_SUM, OVERLAP, GUESSED, FIN_ACKED, REOPENED, SYN_DATA, SIMULTANEOUS, FAST_OPEN,
) = (1 << bit for bit in range(20))  # fmt: skip
SEEN_SYN, SEEN_FIN, SEEN_RST, SEEN_CONNECT, SEEN_SHUT, SEEN_CLOSED, SEEN_ABORTED, SEEN_TIMED_OUT = (
    1 << bit for bit in range(8)
)

NOTES = {
    MIDDLE: "begins in the middle: a stack that has not seen it open answers with resets (RFC 9293 3.10.7.1)",
    GUESSED: "the peer's SYN-ACK is not in the capture: its sequence number follows from acknowledgements",
    HOLE_UP: "the capture misses bytes of the guest's that the peer acknowledged",
    HOLE_DOWN: "the capture misses bytes of the peer's that the guest acknowledged: zeros stand for them",
    CUT: "frames were cut by the snap length: zeros stand for what is missing",
    OFFLOAD: "checksums were left to the network card",
    WRONG_SUM: "segments with a wrong checksum were dropped",
    OVERLAP: "the same bytes were sent again with another content: which of the two count is not judged",
    SIMULTANEOUS: "both sides opened at once",
    FAST_OPEN: "data in the SYN was accepted (RFC 7413), which this stack does not offer: judged as far as that goes",
    REOPENED: "its ports were used by a conversation before",
}
JUDGED_IN_PART = MIDDLE | HOLE_UP | HOLE_DOWN | CUT | OVERLAP | SIMULTANEOUS | FAST_OPEN | GUESSED

SYN_RECEIVED = [name.upper().replace("_", "-") for name in STATES].index("SYN-RECEIVED")
STATE_NAMES = {number: name.upper().replace("_", "-") for number, name in enumerate(STATES)}


def address(number: int, port: int | None = None) -> str:
    """An IPv4 address as text, perhaps with a port."""
    text = str(ipaddress.IPv4Address(number))
    return text if port is None else f"{text}:{port}"


def state_name(number: int) -> str:
    return "gone" if number == GONE else STATE_NAMES.get(number, str(number))


def at_frame(trace: Trace, cause: int) -> str:
    if cause == NO_FRAME:
        return "when time had passed"
    return f"at frame {trace.row(cause)['number']}"


def words(flow: dict[str, Any], trace: Trace) -> str:
    """The first difference of a conversation, said."""
    a, b = flow["a"], flow["b"]
    said = {
        1: f"other bytes than the guest's were handed to the host side, {b} of them from byte {a} on",
        2: f"other bytes than the peer's were sent to the guest, {b} of them from byte {a} on",
        3: f"{a} bytes were handed to the host side where the guest had sent {b}",
        4: f"byte {signed(a)} was acknowledged, and the guest had sent {b}",
        5: f"the window's right edge went back from byte {a} to {signed(b)}",
        6: f"byte {a} was sent, beyond the guest's window, which ends at {b}",
        7: "the stack reset the conversation, which nobody in the capture did",
        8: "no reset was sent where one is due",
        11: f"a direction was ended at byte {signed(a)} where the capture ends it at {b}",
        12: "a datagram of the guest's did not reach the host side",
        13: "another datagram than the guest's reached the host side",
        14: "a datagram of the peer's did not reach the guest",
        15: "another datagram than the peer's reached the guest",
        16: "the guest got an answer where silence was due",
        18: f"a segment has a sequence number outside of the peer's stream: {signed(a)}, with {b} known",
        19: "the stack did not come to rest",
        21: "the ICMP error of the capture did not reach the guest",
    }
    what = said.get(flow["diff"], f"difference {flow['diff']}")
    return f"{at_frame(trace, flow['cause'])}: {what}"


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def conversation(flow: dict[str, Any], trace: Trace, guest: int) -> Verdict:
    """The verdict on one conversation."""
    protocol = {TCP: "tcp", UDP: "udp", ICMP: "icmp"}[flow["protocol"]]
    if protocol == "udp" and flow["peer_port"] == 53:
        protocol = "dns"
    if protocol == "icmp":
        name = f"{address(guest)} ping {flow['guest_port']} → {address(flow['peer'])}"
    else:
        arrow = "←" if flow["facts"] & INBOUND else "→"
        name = f"{address(guest, flow['guest_port'])} {arrow} {address(flow['peer'], flow['peer_port'])}"
    verdict = Verdict(
        protocol, name, flow["frames_up"] + flow["frames_down"], flow["bytes_up"] + flow["bytes_down"]
    )
    if flow["silent"] and flow["silent"] == flow["frames_up"] and not flow["diff"]:
        verdict.verdict = REFUSED
        verdict.notes.append("all that the guest sent has to be dropped")
    elif protocol == "tcp":
        judge_tcp(flow, trace, verdict)
    else:
        judge_datagrams(flow, trace, verdict)
    return verdict


def judge_datagrams(flow: dict[str, Any], trace: Trace, verdict: Verdict) -> None:
    if flow["diff"]:
        verdict.wrong(words(flow, trace))
    unasked = flow["frames_down"] - flow["expected_down"]
    if not flow["frames_up"]:
        verdict.verdict = PARTLY
        verdict.notes.append("nobody asked for it: it would not be let in (RFC 4787 section 5)")
    elif unasked > 0 and not flow["ours"]:
        verdict.notes.append(f"{unasked} frames of the peer's are no answers, or could not be compared")
    if flow["silent"]:
        verdict.notes.append(f"{flow['silent']} frames of the guest's must be dropped")


def judge_tcp(flow: dict[str, Any], trace: Trace, verdict: Verdict) -> None:
    facts, seen = flow["facts"], flow["seen"]
    for fact, note in NOTES.items():
        if facts & fact and not (facts & MIDDLE and fact == GUESSED):
            verdict.notes.append(note)
    if facts & HOLE_DOWN:
        verdict.notes.append(f"{flow['missing']} bytes of the peer's are missing")
    if facts & JUDGED_IN_PART:
        verdict.verdict = PARTLY
    if flow["diff"] and not (facts & (FAST_OPEN | SIMULTANEOUS)):
        verdict.wrong(words(flow, trace))
    if facts & (MIDDLE | FAST_OPEN | SIMULTANEOUS):
        return
    if seen & SEEN_TIMED_OUT:
        verdict.verdict = PARTLY
        verdict.notes.append("the guest acknowledged nothing for so long that the stack gave up")
        return
    if flow["state"] == SYN_RECEIVED and facts & RESET_DOWN:
        verdict.verdict = PARTLY
        verdict.notes.append(
            "the guest did not complete the handshake: it hears of the peer's reset when it does"
        )
        return
    connected = bool(facts & (SYN_DOWN | GUESSED)) and bool(facts & SYN_UP)
    if not connected:
        judge_unanswered(flow, verdict)
        return
    for complaint in complaints(flow):
        verdict.wrong(complaint)


def judge_unanswered(flow: dict[str, Any], verdict: Verdict) -> None:
    """A SYN without a SYN-ACK: refused, or silence."""
    facts, seen = flow["facts"], flow["seen"]
    if facts & INBOUND:
        verdict.notes.append("the guest did not accept it")
        if facts & RESET_UP and flow["state"] != GONE:
            verdict.wrong(f"the guest refused, and the connection is still {state_name(flow['state'])}")
        return
    if not seen & SEEN_CONNECT:
        verdict.wrong("the stack did not try to reach the peer")
    elif facts & RESET_DOWN:
        verdict.notes.append("refused")
        if not seen & SEEN_RST:
            verdict.wrong("the refusal did not reach the guest")
    elif facts & RESET_UP or flow["reset_passed"]:
        if flow["state"] != GONE:
            verdict.wrong(f"the guest gave up, and the connection is still {state_name(flow['state'])}")
    else:
        verdict.notes.append("the peer does not answer: neither may the stack")
        if flow["outputs"]:
            verdict.wrong("the stack answered a SYN that the peer did not answer")


def complaints(flow: dict[str, Any]) -> list[str]:
    """What a connection should have come to, and has not; the gravest first."""
    facts, seen, found = flow["facts"], flow["seen"], []
    reset = facts & (RESET_UP | RESET_DOWN) or flow["reset_passed"]
    if flow["handed"] < flow["stream_up"] and not (facts & RESET_UP and not facts & SYN_DOWN):
        found.append(
            f"{flow['handed']} of the guest's {flow['stream_up']} bytes were handed to the host side"
        )
    if not reset:
        owed = flow["stream_up"] + flow["fin_up"]
        if flow["acked"] < owed:
            found.append(
                f"{flow['acked']} of the {owed} bytes that the guest sent (FIN counted) were acknowledged"
            )
        if flow["sent_end"] < flow["stream_down"]:
            if not full_window(flow):
                found.append(
                    f"{flow['sent_end']} of the peer's {flow['stream_down']} bytes were sent to the guest"
                )
        elif flow["fin_down"] and not seen & SEEN_FIN:
            found.append("the peer's end did not reach the guest")
        if flow["fin_up"] and not seen & SEEN_SHUT:
            found.append("the guest's end was not passed on to the host side")
    if facts & RESET_DOWN and not seen & SEEN_RST and not facts & RESET_UP and not both_ended(flow):
        found.append("the peer's reset did not reach the guest")
    if not facts & REOPENED or flow["state"] != GONE:
        wanted = states_due(flow, bool(reset))
        if flow["state"] not in wanted:
            names = " or ".join(state_name(state) for state in sorted(wanted))
            found.append(f"the connection ends as {state_name(flow['state'])} instead of {names}")
    return found


def full_window(flow: dict[str, Any]) -> bool:
    """The guest's window is closed at what was sent."""
    return bool(flow["sent_end"] >= flow["guest_edge"])


def both_ended(flow: dict[str, Any]) -> bool:
    return bool(flow["fin_up"] and flow["fin_down"])


def states_due(flow: dict[str, Any], reset: bool) -> set[int]:
    """The states in which a connection may be after all that the capture has of it (RFC 9293 figure 5)."""
    number = {name.upper().replace("_", "-"): value for value, name in enumerate(STATES)}
    if reset:  # which a connection that waits for late segments does not heed (RFC 1337)
        return {GONE, number["TIME-WAIT"]} if both_ended(flow) else {GONE}
    if both_ended(flow):
        if flow["facts"] & FIN_ACKED:
            return {number["TIME-WAIT"], GONE}
        return {number["LAST-ACK"], number["CLOSING"]}
    if flow["fin_up"]:
        return {number["CLOSE-WAIT"]}
    if flow["fin_down"] and flow["sent_end"] > flow["stream_down"]:
        return {number["FIN-WAIT-2"] if flow["facts"] & FIN_ACKED else number["FIN-WAIT-1"]}
    if flow["fin_down"]:
        return {number["FIN-WAIT-1"], number["ESTABLISHED"]}
    return {number["ESTABLISHED"], number["SYN-RECEIVED"]}
