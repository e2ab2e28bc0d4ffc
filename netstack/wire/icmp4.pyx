"""ICMPv4 messages (RFC 792).

Offsets: type 0, code 1, checksum 2, four bytes whose meaning the type decides 4, body 8.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memmove

from netstack.wire.be cimport be16, be32, put_be32
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire

ECHO_REPLY = ICMP4_ECHO_REPLY
UNREACHABLE = ICMP4_UNREACHABLE
REDIRECT = ICMP4_REDIRECT
ECHO = ICMP4_ECHO
TIME_EXCEEDED = ICMP4_TIME_EXCEEDED
PARAMETER = ICMP4_PARAMETER


cdef int icmp4_parse(const uint8_t *data, size_t length, icmp4_hdr *out) noexcept nogil:
    if length < 8:
        return WIRE_TRUNCATED
    out.type = data[0]
    out.code = data[1]
    out.checksum = be16(data + 2)
    out.rest = be32(data + 4)
    out.body = data + 8
    out.body_length = <uint32_t>(length - 8)
    return 8


cdef int icmp4_write(uint8_t *out, size_t room, const icmp4_hdr *hdr) noexcept nogil:
    cdef size_t length = <size_t>hdr.body_length + 8
    if room < length or length > 0x7fffffff:
        return WIRE_NO_ROOM
    if hdr.body_length and hdr.body != out + 8:
        memmove(out + 8, hdr.body, hdr.body_length)
    out[0] = hdr.type
    out[1] = hdr.code
    out[2] = 0
    out[3] = 0
    put_be32(out + 4, hdr.rest)
    csum_store(out + 2, csum_finish(csum_add(out, length, 0)))
    return <int>length


@cython.final
@cython.auto_pickle(False)
cdef class ICMPv4Message:
    """An ICMPv4 message as a value.

    Attributes:
        type, code: as on the wire. rest: bytes 4..7 as one number; identifier and sequence (echo) or mtu
        (fragmentation needed) are its parts. body: bytes from offset 8: the echo data or the quoted datagram.
        checksum: as received; 0 in a message that was not parsed.
    """

    cdef icmp4_hdr h
    cdef readonly bytes body

    def __init__(self, uint8_t type, uint8_t code=0, uint32_t rest=0, bytes body not None=b""):
        self.h.type = type
        self.h.code = code
        self.h.checksum = 0
        self.h.rest = rest
        self.body = body
        self.h.body = NULL
        self.h.body_length = 0

    @staticmethod
    def echo(uint16_t identifier, uint16_t sequence, bytes body not None=b"", *, bint reply=False):
        """An echo request, or the reply to one (RFC 792)."""
        return ICMPv4Message(
            ICMP4_ECHO_REPLY if reply else ICMP4_ECHO, 0, (<uint32_t>identifier << 16) | sequence, body
        )

    @staticmethod
    def parse(data, *, bint verify=False):
        """The message that data consists of; with verify its checksum too.

        Raises:
            WireError: truncated, bad checksum.
        """
        cdef ICMPv4Message self = ICMPv4Message.__new__(ICMPv4Message)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef const uint8_t *p = <const uint8_t *>view.buf
        cdef int code
        try:
            code = icmp4_parse(p, <size_t>view.len, &self.h)
            if code >= 0 and verify and not csum_ok(p, <size_t>view.len, 0):
                code = WIRE_BAD_CHECKSUM
            raise_wire(code)
            self.body = p[8:view.len]
            self.h.body = NULL  # the pointer would outlive the buffer
        finally:
            PyBuffer_Release(&view)
        return self

    def build(self):
        """The message with its checksum."""
        cdef icmp4_hdr h = self.h
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 8 + len(self.body))
        h.body = self.body
        h.body_length = <uint32_t>len(self.body)
        raise_wire(icmp4_write(<uint8_t *>PyBytes_AS_STRING(out), <size_t>len(out), &h))
        return out

    def write(self, out):
        """Writes the message with its checksum at the start of a writable buffer; how many bytes that takes.

        Raises:
            WireError: no room.
        """
        cdef Py_buffer view
        cdef icmp4_hdr h = self.h
        h.body = self.body
        h.body_length = <uint32_t>len(self.body)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        cdef int code = icmp4_write(<uint8_t *>view.buf, <size_t>view.len, &h)
        PyBuffer_Release(&view)
        return raise_wire(code)

    @property
    def type(self):
        return self.h.type

    @property
    def code(self):
        return self.h.code

    @property
    def checksum(self):
        return self.h.checksum

    @property
    def rest(self):
        return self.h.rest

    @property
    def identifier(self):
        return self.h.rest >> 16

    @property
    def sequence(self):
        return self.h.rest & 0xffff

    @property
    def mtu(self):
        return self.h.rest & 0xffff

    cdef tuple key(self):
        return (self.h.type, self.h.code, self.h.rest, self.body)

    def __eq__(self, other):
        if not isinstance(other, ICMPv4Message):
            return NotImplemented
        return self.key() == (<ICMPv4Message>other).key()

    def __hash__(self):
        return hash(self.key())

    def __repr__(self):
        return (
            f"ICMPv4Message(type={self.h.type}, code={self.h.code}, rest={self.h.rest:#010x}, "
            f"body={self.body!r})"
        )
