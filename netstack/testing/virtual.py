"""A network on virtual time: no thread, no waiting, the same every time."""

from __future__ import annotations

import socket
from types import TracebackType

from netstack.config import Config
from netstack.gateway import Gateway
from netstack.link.memory import MemoryLink

__all__ = ["VirtualClock", "run_until"]

NS = 1_000_000_000


def run_until(gateway: Gateway, now_ns: int, end_ns: int) -> int:
    """Steps a gateway whose time is ``now_ns`` to ``end_ns``, doing everything when it is due; its time then."""
    while True:
        deadline = gateway.step(now_ns)
        if deadline is None or deadline > end_ns:
            break
        now_ns = max(now_ns + 1, deadline)
    now_ns = max(now_ns, end_ns)
    gateway.step(now_ns)
    return now_ns


class VirtualClock:
    """A gateway with one guest's link, stepped by hand. A context manager.

    TCP connections of the guest end in ``peers``: one end of a socket pair each, oldest first.

    Attributes:
        now: seconds; it begins at 1.
        gateway: not started, and not to be.
        link: the guest's: what is put in there comes from the guest.
        peers: the host's ends of the guest's TCP connections.
        accept: False refuses new ones.
    """

    def __init__(self, config: Config | None = None) -> None:
        config = config or Config(dns=())
        self._now_ns = NS
        self.accept = True
        self.peers: list[socket.socket] = []
        self.link = MemoryLink(mtu=config.mtu, queue=65536)
        self.gateway = Gateway(config, dialer=self._dial, now_ns=self._now_ns)
        self.gateway.add_memory(self.link)

    def _dial(self, flow: object) -> socket.socket | None:
        if not self.accept:
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.peers.append(ours)
        return theirs

    @property
    def now(self) -> float:
        """Seconds."""
        return self._now_ns / NS

    def send(self, *frames: bytes, seconds: float = 0.0) -> list[bytes]:
        """Puts Ethernet frames in as the guest, lets time pass, and gives what came back."""
        for frame in frames:
            self.link.inject(frame)
        return self.advance(seconds)

    def advance(self, seconds: float = 0.0) -> list[bytes]:
        """Lets time pass, doing everything when it is due; the frames that the guest got."""
        self._now_ns = run_until(self.gateway, self._now_ns, self._now_ns + round(seconds * NS))
        return [frame for frame, _ in self.link.drain()]

    def __enter__(self) -> VirtualClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gateway.stop()
        for peer in self.peers:
            peer.close()
