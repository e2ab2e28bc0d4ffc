"""What a capture's ``.toml`` says of it, and how a result is held against that.

::

    origin = "who made it, with what"
    shows = "what it is good for"
    guest = "192.168.1.20"              # or a list of addresses and MACs; found without it

    [expect]
    verdict = "right"                   # of the whole; without it, anything but "wrong"
    frames = 117

    [expect.protocols]                  # how many verdicts there are of each
    tcp = 2

    [expect.counters]                   # of the gateway, all guests together
    frame_vlan = 3

    [[expect.flow]]                     # at least one verdict like this
    protocol = "tcp"
    flow = ":80"                        # a part of its name
    verdict = "right"
    note = "offload"                    # a part of a note, or of the difference
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from netstack.errors import ConfigError

from .result import WRONG, Result, Verdict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

__all__ = ["Expectations"]

KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "": {"origin": str, "shows": str, "guest": (str, list), "expect": dict},
    "expect": {"verdict": str, "frames": int, "protocols": dict, "counters": dict, "flow": list},
    "expect.flow": {"protocol": str, "flow": str, "verdict": str, "note": str},
}


class Expectations:
    """What is expected of one capture.

    Attributes:
        guests: addresses whose part is replayed; empty where they are to be found.
    """

    def __init__(self, data: dict[str, Any] | None = None, where: str = "the expectations") -> None:
        self.data = data or {}
        self.where = where
        self._check("", self.data)
        expect = self.data.get("expect", {})
        self._check("expect", expect)
        for flow in expect.get("flow", []):
            self._check("expect.flow", flow)
        self.expect: dict[str, Any] = expect
        guest = self.data.get("guest", [])
        self.guests: tuple[str, ...] = (guest,) if isinstance(guest, str) else tuple(guest)

    def _check(self, place: str, table: Any) -> None:
        known = KEYS[place]
        if not isinstance(table, dict):
            raise ConfigError(f"{self.where}: {place} is not a table")
        for key, value in table.items():
            name = f"{place}.{key}" if place else key
            if key not in known:
                raise ConfigError(f"{self.where}: {name} is unknown: use one of {', '.join(sorted(known))}")
            if not isinstance(value, known[key]):
                raise ConfigError(f"{self.where}: {name} = {value!r} is of the wrong type")

    @classmethod
    def beside(cls, capture: Path) -> Expectations:
        """Those in the ``.toml`` beside a capture, or none in particular.

        Raises:
            ConfigError: the file is not TOML, or has a key that is not known.
        """
        path = capture.with_suffix(".toml")
        if not path.exists():
            return cls()
        try:
            return cls(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise ConfigError(f"{path} is not TOML: {err}") from None

    def complaints(self, result: Result) -> list[str]:
        """What is not as expected, a sentence each."""
        found: list[str] = []
        wanted = self.expect.get("verdict")
        if wanted is None and result.verdict == WRONG:
            found.append("the verdict is wrong")
        elif wanted is not None and result.verdict != wanted:
            found.append(f"the verdict is {result.verdict}, expected is {wanted}")
        if wanted != WRONG:
            found += [f"{v.protocol} {v.flow}: {v.difference}" for v in result.verdicts if v.verdict == WRONG]
        if result.frames != self.expect.get("frames", result.frames):
            found.append(f"the capture has {result.frames} frames, expected are {self.expect['frames']}")
        seen = Counter(v.protocol for v in result.verdicts)
        for protocol, count in self.expect.get("protocols", {}).items():
            if seen[protocol] != count:
                found.append(f"there are {seen[protocol]} verdicts of {protocol}, expected are {count}")
        counters: Counter[str] = Counter()
        for guest in result.guests:
            counters.update(guest.counters)
        for name, count in self.expect.get("counters", {}).items():
            if counters[name] != count:
                found.append(f"{name} counts {counters[name]}, expected is {count}")
        for flow in self.expect.get("flow", []):
            if not any(like(verdict, flow) for verdict in result.verdicts):
                words = ", ".join(f"{key} {value!r}" for key, value in flow.items())
                found.append(f"no verdict has {words}")
        return found


def like(verdict: Verdict, wanted: dict[str, str]) -> bool:
    said = [verdict.difference, *verdict.notes]
    return (
        verdict.protocol == wanted.get("protocol", verdict.protocol)
        and wanted.get("flow", "") in verdict.flow
        and verdict.verdict == wanted.get("verdict", verdict.verdict)
        and any(wanted.get("note", "") in text for text in said)
    )
