"""From nothing to a command with a network and back: ``netstack run -- true``, and ``pasta --config-net true``.

Figure: ``ms`` of wall time. Compiled Python is kept (PYTHONDONTWRITEBYTECODE is taken away), and one start before is
not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from netstack.testing.lab import Lab
from netstack.testing.namespace import ProgramError

from ..programs import environment
from .work import Group, Options, Turn, Values, Work

CASE = "true"
RUNS, QUICK_RUNS = 7, 3


def command(system: str) -> list[str]:
    if system == "netstack":
        return [sys.executable, "-m", "netstack", "run", "--", "true"]
    runas = ["--runas", "0:0"] if os.geteuid() == 0 else []
    return ["pasta", "-q", "--config-net", *runas, "true"]


def one(argv: list[str], runs: int) -> Values:
    times = []
    with Lab() as lab:
        lab.world()
        with lab.host.entered():
            for _ in range(runs + 1):
                start = time.perf_counter()
                done = subprocess.run(
                    argv,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                times.append((time.perf_counter() - start) * 1000)
                if done.returncode != 0:
                    raise ProgramError(f"{' '.join(argv)} ended with status {done.returncode}\n{done.stderr}")
    return {"ms": statistics.median(times[1:])}


def run(turn: Turn) -> None:
    runs = QUICK_RUNS if turn.options.quick else RUNS
    turn.measure(CASE, lambda: one(command(turn.system.name), runs))


def groups(options: Options) -> list[Group]:
    return [Group((CASE,), run)]


WORK = Work("start", "Start-up", (), groups)
