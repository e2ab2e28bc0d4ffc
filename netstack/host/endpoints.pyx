"""A Python face of host/sockets: the same calls, on objects that own their descriptor, with addresses as
text.

Everything is non-blocking: BlockingIOError where nothing waits or nothing fits. Errors are OSError with the
host's errno.
"""
import os
import socket as _socket

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strlen

from netstack.host.sockets cimport (
    iovec, sock_accept, sock_close, sock_error, sock_error_of, sock_local, sock_options, sock_pair,
    sock_ping_is_raw, sock_ping_open, sock_ping_recv, sock_ping_send, sock_recv_error, sock_recvv,
    sock_send, sock_sendv, sock_set_abort, sock_shutdown_write, sock_tcp_connect, sock_tcp_listen,
    sock_udp_connect, sock_udp_has_gso, sock_udp_open, sock_udp_recv, sock_udp_send, udp_message,
    wake_clear, wake_open, wake_signal,
)

cdef enum:
    ROOM = 65536


cdef int checked(Py_ssize_t rc) except -1:
    """rc, or the exception that it stands for."""
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return <int>rc


cdef int put_address(uint8_t *out, str text) except -1:
    cdef bytes packed
    if ":" in text:
        packed = _socket.inet_pton(_socket.AF_INET6, text)
    else:
        packed = bytes(10) + b"\xff\xff" + _socket.inet_pton(_socket.AF_INET, text)
    memcpy(out, <const char *>packed, 16)
    return 0


cdef str get_address(const uint8_t *p):
    cdef bytes packed = p[:16]
    if packed[:12] == bytes(10) + b"\xff\xff":
        return _socket.inet_ntop(_socket.AF_INET, packed[12:])
    return _socket.inet_ntop(_socket.AF_INET6, packed)


cdef int put_options(sock_options *o, int ttl, uint32_t mark, str interface) except -1:
    cdef bytes name = interface.encode()
    if len(name) > 15:
        raise ValueError("an interface name has at most 15 bytes")
    memset(o, 0, sizeof(sock_options))
    o.ipv4_ttl = ttl
    o.mark = mark
    memcpy(o.interface_name, <const char *>name, strlen(name))
    return 0


@cython.auto_pickle(False)
cdef class Endpoint:
    """A descriptor that is closed with its object."""

    cdef int fd

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self.close()

    def fileno(self) -> int:
        """The descriptor; ValueError when it is closed."""
        if self.fd < 0:
            raise ValueError("the socket is closed")
        return self.fd

    def close(self) -> None:
        """Close the descriptor; harmless the second time."""
        if self.fd >= 0:
            sock_close(self.fd)
            self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def local(self) -> tuple:
        """(address, port) of our side."""
        cdef uint8_t addr[16]
        cdef uint16_t port = 0
        checked(sock_local(self.fileno(), addr, &port))
        return get_address(addr), port

    def error(self) -> int:
        """Take SO_ERROR: an errno or 0."""
        return sock_error_of(self.fileno())

    def recv_error(self) -> dict | None:
        """Take one entry of the error queue, None when it is empty.

        Keys: error, origin, type, code, info, offender, peer (address, port), payload (bytes).
        """
        cdef sock_error e
        cdef uint8_t payload[2048]
        e.payload = payload
        e.payload_length = sizeof(payload)
        if checked(sock_recv_error(self.fileno(), &e)) == 0:
            return None
        return {
            "error": e.error, "origin": e.origin, "type": e.type, "code": e.code, "info": e.info,
            "offender": get_address(e.offender), "peer": (get_address(e.peer), e.peer_port),
            "payload": <bytes>payload[:e.payload_length],
        }


@cython.auto_pickle(False)
cdef class StreamSocket(Endpoint):
    """A connected stream: from ``connect``, ``accept`` or ``pair``."""

    @classmethod
    def connect(cls, str address, uint16_t port, int ttl=0, uint32_t mark=0,
                str interface="") -> StreamSocket:
        """Begin to connect; writable when it is decided, then ``error()`` says how.

        OSError when it failed at once.
        """
        cdef StreamSocket out = cls()
        cdef sock_options o
        cdef uint8_t addr[16]
        put_address(addr, address)
        put_options(&o, ttl, mark, interface)
        out.fd = checked(sock_tcp_connect(addr, port, &o))
        return out

    @classmethod
    def pair(cls) -> tuple:
        """Two connected Unix streams."""
        cdef StreamSocket a = cls()
        cdef StreamSocket b = cls()
        checked(sock_pair(&a.fd, &b.fd))
        return a, b

    def send(self, bytes data) -> int:
        """Bytes taken."""
        return checked(sock_send(self.fileno(), <const char *>data, len(data)))

    def sendv(self, pieces) -> int:
        """Bytes taken of several pieces (at most 8)."""
        cdef iovec iov[8]
        cdef int i
        cdef bytes piece
        if len(pieces) > 8:
            raise ValueError("at most 8 pieces")
        for i, piece in enumerate(pieces):
            iov[i].iov_base = <char *>piece
            iov[i].iov_len = len(piece)
        return checked(sock_sendv(self.fileno(), iov, <int>len(pieces)))

    def recv(self, uint32_t room=ROOM) -> bytes:
        """Bytes that have come, b"" at the end of the stream. They are received in two pieces."""
        cdef bytearray out = bytearray(room)
        cdef iovec iov[2]
        cdef int n
        iov[0].iov_base = <char *>out
        iov[0].iov_len = room // 2
        iov[1].iov_base = <char *>out + room // 2
        iov[1].iov_len = room - room // 2
        n = checked(sock_recvv(self.fileno(), iov, 2))
        return bytes(out[:n])

    def set_abort(self) -> None:
        """Make close send RST."""
        checked(sock_set_abort(self.fileno()))

    def shutdown_write(self) -> None:
        """Send FIN."""
        checked(sock_shutdown_write(self.fileno()))


