"""Settings of a :class:`netstack.tcp.Connection`: every default and unit stands here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are seconds, sizes bytes."""

    mss: int = 1460  #: largest payload accepted in one segment
    ipv6: bool = False  #: 40 bytes of IP header, and another MSS for a peer that announces none
    max_gso: int = 0  #: largest payload of one super-segment before it is cut; 0 = no larger than a packet
    receive_buffer: int = 65536
    receive_buffer_max: int = 4 << 20
    send_buffer: int = 65536
    send_buffer_max: int = 4 << 20
    congestion: str = "cubic"  #: cubic, reno or none
    timestamps: bool = True
    sack: bool = True
    ecn: bool = False
    nagle: bool = True
    delayed_ack: float = 0.04  #: 0 = acknowledge at once
    rto_initial: float = 1.0
    rto_min: float = 0.2
    rto_max: float = 60.0
    keepalive_idle: float = 0.0  #: silence before the first probe; 0 = no keep-alive
    keepalive_interval: float = 75.0
    keepalive_probes: int = 9
    user_timeout: float = 0.0  #: 0 = 100 s
    syn_timeout: float = 180.0
    time_wait: float = 60.0
    fin_wait_2: float = 60.0  #: only where reading has stopped; 0 = for ever
    burst_packets: int = 0  #: packets that the link's queue holds; 0 = any number
    challenge_interval: float = 0.5  #: between two challenge ACKs
