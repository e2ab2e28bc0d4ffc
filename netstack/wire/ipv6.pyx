"""IPv6 headers and their extension headers (RFC 8200).

Offsets of the fixed header: version, traffic class and flow label 0, payload length 4, next header 6, hop
limit 7, source 8, destination 24. Extension headers that are stepped over: hop-by-hop options (first only),
destination options, routing (with no segment left) and fragment. ESP, AH and everything else count as the
upper layer.
"""

import ipaddress

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from netstack.wire.addr cimport addr_from_object, addr_from_v6, addr_is_v4, addr_t, addr_to_v6_object
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_OPTION,
    WIRE_BAD_VALUE,
    WIRE_BAD_VERSION,
    WIRE_NO_ROOM,
    WIRE_OK,
    WIRE_TRUNCATED,
    WIRE_UNSUPPORTED,
    raise_wire,
)
from netstack.wire.header cimport WireHeader

cdef enum:
    HOP_BY_HOP = 0
    ROUTING = 43
    FRAGMENT = 44
    NO_NEXT_HEADER = 59
    DESTINATION = 60
    MAX_EXTENSIONS = 8
    OPTION_PAD1 = 0
    OPTION_JUMBO = 0xc2


cdef int check_options(const uint8_t *data, size_t length) noexcept nogil:
    """The option list of a hop-by-hop or destination header (RFC 8200 section 4.2): WIRE_OK or a code.

    A jumbo payload, and an unknown option whose two highest bits ask for the packet to be discarded, is
    WIRE_UNSUPPORTED.
    """
    cdef size_t i = 0
    cdef uint8_t kind
    while i < length:
        kind = data[i]
        if kind == OPTION_PAD1:
            i += 1
            continue
        if i + 2 > length or i + 2 + data[i + 1] > length:
            return WIRE_BAD_OPTION
        if kind & 0xc0:     # OPTION_JUMBO among them
            return WIRE_UNSUPPORTED
        i += 2 + <size_t>data[i + 1]
    return WIRE_OK


cdef int ipv6_parse(const uint8_t *data, size_t length, ipv6_hdr *out) noexcept nogil:
    cdef uint32_t first
    cdef size_t offset = IPV6_HDR_LEN, end, size
    cdef uint8_t protocol
    cdef int extensions = 0, code
    if length < IPV6_HDR_LEN:
        return WIRE_TRUNCATED
    first = be32(data)
    if first >> 28 != 6:
        return WIRE_BAD_VERSION
    out.traffic_class = <uint8_t>(first >> 20)
    out.flow_label = first & 0xfffff
    out.payload_length = be16(data + 4)
    out.next_header = data[6]
    out.hop_limit = data[7]
    out.src = addr_from_v6(data + 8)
    out.dst = addr_from_v6(data + 24)
    out.is_fragment = 0
    out.frag_offset = 0
    out.more_fragments = 0
    out.frag_ident = 0
    end = IPV6_HDR_LEN + <size_t>out.payload_length
    if end > length:
        return WIRE_TRUNCATED
    protocol = out.next_header
    # A jumbogram (RFC 2675) says a payload length of 0 and carries its true length in the first hop-by-hop
    # option.
    if (
        end == IPV6_HDR_LEN and protocol == HOP_BY_HOP and length >= IPV6_HDR_LEN + 8
        and data[IPV6_HDR_LEN + 2] == OPTION_JUMBO
    ):
        return WIRE_UNSUPPORTED
    while (
        protocol == HOP_BY_HOP or protocol == DESTINATION or protocol == ROUTING or protocol == FRAGMENT
    ):
        if extensions == MAX_EXTENSIONS:
            return WIRE_UNSUPPORTED
        if end - offset < 8:
            return WIRE_TRUNCATED
        if protocol == FRAGMENT:
            if out.is_fragment:
                return WIRE_BAD_VALUE
            out.is_fragment = 1
            out.frag_offset = be16(data + offset + 2) & 0xfff8
            out.more_fragments = data[offset + 3] & 1
            out.frag_ident = be32(data + offset + 4)
            protocol = data[offset]
            offset += 8
            if out.frag_offset:
                protocol = FRAGMENT     # what follows is the middle of something
                break
        else:
            if protocol == HOP_BY_HOP and extensions:
                return WIRE_BAD_VALUE   # RFC 8200 section 4.1: only directly behind the fixed header
            size = (<size_t>data[offset + 1] + 1) << 3
            if size > end - offset:
                return WIRE_TRUNCATED
            if protocol == ROUTING:
                if data[offset + 3]:
                    return WIRE_UNSUPPORTED     # segments left: source routing is refused (RFC 5095)
            else:
                code = check_options(data + offset + 2, size - 2)
                if code != WIRE_OK:
                    return code
            protocol = data[offset]
            offset += size
        extensions += 1
    out.protocol = protocol
    out.l4_offset = <uint16_t>offset
    out.l4_length = <uint16_t>(end - offset)
    return <int>offset


cdef int ipv6_write(uint8_t *out, size_t room, const ipv6_hdr *hdr) noexcept nogil:
    if room < IPV6_HDR_LEN:
        return WIRE_NO_ROOM
    if hdr.flow_label > 0xfffff:
        return WIRE_BAD_VALUE
    put_be32(out, <uint32_t>0x60000000 | (<uint32_t>hdr.traffic_class << 20) | hdr.flow_label)
    put_be16(out + 4, hdr.payload_length)
    out[6] = hdr.next_header
    out[7] = hdr.hop_limit
    memcpy(out + 8, &hdr.src, 16)
    memcpy(out + 24, &hdr.dst, 16)
    return IPV6_HDR_LEN


