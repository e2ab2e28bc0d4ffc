"""ICMPv4 messages (RFC 792)."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, raise_wire
from netstack.wire.icmp cimport ICMPMessage, icmp_parse, icmp_put

ECHO_REPLY = ICMP4_ECHO_REPLY
UNREACHABLE = ICMP4_UNREACHABLE
REDIRECT = ICMP4_REDIRECT
ECHO = ICMP4_ECHO
TIME_EXCEEDED = ICMP4_TIME_EXCEEDED
PARAMETER = ICMP4_PARAMETER


cdef int icmp4_parse(const uint8_t *data, size_t length, icmp4_hdr *out) noexcept nogil:
    return icmp_parse(data, length, out)


cdef int icmp4_write(uint8_t *out, size_t room, const icmp4_hdr *hdr) noexcept nogil:
    cdef int length = icmp_put(out, room, hdr)
    if length > 0:
        csum_store(out + 2, csum_finish(csum_add(out, <size_t>length, 0)))
    return length


@cython.final
@cython.auto_pickle(False)
cdef class ICMPv4Message(ICMPMessage):
    """An ICMPv4 message as a value (see :class:`ICMPMessage`)."""

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
            self.hold(p, <size_t>view.len)
        finally:
            PyBuffer_Release(&view)
        return self

    def build(self):
        """The message with its checksum."""
        cdef icmp4_hdr h = self.header()
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 8 + len(self.body))
        raise_wire(icmp4_write(<uint8_t *>PyBytes_AS_STRING(out), <size_t>len(out), &h))
        return out

    def write(self, out):
        """Writes the message with its checksum at the start of a writable buffer; how many bytes that takes.

        Raises:
            WireError: no room.
        """
        cdef Py_buffer view
        cdef icmp4_hdr h = self.header()
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        cdef int code = icmp4_write(<uint8_t *>view.buf, <size_t>view.len, &h)
        PyBuffer_Release(&view)
        return raise_wire(code)

    @property
    def mtu(self):
        """Of the next hop, where fragmentation is needed (RFC 1191 section 4)."""
        return self.h.rest & 0xffff
