"""DHCPv4 messages (RFC 2131, options of RFC 2132, long options of RFC 3396).

Offsets: op 0, htype 1, hlen 2, hops 3, xid 4, secs 8, flags 10, ciaddr 12, yiaddr 16, siaddr 20, giaddr 24,
chaddr 28 (16 bytes), sname 44 (64), file 108 (128), magic cookie 236, options 240. An option is code, length, data;
PAD (0) and END (255) are single bytes.
"""

from ipaddress import IPv4Address
from types import MappingProxyType

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_OPTION,
    WIRE_BAD_VALUE,
    WIRE_NO_ROOM,
    WIRE_TRUNCATED,
    raise_wire,
)

cdef enum:
    PAD = 0
    OVERLOAD = 52
    END = 255
    SNAME_AT = 44
    FILE_AT = 108
    COOKIE_AT = 236


cdef int options_parse(const uint8_t *data, size_t at, size_t end, dhcp4_hdr *out) noexcept nogil:
    """Adds the options in bytes at..end of the message: until END or the end of the field."""
    cdef uint8_t code, n
    cdef dhcp4_option *piece
    while at < end:
        code = data[at]
        at += 1
        if code == PAD:
            continue
        if code == END:
            break
        if at >= end:
            return WIRE_BAD_OPTION
        n = data[at]
        at += 1
        if n > end - at:
            return WIRE_BAD_OPTION
        if code == OVERLOAD:
            # Only the options field may say it, and only once: what it names would else be read twice.
            if n != 1 or out.overload or not 1 <= data[at] <= 3:
                return WIRE_BAD_OPTION
            out.overload = data[at]
        else:
            if out.option_count == DHCP4_OPTIONS_MAX:
                return WIRE_BAD_OPTION
            piece = &out.options[out.option_count]
            piece.code = code
            piece.length = n
            piece.offset = <uint16_t>at
            out.option_count += 1
        at += n
    return 0


cdef int dhcp4_parse(const uint8_t *data, size_t length, dhcp4_hdr *out) noexcept nogil:
    """Reads header and options; refuses another op than 1 and 2, hlen over 16, and a message without the cookie."""
    cdef int rc
    cdef uint8_t overload
    if length < DHCP4_FIXED_LEN:
        return WIRE_TRUNCATED
    if length > 0xffff:
        return WIRE_BAD_LENGTH
    out.op = data[0]
    out.htype = data[1]
    out.hlen = data[2]
    out.hops = data[3]
    out.xid = be32(data + 4)
    out.secs = be16(data + 8)
    out.flags = be16(data + 10)
    out.ciaddr = be32(data + 12)
    out.yiaddr = be32(data + 16)
    out.siaddr = be32(data + 20)
    out.giaddr = be32(data + 24)
    memcpy(out.chaddr, data + 28, 16)
    memcpy(out.sname, data + SNAME_AT, 64)
    memcpy(out.file, data + FILE_AT, 128)
    out.overload = 0
    out.option_count = 0
    if out.op != 1 and out.op != 2:
        return WIRE_BAD_VALUE
    if out.hlen > 16:
        return WIRE_BAD_LENGTH
    if be32(data + COOKIE_AT) != DHCP4_COOKIE:
        return WIRE_BAD_VALUE
    rc = options_parse(data, DHCP4_FIXED_LEN, length, out)
    overload = out.overload
    if rc == 0 and overload & 1:
        rc = options_parse(data, FILE_AT, FILE_AT + 128, out)
    if rc == 0 and overload & 2:
        rc = options_parse(data, SNAME_AT, SNAME_AT + 64, out)
    return rc if rc < 0 else DHCP4_FIXED_LEN


