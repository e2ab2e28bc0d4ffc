"""Ethernet II headers with 802.1Q and 802.1ad tags (IEEE 802.3, 802.1Q).

Offsets: destination 0, source 6, then per tag TPID and TCI (4 bytes), then the EtherType (2 bytes).
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from netstack.wire.addr cimport mac_from_object, mac_to_str
from netstack.wire.be cimport be16, put_be16
from netstack.wire.code cimport WIRE_NO_ROOM, WIRE_TRUNCATED, raise_wire
from netstack.wire.header cimport WireHeader


cdef int eth_parse(const uint8_t *data, size_t length, eth_hdr *out) noexcept nogil:
    cdef int offset = 12
    cdef uint16_t ethertype
    if length < ETH_HDR_LEN:
        return WIRE_TRUNCATED
    memcpy(out.dst, data, 6)
    memcpy(out.src, data + 6, 6)
    out.vlan_tags = 0
    out.vlan_tci = 0
    ethertype = be16(data + 12)
    while (ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ) and out.vlan_tags < 2:
        if length < <size_t>offset + 6:
            return WIRE_TRUNCATED
        if out.vlan_tags == 0:
            out.vlan_tci = be16(data + 14)
        out.vlan_tags += 1
        offset += 4
        ethertype = be16(data + offset)
    out.ethertype = ethertype
    return offset + 2


cdef int eth_write(uint8_t *out, size_t room, const eth_hdr *hdr) noexcept nogil:
    if room < ETH_HDR_LEN:
        return WIRE_NO_ROOM
    memcpy(out, hdr.dst, 6)
    memcpy(out + 6, hdr.src, 6)
    put_be16(out + 12, hdr.ethertype)
    return ETH_HDR_LEN


@cython.final
@cython.auto_pickle(False)
cdef class EthernetHeader(WireHeader):
    """An Ethernet header as a value.

    Attributes:
        dst, src: addresses as text, ``02:00:00:00:00:01``.
        ethertype: of the payload, behind any tags.
        vlan_tags: number of 802.1Q / 802.1ad tags that were parsed, 0..2.
        vlan_tci: the outermost tag's control information, 0 where there is none.
        header_length: bytes, 14 + 4 for each tag.
    """

    cdef eth_hdr h

    def __init__(self, dst, src, uint16_t ethertype):
        mac_from_object(dst, self.h.dst)
        mac_from_object(src, self.h.src)
        self.h.ethertype = ethertype
        self.h.vlan_tags = 0
        self.h.vlan_tci = 0

    @staticmethod
    def parse(data):
        """The header at the start of a frame.

        Raises:
            WireError: truncated.
        """
        cdef EthernetHeader self = EthernetHeader.__new__(EthernetHeader)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef int code = eth_parse(<const uint8_t *>view.buf, <size_t>view.len, &self.h)
        PyBuffer_Release(&view)
        raise_wire(code)
        return self

    def build(self, bytes payload not None=b""):
        """The untagged header's 14 bytes followed by payload."""
        cdef uint8_t out[ETH_HDR_LEN]
        cdef int n = raise_wire(eth_write(out, sizeof(out), &self.h))
        return out[:n] + payload

    cdef int write_at(self, uint8_t *out, size_t room):
        return eth_write(out, room, &self.h)

    @property
    def dst(self):
        return mac_to_str(self.h.dst)

    @property
    def src(self):
        return mac_to_str(self.h.src)

    @property
    def ethertype(self):
        return self.h.ethertype

    @property
    def vlan_tags(self):
        return self.h.vlan_tags

    @property
    def vlan_tci(self):
        return self.h.vlan_tci

    @property
    def header_length(self):
        return ETH_HDR_LEN + 4 * self.h.vlan_tags

    cdef tuple key(self):
        return (self.dst, self.src, self.h.ethertype, self.h.vlan_tags, self.h.vlan_tci)

    def __repr__(self):
        tags = f", vlan_tags={self.h.vlan_tags}, vlan_tci={self.h.vlan_tci:#06x}" if self.h.vlan_tags else ""
        return f"EthernetHeader(dst={self.dst!r}, src={self.src!r}, ethertype={self.h.ethertype:#06x}{tags})"
