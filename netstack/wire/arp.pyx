"""ARP for IPv4 over Ethernet (RFC 826).

Offsets: hardware type 0, protocol type 2, lengths 4 and 5, operation 6, sender 8 and 14, target 18 and 24.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from netstack.wire.addr cimport mac_from_object, mac_to_str, v4_from_object, v4_to_object
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.code cimport WIRE_BAD_LENGTH, WIRE_BAD_VERSION, WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire
from netstack.wire.header cimport WireHeader

REQUEST = ARP_REQUEST
REPLY = ARP_REPLY


cdef int arp_parse(const uint8_t *data, size_t length, arp_hdr *out) noexcept nogil:
    if length < ARP_LEN:
        return WIRE_TRUNCATED
    if be16(data) != 1 or be16(data + 2) != 0x0800:
        return WIRE_BAD_VERSION
    if data[4] != 6 or data[5] != 4:
        return WIRE_BAD_LENGTH
    out.op = be16(data + 6)
    memcpy(out.sha, data + 8, 6)
    out.spa = be32(data + 14)
    memcpy(out.tha, data + 18, 6)
    out.tpa = be32(data + 24)
    return ARP_LEN


cdef int arp_write(uint8_t *out, size_t room, const arp_hdr *hdr) noexcept nogil:
    if room < ARP_LEN:
        return WIRE_NO_ROOM
    put_be16(out, 1)
    put_be16(out + 2, 0x0800)
    out[4] = 6
    out[5] = 4
    put_be16(out + 6, hdr.op)
    memcpy(out + 8, hdr.sha, 6)
    put_be32(out + 14, hdr.spa)
    memcpy(out + 18, hdr.tha, 6)
    put_be32(out + 24, hdr.tpa)
    return ARP_LEN


@cython.final
@cython.auto_pickle(False)
cdef class ArpPacket(WireHeader):
    """An ARP packet as a value.

    Attributes:
        op: :data:`REQUEST`, :data:`REPLY` or another operation number.
        sha, tha: sender's and target's Ethernet address as text.
        spa, tpa: sender's and target's IPv4Address.
    """

    cdef arp_hdr h

    def __init__(self, uint16_t op, sha, spa, tha, tpa):
        self.h.op = op
        mac_from_object(sha, self.h.sha)
        self.h.spa = v4_from_object(spa)
        mac_from_object(tha, self.h.tha)
        self.h.tpa = v4_from_object(tpa)

    @staticmethod
    def parse(data):
        """The packet at the start of data; padding behind its 28 bytes is ignored.

        Raises:
            WireError: truncated, bad version (not Ethernet and IPv4), bad length (of an address).
        """
        cdef ArpPacket self = ArpPacket.__new__(ArpPacket)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef int code = arp_parse(<const uint8_t *>view.buf, <size_t>view.len, &self.h)
        PyBuffer_Release(&view)
        raise_wire(code)
        return self

    def build(self):
        """The packet's 28 bytes."""
        cdef uint8_t out[ARP_LEN]
        cdef int n = raise_wire(arp_write(out, sizeof(out), &self.h))
        return out[:n]

    cdef int write_at(self, uint8_t *out, size_t room):
        return arp_write(out, room, &self.h)

    @property
    def op(self):
        return self.h.op

    @property
    def sha(self):
        return mac_to_str(self.h.sha)

    @property
    def spa(self):
        return v4_to_object(self.h.spa)

    @property
    def tha(self):
        return mac_to_str(self.h.tha)

    @property
    def tpa(self):
        return v4_to_object(self.h.tpa)

    cdef tuple key(self):
        return (self.h.op, self.sha, self.h.spa, self.tha, self.h.tpa)

    def __repr__(self):
        return (
            f"ArpPacket(op={self.h.op}, sha={self.sha!r}, spa={str(self.spa)!r}, "
            f"tha={self.tha!r}, tpa={str(self.tpa)!r})"
        )
