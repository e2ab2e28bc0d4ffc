"""DNS messages (RFC 1035), EDNS (RFC 6891).

Header, byte offsets: 0 id, 2 flags, 4 questions, 6 answers, 8 authority, 10 additional, 12 the first question.
Every type of record is carried: its data stay raw bytes, only names inside the data of the types that RFC 1035
and RFC 3597 section 4 list are taken out of their compression, since a pointer means nothing outside its message.
"""

from ipaddress import IPv4Address, IPv6Address

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_OPTION,
    WIRE_BAD_VALUE,
    WIRE_NO_ROOM,
    WIRE_TRUNCATED,
    raise_wire,
)
from netstack.wire.dns_name cimport (
    dns_name,
    dns_name_parse,
    dns_name_skip,
    dns_name_text,
    name_from_text,
    name_take,
)

from netstack.wire.dns_data import (
    NAMES_IN_DATA,
    RCODES,
    TYPE_NAMES,
    rdata_build,
    rdata_value,
    type_number,
)

# --------------------------------------------------------------------- C: header, question, record


cdef int dns_parse(const uint8_t *data, size_t length, dns_hdr *out) noexcept nogil:
    if length < DNS_HDR_LEN:
        return WIRE_TRUNCATED
    out.id = be16(data)
    out.flags = be16(data + 2)
    out.qdcount = be16(data + 4)
    out.ancount = be16(data + 6)
    out.nscount = be16(data + 8)
    out.arcount = be16(data + 10)
    return DNS_HDR_LEN


cdef int dns_write(uint8_t *out, size_t room, const dns_hdr *hdr) noexcept nogil:
    if room < DNS_HDR_LEN:
        return WIRE_NO_ROOM
    put_be16(out, hdr.id)
    put_be16(out + 2, hdr.flags)
    put_be16(out + 4, hdr.qdcount)
    put_be16(out + 6, hdr.ancount)
    put_be16(out + 8, hdr.nscount)
    put_be16(out + 10, hdr.arcount)
    return DNS_HDR_LEN


cdef int dns_question_parse(const uint8_t *data, size_t length, size_t at, dns_question *out) noexcept nogil:
    cdef int taken = dns_name_parse(data, length, at, &out.name)
    if taken < 0:
        return taken
    if length - at - taken < 4:
        return WIRE_TRUNCATED
    out.type = be16(data + at + taken)
    out.qclass = be16(data + at + taken + 2)
    return taken + 4


cdef int dns_record_parse(const uint8_t *data, size_t length, size_t at, dns_record *out) noexcept nogil:
    """Behind the owner name: 0 type, 2 class, 4 ttl, 8 rdlength, 10 the data (RFC 1035 section 4.1.3)."""
    cdef int taken = dns_name_skip(data, length, at)
    cdef size_t pos
    if taken < 0:
        return taken
    pos = at + taken
    if length - pos < 10:
        return WIRE_TRUNCATED
    out.at = at
    out.type = be16(data + pos)
    out.rclass = be16(data + pos + 2)
    out.ttl = be32(data + pos + 4)
    out.rdlength = be16(data + pos + 8)
    out.rdata_at = pos + 10
    if length - out.rdata_at < out.rdlength:
        return WIRE_TRUNCATED
    out.end = out.rdata_at + out.rdlength
    return <int>(out.end - at)


cdef int dns_record_write(uint8_t *out, size_t room, const uint8_t *name, size_t name_length, uint16_t type,
                          uint16_t rclass, uint32_t ttl, const uint8_t *rdata,
                          uint16_t rdlength) noexcept nogil:
    cdef size_t n = name_length
    if room < n + 10 + rdlength:
        return WIRE_NO_ROOM
    memcpy(out, name, n)
    put_be16(out + n, type)
    put_be16(out + n + 2, rclass)
    put_be32(out + n + 4, ttl)
    put_be16(out + n + 8, rdlength)
    if rdlength:
        memcpy(out + n + 10, rdata, rdlength)
    return <int>n + 10 + rdlength


# --------------------------------------------------------------------- C: EDNS


