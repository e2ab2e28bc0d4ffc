"""Header columns of plain frames, filled column by column straight from the bytes of the file.

Plain is what nearly all traffic is: Ethernet without tags, IPv4 without options and fragments or IPv6 without
extension headers, and a TCP or UDP header that is there whole and contradicts nothing. Where a field lies is known
for all of them at once, so that a column is a loop of loads and stores, without a struct in between that has to be
cleared, filled and copied apart. All other frames go through ``netstack.capture.frames``; what both say of a frame is
the same.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from netstack.capture.fields cimport (
    LAYER_CUT, LAYER_ETHERNET, LAYER_ETHERTYPE, LAYER_IPV4, LAYER_IPV6, LAYER_PORTS, LAYER_SOURCE, LAYER_TCP,
    LAYER_TCP_WHOLE, LAYER_UDP,
)
from netstack.capture.records cimport LINK_ETHERNET, frame_record
from netstack.wire.be cimport be16, be32, be64

cdef enum:
    COMMON = LAYER_ETHERNET | LAYER_SOURCE | LAYER_ETHERTYPE | LAYER_PORTS
    TCP4 = 0
    UDP4 = 1
    TCP6 = 2
    UDP6 = 3


def _ops():
    """Name: an op, as a tuple, for each shape. Columns that are missing here are no plain frame's."""
    shared = {
        "eth_dst": (FROM_BE48, 0), "eth_src": (FROM_BE48, 6), "ethertype": (FROM_BE16, 12), "layers": (FROM_LAYERS,),
        "payload": (FROM_PAYLOAD,),
    }
    four = {
        "ip_version": (FROM_VALUE, 0, 0, 0, 4), "ip_src": (FROM_BE32, 26), "ip_dst": (FROM_BE32, 30),
        "protocol": (FROM_U8, 23), "ip_tos": (FROM_U8, 15), "ip_length": (FROM_BE16, 16), "ip_id": (FROM_BE16, 18),
        "ip_flags": (FROM_U8, 20, 5, 3), "ttl": (FROM_U8, 22),
    }
    six = {
        "ip_version": (FROM_VALUE, 0, 0, 0, 6), "ip6_src": (FROM_BE64_TWICE, 22), "ip6_dst": (FROM_BE64_TWICE, 38),
        "protocol": (FROM_U8, 20), "ip_tos": (FROM_BE16, 14, 4, 0xff), "ip_length": (FROM_BE16, 18),
        "ttl": (FROM_U8, 21),
    }
    tcp = {
        "src_port": (FROM_BE16, 0), "dst_port": (FROM_BE16, 2), "tcp_seq": (FROM_BE32, 4), "tcp_ack": (FROM_BE32, 8),
        "tcp_header": (FROM_U8, 12, 2, 0x3c), "tcp_flags": (FROM_BE16, 12, 0, 0x0fff), "tcp_window": (FROM_BE16, 14),
        "tcp_urgent": (FROM_BE16, 18),
    }
    udp = {"src_port": (FROM_BE16, 0), "dst_port": (FROM_BE16, 2), "udp_length": (FROM_BE16, 4)}
    found = {}
    for shape, (network, transport, header) in enumerate(
        ((four, tcp, 34), (four, udp, 34), (six, tcp, 54), (six, udp, 54))
    ):
        ops = {**shared, **network}
        ops.update({name: (op[0], op[1] + header, *op[2:]) for name, op in transport.items()})
        for name, op in ops.items():
            found.setdefault(name, [(FROM_NOWHERE,)] * PLAIN_SHAPES)[shape] = op
    return found


PLAIN_OPS = _ops()