@cython.auto_pickle(False)
cdef class Listener(Endpoint):
    """A listening TCP socket; port 0 lets the system choose (see ``port``)."""

    cdef readonly int port

    def __init__(self, str address="127.0.0.1", uint16_t port=0, int backlog=128):
        cdef uint8_t addr[16]
        cdef uint16_t bound = 0
        put_address(addr, address)
        self.fd = checked(sock_tcp_listen(addr, port, backlog, &bound))
        self.port = bound

    def accept(self) -> tuple:
        """(StreamSocket, (address, port)); BlockingIOError when none waits."""
        cdef StreamSocket out = StreamSocket()
        cdef uint8_t addr[16]
        cdef uint16_t port = 0
        out.fd = checked(sock_accept(self.fileno(), addr, &port))
        return out, (get_address(addr), port)


@cython.auto_pickle(False)
cdef class UdpSocket(Endpoint):
    """A UDP socket bound to ``address`` (the wildcard of a family, mostly)."""

    def __init__(self, str address="0.0.0.0", int ttl=0, uint32_t mark=0, str interface=""):
        cdef uint8_t addr[16]
        cdef sock_options o
        put_address(addr, address)
        put_options(&o, ttl, mark, interface)
        self.fd = checked(sock_udp_open(addr, &o))

    def connect(self, str address, uint16_t port) -> None:
        """Fix the peer."""
        cdef uint8_t addr[16]
        put_address(addr, address)
        checked(sock_udp_connect(self.fileno(), addr, port))

    def send(self, messages) -> int:
        """Send (data, (address, port) or None when connected, gso_size, ttl, tos) tuples in one call; how
        many were taken.
        """
        cdef int n = <int>len(messages)
        cdef udp_message *m = <udp_message *>calloc(n + 1, sizeof(udp_message))
        cdef bytes data
        cdef int i, rc
        if m == NULL:
            raise MemoryError
        try:
            for i, (data, peer, gso_size, ttl, tos) in enumerate(messages):
                m[i].data = <uint8_t *><char *>data
                m[i].length = <uint32_t>len(data)
                m[i].gso_size = gso_size
                m[i].ttl = ttl
                m[i].tos = tos
                if peer is not None:
                    put_address(m[i].addr, peer[0])
                    m[i].port = peer[1]
            rc = sock_udp_send(self.fileno(), m, n)
        finally:
            free(m)
        return checked(rc)

    def recv(self, int n=8) -> list:
        """Up to n (at most 64) messages as (data, (address, port), gso_size, ttl, tos)."""
        cdef udp_message m[64]
        cdef uint8_t *room
        cdef int i, got
        if not 1 <= n <= 64:
            raise ValueError("1 to 64 messages")
        room = <uint8_t *>malloc(<size_t>n * ROOM)
        if room == NULL:
            raise MemoryError
        try:
            for i in range(n):
                m[i].data = room + <size_t>i * ROOM
                m[i].length = ROOM
            got = checked(sock_udp_recv(self.fileno(), m, n))
            return [
                (<bytes>m[i].data[:m[i].length], (get_address(m[i].addr), m[i].port), m[i].gso_size, m[i].ttl,
                 m[i].tos)
                for i in range(got)
            ]
        finally:
            free(room)


@cython.auto_pickle(False)
cdef class EchoSocket(Endpoint):
    """An ICMP or ICMPv6 echo socket; PermissionError where neither a ping socket nor a raw one is allowed."""

    cdef readonly int ident

    def __init__(self, bint ipv6=False, int ttl=0, uint32_t mark=0, str interface=""):
        cdef sock_options o
        cdef uint16_t ident = 0
        put_options(&o, ttl, mark, interface)
        self.fd = checked(sock_ping_open(ipv6, &o, &ident))
        self.ident = ident

    @property
    def raw(self) -> bool:
        """True when it is a raw socket: then ICMP errors come through recv."""
        return bool(sock_ping_is_raw(self.fileno()))

    def send(self, str address, bytes icmp, uint8_t ttl=0) -> int:
        """Send an echo request, given from its ICMP header on."""
        cdef uint8_t addr[16]
        put_address(addr, address)
        return checked(sock_ping_send(
            self.fileno(), addr, <const uint8_t *><const char *>icmp, <uint32_t>len(icmp), ttl))

    def recv(self, uint32_t room=ROOM) -> tuple:
        """(message from its ICMP header on, address of its sender, TTL)."""
        cdef bytearray out = bytearray(room)
        cdef uint8_t addr[16]
        cdef uint8_t ttl = 0
        cdef int n = checked(sock_ping_recv(self.fileno(), <uint8_t *><char *>out, room, addr, &ttl))
        return bytes(out[:n]), get_address(addr), ttl


@cython.auto_pickle(False)
cdef class Wake:
    """A wake-up: ``fileno`` is readable between ``signal`` and ``clear``."""

    cdef int read_fd
    cdef int write_fd

    def __cinit__(self):
        self.read_fd = self.write_fd = -1
        checked(wake_open(&self.read_fd, &self.write_fd))

    def __dealloc__(self):
        if self.read_fd >= 0:
            sock_close(self.read_fd)
            sock_close(self.write_fd)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self.read_fd

    def signal(self) -> None:
        """Make it readable."""
        wake_signal(self.write_fd)

    def clear(self) -> None:
        """Take all signals back."""
        wake_clear(self.read_fd)


def udp_has_gso() -> bool:
    """True when the kernel knows UDP_SEGMENT."""
    return bool(sock_udp_has_gso())
