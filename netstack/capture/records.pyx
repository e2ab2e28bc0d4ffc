"""Finds the frames of a capture file in memory; everything that a file claims is checked against the bytes.

Sources: draft-ietf-opsawg-pcap (section 4 and 5) and draft-ietf-opsawg-pcapng (section 4).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from netstack.capture.blocks cimport PCAP_MAX_SNAPLEN
from netstack.wire.be cimport be16, be32

cdef extern from *:
    """
    #define netstack_prefetch(p) __builtin_prefetch((p), 0, 3)
    """
    ctypedef unsigned long long wide "unsigned __int128"
    void netstack_prefetch(const void *p) noexcept nogil

cdef enum:
    MAGIC_MICROSECONDS = 0xa1b2c3d4
    MAGIC_NANOSECONDS = 0xa1b23c4d
    MAGIC_SECTION = 0x0a0d0d0a
    MAGIC_BYTE_ORDER = 0x1a2b3c4d
    FILE_HEADER = 24
    RECORD_HEADER = 16
    BLOCK_INTERFACE = 1
    BLOCK_PACKET_OLD = 2
    BLOCK_SIMPLE = 3
    BLOCK_ENHANCED = 6
    OPTION_TSRESOL = 9
    OPTION_TSOFFSET = 14
    MAX_BLOCK = 1 << 24         # a longer block is not believed
    MAX_INTERFACES = 65536
    AHEAD = 1024                # bytes that are asked for before they are needed: frames are found one by one
    LINE = 64
    STEPS = 2                   # pairs of frames ahead, where their lengths repeat

cdef int64_t SECOND = 1000000000


cdef inline uint16_t le16(const uint8_t *p) noexcept nogil:
    return <uint16_t>(p[0] | (p[1] << 8))


cdef inline uint32_t le32(const uint8_t *p) noexcept nogil:
    return p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


cdef inline uint16_t get16(const records_t *r, const uint8_t *p) noexcept nogil:
    return be16(p) if r.big else le16(p)


cdef inline uint32_t get32(const records_t *r, const uint8_t *p) noexcept nogil:
    return be32(p) if r.big else le32(p)


cdef records_t *records_new() noexcept nogil:
    return <records_t *>calloc(1, sizeof(records_t))


cdef void records_free(records_t *r) noexcept nogil:
    if r != NULL:
        free(r.interfaces)
        free(r)


cdef int refuse(records_t *r, int fault, uint64_t at, uint64_t value) noexcept nogil:
    r.fault = fault
    r.fault_at = at
    r.fault_value = value
    return -1


cdef capture_interface *add_interface(records_t *r) noexcept nogil:
    """A new interface that counts microseconds; NULL where there is no memory or there are too many."""
    cdef uint32_t room
    cdef capture_interface *grown
    cdef capture_interface *added
    if r.n_interfaces == r.room:
        room = r.room * 2 if r.room else 4
        if room > MAX_INTERFACES:
            return NULL
        grown = <capture_interface *>realloc(r.interfaces, room * sizeof(capture_interface))
        if grown == NULL:
            return NULL
        r.interfaces = grown
        r.room = room
    added = &r.interfaces[r.n_interfaces]
    added.link_type = 0
    added.snaplen = 0
    added.ticks = 1000000
    added.shift_ns = 0
    r.n_interfaces += 1
    return added


cdef ssize_t begin(records_t *r, const uint8_t *data, size_t length) noexcept nogil:
    """Learns the format; the bytes taken, 0 where too few are there, -1 with a fault."""
    cdef uint32_t magic
    cdef int order
    cdef capture_interface *only
    if length < 4:
        return 0
    if be32(data) == MAGIC_SECTION:
        r.format = 2
        return 0
    for order in range(2):
        magic = be32(data) if order else le32(data)
        if magic == MAGIC_MICROSECONDS or magic == MAGIC_NANOSECONDS:
            if length < FILE_HEADER:
                return 0
            r.big = order
            r.unit = 1000 if magic == MAGIC_MICROSECONDS else 1
            if get16(r, data + 4) != 2:
                return refuse(r, FAULT_VERSION, 4, get16(r, data + 4))
            only = add_interface(r)
            if only == NULL:
                return refuse(r, FAULT_MEMORY, 0, 0)
            only.link_type = <uint16_t>get32(r, data + 20)      # above it: how long a frame check sequence is
            r.format = 1
            return FILE_HEADER
    return refuse(r, FAULT_NOT_A_CAPTURE, 0, 0)


cdef inline size_t ask(
    const uint8_t *data, size_t at, size_t asked, size_t length, bint steady, size_t pair
) noexcept nogil:
    """Has memory fetched that will be read soon; asked is up to where that has been done, and is returned anew.

    Where a record begins is known only from the one before: without this, each costs the time of a fetch. Of bulk
    data the lengths repeat, and only where headers will be is asked for.
    """
    cdef size_t reach
    if steady and pair > 4 * LINE:
        reach = at + STEPS * pair
        if reach + 2 * LINE < length:
            netstack_prefetch(data + reach)
            netstack_prefetch(data + reach + LINE)
        return asked
    reach = at + AHEAD if length - at > AHEAD else length
    if asked < at:
        asked = at
    while asked < reach:
        netstack_prefetch(data + asked)
        asked += LINE
    return asked


cdef size_t read_classic(
    records_t *r, const uint8_t *data, size_t length, frame_record *out, int room, int *n
) noexcept nogil:
    cdef size_t at = 0, asked = 0
    cdef uint32_t captured, one = 0, two = 0     # the lengths of the frames before
    cdef uint16_t link_type = r.interfaces[0].link_type
    cdef const uint8_t *p
    cdef frame_record *frame
    cdef int found = 0
    while found < room and length - at >= RECORD_HEADER:
        p = data + at
        captured = get32(r, p + 8)
        asked = ask(data, at, asked, length, captured == two, <size_t>one + two + 2 * RECORD_HEADER)
        two = one
        one = captured
        if captured > PCAP_MAX_SNAPLEN:
            refuse(r, FAULT_RECORD_LENGTH, r.offset + at, captured)
            break
        if length - at - RECORD_HEADER < captured:
            break
        frame = &out[found]
        frame.data = p + RECORD_HEADER
        frame.time_ns = <int64_t>get32(r, p) * SECOND + <int64_t>get32(r, p + 4) * r.unit
        frame.captured = captured
        frame.length = get32(r, p + 12)
        frame.interface = 0
        frame.link_type = link_type
        found += 1
        at += RECORD_HEADER + captured
    n[0] = found
    return at


cdef int64_t time_of(const capture_interface *interface, uint64_t ticks) noexcept nogil:
    cdef uint64_t seconds
    if interface.ticks == <uint64_t>SECOND:
        return <int64_t>ticks + interface.shift_ns
    if interface.ticks == 1000000:
        return <int64_t>(ticks * 1000) + interface.shift_ns
    seconds = ticks // interface.ticks
    return (
        <int64_t>(seconds * SECOND)
        + <int64_t>(<wide>(ticks - seconds * interface.ticks) * <wide>SECOND // <wide>interface.ticks)
        + interface.shift_ns
    )


cdef int read_interface(records_t *r, const uint8_t *body, size_t length, uint64_t at) noexcept nogil:
    """An interface description block without its frame: body is what lies between the two lengths."""
    cdef capture_interface *interface
    cdef size_t p = 8
    cdef uint16_t kind, size
    cdef uint8_t exponent
    cdef int _i
    if length < 8:
        return refuse(r, FAULT_BLOCK_LENGTH, at, length + 12)
    interface = add_interface(r)
    if interface == NULL:
        return refuse(r, FAULT_MEMORY, at, 0)
    interface.link_type = get16(r, body)
    interface.snaplen = get32(r, body + 4)
    while p + 4 <= length:
        kind = get16(r, body + p)
        size = get16(r, body + p + 2)
        p += 4
        if kind == 0:
            break
        if size > length - p:
            return refuse(r, FAULT_OPTION, at, kind)
        if kind == OPTION_TSRESOL and size == 1:
            exponent = body[p] & 0x7f
            if body[p] & 0x80:
                interface.ticks = <uint64_t>1 << (exponent if exponent < 63 else 63)
            else:
                interface.ticks = 1
                for _i in range(exponent if exponent < 19 else 19):
                    interface.ticks *= 10
        elif kind == OPTION_TSOFFSET and size == 8:
            interface.shift_ns = SECOND * <int64_t>(
                (<uint64_t>get32(r, body + p + (0 if r.big else 4)) << 32)
                | get32(r, body + p + (4 if r.big else 0))
            )
        p += (size + 3) & ~3
    return 0


cdef int read_packet(
    records_t *r, uint32_t kind, const uint8_t *body, size_t length, uint64_t at, frame_record *out
) noexcept nogil:
    """A packet block of any of the three kinds, without its frame."""
    cdef size_t head = 4 if kind == BLOCK_SIMPLE else 20
    cdef uint32_t index = 0
    cdef const capture_interface *interface
    if length < head:
        return refuse(r, FAULT_PACKET_LENGTH, at, length)
    if kind == BLOCK_ENHANCED:
        index = get32(r, body)
    elif kind == BLOCK_PACKET_OLD:
        index = get16(r, body)
    if index >= r.n_interfaces - r.section:
        return refuse(r, FAULT_INTERFACE, at, index)
    interface = &r.interfaces[r.section + index]
    out.interface = r.section + index
    out.link_type = interface.link_type
    out.data = body + head
    if kind == BLOCK_SIMPLE:
        out.time_ns = 0
        out.length = get32(r, body)
        out.captured = out.length
        if interface.snaplen and out.captured > interface.snaplen:
            out.captured = interface.snaplen
        if out.captured > length - head:
            out.captured = <uint32_t>(length - head)
        return 0
    out.time_ns = time_of(interface, (<uint64_t>get32(r, body + 4) << 32) | get32(r, body + 8))
    out.captured = get32(r, body + 12)
    out.length = get32(r, body + 16)
    if out.captured > length - head:
        return refuse(r, FAULT_PACKET_LENGTH, at, out.captured)
    return 0


cdef int begin_section(records_t *r, const uint8_t *data) noexcept nogil:
    """The byte order of the section whose first 12 bytes are at data."""
    if be32(data + 8) == MAGIC_BYTE_ORDER:
        r.big = 1
    elif le32(data + 8) == MAGIC_BYTE_ORDER:
        r.big = 0
    else:
        return refuse(r, FAULT_BYTE_ORDER, r.offset, 0)
    return 0


cdef size_t read_blocks(
    records_t *r, const uint8_t *data, size_t length, frame_record *out, int room, int *n
) noexcept nogil:
    cdef size_t at = 0, asked = 0
    cdef uint64_t start = r.offset
    cdef uint32_t kind, size, one = 0, two = 0   # the lengths of the blocks before
    cdef bint section
    cdef int found = 0
    while found < room and length - at >= 12:
        r.offset = start + at
        section = be32(data + at) == MAGIC_SECTION
        if section and begin_section(r, data + at) < 0:
            break
        kind = get32(r, data + at)
        size = get32(r, data + at + 4)
        asked = ask(data, at, asked, length, size == two, <size_t>one + two)
        two = one
        one = size
        if size < 12 or size & 3 or size > MAX_BLOCK or section and size < 28:
            refuse(r, FAULT_BLOCK_LENGTH, r.offset, size)
            break
        if length - at < size:
            break
        if get32(r, data + at + size - 4) != size:
            refuse(r, FAULT_BLOCK_LENGTH, r.offset, size)
            break
        if section:
            if get16(r, data + at + 12) != 1:
                refuse(r, FAULT_VERSION, r.offset, get16(r, data + at + 12))
                break
            r.section = r.n_interfaces
        elif kind == BLOCK_ENHANCED or kind == BLOCK_PACKET_OLD or kind == BLOCK_SIMPLE:
            if read_packet(r, kind, data + at + 8, size - 12, r.offset, &out[found]) < 0:
                break
            found += 1
        elif kind == BLOCK_INTERFACE and read_interface(r, data + at + 8, size - 12, r.offset) < 0:
            break
        at += size
    r.offset = start
    n[0] = found
    return at


cdef size_t records_read(
    records_t *r, const uint8_t *data, size_t length, frame_record *out, int room, int *n
) noexcept nogil:
    cdef size_t taken
    cdef ssize_t head = 0
    n[0] = 0
    if r.fault:
        return 0
    if r.format == 0:
        head = begin(r, data, length)
        if r.format == 0:
            return 0
        r.offset += <uint64_t>head
    if r.format == 1:
        taken = read_classic(r, data + head, length - <size_t>head, out, room, n)
    else:
        taken = read_blocks(r, data, length, out, room, n)
    r.offset += taken
    return <size_t>head + taken


cdef void records_end(records_t *r, size_t left) noexcept nogil:
    if r.fault == 0 and (left or r.format == 0):
        refuse(r, FAULT_CUT if r.format else FAULT_NOT_A_CAPTURE, r.offset, left)


cdef str records_fault_text(const records_t *r):
    """One clause that says what is wrong; "" without a fault."""
    cdef object at = r.fault_at, value = r.fault_value
    if r.fault == FAULT_CUT:
        return f"cut short: the {value} bytes from byte {at} on are no whole record"
    if r.fault == FAULT_NOT_A_CAPTURE:
        return "neither a pcap nor a pcapng file"
    if r.fault == FAULT_VERSION:
        return f"version {value} of its format at byte {at} is not known"
    if r.fault == FAULT_RECORD_LENGTH:
        return f"damaged at byte {at}: a record of {value} bytes"
    if r.fault == FAULT_BLOCK_LENGTH:
        return f"damaged at byte {at}: a block whose length ({value}) cannot be right"
    if r.fault == FAULT_BYTE_ORDER:
        return f"damaged at byte {at}: a section without a byte-order magic"
    if r.fault == FAULT_INTERFACE:
        return f"damaged at byte {at}: a packet of interface {value}, which is not described"
    if r.fault == FAULT_PACKET_LENGTH:
        return f"damaged at byte {at}: a packet block that does not hold its packet"
    if r.fault == FAULT_OPTION:
        return f"damaged at byte {at}: an option that runs past its block"
    if r.fault == FAULT_MEMORY:
        return f"not readable from byte {at} on: more interfaces than memory for them"
    return ""
