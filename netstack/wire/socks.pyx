"""The header of a datagram in a SOCKS 5 UDP association (RFC 1928 section 7).

Offsets: reserved 0 (two bytes, zero), fragment 2, address type 3, address 4 (4 or 16 bytes, or a byte of length and a
name), port behind it.
"""

import ipaddress

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from netstack.wire.be cimport be16, put_be16
from netstack.wire.code cimport WIRE_BAD_LENGTH, WIRE_BAD_VALUE, WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire
from netstack.wire.header cimport WireValue

IPV4 = <int>SOCKS_IPV4
NAME = <int>SOCKS_NAME
IPV6 = <int>SOCKS_IPV6


cdef int socks_udp_parse(const uint8_t *data, size_t length, socks_udp_hdr *out) noexcept nogil:
    """Bytes of the header, or WIRE_TRUNCATED, WIRE_BAD_VALUE (reserved bytes, address type), WIRE_BAD_LENGTH (a name
    of no bytes)."""
    cdef size_t at = 4
    if length < at + 1:
        return WIRE_TRUNCATED
    if data[0] or data[1]:
        return WIRE_BAD_VALUE
    out.fragment = data[2]
    out.type = data[3]
    if out.type == SOCKS_IPV4:
        out.size = 4
    elif out.type == SOCKS_IPV6:
        out.size = 16
    elif out.type == SOCKS_NAME:
        out.size = data[4]
        if out.size == 0:
            return WIRE_BAD_LENGTH
        at = 5
    else:
        return WIRE_BAD_VALUE
    if length < at + out.size + 2:
        return WIRE_TRUNCATED
    out.address = data + at
    out.port = be16(data + at + out.size)
    return <int>(at + out.size + 2)


cdef int socks_udp_write(uint8_t *out, size_t room, const socks_udp_hdr *hdr) noexcept nogil:
    """Bytes written, or WIRE_NO_ROOM."""
    cdef size_t at = 5 if hdr.type == SOCKS_NAME else 4
    if room < at + hdr.size + 2:
        return WIRE_NO_ROOM
    out[0] = 0
    out[1] = 0
    out[2] = hdr.fragment
    out[3] = hdr.type
    if hdr.type == SOCKS_NAME:
        out[4] = hdr.size
    memcpy(out + at, hdr.address, hdr.size)
    put_be16(out + at + hdr.size, hdr.port)
    return <int>(at + hdr.size + 2)


@cython.final
@cython.auto_pickle(False)
cdef class SocksUDPHeader(WireValue):
    """Such a header as a value.

    Attributes:
        address: an IPv4 or IPv6 address as text, or a name (ASCII, 1 to 255 bytes).
        port: of the destination, or of who has sent the datagram.
        fragment: 0 for a whole datagram.
        length: bytes of the header.
    """

    cdef bytes raw
    cdef socks_udp_hdr h

    def __init__(self, str address, uint16_t port, uint8_t fragment=0):
        try:
            parsed = ipaddress.ip_address(address)
            self.raw = parsed.packed
            self.h.type = SOCKS_IPV4 if parsed.version == 4 else SOCKS_IPV6
        except ValueError:
            self.raw = address.encode("ascii")
            self.h.type = SOCKS_NAME
            if not 1 <= len(self.raw) <= 255:
                raise_wire(WIRE_BAD_LENGTH)
        self.h.size = <uint8_t>len(self.raw)
        self.h.port = port
        self.h.fragment = fragment

    @staticmethod
    def parse(data):
        """The header at the start of a datagram.

        Raises:
            WireError: truncated, bad value, bad length.
        """
        cdef SocksUDPHeader self = SocksUDPHeader.__new__(SocksUDPHeader)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef int code = socks_udp_parse(<const uint8_t *>view.buf, <size_t>view.len, &self.h)
        if code >= 0:
            self.raw = self.h.address[:self.h.size]
        PyBuffer_Release(&view)
        self.h.address = NULL
        raise_wire(code)
        return self

    def build(self):
        """The header's bytes."""
        cdef uint8_t out[SOCKS_UDP_HDR_MAX]
        cdef socks_udp_hdr h = self.h
        h.address = <const uint8_t *><const char *>self.raw
        cdef int n = raise_wire(socks_udp_write(out, sizeof(out), &h))
        return out[:n]

    @property
    def address(self):
        if self.h.type == SOCKS_NAME:
            return self.raw.decode("latin-1")
        return str(ipaddress.ip_address(self.raw))

    @property
    def port(self):
        return self.h.port

    @property
    def fragment(self):
        return self.h.fragment

    @property
    def length(self):
        return self.h.size + (7 if self.h.type == SOCKS_NAME else 6)

    cdef tuple key(self):
        return (self.h.type, self.raw, self.h.port, self.h.fragment)

    def __repr__(self):
        return f"SocksUDPHeader({self.address!r}, {self.h.port}, {self.h.fragment})"
