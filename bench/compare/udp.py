"""Datagrams as fast as the sender can, counted where they arrive (bench/load.c).

64 and 1400 bytes one by one, and 1400 bytes with UDP GSO: 44 datagrams in one call of the sender, as QUIC does. The
receiver asks for GRO. Figures: ``rate`` of datagrams that arrived a second, ``sent`` of those that the sender sent,
``cpu_us`` of the system for a datagram that arrived.
"""

from __future__ import annotations

import time
from functools import partial

from netstack.testing.namespace import Namespace, Process, ProgramError

from ..programs import GRACE, compiled, load, read_load
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, cpu, place

PORT = 7003
SEGMENTS = 44
KINDS = {"64": (64, 0), "1400": (1400, 0), "1400 GSO": (1400, SEGMENTS)}
WAYS = ("up", "down")


def case(kind: str, way: str) -> str:
    return f"{kind} {way}"


def receiver(place: Place, where: Namespace, *arguments: object) -> Process:
    """A program of bench/load.c that says when it is ready."""
    process = where.spawn(str(compiled("load", place.lab.directory)), *map(str, arguments))
    process.wait_for("^ready")
    return process


def ended(process: Process) -> str:
    if process.wait(GRACE) != 0:
        raise ProgramError(process.text.strip() or "load failed")
    return process.text


def one(place: Place, seconds: float, kind: str, way: str) -> Values:
    size, segments = KINDS[kind]
    guest, before = place.lab.guest, place.running.cpu_seconds()
    if way == "up":
        other = receiver(place, place.server_side, "udp-sink", PORT)
        sent = load(place.lab, guest, "udp-flood", place.server, PORT, size, seconds, segments)
        got = read_load(ended(other))
    else:
        other = receiver(place, place.server_side, "udp-source", PORT, size, seconds, segments)
        got = load(place.lab, guest, "udp-ask", place.server, PORT)
        sent = read_load(ended(other))
    used = place.running.cpu_seconds() - before
    if not got["count"]:
        raise ProgramError("no datagram arrived")
    # What waits in buffers when the sender stops still arrives: the longer of the two times counts.
    values: Values = {
        "rate": got["count"] / max(got["seconds"], sent["seconds"]),
        "sent": sent["count"] / sent["seconds"],
    }
    cpu(values, place.running, used * 1e6, got["count"], "cpu_us")
    time.sleep(0.1)
    return values


def run(cells: list[tuple[str, str]], turn: Turn) -> None:
    with place(turn.system, Wanted()) as there:
        for kind, way in cells:
            turn.measure(case(kind, way), partial(one, there, turn.options.seconds, kind, way))


def groups(options: Options) -> list[Group]:
    cells = [(kind, way) for kind in KINDS for way in WAYS if not options.quick or way == "up"]
    return [Group(tuple(case(*cell) for cell in cells), partial(run, cells))]


WORK = Work("udp", "Datagrams", ("gcc",), groups)
