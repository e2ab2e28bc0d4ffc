"""IPv4 headers (RFC 791).

Offsets: version and IHL 0, TOS 1, total length 2, identification 4, flags and fragment offset 6, TTL 8,
protocol 9, header checksum 10, source 12, destination 16, options 20.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.wire.addr cimport v4_from_object, v4_to_object
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_store
from netstack.wire.code cimport (
    WIRE_BAD_CHECKSUM,
    WIRE_BAD_LENGTH,
    WIRE_BAD_VALUE,
    WIRE_BAD_VERSION,
    WIRE_NO_ROOM,
    WIRE_TRUNCATED,
    raise_wire,
)
from netstack.wire.header cimport WireHeader


cdef inline uint16_t fixed_header_sum(const uint8_t *p) noexcept nogil:
    """The complemented sum of 20 bytes, in memory order: the header without options, without a call."""
    cdef uint32_t w[5]
    cdef uint64_t sum
    memcpy(w, p, 20)
    sum = <uint64_t>w[0] + w[1] + w[2] + w[3] + w[4]
    sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32)
    sum = (sum & 0xffff) + (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16)
    return <uint16_t>~sum


cdef int ipv4_parse(const uint8_t *data, size_t length, ipv4_hdr *out) noexcept nogil:
    cdef int header_length
    cdef uint16_t fragment
    if length < IPV4_HDR_LEN:
        return WIRE_TRUNCATED
    if data[0] >> 4 != 4:
        return WIRE_BAD_VERSION
    header_length = (data[0] & 0x0f) << 2
    if header_length < IPV4_HDR_LEN:
        return WIRE_BAD_LENGTH
    out.total_length = be16(data + 2)
    if out.total_length < header_length:
        return WIRE_BAD_LENGTH
    if out.total_length > length:
        return WIRE_TRUNCATED
    out.header_length = <uint8_t>header_length
    out.tos = data[1]
    out.ident = be16(data + 4)
    fragment = be16(data + 6)
    out.dont_fragment = (fragment >> 14) & 1
    out.more_fragments = (fragment >> 13) & 1
    out.frag_offset = <uint16_t>((fragment & 0x1fff) << 3)
    out.ttl = data[8]
    out.protocol = data[9]
    out.src = be32(data + 12)
    out.dst = be32(data + 16)
    out.options = data + IPV4_HDR_LEN if header_length > IPV4_HDR_LEN else NULL
    return header_length


cdef bint ipv4_checksum_ok(const uint8_t *data, int header_length) noexcept nogil:
    if header_length == IPV4_HDR_LEN:
        return fixed_header_sum(data) == 0
    return csum_ok(data, <size_t>header_length, 0)


cdef int ipv4_write(uint8_t *out, size_t room, const ipv4_hdr *hdr) noexcept nogil:
    cdef int header_length = IPV4_HDR_LEN
    cdef int options = 0
    if hdr.options != NULL:
        if hdr.header_length < IPV4_HDR_LEN or hdr.header_length > 60:
            return WIRE_BAD_LENGTH
        options = hdr.header_length - IPV4_HDR_LEN
        header_length += (options + 3) & ~3
    if room < <size_t>header_length:
        return WIRE_NO_ROOM
    if hdr.total_length < header_length:
        return WIRE_BAD_LENGTH
    if hdr.frag_offset & 7:
        return WIRE_BAD_VALUE
    out[0] = <uint8_t>(0x40 | (header_length >> 2))
    out[1] = hdr.tos
    put_be16(out + 2, hdr.total_length)
    put_be16(out + 4, hdr.ident)
    put_be16(out + 6, <uint16_t>(
        (0x4000 if hdr.dont_fragment else 0) | (0x2000 if hdr.more_fragments else 0) | (hdr.frag_offset >> 3)
    ))
    out[8] = hdr.ttl
    out[9] = hdr.protocol
    out[10] = 0
    out[11] = 0
    put_be32(out + 12, hdr.src)
    put_be32(out + 16, hdr.dst)
    if options == 0:
        csum_store(out + 10, fixed_header_sum(out))
        return IPV4_HDR_LEN
    memset(out + header_length - 4, 0, 4)   # the padding is End of Option List
    memcpy(out + IPV4_HDR_LEN, hdr.options, <size_t>options)
    csum_store(out + 10, csum_finish(csum_add(out, <size_t>header_length, 0)))
    return header_length


@cython.final
@cython.auto_pickle(False)
cdef class IPv4Header(WireHeader):
    """An IPv4 header as a value.

    Attributes:
        src, dst: IPv4Address.
        protocol, ttl, tos, ident: as on the wire.
        total_length: bytes, header included; :meth:`build` writes the true one.
        frag_offset: bytes, a multiple of 8.
        dont_fragment, more_fragments: bool.
        options: bytes, padded to a multiple of 4 with End of Option List.
        header_length: bytes, 20..60.
    """

    cdef ipv4_hdr h
    cdef readonly bytes options

    def __init__(
        self,
        src,
        dst,
        uint8_t protocol,
        *,
        uint8_t ttl=64,
        uint8_t tos=0,
        uint16_t ident=0,
        uint16_t frag_offset=0,
        bint dont_fragment=False,
        bint more_fragments=False,
        bytes options not None=b"",
    ):
        if len(options) > 40:
            raise ValueError(f"IPv4 options have at most 40 bytes, not {len(options)}")
        if frag_offset & 7:
            raise ValueError(f"a fragment offset is a multiple of 8 bytes, not {frag_offset}")
        self.h.src = v4_from_object(src)
        self.h.dst = v4_from_object(dst)
        self.h.protocol = protocol
        self.h.ttl = ttl
        self.h.tos = tos
        self.h.ident = ident
        self.h.frag_offset = frag_offset
        self.h.dont_fragment = dont_fragment
        self.h.more_fragments = more_fragments
        self.options = options + bytes(3 - (len(options) + 3) % 4)
        self.h.options = NULL
        self.h.header_length = <uint8_t>(IPV4_HDR_LEN + len(options))  # ipv4_write pads by itself
        self.h.total_length = self.length()

    @staticmethod
    def parse(data, *, bint verify=False):
        """The header at the start of a packet; with verify its checksum too.

        Raises:
            WireError: truncated (also where the total length claims more than is there), bad version, bad
                length, bad checksum.
        """
        cdef IPv4Header self = IPv4Header.__new__(IPv4Header)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef const uint8_t *p = <const uint8_t *>view.buf
        cdef int code
        try:
            code = ipv4_parse(p, <size_t>view.len, &self.h)
            if code >= 0 and verify and not ipv4_checksum_ok(p, code):
                code = WIRE_BAD_CHECKSUM
            raise_wire(code)
            self.options = p[IPV4_HDR_LEN:code]
            self.h.options = NULL   # the pointer would outlive the buffer
        finally:
            PyBuffer_Release(&view)
        return self

    def build(self, bytes payload not None=b""):
        """Header and payload, with the total length and the header checksum that they call for.

        Raises:
            WireError: bad length, where both together exceed 65535 bytes.
        """
        cdef uint8_t out[60]
        cdef ipv4_hdr h = self.h
        cdef Py_ssize_t total = self.length() + len(payload)
        if total > 0xffff:
            raise_wire(WIRE_BAD_LENGTH)
        h.total_length = <uint16_t>total
        if self.options:
            h.options = self.options
        cdef int n = raise_wire(ipv4_write(out, sizeof(out), &h))
        return out[:n] + payload

    cdef int write_at(self, uint8_t *out, size_t room):
        cdef ipv4_hdr h = self.h
        if self.options:
            h.options = self.options
        return ipv4_write(out, room, &h)

    @property
    def src(self):
        return v4_to_object(self.h.src)

    @property
    def dst(self):
        return v4_to_object(self.h.dst)

    @property
    def protocol(self):
        return self.h.protocol

    @property
    def ttl(self):
        return self.h.ttl

    @property
    def tos(self):
        return self.h.tos

    @property
    def ident(self):
        return self.h.ident

    @property
    def total_length(self):
        return self.h.total_length

    @property
    def header_length(self):
        return self.length()

    @property
    def frag_offset(self):
        return self.h.frag_offset

    @property
    def dont_fragment(self):
        return self.h.dont_fragment != 0

    @property
    def more_fragments(self):
        return self.h.more_fragments != 0

    cdef uint8_t length(self) noexcept:
        """The header's length in bytes, with padded options."""
        return <uint8_t>(IPV4_HDR_LEN + len(self.options))

    cdef tuple key(self):
        """Everything but the total length, which belongs to a packet and not to a header in hand."""
        return (
            self.h.src,
            self.h.dst,
            self.h.protocol,
            self.h.ttl,
            self.h.tos,
            self.h.ident,
            self.h.frag_offset,
            self.h.dont_fragment,
            self.h.more_fragments,
            self.options,
        )

    def __repr__(self):
        return (
            f"IPv4Header(src={str(self.src)!r}, dst={str(self.dst)!r}, protocol={self.h.protocol}, "
            f"ttl={self.h.ttl}, tos={self.h.tos:#04x}, ident={self.h.ident:#06x}, "
            f"frag_offset={self.h.frag_offset}, dont_fragment={self.dont_fragment}, "
            f"more_fragments={self.more_fragments}, options={self.options!r})"
        )
