"""What idle connections cost: 10,000 and 50,000 of them, each of which was asked once (bench/load.c).

Figures: ``rate`` at which they were made, 256 at a time; ``process_bytes``, by which the system's resident memory grew
for each; ``kernel_bytes``, by which the kernel's slabs did. The kernel's share has the guest's socket and the server's
in it, which any system needs: the row of veth has those two and no more.
"""

from __future__ import annotations

import resource
import time
from functools import partial

from netstack.testing.namespace import Process, ProgramError

from ..programs import compiled, kernel_memory, load_server, read_load, resident
from ..systems import Wanted
from .work import Group, Options, Place, Turn, Values, Work, place

PORT = 7004
AT_ONCE = 256
SPARE = 100  #: descriptors for all else
QUICK = (2000,)


def case(count: int) -> str:
    return str(count)


def held(client: Process, count: int) -> float:
    """Waits until all stand; the seconds that took."""
    client.wait_for(r"^\{.*\}$", timeout=60 + count / 500)
    report = read_load(client.text)
    if report["answered"] != count:
        raise ProgramError(f"{count - report['answered']} of {count} connections did not answer")
    return float(report["seconds"])


def one(place: Place, count: int) -> Values:
    time.sleep(0.2)
    process, kernel = resident(place.running.pids()), kernel_memory()
    client = place.lab.guest.spawn(
        str(compiled("load", place.lab.directory)), "hold", place.server, str(PORT), str(count), str(AT_ONCE)
    )
    seconds = held(client, count)
    time.sleep(2.5)  # what it keeps for a second after the last byte is given back
    values: Values = {
        "rate": count / seconds,
        "kernel_bytes": max(kernel_memory() - kernel, 0) / count,
    }
    if place.running.processes:
        values["process_bytes"] = max(resident(place.running.pids()) - process, 0) / count
    return values


def too_few(count: int) -> str | None:
    """Why no process here can hold so many connections: each is a descriptor; None when it can."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= count + SPARE:
        return None
    return f"a process may have {most:,} descriptors here: raise the hard limit (ulimit -Hn)"


def run(count: int, turn: Turn) -> None:
    if reason := too_few(count):
        turn.failed(case(count), reason)
        return
    with place(turn.system, Wanted()) as there:
        for ns in {there.lab.guest, there.lab.host, there.server_side}:
            ns.sysctl("net.core.somaxconn", "65535")
        load_server(there.lab, there.server_side, "serve", PORT, port=PORT)
        turn.measure(case(count), partial(one, there, count))


def groups(options: Options) -> list[Group]:
    counts = QUICK if options.quick else options.connections
    return [Group((case(count),), partial(run, count)) for count in counts]


WORK = Work("connections", "Idle connections", ("gcc",), groups)
