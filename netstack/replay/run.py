"""One capture from its file to a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netstack.gateway import Gateway

from .exchanges import judge_exchanges
from .plan import Guest, find_guests, plan_for
from .player import Player
from .result import PARTLY, GuestResult, Result, Verdict
from .trace import Trace
from .verdict import address, conversation

if TYPE_CHECKING:
    from netstack.capture.pcap import PcapWriter

__all__ = ["replay"]

START_NS = 1_000_000_000  # when every replay begins


def replay(path: str, *, guests: Sequence[str] = (), out: PcapWriter | None = None) -> Result:
    """Replays one capture and judges what the stack does.

    Args:
        path: pcap or pcapng; "-" is standard input.
        guests: addresses or MACs whose part is replayed; those who open and ask, where none is given.
        out: gets what the guests sent and what the stack answered.

    Raises:
        OSError: the file cannot be read.
        NetstackError: it is no capture, or its link type is not known.
        ConfigError: a guest that was named is not in it.
    """
    trace = Trace(path)
    found = find_guests(trace, guests)
    results, played = [], 0
    for guest in found:
        result = replay_guest(trace, guest, out)
        results.append(result)
        played += result.frames_up + result.frames_down
    judged = [result for result in results if result.verdicts]
    if results and not judged:
        nothing = Verdict("nothing", results[0].guest, verdict=PARTLY, notes=["there is nothing to judge"])
        results[0].verdicts.append(nothing)
    notes = []
    if trace.fault:
        notes.append(f"the file ends early: {trace.fault}")
    if trace.gaps:
        notes.append(f"{trace.gaps} gaps of more than a day were taken as a day")
    last = trace.row(len(trace) - 1)["time_ns"] if len(trace) else START_NS
    return Result(
        capture=path,
        frames=len(trace),
        seconds=(last - START_NS) / 1e9,
        fault=trace.fault,
        unplayed=max(0, len(trace) - played),
        notes=notes,
        guests=judged or results[:1],
    )


def replay_guest(trace: Trace, guest: Guest, out: PcapWriter | None) -> GuestResult:
    plan = plan_for(trace, guest)
    gateway = Gateway(plan.config, now_ns=START_NS)
    mac = bytes.fromhex(plan.config.gateway_mac.replace(":", ""))
    network = (plan.network, plan.mask, plan.gateway)
    try:
        player = Player(
            trace, gateway, guest.address, guest.mac, guest.hardware, mac, network, keep=out is not None
        )
    except BaseException:
        gateway.stop()
        raise
    try:
        player.play()
        verdicts = [conversation(flow, trace, guest.address) for flow in player.flows()]
        verdicts += judge_exchanges(player, trace, guest, plan)
        if player.restless:
            verdicts = verdicts or [Verdict("stack", guest.text)]
            for verdict in verdicts:
                verdict.wrong("the stack did not come to rest")
        if out is not None:
            player.write(out, trace.start_ns - START_NS)
        up, down = player.roles()
        frames, size = player.sent
        counters = {name: value for name, value in player.counters().items() if value}
    finally:
        player.close()
    return GuestResult(
        guest=guest.text,
        why=guest.why,
        network=plan.config.network,
        gateway=address(plan.gateway),
        frames_up=up,
        frames_down=down,
        sent_frames=frames,
        sent_bytes=size,
        verdicts=verdicts,
        counters=counters,
    )
