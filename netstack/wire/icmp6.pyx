"""ICMPv6 messages (RFC 4443) and the option lists of neighbour discovery (RFC 4861 section 4.6)."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from netstack.wire.addr cimport addr_from_object, addr_t
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_pseudo, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, WIRE_BAD_OPTION, WIRE_TRUNCATED, raise_wire
from netstack.wire.icmp cimport ICMPMessage, icmp_parse, icmp_put

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
    return icmp_parse(data, length, out)


cdef int icmp6_write(
    uint8_t *out, size_t room, const icmp6_hdr *hdr, const addr_t *src, const addr_t *dst
) noexcept nogil:
    cdef int length = icmp_put(out, room, hdr)
    if length > 0:
        csum_store(out + 2, csum_finish(csum_add(
            out, <size_t>length, csum_pseudo(src, dst, NEXT_HEADER, <uint32_t>length)
        )))
    return length


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
cdef class ICMPv6Message(ICMPMessage):
    """An ICMPv6 message as a value (see :class:`ICMPMessage`)."""

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
            self.hold(p, length)
        finally:
            PyBuffer_Release(&view)
        return self

    def build(self, src, dst):
        """The message with its checksum, which covers the addresses (RFC 8200 section 8.1)."""
        cdef icmp6_hdr h = self.header()
        cdef addr_t s = addr_from_object(src), d = addr_from_object(dst)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 8 + len(self.body))
        raise_wire(icmp6_write(<uint8_t *>PyBytes_AS_STRING(out), <size_t>len(out), &h, &s, &d))
        return out

    def write(self, out, src, dst):
        """Writes the message with its checksum at the start of a writable buffer; how many bytes that takes.

        Raises:
            WireError: no room.
        """
        cdef Py_buffer view
        cdef icmp6_hdr h = self.header()
        cdef addr_t s = addr_from_object(src), d = addr_from_object(dst)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        cdef int code = icmp6_write(<uint8_t *>view.buf, <size_t>view.len, &h, &s, &d)
        PyBuffer_Release(&view)
        return raise_wire(code)

    @property
    def mtu(self):
        """Of the next hop, where a packet was too big (RFC 4443 section 3.2)."""
        return self.h.rest
