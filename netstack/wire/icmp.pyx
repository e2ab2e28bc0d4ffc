"""What ICMPv4 (RFC 792) and ICMPv6 (RFC 4443) have in common: all but the checksum and the numbers.

Offsets: type 0, code 1, checksum 2, four bytes whose meaning the type decides 4, body 8.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove

from netstack.wire.be cimport be16, be32, put_be32
from netstack.wire.code cimport WIRE_NO_ROOM, WIRE_TRUNCATED


cdef int icmp_parse(const uint8_t *data, size_t length, icmp_hdr *out) noexcept nogil:
    if length < 8:
        return WIRE_TRUNCATED
    out.type = data[0]
    out.code = data[1]
    out.checksum = be16(data + 2)
    out.rest = be32(data + 4)
    out.body = data + 8
    out.body_length = <uint32_t>(length - 8)
    return 8


cdef int icmp_put(uint8_t *out, size_t room, const icmp_hdr *hdr) noexcept nogil:
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
    return <int>length


@cython.auto_pickle(False)
cdef class ICMPMessage(WireValue):
    """An ICMP message as a value.

    Attributes:
        type, code: as on the wire.
        rest: bytes 4..7 as one number; identifier and sequence (echo) or mtu (fragmentation needed, packet too big) are
            its parts.
        body: bytes from offset 8: the echo data or the quoted datagram.
        checksum: as received; 0 in a message that was not parsed.
    """

    def __init__(self, uint8_t type, uint8_t code=0, uint32_t rest=0, bytes body not None=b""):
        self.h.type = type
        self.h.code = code
        self.h.checksum = 0
        self.h.rest = rest
        self.body = body
        self.h.body = NULL
        self.h.body_length = 0

    # Takes over what was parsed: the pointer would outlive the buffer.
    cdef void hold(self, const uint8_t *data, size_t length):
        self.body = data[8:length]
        self.h.body = NULL

    # The header with its body, as long as this object lives.
    cdef icmp_hdr header(self) noexcept:
        cdef icmp_hdr h = self.h
        h.body = self.body
        h.body_length = <uint32_t>len(self.body)
        return h

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

    cdef tuple key(self):
        return (self.h.type, self.h.code, self.h.rest, self.body)

    def __repr__(self):
        return (
            f"{type(self).__name__}(type={self.h.type}, code={self.h.code}, rest={self.h.rest:#010x}, "
            f"body={self.body!r})"
        )