cdef int dhcp4_write(uint8_t *out, size_t room, const dhcp4_hdr *hdr) noexcept nogil:
    if room < DHCP4_FIXED_LEN:
        return WIRE_NO_ROOM
    out[0] = hdr.op
    out[1] = hdr.htype
    out[2] = hdr.hlen
    out[3] = hdr.hops
    put_be32(out + 4, hdr.xid)
    put_be16(out + 8, hdr.secs)
    put_be16(out + 10, hdr.flags)
    put_be32(out + 12, hdr.ciaddr)
    put_be32(out + 16, hdr.yiaddr)
    put_be32(out + 20, hdr.siaddr)
    put_be32(out + 24, hdr.giaddr)
    memcpy(out + 28, hdr.chaddr, 16)
    memcpy(out + SNAME_AT, hdr.sname, 64)
    memcpy(out + FILE_AT, hdr.file, 128)
    put_be32(out + COOKIE_AT, DHCP4_COOKIE)
    return DHCP4_FIXED_LEN


cdef int dhcp4_write_option(uint8_t *out, size_t room, uint8_t code, const uint8_t *data,
                            size_t length) noexcept nogil:
    cdef size_t done = 0, n, at = 0
    while True:
        n = min(length - done, <size_t>255)
        if room - at < n + 2:
            return WIRE_NO_ROOM
        out[at] = code
        out[at + 1] = <uint8_t>n
        if n:
            memcpy(out + at + 2, data + done, n)
        at += n + 2
        done += n
        if done >= length:
            return <int>at


# --------------------------------------------------------------------- Python: the face

MESSAGE_TYPES = MappingProxyType({
    1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE", 8: "INFORM",
})
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)


cdef bytes _sized(options, int code, int size):
    """The data of an option that has a fixed size, or None."""
    data = options.get(code)
    if data is not None and len(data) != size:
        raise_wire(WIRE_BAD_OPTION)
    return data


def _number(code, size, doc):
    """An option that is one number of ``size`` bytes."""

    def get(self):
        data = _sized(self.options, code, size)
        return None if data is None else int.from_bytes(data, "big")

    def put(self, value):
        if value is None:
            self.options.pop(code, None)
        else:
            try:
                self.options[code] = int(value).to_bytes(size, "big")
            except OverflowError:
                raise_wire(WIRE_BAD_VALUE)

    return property(get, put, None, doc)


def _address(code, doc):
    """An option that is one IPv4 address."""

    def get(self):
        data = _sized(self.options, code, 4)
        return None if data is None else IPv4Address(data)

    def put(self, value):
        if value is None:
            self.options.pop(code, None)
        else:
            self.options[code] = IPv4Address(value).packed

    return property(get, put, None, doc)


def _addresses(code, doc):
    """An option that is a list of IPv4 addresses; an empty one is not sent."""

    def get(self):
        data = self.options.get(code, b"")
        if len(data) % 4:
            raise_wire(WIRE_BAD_OPTION)
        return tuple(IPv4Address(data[i:i + 4]) for i in range(0, len(data), 4))

    def put(self, value):
        self.options[code] = b"".join(IPv4Address(a).packed for a in value)
        if not self.options[code]:
            del self.options[code]

    return property(get, put, None, doc)


def _string(code, doc):
    """An option that is text; a closing NUL is cut off (RFC 2132 section 2), bytes outside ASCII are escaped."""

    def get(self):
        data = self.options.get(code)
        return None if data is None else data.rstrip(b"\0").decode("ascii", "backslashreplace")

    def put(self, value):
        if value is None:
            self.options.pop(code, None)
        else:
            self.options[code] = value.encode("ascii")

    return property(get, put, None, doc)