cdef int edns_parse(const uint8_t *data, const dns_record *rr, dns_edns *out) noexcept nogil:
    """Reads an OPT record: the owner must be the root, the options must tile the data exactly."""
    cdef size_t pos = 0
    if data[rr.at] != 0:
        return WIRE_BAD_VALUE
    out.udp_size = rr.rclass
    out.ext_rcode = <uint8_t>(rr.ttl >> 24)
    out.version = <uint8_t>(rr.ttl >> 16)
    out.flags = <uint16_t>rr.ttl
    out.options = data + rr.rdata_at
    out.options_length = rr.rdlength
    out.at = rr.at
    out.size = rr.end - rr.at
    while pos < rr.rdlength:
        if rr.rdlength - pos < 4:
            return WIRE_BAD_OPTION
        pos += 4 + be16(out.options + pos + 2)
        if pos > rr.rdlength:
            return WIRE_BAD_OPTION
    return 1


cdef int dns_edns_find(const uint8_t *data, size_t length, dns_edns *out) noexcept nogil:
    """Checks that every question and record lies inside the message, and finds the OPT record.

    A second OPT record and one outside the additional section are WIRE_BAD_VALUE (RFC 6891 section 6.1.1).
    """
    cdef dns_hdr hdr
    cdef dns_record rr
    cdef size_t at = DNS_HDR_LEN
    cdef uint32_t i, records, before
    cdef int rc = dns_parse(data, length, &hdr)
    cdef int found = 0
    if rc < 0:
        return rc
    for _ in range(hdr.qdcount):
        rc = dns_name_skip(data, length, at)
        if rc < 0:
            return rc
        at += rc
        if length - at < 4:
            return WIRE_TRUNCATED
        at += 4
    before = <uint32_t>hdr.ancount + hdr.nscount
    records = before + hdr.arcount
    for i in range(records):
        rc = dns_record_parse(data, length, at, &rr)
        if rc < 0:
            return rc
        at = rr.end
        if rr.type == DNS_TYPE_OPT:
            if found or i < before:
                return WIRE_BAD_VALUE
            found = edns_parse(data, &rr, out)
            if found < 0:
                return found
    return found


cdef int dns_edns_write(uint8_t *out, size_t room, const dns_edns *edns) noexcept nogil:
    cdef uint8_t root = 0
    cdef uint32_t ttl = (<uint32_t>edns.ext_rcode << 24) | (<uint32_t>edns.version << 16) | edns.flags
    return dns_record_write(
        out, room, &root, 1, DNS_TYPE_OPT, edns.udp_size, ttl, edns.options, edns.options_length
    )


cdef class _Writer:
    """Grows a message; remembers where each name and each of its tails was written, for compression."""

    cdef bytearray out
    cdef dict seen
    cdef bint compress

    def __cinit__(self, bint compress):
        self.out = bytearray()
        self.seen = {}
        self.compress = compress

    cdef int name(self, bytes wire, bint compress) except -1:
        cdef Py_ssize_t pos = 0
        cdef bytes tail
        while wire[pos]:
            tail = wire[pos:]
            at = self.seen.get(tail)
            if at is not None and compress and self.compress:
                self.u16(0xc000 | at)
                return 0
            if at is None and len(self.out) < 0x4000:
                self.seen[tail] = len(self.out)
            self.out += wire[pos:pos + 1 + wire[pos]]
            pos += 1 + wire[pos]
        self.out.append(0)
        return 0

    cdef int u16(self, value) except -1:
        if not 0 <= value <= 0xffff:
            raise_wire(WIRE_BAD_VALUE)
        self.out += value.to_bytes(2, "big")
        return 0

    cdef int u32(self, value) except -1:
        if not 0 <= value <= 0xffffffff:
            raise_wire(WIRE_BAD_VALUE)
        self.out += value.to_bytes(4, "big")
        return 0

    cdef int record(self, DnsRecord rr) except -1:
        cdef Py_ssize_t at, pos
        self.name(name_from_text(rr.name), True)
        self.u16(rr.type)
        self.u16(rr.rclass)
        self.u32(rr.ttl)
        at = len(self.out)
        self.u16(0)
        front, names, may = NAMES_IN_DATA.get(rr.type, (0, 0, False))
        if names and rr.rdata:      # without data in the sections of an UPDATE (RFC 2136)
            pos = front
            parts = []
            for _ in range(names):
                part = name_take(rr.rdata, pos)
                parts.append(part)
                pos += len(part)
            self.out += rr.rdata[:front]
            for part in parts:
                self.name(part, may)
            self.out += rr.rdata[pos:]
        else:
            self.out += rr.rdata
        size = len(self.out) - at - 2
        if size > 0xffff:
            raise_wire(WIRE_BAD_LENGTH)
        self.out[at:at + 2] = size.to_bytes(2, "big")
        return 0


