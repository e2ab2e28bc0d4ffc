"""UDP headers (RFC 768).

Offsets: source port 0, destination port 2, length 4, checksum 6.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from netstack.wire.addr cimport addr_from_object, addr_is_v4, addr_t
from netstack.wire.be cimport be16, put_be16
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_pseudo, csum_store
from netstack.wire.code cimport WIRE_BAD_CHECKSUM, WIRE_BAD_LENGTH, WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire
from netstack.wire.header cimport WireHeader

cdef enum:
    PROTOCOL = 17


cdef int udp_parse(const uint8_t *data, size_t length, udp_hdr *out) noexcept nogil:
    if length < UDP_HDR_LEN:
        return WIRE_TRUNCATED
    out.sport = be16(data)
    out.dport = be16(data + 2)
    out.length = be16(data + 4)
    out.checksum = be16(data + 6)
    if out.length < UDP_HDR_LEN:
        return WIRE_BAD_LENGTH
    if out.length > length:
        return WIRE_TRUNCATED
    return UDP_HDR_LEN


cdef int udp_write(uint8_t *out, size_t room, const udp_hdr *hdr) noexcept nogil:
    if room < UDP_HDR_LEN:
        return WIRE_NO_ROOM
    put_be16(out, hdr.sport)
    put_be16(out + 2, hdr.dport)
    put_be16(out + 4, hdr.length)
    put_be16(out + 6, hdr.checksum)
    return UDP_HDR_LEN


@cython.final
@cython.auto_pickle(False)
cdef class UDPHeader(WireHeader):
    """A UDP header as a value.

    Attributes:
        sport, dport: ports.
        length: bytes, header included; :meth:`build` writes the true one.
        checksum: as on the wire, 0 = none.
    """

    cdef udp_hdr h

    def __init__(self, uint16_t sport, uint16_t dport, uint16_t checksum=0):
        self.h.sport = sport
        self.h.dport = dport
        self.h.length = UDP_HDR_LEN
        self.h.checksum = checksum

    @staticmethod
    def parse(data, *, src=None, dst=None):
        """The header at the start of a datagram; where src and dst are given its checksum is verified.

        A checksum of 0 means that there is none, which only IPv4 allows (RFC 8200 section 8.1).

        Raises:
            WireError: truncated (also where the length claims more than is there), bad length, bad checksum.
        """
        cdef UDPHeader self = UDPHeader.__new__(UDPHeader)
        cdef Py_buffer view
        cdef addr_t s, d
        cdef bint verify = src is not None and dst is not None
        if verify:
            s = addr_from_object(src)
            d = addr_from_object(dst)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef const uint8_t *p = <const uint8_t *>view.buf
        cdef int code = udp_parse(p, <size_t>view.len, &self.h)
        if code >= 0 and verify:
            if self.h.checksum == 0:
                if not addr_is_v4(&s):
                    code = WIRE_BAD_CHECKSUM
            elif not csum_ok(p, self.h.length, csum_pseudo(&s, &d, PROTOCOL, self.h.length)):
                code = WIRE_BAD_CHECKSUM
        PyBuffer_Release(&view)
        raise_wire(code)
        return self

    def build(self, bytes payload not None=b"", *, src=None, dst=None):
        """Header and payload.

        The checksum is computed where src and dst are given, and is the attribute otherwise.

        Raises:
            WireError: bad length, where both together exceed 65535 bytes.
        """
        cdef uint8_t out[UDP_HDR_LEN]
        cdef udp_hdr h = self.h
        cdef addr_t s, d
        cdef uint64_t sum
        cdef uint16_t value
        cdef const uint8_t *p = payload
        cdef Py_ssize_t total = UDP_HDR_LEN + len(payload)
        if total > 0xffff:
            raise_wire(WIRE_BAD_LENGTH)
        h.length = <uint16_t>total
        if src is not None and dst is not None:
            s = addr_from_object(src)
            d = addr_from_object(dst)
            h.checksum = 0
            udp_write(out, sizeof(out), &h)
            sum = csum_add(out, UDP_HDR_LEN, csum_pseudo(&s, &d, PROTOCOL, <uint32_t>total))
            value = csum_finish(csum_add(p, <size_t>len(payload), sum))
            csum_store(out + 6, value if value else <uint16_t>0xffff)   # 0 would say that there is none
        else:
            udp_write(out, sizeof(out), &h)
        return out[:UDP_HDR_LEN] + payload

    cdef int write_at(self, uint8_t *out, size_t room):
        return udp_write(out, room, &self.h)

    @property
    def sport(self):
        return self.h.sport

    @property
    def dport(self):
        return self.h.dport

    @property
    def length(self):
        return self.h.length

    @property
    def checksum(self):
        return self.h.checksum

    cdef tuple key(self):
        """The ports: length and checksum belong to a datagram and not to a header in hand."""
        return (self.h.sport, self.h.dport)

    def __repr__(self):
        return f"UDPHeader(sport={self.h.sport}, dport={self.h.dport}, checksum={self.h.checksum:#06x})"
