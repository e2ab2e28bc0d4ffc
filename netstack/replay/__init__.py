"""Captures judged against the whole stack, stepped on the captures' own time.

Theory of operation
    A capture is read once (``trace``), the guests in it are found and given a network that fits their addresses
    (``plan``). For each guest a gateway is made that nobody starts, with a link that holds one frame and a host that
    exists in memory (``netstack.host.scripted``): no thread, no socket, no clock. ``player`` puts the conversations
    together (``flows``) and then feeds the capture (``feed``): the guest's frames go in at their times, through the
    link, the switch, the interface, NAT and TCP; what the capture's peers said is said by the scripted host's sockets
    when their frames come by. Every frame that the stack sends, and every byte that it hands to the host, is compared
    as it happens (``watch``). ``exchanges`` judges what is not a conversation (ARP, DHCP, ICMP errors), ``verdict``
    says in words what was found, ``result`` is what callers get.

How the guest's numbers fit the stack's
    A guest acknowledges the sequence numbers of the peer that it spoke to. The stack is therefore told, by a hook that
    only a replay sets (``nat.sequence``), to use the initial sequence number of the capture's peer and its timestamp
    clock; nothing of what the guest sends is rewritten, but for its destination MAC (the gateway's) and for options
    of its SYN (window scale, SACK, timestamps) that the capture's peer did not agree to, which become
    no-operations: the guest did not use them afterwards. Where the peer's SYN-ACK is missing the number follows
    from the guest's first acknowledgement. Congestion control is off (the window alone limits), since the
    guest's acknowledgements were made for another sender.

What is judged
    TCP: the bytes handed to the host side are the guest's, all of them are acknowledged, the end is the capture's;
    no reset that the capture has not, no window that shrinks, nothing beyond the guest's window, no acknowledgement
    of what was not sent, and every byte towards the guest is the peer's. UDP, echo and DNS: each datagram arrives,
    each answer comes back. ARP, DHCP, ICMP errors: the answer that the RFC asks for. What the interface must drop
    is answered by silence and counted.

May import
    ``gateway`` and what that is made of, and ``capture``; not ``control``, ``cli`` or ``testing``.

Invariants
    - The same capture gives the same result, to the byte.
    - Memory is bounded by the capture's size; a stack that does not come to rest is stopped and said to be so.

Tests
    ``tests/replay``: captures made there with single faults, those in ``pcaps/``, and those of a folder
    ``shared/pcaps`` beside the project where there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Result

__all__ = ["replay"]


def replay(path: str, **options: Any) -> Result:
    """Replays one capture; see :func:`netstack.replay.run.replay`."""
    from .run import replay as run

    return run(path, **options)
