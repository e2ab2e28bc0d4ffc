"""What a :class:`netstack.tcp.Connection` reports to its user."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Closed",
    "Connected",
    "DataReceived",
    "EndOfStream",
    "Event",
    "FinAcknowledged",
    "Reset",
    "SpaceAvailable",
    "TimedOut",
    "UrgentData",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The handshake is complete."""


@dataclass(frozen=True, slots=True)
class DataReceived(Event):
    """The next bytes of the peer's stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfStream(Event):
    """The peer's FIN: no byte follows those reported (or still to be read)."""


@dataclass(frozen=True, slots=True)
class SpaceAvailable(Event):
    """``send`` had taken less than it was given; now it takes more."""


@dataclass(frozen=True, slots=True)
class FinAcknowledged(Event):
    """The peer has everything that was sent, and knows that nothing follows."""


@dataclass(frozen=True, slots=True)
class UrgentData(Event):
    """The peer has marked bytes as urgent; they travel in the stream like the others."""


@dataclass(frozen=True, slots=True)
class Reset(Event):
    """The peer has reset or refused the connection."""


@dataclass(frozen=True, slots=True)
class TimedOut(Event):
    """The peer answered nothing for too long."""


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The state is CLOSED: the last event of every connection."""