cdef addr_t v6_from_object(object value) except *:
    cdef addr_t a
    if isinstance(value, str):
        value = ipaddress.IPv6Address(value)    # keeps ::ffff:a.b.c.d, refuses a.b.c.d
    elif isinstance(value, ipaddress.IPv4Address):
        raise ValueError(f"{value} is not an IPv6 address")
    a = addr_from_object(value)
    if addr_is_v4(&a) and not isinstance(value, ipaddress.IPv6Address):
        raise ValueError(f"{value!r} is not an IPv6 address")
    return a


@cython.final
@cython.auto_pickle(False)
cdef class IPv6Header(WireHeader):
    """An IPv6 header as a value.

    Attributes:
        src, dst: IPv6Address.
        next_header: of the fixed header.
        hop_limit, traffic_class, flow_label: as on the wire.
        payload_length: bytes behind the fixed header; :meth:`build` writes the true one.
        protocol: the upper-layer protocol behind all extension headers; 44 where the content is a non-first
            fragment, 59 where there is none.
        l4_offset, l4_length: bytes, where the upper layer begins in the packet and how long it is.
        is_fragment, more_fragments: bool.
        frag_offset: bytes. frag_ident: 32 bits.
    """

    cdef ipv6_hdr h

    def __init__(
        self,
        src,
        dst,
        uint8_t next_header,
        *,
        uint8_t hop_limit=64,
        uint8_t traffic_class=0,
        uint32_t flow_label=0,
    ):
        if flow_label > 0xfffff:
            raise ValueError(f"a flow label has 20 bits: {flow_label:#x} does not fit")
        memset(&self.h, 0, sizeof(self.h))
        self.h.src = v6_from_object(src)
        self.h.dst = v6_from_object(dst)
        self.h.next_header = next_header
        self.h.protocol = next_header
        self.h.hop_limit = hop_limit
        self.h.traffic_class = traffic_class
        self.h.flow_label = flow_label
        self.h.l4_offset = IPV6_HDR_LEN

    @staticmethod
    def parse(data):
        """The header and the chain of extension headers (at most 8) at the start of a packet.

        Raises:
            WireError: truncated, bad version, bad option, bad value (a second fragment header, hop-by-hop
                options that do not come first), unsupported (a jumbogram, source routing, an option that must not be
                ignored, a longer chain).
        """
        cdef IPv6Header self = IPv6Header.__new__(IPv6Header)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef int code = ipv6_parse(<const uint8_t *>view.buf, <size_t>view.len, &self.h)
        PyBuffer_Release(&view)
        raise_wire(code)
        return self

    def build(self, bytes payload not None=b""):
        """The 40-byte header and payload (which begins with what next_header says).

        Raises:
            WireError: bad length, where the payload exceeds 65535 bytes.
        """
        cdef uint8_t out[IPV6_HDR_LEN]
        cdef ipv6_hdr h = self.h
        if len(payload) > 0xffff:
            raise_wire(WIRE_BAD_LENGTH)
        h.payload_length = <uint16_t>len(payload)
        cdef int n = raise_wire(ipv6_write(out, sizeof(out), &h))
        return out[:n] + payload

    cdef int write_at(self, uint8_t *out, size_t room):
        return ipv6_write(out, room, &self.h)

    @property
    def src(self):
        return addr_to_v6_object(&self.h.src)

    @property
    def dst(self):
        return addr_to_v6_object(&self.h.dst)

    @property
    def next_header(self):
        return self.h.next_header

    @property
    def hop_limit(self):
        return self.h.hop_limit

    @property
    def traffic_class(self):
        return self.h.traffic_class

    @property
    def flow_label(self):
        return self.h.flow_label

    @property
    def payload_length(self):
        return self.h.payload_length

    @property
    def protocol(self):
        return self.h.protocol

    @property
    def l4_offset(self):
        return self.h.l4_offset

    @property
    def l4_length(self):
        return self.h.l4_length

    @property
    def is_fragment(self):
        return self.h.is_fragment != 0

    @property
    def more_fragments(self):
        return self.h.more_fragments != 0

    @property
    def frag_offset(self):
        return self.h.frag_offset

    @property
    def frag_ident(self):
        return self.h.frag_ident

    cdef tuple key(self):
        """The fixed header without its payload length, and the fragment header."""
        return (
            self.src,
            self.dst,
            self.h.next_header,
            self.h.hop_limit,
            self.h.traffic_class,
            self.h.flow_label,
            self.h.is_fragment,
            self.h.frag_offset,
            self.h.more_fragments,
            self.h.frag_ident,
        )

    def __repr__(self):
        fragment = ""
        if self.h.is_fragment:
            fragment = (
                f", frag_offset={self.h.frag_offset}, more_fragments={self.more_fragments}, "
                f"frag_ident={self.h.frag_ident:#010x}"
            )
        return (
            f"IPv6Header(src={str(self.src)!r}, dst={str(self.dst)!r}, next_header={self.h.next_header}, "
            f"hop_limit={self.h.hop_limit}, traffic_class={self.h.traffic_class:#04x}, "
            f"flow_label={self.h.flow_label:#07x}{fragment})"
        )