cdef bint plain_add(plain_batch *b, const frame_record *frame, int row) noexcept nogil:
    cdef const uint8_t *p = frame.data
    cdef const uint8_t *transport
    cdef uint32_t length = frame.length if frame.length > frame.captured else frame.captured
    cdef uint32_t layers = COMMON, size, header
    cdef int shape, n
    cdef uint16_t kind
    if frame.captured < 42 or frame.link_type != LINK_ETHERNET:
        return False
    kind = be16(p + 12)
    if kind == 0x0800:
        size = be16(p + 16)
        if p[14] != 0x45 or be16(p + 20) & 0x3fff or size < 28 or size > length - 14:
            return False
        size -= 20
        transport = p + 34
        shape = TCP4
        layers |= LAYER_IPV4
        kind = p[23]
    elif kind == 0x86dd and frame.captured >= 62 and p[14] >> 4 == 6:
        size = be16(p + 18)
        if size < 8 or size > length - 54:
            return False
        transport = p + 54
        shape = TCP6
        layers |= LAYER_IPV6
        kind = p[20]
    else:
        return False
    if kind == 6:
        if size < 20 or transport + 20 > p + frame.captured:
            return False
        header = (transport[12] >> 2) & 0x3c
        if header < 20 or header > size:
            return False
        layers |= LAYER_TCP | LAYER_TCP_WHOLE
    elif kind == 17:
        header = be16(transport + 4)
        if header < 8 or header > size:
            return False
        size = header
        header = 8
        layers |= LAYER_UDP
        shape += 1
    else:
        return False
    if frame.length > frame.captured:
        layers |= LAYER_CUT
    n = b.count[shape]
    b.data[shape][n] = p
    b.layers[shape][n] = layers
    b.payload[shape][n] = size - header
    b.row[shape][n] = <uint8_t>row
    b.count[shape] = n + 1
    return True


cdef void fill_value(
    const uint8_t *rows, int n, uint64_t value, uint32_t size, uint8_t *out, bint all_of_them
) noexcept nogil:
    cdef int i
    if all_of_them and (value == 0 or size == 1):
        memset(out, <int>value, <size_t>n * size)
        return
    for i in range(n):
        if size == 1:
            out[rows[i]] = <uint8_t>value
        elif size == 2:
            (<uint16_t *>out)[rows[i]] = <uint16_t>value
        elif size == 4:
            (<uint32_t *>out)[rows[i]] = <uint32_t>value
        elif size == 8:
            (<uint64_t *>out)[rows[i]] = value
        else:
            memset(out + <size_t>size * rows[i], 0, size)


cdef void fill_small(
    const uint8_t *const *data, const uint8_t *rows, int n, const plain_op *op, uint32_t size, uint8_t *out
) noexcept nogil:
    """Fields of one or two bytes."""
    cdef uint32_t at = op.at, shift = op.shift, mask = op.mask if op.mask else 0xffff
    cdef uint16_t *d16 = <uint16_t *>out
    cdef uint32_t *d32 = <uint32_t *>out
    cdef int i
    if op.source == FROM_U8:
        for i in range(n):
            out[rows[i]] = <uint8_t>((data[i][at] >> shift) & mask)
    elif size == 2:
        for i in range(n):
            d16[rows[i]] = <uint16_t>(be16(data[i] + at) & mask)
    elif size == 4:
        for i in range(n):
            d32[rows[i]] = be16(data[i] + at) & mask
    else:
        for i in range(n):
            out[rows[i]] = <uint8_t>((be16(data[i] + at) >> shift) & mask)


cdef void plain_fill(
    const plain_batch *b, int shape, const plain_op *op, uint32_t size, uint8_t *out, int rows
) noexcept nogil:
    cdef int n = b.count[shape], i
    cdef const uint8_t *const *data = &b.data[shape][0]
    cdef const uint8_t *row = &b.row[shape][0]
    cdef const uint32_t *found
    cdef uint32_t at = op.at
    cdef uint32_t *d32 = <uint32_t *>out
    cdef uint64_t *d64 = <uint64_t *>out
    if op.source == FROM_NOWHERE or op.source == FROM_VALUE:
        fill_value(row, n, op.value, size, out, n == rows)
    elif op.source == FROM_U8 or op.source == FROM_BE16:
        fill_small(data, row, n, op, size, out)
    elif op.source == FROM_BE32:
        for i in range(n):
            d32[row[i]] = be32(data[i] + at)
    elif op.source == FROM_BE48:
        if at:
            for i in range(n):
                d64[row[i]] = (be64(data[i] + at - 2) << 16) >> 16
        else:
            for i in range(n):
                d64[row[i]] = be64(data[i]) >> 16
    elif op.source == FROM_BE64_TWICE:
        for i in range(n):
            d64[2 * row[i]] = be64(data[i] + at)
            d64[2 * row[i] + 1] = be64(data[i] + at + 8)
    else:
        found = &b.layers[shape][0]
        if op.source == FROM_PAYLOAD:
            found = &b.payload[shape][0]
        for i in range(n):
            d32[row[i]] = found[i]