cdef bytes _expanded(const uint8_t *data, const dns_record *rr):
    """The data of a record with the names in it taken out of their compression."""
    cdef dns_name name
    cdef size_t pos
    cdef int taken
    layout = NAMES_IN_DATA.get(rr.type)
    if layout is None:
        return data[rr.rdata_at:rr.end]
    front, names, _ = layout
    if rr.rdlength == 0:
        return b""              # RFC 2136: no data in the sections of an UPDATE
    if rr.rdlength < front:
        raise_wire(WIRE_TRUNCATED)
    pos = rr.rdata_at + <size_t>front
    out = [data[rr.rdata_at:pos]]
    for _ in range(names):
        taken = raise_wire(dns_name_parse(data, rr.end, pos, &name))
        out.append(name.bytes[:name.length])
        pos += taken
    out.append(data[pos:rr.end])
    return b"".join(out)


# --------------------------------------------------------------------- Python: the face


cdef class DnsQuestion:
    """One question: name in text, type and class as numbers. Equality sets the case of the name aside."""

    cdef public str name
    cdef public int type
    cdef public int qclass

    def __init__(self, str name not None, type=1, int qclass=1):
        self.name = name
        self.type = type_number(type)
        self.qclass = qclass

    def __eq__(self, other):
        if not isinstance(other, DnsQuestion):
            return NotImplemented
        return _question_key(self) == _question_key(other)

    def __hash__(self):
        return hash(_question_key(self))

    def __repr__(self):
        kind = TYPE_NAMES.get(self.type, f"TYPE{self.type}")
        return f"DnsQuestion({self.name!r}, {kind!r}{_class_text(self.qclass)})"


cdef tuple _question_key(DnsQuestion q):
    return q.name.lower(), q.type, q.qclass


cdef str _class_text(int number):
    return "" if number == DNS_CLASS_IN else f", class={number}"


cdef class DnsRecord:
    """One resource record: name in text, type and class as numbers, ttl in seconds, raw data without compression.

    Equality sets the case of the owner name aside.
    """

    cdef public str name
    cdef public int type
    cdef public int rclass
    cdef public unsigned int ttl
    cdef public bytes rdata

    def __init__(self, str name not None, type=1, bytes rdata not None=b"", unsigned int ttl=0, int rclass=1):
        self.name = name
        self.type = type_number(type)
        self.rdata = rdata
        self.ttl = ttl
        self.rclass = rclass

    @classmethod
    def of(cls, name, type, value, ttl=0):
        """A record from a friendly value, as :func:`rdata_build` takes it."""
        return cls(name, type, rdata_build(type, value), ttl)

    @property
    def value(self):
        """The data as :func:`rdata_build` takes them; bytes where the type is unknown or the data do not suit it."""
        try:
            return rdata_value(self.type, self.rdata)
        except ValueError:
            return self.rdata

    def __eq__(self, other):
        cdef DnsRecord o
        if not isinstance(other, DnsRecord):
            return NotImplemented
        o = other
        return (
            self.name.lower() == o.name.lower() and self.type == o.type and self.rclass == o.rclass
            and self.ttl == o.ttl and self.rdata == o.rdata
        )

    def __hash__(self):
        return hash((self.name.lower(), self.type, self.rclass, self.ttl, self.rdata))

    def __repr__(self):
        value = self.value
        shown = str(value) if isinstance(value, (IPv4Address, IPv6Address)) else value
        kind = TYPE_NAMES.get(self.type, f"TYPE{self.type}")
        return f"DnsRecord({self.name!r}, {kind!r}, {shown!r}, ttl={self.ttl}{_class_text(self.rclass)})"


cdef class DnsEdns:
    """The OPT record (RFC 6891): UDP payload size in bytes, flags (0x8000 is DO), options as (code, data)."""

    cdef public int udp_size
    cdef public int version
    cdef public int flags
    cdef public int ext_rcode
    cdef public tuple options

    def __init__(self, int udp_size=1232, int version=0, int flags=0, int ext_rcode=0, options=()):
        self.udp_size = udp_size
        self.version = version
        self.flags = flags
        self.ext_rcode = ext_rcode
        self.options = tuple((int(code), bytes(data)) for code, data in options)

    @property
    def dnssec_ok(self):
        """The DO bit (RFC 3225)."""
        return bool(self.flags & DNS_EDNS_DO)

    def __eq__(self, other):
        cdef DnsEdns o
        if not isinstance(other, DnsEdns):
            return NotImplemented
        o = other
        return (
            self.udp_size == o.udp_size and self.version == o.version and self.flags == o.flags
            and self.ext_rcode == o.ext_rcode and self.options == o.options
        )

    __hash__ = None

    def __repr__(self):
        return (
            f"DnsEdns(udp_size={self.udp_size}, version={self.version}, flags=0x{self.flags:04x}, "
            f"ext_rcode={self.ext_rcode}, options={self.options!r})"
        )


