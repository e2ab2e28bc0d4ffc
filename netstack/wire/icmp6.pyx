"""ICMPv6 messages (RFC 4443) and the option lists of neighbour discovery (RFC 4861 section 4.6).

Offsets: type 0, code 1, checksum 2, four bytes whose meaning the type decides 4, body 8.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memmove

from netstack.wire.addr cimport addr_from_object, addr_t
from netstack.wire.be cimport be16, be32, put_be32
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_pseudo, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, WIRE_BAD_OPTION, WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire

UNREACHABLE = ICMP6_UNREACHABLE
TOO_BIG = ICMP6_TOO_BIG
TIME_EXCEEDED = ICMP6_TIME_EXCEEDED
PARAMETER = ICMP6_PARAMETER
ECHO = ICMP6_ECHO
ECHO_REPLY = ICMP6_ECHO_REPLY
ROUTER_SOLICIT = ICMP6_ROUTER_SOLICIT
ROUTER_ADVERT = ICMP6_ROUTER_ADVERT
NEIGHBOR_SOLICIT = ICMP6_NEIGHBOR_SOLICIT
NEIGHBOR_ADVERT = ICMP6_NEIGHBOR_ADVERT

cdef enum:
    NEXT_HEADER = 58


cdef int icmp6_parse(const uint8_t *data, size_t length, icmp6_hdr *out) noexcept nogil:
    if length < 8:
        return WIRE_TRUNCATED
    out.type = data[0]
    out.code = data[1]
    out.checksum = be16(data + 2)
    out.rest = be32(data + 4)
    out.body = data + 8
    out.body_length = <uint32_t>(length - 8)
    return 8


cdef int icmp6_write(
    uint8_t *out, size_t room, const icmp6_hdr *hdr, const addr_t *src, const addr_t *dst
) noexcept nogil:
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
    cdef uint64_t pseudo = csum_pseudo(src, dst, NEXT_HEADER, <uint32_t>length)
    csum_store(out + 2, csum_finish(csum_add(out, length, pseudo)))
    return <int>length


cdef int nd_option_parse(const uint8_t *data, size_t length, uint8_t *kind) noexcept nogil:
    cdef int size
    if length < 2:
        return WIRE_TRUNCATED
    size = data[1] << 3
    if size == 0 or <size_t>size > length:
        return WIRE_BAD_OPTION
    kind[0] = data[0]
    return size


def nd_options(data):
    """The options of a neighbour-discovery list as a list of ``(kind, bytes behind the length)``.

    Raises:
        WireError: truncated, bad option (a length that is 0 or runs past the list), RFC 4861 section 4.6.
    """
    cdef bytes held = bytes(data)
    cdef const uint8_t *p = held
    cdef size_t offset = 0, end = <size_t>len(held)
    cdef uint8_t kind = 0
    cdef int size
    cdef list out = []
    while offset < end:
        size = raise_wire(nd_option_parse(p + offset, end - offset, &kind))
        out.append((kind, held[offset + 2:offset + size]))
        offset += size
    return out


@cython.final
@cython.auto_pickle(False)
cdef class ICMPv6Message:
    """An ICMPv6 message as a value.

    Attributes:
        type, code: as on the wire.
        rest: bytes 4..7 as one number; identifier and sequence (echo) or mtu (packet too big) are its parts.
        body: bytes from offset 8.
        checksum: as received; 0 in a message that was not parsed.
    """

    cdef icmp6_hdr h
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
        """An echo request, or the reply to one (RFC 4443 section 4)."""
        return ICMPv6Message(
            ICMP6_ECHO_REPLY if reply else ICMP6_ECHO, 0, (<uint32_t>identifier << 16) | sequence, body
        )

    @staticmethod
    def parse(data, *, src=None, dst=None):
        """The message that data consists of; where src and dst are given its checksum is verified.

        Raises:
            WireError: truncated, bad checksum.
        """
        cdef ICMPv6Message self = ICMPv6Message.__new__(ICMPv6Message)
        cdef Py_buffer view
        cdef addr_t s, d
        cdef bint verify = src is not None and dst is not None
        if verify:
            s = addr_from_object(src)
            d = addr_from_object(dst)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef const uint8_t *p = <const uint8_t *>view.buf
        cdef size_t length = <size_t>view.len
        cdef int code
        try:
            code = icmp6_parse(p, length, &self.h)
            if code >= 0 and verify:
                if not csum_ok(p, length, csum_pseudo(&s, &d, NEXT_HEADER, <uint32_t>length)):
                    code = WIRE_BAD_CHECKSUM
            raise_wire(code)
            self.body = p[8:length]
            self.h.body = NULL  # the pointer would outlive the buffer
        finally:
            PyBuffer_Release(&view)
        return self

    def build(self, src, dst):
        """The message with its checksum, which covers the addresses (RFC 8200 section 8.1)."""
        cdef icmp6_hdr h = self.h
        cdef addr_t s = addr_from_object(src), d = addr_from_object(dst)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 8 + len(self.body))
        h.body = self.body
        h.body_length = <uint32_t>len(self.body)
        raise_wire(icmp6_write(<uint8_t *>PyBytes_AS_STRING(out), <size_t>len(out), &h, &s, &d))
        return out

    def write(self, out, src, dst):
        """Writes the message with its checksum at the start of a writable buffer; how many bytes that takes.

        Raises:
            WireError: no room.
        """
        cdef Py_buffer view
        cdef icmp6_hdr h = self.h
        cdef addr_t s = addr_from_object(src), d = addr_from_object(dst)
        h.body = self.body
        h.body_length = <uint32_t>len(self.body)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        cdef int code = icmp6_write(<uint8_t *>view.buf, <size_t>view.len, &h, &s, &d)
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
        return self.h.rest

    cdef tuple key(self):
        return (self.h.type, self.h.code, self.h.rest, self.body)

    def __eq__(self, other):
        if not isinstance(other, ICMPv6Message):
            return NotImplemented
        return self.key() == (<ICMPv6Message>other).key()

    def __hash__(self):
        return hash(self.key())

    def __repr__(self):
        return (
            f"ICMPv6Message(type={self.h.type}, code={self.h.code}, rest={self.h.rest:#010x}, "
            f"body={self.body!r})"
        )
