"""What a replay has found, as data; and the forms in which machines want it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["PARTLY", "REFUSED", "RIGHT", "WRONG", "GuestResult", "Result", "Verdict", "junit"]

RIGHT = "right"  # everything that was judged is as it should be
PARTLY = "partly"  # so is what could be judged; the notes say what could not
REFUSED = "refused"  # the stack has to drop it, and did
WRONG = "wrong"

#: What several verdicts make together: the first of these that is among them.
ORDER = (WRONG, PARTLY, RIGHT, REFUSED)


@dataclass(slots=True)
class Verdict:
    """One conversation or exchange.

    Attributes:
        protocol: "tcp", "udp", "icmp", "dns", "arp", "dhcp", or "dropped" for what the interface refuses.
        flow: whom it is between, as text.
        frames: of the capture that belong to it.
        bytes: of payload in them.
        verdict: :data:`RIGHT`, :data:`PARTLY`, :data:`REFUSED` or :data:`WRONG`.
        difference: the first thing that was wrong, in words and with frame numbers; "" where nothing was.
        notes: what is peculiar about the capture.
    """

    protocol: str
    flow: str
    frames: int = 0
    bytes: int = 0
    verdict: str = RIGHT
    difference: str = ""
    notes: list[str] = field(default_factory=list)

    def wrong(self, difference: str) -> None:
        """Notes a difference; the first one stays."""
        if not self.difference:
            self.verdict, self.difference = WRONG, difference


@dataclass
class GuestResult:
    """One guest's part of a capture."""

    guest: str
    why: str
    network: str
    gateway: str
    frames_up: int
    frames_down: int
    sent_frames: int
    sent_bytes: int
    verdicts: list[Verdict]
    counters: dict[str, int]


@dataclass
class Result:
    """One capture.

    Attributes:
        fault: why reading ended before the file did, "" where it did not.
        unplayed: frames that belong to no guest.
    """

    capture: str
    frames: int
    seconds: float
    fault: str
    unplayed: int
    notes: list[str]
    guests: list[GuestResult]

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of all guests."""
        return [verdict for guest in self.guests for verdict in guest.verdicts]

    @property
    def verdict(self) -> str:
        """The worst of all verdicts; what holds nothing to judge was judged in part."""
        found = {verdict.verdict for verdict in self.verdicts}
        return next((verdict for verdict in ORDER if verdict in found), PARTLY)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def junit(results: list[Result]) -> bytes:
    """The results as JUnit XML: a suite for each capture, a case for each verdict."""
    from xml.etree import ElementTree as xml

    suites = xml.Element("testsuites", name="netstack replay")
    for result in results:
        verdicts = result.verdicts
        wrong = sum(verdict.verdict == WRONG for verdict in verdicts)
        suite = xml.SubElement(
            suites,
            "testsuite",
            name=result.capture,
            tests=str(len(verdicts)),
            failures=str(wrong),
            errors="0",
        )
        for verdict in verdicts:
            case = xml.SubElement(
                suite, "testcase", classname=result.capture, name=f"{verdict.protocol} {verdict.flow}"
            )
            if verdict.verdict == WRONG:
                xml.SubElement(case, "failure", message=verdict.difference)
            if verdict.notes:
                xml.SubElement(case, "system-out").text = clean("\n".join(verdict.notes))
    xml.indent(suites)
    return bytes(xml.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\n\t")