cdef class DnsMessage:
    """A whole message. ``flags`` are bytes 2 and 3 of the header; the properties read and set parts of it.

    The OPT record, where there is one, is ``edns`` and not part of ``additional``. ``build`` puts it back behind
    the additional records, but in front of a signature (TSIG, SIG(0)), which has to stand last.
    """

    cdef public int id
    cdef public int flags
    cdef public list questions
    cdef public list answers
    cdef public list authority
    cdef public list additional
    cdef public object edns

    def __init__(
        self, int id=0, int flags=0, questions=(), answers=(), authority=(), additional=(), edns=None
    ):
        self.id = id
        self.flags = flags
        self.questions = list(questions)
        self.answers = list(answers)
        self.authority = list(authority)
        self.additional = list(additional)
        self.edns = edns

    @classmethod
    def query(cls, name, type=1, *, id=0, recursion_desired=True, edns=None):
        """A query with one question of class IN."""
        return cls(id, DNS_RD if recursion_desired else 0, (DnsQuestion(name, type),), edns=edns)

    @classmethod
    def parse(cls, const uint8_t[::1] data not None):
        """Reads a message; bytes behind its last record are ignored.

        Raises:
            WireError: cut short, a name too long, a pointer that does not lead backwards, two OPT records.
        """
        cdef const uint8_t *p = &data[0] if data.shape[0] else NULL
        cdef size_t length = data.shape[0]
        cdef size_t at = DNS_HDR_LEN
        cdef dns_hdr hdr
        cdef dns_question question
        cdef dns_name owner
        cdef dns_record rr
        cdef dns_edns edns
        cdef bint has_edns
        if length == 0:
            raise_wire(WIRE_TRUNCATED)
        raise_wire(dns_parse(p, length, &hdr))
        has_edns = raise_wire(dns_edns_find(p, length, &edns)) == 1
        questions = []
        for _ in range(hdr.qdcount):
            at += raise_wire(dns_question_parse(p, length, at, &question))
            questions.append(DnsQuestion(dns_name_text(&question.name), question.type, question.qclass))
        sections = []
        for count in (hdr.ancount, hdr.nscount, hdr.arcount):
            records = []
            for _ in range(<int>count):
                raise_wire(dns_record_parse(p, length, at, &rr))
                if rr.type != DNS_TYPE_OPT:
                    raise_wire(dns_name_parse(p, length, at, &owner))
                    records.append(
                        DnsRecord(dns_name_text(&owner), rr.type, _expanded(p, &rr), rr.ttl, rr.rclass)
                    )
                at = rr.end
            sections.append(records)
        opt = None
        if has_edns:
            opt = DnsEdns(edns.udp_size, edns.version, edns.flags, edns.ext_rcode, _options(&edns))
        return cls(hdr.id, hdr.flags, questions, *sections, opt)

    def build(self, *, bint compress=True):
        """The message as bytes; names are written compressed unless told otherwise.

        Raises:
            WireError: a name or number that cannot be written, or more than 65535 bytes.
        """
        cdef _Writer w = _Writer(compress)
        cdef DnsQuestion q
        sections = [self.answers, self.authority, self.additional]
        w.u16(self.id)
        w.u16(self.flags)
        w.u16(len(self.questions))
        w.u16(len(self.answers))
        w.u16(len(self.authority))
        w.u16(len(self.additional) + (self.edns is not None))
        for q in self.questions:
            w.name(name_from_text(q.name), True)
            w.u16(q.type)
            w.u16(q.qclass)
        n = len(self.additional)
        signed = n > 0 and self.additional[n - 1].type in (DNS_TYPE_SIG, DNS_TYPE_TSIG)
        sections[2] = self.additional[:n - signed]
        for section in sections:
            for rr in section:
                w.record(rr)
        if self.edns is not None:
            w.record(_edns_record(self.edns))
        if signed:
            w.record(self.additional[n - 1])
        if len(w.out) > DNS_MESSAGE_MAX:
            raise_wire(WIRE_BAD_LENGTH)
        return bytes(w.out)

    cdef bint _flag(self, int bit) noexcept:
        return (self.flags & bit) != 0

    cdef int _set_flag(self, int bit, bint on) except -1:
        self.flags = self.flags | bit if on else self.flags & ~bit
        return 0

    @property
    def response(self):
        """QR: this is an answer."""
        return self._flag(DNS_QR)

    @response.setter
    def response(self, bint on):
        self._set_flag(DNS_QR, on)

    @property
    def authoritative(self):
        """AA."""
        return self._flag(DNS_AA)

    @authoritative.setter
    def authoritative(self, bint on):
        self._set_flag(DNS_AA, on)

    @property
    def truncated(self):
        """TC: records were left out for want of room."""
        return self._flag(DNS_TC)

    @truncated.setter
    def truncated(self, bint on):
        self._set_flag(DNS_TC, on)

    @property
    def recursion_desired(self):
        """RD."""
        return self._flag(DNS_RD)

    @recursion_desired.setter
    def recursion_desired(self, bint on):
        self._set_flag(DNS_RD, on)

    @property
    def recursion_available(self):
        """RA."""
        return self._flag(DNS_RA)

    @recursion_available.setter
    def recursion_available(self, bint on):
        self._set_flag(DNS_RA, on)

    @property
    def opcode(self):
        """0 is QUERY, 4 NOTIFY, 5 UPDATE."""
        return (self.flags & DNS_OPCODE) >> DNS_OPCODE_SHIFT

    @opcode.setter
    def opcode(self, int value):
        if not 0 <= value <= 15:
            raise_wire(WIRE_BAD_VALUE)
        self.flags = (self.flags & ~DNS_OPCODE) | (value << DNS_OPCODE_SHIFT)

    @property
    def rcode(self):
        """The response code: 4 bits of the header and, with EDNS, 8 more above them."""
        cdef int upper = 0 if self.edns is None else (<DnsEdns>self.edns).ext_rcode
        return (self.flags & DNS_RCODE) | (upper << 4)

    @rcode.setter
    def rcode(self, int value):
        if not 0 <= value <= (4095 if self.edns is not None else 15):
            raise_wire(WIRE_BAD_VALUE)
        self.flags = (self.flags & ~DNS_RCODE) | (value & DNS_RCODE)
        if self.edns is not None:
            (<DnsEdns>self.edns).ext_rcode = value >> 4

    def __eq__(self, other):
        cdef DnsMessage o
        if not isinstance(other, DnsMessage):
            return NotImplemented
        o = other
        return (
            self.id == o.id and self.flags == o.flags and self.questions == o.questions
            and self.answers == o.answers and self.authority == o.authority and self.additional == o.additional
            and self.edns == o.edns
        )

    __hash__ = None

    def __repr__(self):
        words = [f"id={self.id}", "response" if self.response else "query"]
        if self.opcode:
            words.append(f"opcode={self.opcode}")
        if self.response:
            words.append(RCODES.get(self.rcode, f"rcode={self.rcode}"))
        bits = (
            ("aa", DNS_AA), ("tc", DNS_TC), ("rd", DNS_RD), ("ra", DNS_RA), ("ad", DNS_AD), ("cd", DNS_CD),
        )
        words += [name for name, bit in bits if self.flags & bit]
        words.append(f"questions={self.questions!r}")
        words += [
            f"{name}={records!r}"
            for name, records in (
                ("answers", self.answers), ("authority", self.authority), ("additional", self.additional)
            )
            if records
        ]
        if self.edns is not None:
            words.append(f"edns={self.edns!r}")
        return f"<DnsMessage {' '.join(words)}>"


cdef tuple _options(const dns_edns *edns):
    cdef size_t pos = 0, size
    out = []
    while pos < edns.options_length:
        size = be16(edns.options + pos + 2)
        out.append((be16(edns.options + pos), edns.options[pos + 4:pos + 4 + size]))
        pos += 4 + size
    return tuple(out)


cdef DnsRecord _edns_record(DnsEdns edns):
    for value, most in ((edns.ext_rcode, 255), (edns.version, 255), (edns.flags, 0xffff)):
        if not 0 <= value <= most:
            raise_wire(WIRE_BAD_VALUE)
    data = []
    for code, option in edns.options:
        if not 0 <= code <= 0xffff or len(option) > 0xffff:
            raise_wire(WIRE_BAD_OPTION)
        data.append(code.to_bytes(2, "big") + len(option).to_bytes(2, "big") + option)
    cdef uint32_t ttl = (<uint32_t>edns.ext_rcode << 24) | (<uint32_t>edns.version << 16)
    ttl |= <uint32_t>edns.flags
    return DnsRecord(".", DNS_TYPE_OPT, b"".join(data), ttl, edns.udp_size)
