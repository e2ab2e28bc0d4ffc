"""What a guest in memory gives to programs: a UDP endpoint and a TCP stream with the calls of a socket.

Both belong to a :class:`netstack.testing.guest.Guest` and work under its lock: methods with a leading
underscore are called by the guest, which holds it; the others by programs, from any thread.
"""

from __future__ import annotations

import errno
import io
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from netstack.tcp.connection import Connection
from netstack.tcp.events import Closed, Connected, EndOfStream, Event, Reset, TimedOut
from netstack.tcp.settings import Settings
from netstack.wire.udp import UDPHeader

if TYPE_CHECKING:
    from .guest import Guest

__all__ = ["TcpStream", "UdpEndpoint"]

TCP, UDP = 6, 17
IP_HEADER, TCP_HEADER = 20, 20
DATAGRAMS = 1024  # that wait for the user of one port
MAX_DATAGRAM = 65507  # bytes of payload in a UDP datagram over IPv4
TIME_WAIT_SECONDS = 1.0  # nothing is old on a link that ends with its process


class UdpEndpoint:
    """A UDP port of a guest, with the calls of a socket. Make it with :meth:`Guest.udp`."""

    def __init__(self, guest: Guest, port: int) -> None:
        self._guest = guest
        self.port = port
        self._waiting: deque[tuple[bytes, tuple[str, int]]] = deque(maxlen=DATAGRAMS)
        self._errors: deque[OSError] = deque(maxlen=DATAGRAMS)

    def __enter__(self) -> UdpEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, data: bytes, address: str, port: int) -> None:
        packet = UDPHeader(self.port, port).build(data, src=self._guest.address, dst=address)
        self._guest._send_ip(address, UDP, packet)

    def sendto(self, data: bytes, destination: tuple[str, int]) -> None:
        """Sends one datagram of at most 65507 bytes."""
        self._guest._start()
        with self._guest._changed:
            if len(data) > MAX_DATAGRAM:
                raise OSError(errno.EMSGSIZE, f"a datagram carries {MAX_DATAGRAM} bytes at most")
            self._send(bytes(data), *destination)

    def recvfrom(self, timeout: float | None = None) -> tuple[bytes, tuple[str, int]]:
        """The next datagram and where it came from; waits ``timeout`` seconds, by default the guest's.

        Raises:
            TimeoutError: nothing came.
            OSError: an ICMP error about an earlier datagram came.
        """
        guest = self._guest
        guest._start()
        with guest._changed:
            guest._changed.wait_for(
                lambda: self._waiting or self._errors or guest._closing,
                guest.timeout if timeout is None else timeout,
            )
            if self._waiting:
                return self._waiting.popleft()
            if self._errors:
                raise self._errors.popleft()
        raise TimeoutError(errno.ETIMEDOUT, f"no datagram came to port {self.port}")

    def close(self) -> None:
        """Gives the port back."""
        with self._guest._changed:
            self._guest._udp.pop(self.port, None)


class _Incoming(io.RawIOBase):
    """What comes over a stream. Closing it leaves the stream open, as with a socket's file."""

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream._file_closed()


