"""dig in a namespace: what a name server says, as text to compare."""

from __future__ import annotations

import re
from typing import NamedTuple

from netstack.testing.namespace import Namespace


class Said(NamedTuple):
    """One answer of dig: status, flags, and the words of each record (name, TTL, class, type, data)."""

    status: str
    flags: list[str]
    records: list[list[str]]


def dig(where: Namespace, server: str, *arguments: str) -> Said:
    """Asks once; the additional section is left out."""
    done = where.run("dig", f"@{server}", "+tries=1", "+time=8", "+noadditional", *arguments)
    status = re.search(r"status: (\w+)", done.stdout)
    flags = re.search(r";; flags: ([a-z ]*);", done.stdout)
    assert status, done.stdout
    assert flags, done.stdout
    records = [line.split(None, 4) for line in done.stdout.splitlines() if line and line[0] != ";"]
    return Said(status[1], flags[1].split(), records)
