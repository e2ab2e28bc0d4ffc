"""TCP headers (RFC 9293 section 3.1) with the options in use.

Those are MSS, window scale and timestamps (RFC 7323) and SACK (RFC 2018).

Offsets: ports 0 and 2, sequence number 4, acknowledgment number 8, data offset 12, flags 13, window 14,
checksum 16, urgent pointer 18, options 20.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from netstack.wire.addr cimport addr_from_object, addr_t
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.checksum cimport csum_add, csum_finish, csum_ok, csum_pseudo, csum_store
from netstack.wire.code cimport (
    WIRE_BAD_CHECKSUM,
    WIRE_BAD_LENGTH,
    WIRE_BAD_OPTION,
    WIRE_NO_ROOM,
    WIRE_OK,
    WIRE_TRUNCATED,
    raise_wire,
)
from netstack.wire.header cimport WireHeader

FIN = TCP_FIN
SYN = TCP_SYN
RST = TCP_RST
PSH = TCP_PSH
ACK = TCP_ACK
URG = TCP_URG
ECE = TCP_ECE
CWR = TCP_CWR

cdef enum:
    PROTOCOL = 6
    MAX_HDR_LEN = 60
    KIND_EOL = 0
    KIND_NOP = 1
    KIND_MSS = 2
    KIND_WSCALE = 3
    KIND_SACK_PERMITTED = 4
    KIND_SACK = 5
    KIND_TIMESTAMPS = 8
    NOP_NOP_TIMESTAMPS = 0x0101080a     # the four bytes that nearly every segment's options begin with


cdef int parse_options(const uint8_t *p, int length, tcp_hdr *out) noexcept nogil:
    """WIRE_OK or WIRE_BAD_OPTION.

    A known kind of another length than its own is skipped; of two the last counts.
    """
    cdef int i = 0, size, k
    cdef uint8_t kind
    while i < length:
        kind = p[i]
        if kind == KIND_NOP:
            i += 1
            continue
        if kind == KIND_EOL:
            break
        if length - i < 2:
            return WIRE_BAD_OPTION
        size = p[i + 1]
        if size < 2 or size > length - i:
            return WIRE_BAD_OPTION
        if kind == KIND_TIMESTAMPS and size == 10:
            out.has_timestamps = 1
            out.tsval = be32(p + i + 2)
            out.tsecr = be32(p + i + 6)
        elif kind == KIND_SACK and size >= 10 and (size - 2) & 7 == 0:
            # 40 bytes of options hold four blocks at most, so size bounds the count
            out.n_sack = <uint8_t>((size - 2) >> 3)
            for k in range(out.n_sack):
                out.sack[k].left = be32(p + i + 2 + 8 * k)
                out.sack[k].right = be32(p + i + 6 + 8 * k)
        elif kind == KIND_MSS and size == 4:
            out.mss = be16(p + i + 2)
        elif kind == KIND_WSCALE and size == 3:
            # Beyond int8_t the value is as absurd as 127: whoever uses it limits it to 14 (RFC 7323 section
            # 2.3).
            out.wscale = <int8_t>(p[i + 2] if p[i + 2] < 127 else 127)
        elif kind == KIND_SACK_PERMITTED and size == 2:
            out.sack_permitted = 1
        i += size
    return WIRE_OK


cdef int tcp_parse(const uint8_t *data, size_t length, tcp_hdr *out) noexcept nogil:
    cdef int offset, code
    if length < TCP_HDR_LEN:
        return WIRE_TRUNCATED
    offset = (data[12] >> 4) << 2
    if offset < TCP_HDR_LEN:
        return WIRE_BAD_LENGTH
    if <size_t>offset > length:
        return WIRE_TRUNCATED
    out.sport = be16(data)
    out.dport = be16(data + 2)
    out.seq = be32(data + 4)
    out.ack = be32(data + 8)
    out.data_offset = <uint8_t>offset
    out.flags = data[13]
    out.window = be16(data + 14)
    out.checksum = be16(data + 16)
    out.urgent = be16(data + 18)
    out.mss = 0
    out.wscale = -1
    out.sack_permitted = 0
    out.has_timestamps = 0
    out.n_sack = 0
    out.tsval = 0
    out.tsecr = 0
    if offset == TCP_HDR_LEN:
        return offset
    if offset == 32 and be32(data + 20) == NOP_NOP_TIMESTAMPS:
        out.has_timestamps = 1
        out.tsval = be32(data + 24)
        out.tsecr = be32(data + 28)
        return offset
    code = parse_options(data + TCP_HDR_LEN, offset - TCP_HDR_LEN, out)
    return offset if code == WIRE_OK else code


cdef int write_options(uint8_t *p, const tcp_hdr *hdr) noexcept nogil:
    """Writes at most 40 bytes, a multiple of 4; returns how many. p has room for 40."""
    cdef int n = 0, blocks, k
    if hdr.mss:
        p[0] = KIND_MSS
        p[1] = 4
        put_be16(p + 2, hdr.mss)
        n = 4
    if hdr.sack_permitted:
        p[n] = KIND_SACK_PERMITTED
        p[n + 1] = 2
        n += 2
    if hdr.has_timestamps:
        if n & 3 == 0:      # the numbers lie at multiples of 4, behind two NOPs or behind SACK-permitted
            p[n] = KIND_NOP
            p[n + 1] = KIND_NOP
            n += 2
        p[n] = KIND_TIMESTAMPS
        p[n + 1] = 10
        put_be32(p + n + 2, hdr.tsval)
        put_be32(p + n + 6, hdr.tsecr)
        n += 10
    if hdr.wscale >= 0:
        p[n] = KIND_NOP
        p[n + 1] = KIND_WSCALE
        p[n + 2] = 3
        p[n + 3] = <uint8_t>hdr.wscale
        n += 4
    blocks = hdr.n_sack
    if blocks:
        while n & 3 != 2:
            p[n] = KIND_NOP
            n += 1
        if blocks > (38 - n) >> 3:
            blocks = (38 - n) >> 3
        if blocks:
            p[n] = KIND_SACK
            p[n + 1] = <uint8_t>(2 + 8 * blocks)
            n += 2
            for k in range(blocks):
                put_be32(p + n, hdr.sack[k].left)
                put_be32(p + n + 4, hdr.sack[k].right)
                n += 8
    while n & 3:
        p[n] = KIND_EOL
        n += 1
    return n


cdef int tcp_write(uint8_t *out, size_t room, const tcp_hdr *hdr) noexcept nogil:
    cdef uint8_t options[MAX_HDR_LEN - TCP_HDR_LEN]
    cdef int offset = TCP_HDR_LEN, n, i
    if room < TCP_HDR_LEN:
        return WIRE_NO_ROOM
    if not (hdr.mss or hdr.sack_permitted or hdr.n_sack or hdr.wscale >= 0):
        if hdr.has_timestamps:
            offset = 32
            if room < 32:
                return WIRE_NO_ROOM
            put_be32(out + 20, NOP_NOP_TIMESTAMPS)
            put_be32(out + 24, hdr.tsval)
            put_be32(out + 28, hdr.tsecr)
    elif room >= MAX_HDR_LEN:
        offset += write_options(out + TCP_HDR_LEN, hdr)
    else:
        n = write_options(options, hdr)
        offset += n
        if room < <size_t>offset:
            return WIRE_NO_ROOM
        for i in range(n):
            out[TCP_HDR_LEN + i] = options[i]
    put_be16(out, hdr.sport)
    put_be16(out + 2, hdr.dport)
    put_be32(out + 4, hdr.seq)
    put_be32(out + 8, hdr.ack)
    out[12] = <uint8_t>(offset << 2)
    out[13] = hdr.flags
    put_be16(out + 14, hdr.window)
    put_be16(out + 16, hdr.checksum)
    put_be16(out + 18, hdr.urgent)
    return offset


@cython.final
@cython.auto_pickle(False)
cdef class TCPHeader(WireHeader):
    """A TCP header with its options as a value.

    Attributes:
        sport, dport, seq, ack, window, checksum, urgent: as on the wire.
        flags: FIN, SYN, RST, PSH, ACK, URG, ECE and CWR of this module, or-ed.
        data_offset: bytes, 20..60; of a header that was not parsed, what :meth:`build` will write.
        mss: bytes, or None where the option is absent (0 on the wire counts as absent).
        wscale: shift as on the wire, None where absent.
        sack_permitted: bool.
        timestamps: (TSval, TSecr) or None.
        sack: tuple of (left edge, right edge), at most four; three fit beside timestamps.
    """

    cdef tcp_hdr h

    def __init__(
        self,
        uint16_t sport,
        uint16_t dport,
        *,
        uint32_t seq=0,
        uint32_t ack=0,
        uint8_t flags=0,
        uint16_t window=0,
        uint16_t checksum=0,
        uint16_t urgent=0,
        mss=None,
        wscale=None,
        bint sack_permitted=False,
        timestamps=None,
        sack=(),
    ):
        cdef uint8_t out[MAX_HDR_LEN]
        cdef int k
        memset(&self.h, 0, sizeof(self.h))
        self.h.sport = sport
        self.h.dport = dport
        self.h.seq = seq
        self.h.ack = ack
        self.h.flags = flags
        self.h.window = window
        self.h.checksum = checksum
        self.h.urgent = urgent
        self.h.mss = 0 if mss is None else mss
        self.h.wscale = -1
        if wscale is not None:
            if not 0 <= wscale <= 127:
                raise ValueError(f"a window scale is 0..14, at most 127 can be built, not {wscale}")
            self.h.wscale = wscale
        self.h.sack_permitted = sack_permitted
        if timestamps is not None:
            self.h.has_timestamps = 1
            self.h.tsval, self.h.tsecr = timestamps
        blocks = tuple(sack)
        if len(blocks) > 4:
            raise ValueError(f"at most 4 SACK blocks fit a header, not {len(blocks)}")
        self.h.n_sack = <uint8_t>len(blocks)
        for k in range(self.h.n_sack):
            self.h.sack[k].left, self.h.sack[k].right = blocks[k]
        self.h.data_offset = <uint8_t>tcp_write(out, sizeof(out), &self.h)

    @staticmethod
    def parse(data, *, src=None, dst=None):
        """The header at the start of a segment.

        Where src and dst are given the checksum is verified, over all of data.

        Raises:
            WireError: truncated, bad length (data offset < 5), bad option, bad checksum.
        """
        cdef TCPHeader self = TCPHeader.__new__(TCPHeader)
        cdef Py_buffer view
        cdef addr_t s, d
        cdef bint verify = src is not None and dst is not None
        if verify:
            s = addr_from_object(src)
            d = addr_from_object(dst)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef const uint8_t *p = <const uint8_t *>view.buf
        cdef size_t length = <size_t>view.len
        cdef int code = tcp_parse(p, length, &self.h)
        if code >= 0 and verify and not csum_ok(p, length, csum_pseudo(&s, &d, PROTOCOL, <uint32_t>length)):
            code = WIRE_BAD_CHECKSUM
        PyBuffer_Release(&view)
        raise_wire(code)
        return self

    def build(self, bytes payload not None=b"", *, src=None, dst=None):
        """Header, options and payload; the checksum is computed where src and dst are given.

        Without addresses the checksum attribute is written. SACK blocks that do not fit are left out.
        """
        cdef uint8_t out[MAX_HDR_LEN]
        cdef tcp_hdr h = self.h
        cdef addr_t s, d
        cdef uint64_t sum
        cdef const uint8_t *p = payload
        cdef int n
        if src is not None and dst is not None:
            s = addr_from_object(src)
            d = addr_from_object(dst)
            h.checksum = 0
            n = raise_wire(tcp_write(out, sizeof(out), &h))
            sum = csum_add(out, <size_t>n, csum_pseudo(&s, &d, PROTOCOL, <uint32_t>(n + len(payload))))
            csum_store(out + 16, csum_finish(csum_add(p, <size_t>len(payload), sum)))
        else:
            n = raise_wire(tcp_write(out, sizeof(out), &h))
        return out[:n] + payload

    cdef int write_at(self, uint8_t *out, size_t room):
        return tcp_write(out, room, &self.h)

    @property
    def sport(self):
        return self.h.sport

    @property
    def dport(self):
        return self.h.dport

    @property
    def seq(self):
        return self.h.seq

    @property
    def ack(self):
        return self.h.ack

    @property
    def data_offset(self):
        return self.h.data_offset

    @property
    def flags(self):
        return self.h.flags

    @property
    def window(self):
        return self.h.window

    @property
    def checksum(self):
        return self.h.checksum

    @property
    def urgent(self):
        return self.h.urgent

    @property
    def mss(self):
        return self.h.mss if self.h.mss else None

    @property
    def wscale(self):
        return self.h.wscale if self.h.wscale >= 0 else None

    @property
    def sack_permitted(self):
        return self.h.sack_permitted != 0

    @property
    def timestamps(self):
        return (self.h.tsval, self.h.tsecr) if self.h.has_timestamps else None

    @property
    def sack(self):
        cdef int k
        return tuple([(self.h.sack[k].left, self.h.sack[k].right) for k in range(self.h.n_sack)])

    cdef tuple key(self):
        """Everything but data offset and checksum, which belong to a segment and not to a header in hand."""
        return (
            self.h.sport,
            self.h.dport,
            self.h.seq,
            self.h.ack,
            self.h.flags,
            self.h.window,
            self.h.urgent,
            self.mss,
            self.wscale,
            self.sack_permitted,
            self.timestamps,
            self.sack,
        )

    def __repr__(self):
        options = "".join(
            f", {name}={value!r}"
            for name, value in (
                ("mss", self.mss),
                ("wscale", self.wscale),
                ("sack_permitted", self.sack_permitted),
                ("timestamps", self.timestamps),
                ("sack", self.sack),
            )
            if value is not None and value is not False and value != ()
        )
        return (
            f"TCPHeader(sport={self.h.sport}, dport={self.h.dport}, seq={self.h.seq}, ack={self.h.ack}, "
            f"flags={self.h.flags:#04x}, window={self.h.window}, checksum={self.h.checksum:#06x}, "
            f"urgent={self.h.urgent}{options})"
        )