class TcpStream:
    """A TCP connection of a guest, with the calls of a socket. Make it with :meth:`Guest.connect`."""

    def __init__(self, guest: Guest, port: int, address: str, peer_port: int) -> None:
        self._guest = guest
        self.key = (port, address, peer_port)
        self._address = address
        self._connection = Connection(
            *(port, peer_port),
            iss=guest._random.getrandbits(32),
            ts_offset=guest._random.getrandbits(32),
            settings=Settings(mss=guest.mtu - IP_HEADER - TCP_HEADER, time_wait=TIME_WAIT_SECONDS),
            addresses=(guest.address, address),
            autoread=False,
        )
        self._connected = False
        self._closed = False  # this side has ended its direction
        self._ended = False  # the peer has
        self._finished = False
        self._error: OSError | None = None
        self._files = 0  # of makefile that are open
        self._close_due = False

    def __enter__(self) -> TcpStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what a program calls

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Hands over everything; waits while the buffer is full.

        Raises:
            TimeoutError: the peer took nothing for the guest's time-out.
            OSError: the connection has failed, or this side has ended it (EPIPE).
        """
        view = memoryview(data).cast("B")
        with self._guest._changed:
            while True:
                if self._error is not None:
                    raise self._error
                if self._finished or self._closed:
                    raise BrokenPipeError(errno.EPIPE, "this side of the connection has ended")
                taken = self._connection.send(view, time.monotonic()) if view else 0
                self._flush()
                view = view[taken:]
                if not view:
                    return
                if not taken and not self._guest._changed.wait(self._guest.timeout):
                    raise TimeoutError(errno.ETIMEDOUT, "the peer takes no data")

    def recv(self, limit: int) -> bytes:
        """1 to ``limit`` bytes, or none at the end of the stream.

        Raises:
            TimeoutError: nothing came for the guest's time-out.
            ConnectionResetError, OSError: the connection has failed.
        """
        with self._guest._changed:
            self._guest._changed.wait_for(
                lambda: self._connection.readable or self._ended or self._error or self._finished,
                self._guest.timeout,
            )
            data = self._connection.read(limit, time.monotonic())
            if data:
                self._flush()  # the window has opened
                return data
            if self._error is not None:
                raise self._error
            if self._ended or self._finished:
                return b""
        raise TimeoutError(errno.ETIMEDOUT, "no data came")

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """What comes, as a binary file to read from (``http.client`` wants one).

        Raises:
            ValueError: another mode than "rb" or "r".
        """
        if mode not in ("rb", "r"):
            raise ValueError(f"mode {mode!r}: a stream's file is for reading bytes ('rb')")
        self._files += 1
        return io.BufferedReader(_Incoming(self), io.DEFAULT_BUFFER_SIZE if buffering < 1 else buffering)

    def shutdown(self, how: int) -> None:
        """Ends one direction or both (``socket.SHUT_RD``, ``SHUT_WR``, ``SHUT_RDWR``)."""
        with self._guest._changed:
            now = time.monotonic()
            if how in (socket.SHUT_WR, socket.SHUT_RDWR):
                self._closed = True
                self._note(self._connection.close(now))
            if how in (socket.SHUT_RD, socket.SHUT_RDWR):
                self._note(self._connection.stop_reading(now))
            self._flush()

    def close(self) -> None:
        """Ends both directions. What was handed over is still sent; what was not read makes a reset of it.

        As with a socket, it waits for files of :meth:`makefile` that are open.
        """
        if self._files:
            self._close_due = True
        else:
            self.shutdown(socket.SHUT_RDWR)

    def _file_closed(self) -> None:
        self._files -= 1
        if self._files == 0 and self._close_due:
            self.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Ends the connection with RST."""
        with self._guest._changed:
            self._abort()

    # --- what the guest calls, with its lock held

    def _open(self) -> None:
        with self._guest._changed:
            self._connection.open(time.monotonic())
            self._flush()
            done = self._guest._changed.wait_for(
                lambda: self._connected or self._error or self._guest._closing, self._guest.timeout
            )
            if self._error is not None:
                raise self._error
            if not done or not self._connected:
                raise TimeoutError(errno.ETIMEDOUT, f"{self._address} did not answer")

    def _abort(self) -> None:
        self._note(self._connection.abort(time.monotonic()))
        self._flush()

    def _segment_arrives(self, data: bytes, ecn: int) -> None:
        self._note(self._connection.receive_segment(data, time.monotonic(), ecn=ecn))

    def _icmp_error(self, error: OSError, sequence: int) -> None:
        # Before the handshake is over an error is final; afterwards it is a hint that only time confirms
        # (RFC 5927).
        self._note(self._connection.icmp_error(sequence, time.monotonic(), hard=not self._connected))
        if not self._connected and self._error is None:
            self._error = error

    def _advance(self, now: float) -> None:
        due = self._connection.next_timer()
        if due is not None and due <= now:
            self._note(self._connection.handle_timer(now))
        if self._connection.wants_output:
            self._flush()

    def _flush(self) -> None:
        for segment, ecn in self._connection.packets_to_send(time.monotonic()):
            self._guest._send_ip(self._address, TCP, segment, ecn=ecn)
        if threading.current_thread() is not self._guest._thread:
            self._guest._wake()  # the next deadline may have moved

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Connected):
                self._connected = True
            elif isinstance(event, EndOfStream):
                self._ended = True
            elif isinstance(event, Reset):
                self._error = self._error or (
                    ConnectionResetError(errno.ECONNRESET, "the peer reset the connection")
                    if self._connected
                    else ConnectionRefusedError(errno.ECONNREFUSED, f"{self._address} refused the connection")
                )
            elif isinstance(event, TimedOut):
                self._error = self._error or TimeoutError(
                    errno.ETIMEDOUT, "the peer does not answer any more"
                )
            elif isinstance(event, Closed):
                self._finished = True