class DhcpMessage:
    """A DHCPv4 message.

    Attributes:
        op: 1 request, 2 reply.
        xid, secs, flags, hops, htype: as in the header; ``flags`` 0x8000 asks for a broadcast reply.
        ciaddr, yiaddr, siaddr, giaddr: IPv4Address.
        chaddr: the hardware address, 0 to 16 bytes; its length is hlen.
        sname, file: bytes up to the first NUL; empty where they held options (option 52).
        options: code to data, pieces of one code joined; without PAD, END and 52.

    The other properties are options in their own types: None (or an empty tuple) where the option is absent, WireError
    where its length is wrong; setting one to None takes it out.
    """

    def __init__(
        self,
        op=1,
        xid=0,
        chaddr=b"",
        options=(),
        *,
        ciaddr=0,
        yiaddr=0,
        siaddr=0,
        giaddr=0,
        flags=0,
        secs=0,
        hops=0,
        htype=1,
        sname=b"",
        file=b"",
    ):
        self.op = op
        self.xid = xid
        self.chaddr = bytes(chaddr)
        self.options = dict(options)
        self.ciaddr = IPv4Address(ciaddr)
        self.yiaddr = IPv4Address(yiaddr)
        self.siaddr = IPv4Address(siaddr)
        self.giaddr = IPv4Address(giaddr)
        self.flags = flags
        self.secs = secs
        self.hops = hops
        self.htype = htype
        self.sname = sname
        self.file = file

    @classmethod
    def parse(cls, data):
        """Reads a message (the payload of a UDP datagram).

        Raises:
            WireError: truncated (under 240 bytes), bad value (op, no magic cookie), bad length (hlen over 16), bad
                option (one runs past its field, more than 256 pieces).
        """
        cdef dhcp4_hdr h
        cdef Py_buffer view
        cdef const uint8_t *p
        cdef const dhcp4_option *piece
        cdef int rc, i
        cdef dict options = {}
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            p = <const uint8_t *>view.buf
            rc = dhcp4_parse(p, <size_t>view.len, &h)
            if rc >= 0:
                for i in range(h.option_count):
                    piece = &h.options[i]
                    part = p[piece.offset:piece.offset + piece.length]
                    options[piece.code] = options.get(piece.code, b"") + part
        finally:
            PyBuffer_Release(&view)
        raise_wire(rc)
        return cls(
            h.op, h.xid, h.chaddr[:h.hlen], options,
            ciaddr=h.ciaddr, yiaddr=h.yiaddr, siaddr=h.siaddr, giaddr=h.giaddr,
            flags=h.flags, secs=h.secs, hops=h.hops, htype=h.htype,
            sname=b"" if h.overload & 2 else h.sname[:64].split(b"\0", 1)[0],
            file=b"" if h.overload & 1 else h.file[:128].split(b"\0", 1)[0],
        )

    def build(self, *, int minimum=DHCP4_PADDED_LEN):
        """The message as bytes, END at the end, padded with zeros to ``minimum`` bytes; long options go in pieces.

        Raises:
            WireError: a field that does not fit its place, an option code outside 1..254, more than 65535 bytes.
        """
        cdef dhcp4_hdr h
        cdef uint8_t fixed[240]
        cdef const uint8_t *p
        cdef size_t n
        cdef int rc
        cdef bytes chaddr = bytes(self.chaddr)
        cdef bytes sname = bytes(self.sname)
        cdef bytes name = bytes(self.file)
        cdef bytes data
        memset(&h, 0, sizeof(h))
        if len(chaddr) > 16 or len(sname) > 64 or len(name) > 128:
            raise_wire(WIRE_BAD_LENGTH)
        for value, most in (
            (self.op, 0xff), (self.htype, 0xff), (self.hops, 0xff), (self.secs, 0xffff), (self.flags, 0xffff),
            (self.xid, 0xffffffff),
        ):
            if not 0 <= value <= most:
                raise_wire(WIRE_BAD_VALUE)
        h.op = self.op
        h.htype = self.htype
        h.hlen = <uint8_t>len(chaddr)
        h.hops = self.hops
        h.xid = self.xid
        h.secs = self.secs
        h.flags = self.flags
        h.ciaddr = int(self.ciaddr)
        h.yiaddr = int(self.yiaddr)
        h.siaddr = int(self.siaddr)
        h.giaddr = int(self.giaddr)
        memcpy(h.chaddr, <const uint8_t *>chaddr, len(chaddr))
        memcpy(h.sname, <const uint8_t *>sname, len(sname))
        memcpy(h.file, <const uint8_t *>name, len(name))
        dhcp4_write(fixed, sizeof(fixed), &h)
        parts = [fixed[:240]]
        for code, value in self.options.items():
            if not 1 <= code <= 254 or code == OVERLOAD:
                raise_wire(WIRE_BAD_OPTION)
            data = bytes(value)
            p = data
            n = len(data)
            piece = bytearray(n + 2 * (n // 255 + 1))
            rc = raise_wire(dhcp4_write_option(<uint8_t *>piece, len(piece), code, p, n))
            parts.append(bytes(piece[:rc]))
        parts.append(b"\xff")
        out = b"".join(parts)
        if len(out) > 0xffff:
            raise_wire(WIRE_BAD_LENGTH)
        return out.ljust(minimum, b"\0")

    @property
    def broadcast(self):
        """The client cannot take unicast before it has an address (RFC 2131 section 4.1)."""
        return bool(self.flags & DHCP4_BROADCAST)

    @broadcast.setter
    def broadcast(self, on):
        self.flags = self.flags | DHCP4_BROADCAST if on else self.flags & ~DHCP4_BROADCAST

    message_type = _number(53, 1, "Option 53: 1 DISCOVER, 2 OFFER, 3 REQUEST, 4 DECLINE, 5 ACK, 6 NAK, 7 RELEASE, "
                                  "8 INFORM.")
    lease_time = _number(51, 4, "Option 51, seconds.")
    renewal_time = _number(58, 4, "Option 58, T1 in seconds.")
    rebinding_time = _number(59, 4, "Option 59, T2 in seconds.")
    max_message_size = _number(57, 2, "Option 57, bytes of the whole IP packet that the client takes.")
    mtu = _number(26, 2, "Option 26, bytes.")
    subnet_mask = _address(1, "Option 1.")
    broadcast_address = _address(28, "Option 28.")
    requested_address = _address(50, "Option 50.")
    server_id = _address(54, "Option 54: the server that is meant, or that speaks.")
    routers = _addresses(3, "Option 3.")
    dns_servers = _addresses(6, "Option 6.")
    hostname = _string(12, "Option 12.")
    domain = _string(15, "Option 15.")
    message = _string(56, "Option 56: why, in a NAK or DECLINE.")

    @property
    def client_id(self):
        """Option 61, raw: a type byte and the identifier; None where absent, WireError where under 2 bytes."""
        data = self.options.get(61)
        if data is not None and len(data) < 2:
            raise_wire(WIRE_BAD_OPTION)
        return data

    @client_id.setter
    def client_id(self, value):
        if value is None:
            self.options.pop(61, None)
        else:
            self.options[61] = bytes(value)

    @property
    def parameter_list(self):
        """Option 55: the codes that the client asks for, in its order of preference."""
        return tuple(self.options.get(55, b""))

    @parameter_list.setter
    def parameter_list(self, value):
        self.options[55] = bytes(value)
        if not self.options[55]:
            del self.options[55]

    def __eq__(self, other):
        if not isinstance(other, DhcpMessage):
            return NotImplemented
        return self.__dict__ == other.__dict__

    __hash__ = None

    def __repr__(self):
        kind = self.options.get(53, b"")
        words = [MESSAGE_TYPES.get(kind[0], f"type {kind[0]}") if len(kind) == 1 else "BOOTP"]
        words.append(f"op={self.op} xid=0x{self.xid:08x} chaddr={self.chaddr.hex(':')}")
        words += [f"{k}={getattr(self, k)}" for k in ("ciaddr", "yiaddr", "siaddr", "giaddr") if int(getattr(self, k))]
        if self.flags:
            words.append(f"flags=0x{self.flags:04x}")
        words.append("options={" + ", ".join(f"{c}: {d.hex()}" for c, d in self.options.items() if c != 53) + "}")
        return f"<DhcpMessage {' '.join(words)}>"
