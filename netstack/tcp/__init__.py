"""TCP (RFC 9293) as a pure state machine.

Purpose. One connection: segments, the user's bytes and the time go in; segments, bytes for the user and a
deadline come out. It reads no clock, draws no randomness and touches no file descriptor, so that the same
code serves live traffic, the replay of captures and simulated networks.

May import ``wire`` and ``storage``.

The files, each a small part of the RFCs:

======================  ================================================================
``seq``                 sequence numbers are compared here and nowhere else
``states``              the states and the transitions allowed between them, as data
``block``               the control block (TCB): types and inline functions
``life``                birth, death, memory
``input``               SEGMENT ARRIVES, a function for each step of section 3.10.7
``acknowledge``         what an ACK brings: SND.UNA, SND.WND, round trips, room
``receive``             window, reassembly, when to acknowledge, SACK, auto-tuning
``output``              what to send next: RST, SYN, lost data, probes, new data, ACK
``sack``                the scoreboard: a record for each transmission
``recovery``            RACK-TLP, PRR, NewReno, F-RTO, Eifel and D-SACK undo
``rto``                 round-trip time, RTO, the one retransmission timer
``timers``              what is due: retransmission, delayed ACK, persist, 2 MSL, ...
``hystart reno cubic``  slow start and avoidance, behind the table in ``congestion``
``path``                path MTU, black holes, ICMP errors
``user_calls``          OPEN, SEND, CLOSE, ABORT
``tcb``                 the names that other folders cimport
``connection``          the Python face, with ``events`` and ``settings``
======================  ================================================================

Invariants.

* Sequence numbers are the low 32 bits of 64-bit stream offsets; the first byte of a stream has offset ISS +
  1.
* SND.NXT never goes back: what is to be sent again is marked in the scoreboard. ``flight`` = SND.NXT -
  SND.UNA - SACKed - lost.
* The right edge of the receive window never moves left, and bytes once offered room are taken while there is
  memory.
* In-order payload stays in the frame (``tcp_delivery``) unless older bytes wait in the ring; ``tcp_take``
  follows at once.
* One timer serves RTO, tail loss probe, RACK and persist; every deadline is a number in the block, never a
  callback.
* The state changes only along ``states.TRANSITIONS``; ``bad_transition`` would tell otherwise and is never
  set.

Choices where the RFCs leave room or other stacks differ: RST is ignored in TIME-WAIT (RFC 1337); a SYN in a
synchronized state draws a challenge ACK at any sequence number (RFC 5961); data on a SYN are not
acknowledged; a window probe carries no octet (SEQ = SND.UNA - 1); hard ICMP errors end a handshake and
nothing later (RFC 5927); the minimum of the RTO is applied to its variance term, so RTO >= SRTT + rto_min; an
empty segment exactly at the right edge of the window is acceptable; SACK blocks are rounded inwards to the
packets sent.

RFCs: 9293, 7323, 2018, 2883, 3168, 6298, 8985, 6937bis, 6582, 3042, 5682, 3522, 5681, 3465, 9438, 9406, 6928,
5961, 1337, 6191, 1191, 8201, 4821, 5927.

Tested by ``tests/tcp`` (traces in virtual time, the state matrix) and ``tests/sim`` (two connections over a
simulated path).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.tcp.connection import Connection
    from netstack.tcp.events import (
        Closed,
        Connected,
        DataReceived,
        EndOfStream,
        Event,
        FinAcknowledged,
        Reset,
        SpaceAvailable,
        TimedOut,
        UrgentData,
    )
    from netstack.tcp.settings import Settings

__all__ = [
    "Closed",
    "Connected",
    "Connection",
    "DataReceived",
    "EndOfStream",
    "Event",
    "FinAcknowledged",
    "Reset",
    "Settings",
    "SpaceAvailable",
    "TimedOut",
    "UrgentData",
]


def __getattr__(name: str) -> Any:
    """Loads the Python face when it is asked for: the engine needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = {"Connection": "connection", "Settings": "settings"}.get(name, "events")
    return getattr(import_module(f"{__name__}.{module}"), name)
