"""Domain names: on the wire with compression (RFC 1035 section 4.1.4), and as text (section 5.1)."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_VALUE,
    WIRE_LOOP,
    WIRE_TRUNCATED,
    WIRE_UNSUPPORTED,
    raise_wire,
)


cdef int dns_name_parse(const uint8_t *data, size_t length, size_t at, dns_name *out) noexcept nogil:
    """The name at offset ``at``, compression undone (RFC 1035 section 4.1.4); the bytes it takes there.

    Each pointer must lead before the run of labels that it ends: so every hop moves strictly backwards and a
    loop cannot exist.
    """
    cdef size_t pos = at
    cdef size_t start = at          # where the current run of labels began
    cdef size_t end = 0             # behind the name at `at`, known at the first pointer
    cdef size_t target
    cdef uint32_t used = 0, hops = 0, n
    while True:
        if pos >= length:
            return WIRE_TRUNCATED
        n = data[pos]
        if n == 0:
            out.bytes[used] = 0
            out.length = <uint8_t>(used + 1)
            if hops == 0:
                end = pos + 1
            return <int>(end - at)
        if n <= DNS_LABEL_MAX:
            if n + 1 > length - pos:
                return WIRE_TRUNCATED
            if used + n + 2 > DNS_NAME_MAX:
                return WIRE_BAD_LENGTH
            memcpy(&out.bytes[used], data + pos, n + 1)
            used += n + 1
            pos += n + 1
        elif n >= 0xc0:
            if length - pos < 2:
                return WIRE_TRUNCATED
            target = ((n & 0x3f) << 8) | data[pos + 1]
            if target >= start or hops == DNS_POINTERS_MAX:
                return WIRE_LOOP
            if target < DNS_NAME_FIRST:
                return WIRE_BAD_VALUE
            if hops == 0:
                end = pos + 2
            hops += 1
            pos = target
            start = target
        else:
            return WIRE_UNSUPPORTED     # 01 and 10: the label types that RFC 6891 section 5 gave up


cdef int dns_name_skip(const uint8_t *data, size_t length, size_t at) noexcept nogil:
    """Like dns_name_parse, but a pointer ends the walk after its own direction was checked."""
    cdef size_t pos = at
    cdef uint32_t n
    while True:
        if pos >= length:
            return WIRE_TRUNCATED
        n = data[pos]
        if n == 0:
            return <int>(pos + 1 - at)
        if n <= DNS_LABEL_MAX:
            pos += n + 1
            if pos + 1 - at > DNS_NAME_MAX:
                return WIRE_BAD_LENGTH
        elif n >= 0xc0:
            if length - pos < 2:
                return WIRE_TRUNCATED
            if (((n & 0x3f) << 8) | data[pos + 1]) >= at:
                return WIRE_LOOP
            return <int>(pos + 2 - at)
        else:
            return WIRE_UNSUPPORTED


cdef inline uint8_t folded(uint8_t c) noexcept nogil:
    return c + 32 if 65 <= c <= 90 else c


cdef bint dns_name_equal(const dns_name *a, const dns_name *b) noexcept nogil:
    cdef uint32_t i
    if a.length != b.length:
        return False
    for i in range(a.length):
        if folded(a.bytes[i]) != folded(b.bytes[i]):
            return False
    return True


cdef void dns_name_lower(dns_name *name) noexcept nogil:
    """ASCII letters to lower case; a length byte is below 64 and so never looks like a letter."""
    cdef uint32_t i
    for i in range(name.length):
        name.bytes[i] = folded(name.bytes[i])


cpdef bytes name_from_text(str text):
    r"""Wire bytes of a name in text (``www.example.com``, with or without the last dot; ``.`` is the root).

    ``\.`` is a dot inside a label and ``\ddd`` a byte in decimal (RFC 1035 section 5.1).

    Raises:
        WireError: an empty label, one over 63 bytes, a name over 255 bytes, a bad escape, not ASCII.
    """
    cdef dns_name name
    cdef uint32_t used = 1      # bytes so far, the length byte of the label at hand included
    cdef uint32_t label = 0     # where that length byte stands
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t n = len(text)
    cdef Py_UCS4 c
    if n == 0:
        raise_wire(WIRE_BAD_VALUE)
    if text == ".":
        return b"\0"
    while i < n:
        c = text[i]
        i += 1
        if c == u".":
            if used - label < 2 or used >= DNS_NAME_MAX:
                raise_wire(WIRE_BAD_LENGTH)
            name.bytes[label] = <uint8_t>(used - label - 1)
            label = used
            used += 1
            continue
        if c == u"\\":
            if i >= n:
                raise_wire(WIRE_BAD_VALUE)
            c = text[i]
            i += 1
            if u"0" <= c <= u"9":
                c = _decimal(text[i - 1:i + 2])
                i += 2
            elif not 33 <= c <= 126:
                raise_wire(WIRE_BAD_VALUE)
        elif not 33 <= c <= 126:
            raise_wire(WIRE_BAD_VALUE)
        if used - label > DNS_LABEL_MAX or used >= DNS_NAME_MAX - 1:
            raise_wire(WIRE_BAD_LENGTH)
        name.bytes[used] = <uint8_t>c
        used += 1
    if used - label > 1:        # no dot at the end: the root is still to come
        name.bytes[label] = <uint8_t>(used - label - 1)
        label = used
        used += 1
    name.bytes[label] = 0
    return name.bytes[:used]


cdef int _decimal(str digits) except -1:
    if len(digits) != 3 or not (digits.isascii() and digits.isdigit()) or int(digits) > 255:
        raise_wire(WIRE_BAD_VALUE)
    return int(digits)


cpdef str name_to_text(bytes wire):
    """Text of a name that is not compressed, without the last dot; ``.`` for the root.

    Raises:
        WireError: not exactly one whole name.
    """
    cdef const uint8_t *data = wire
    cdef dns_name name
    cdef int taken = raise_wire(dns_name_parse(data, len(wire), 0, &name))
    if taken != len(wire):
        raise_wire(WIRE_BAD_LENGTH)
    return dns_name_text(&name)


cdef str dns_name_text(const dns_name *name):
    cdef list out = []
    cdef uint32_t pos = 0, end
    cdef uint8_t c
    while name.bytes[pos]:
        end = pos + 1 + name.bytes[pos]
        pos += 1
        while pos < end:
            c = name.bytes[pos]
            pos += 1
            if c == 46 or c == 92:
                out.append("\\" + chr(c))
            elif 33 <= c <= 126:
                out.append(chr(c))
            else:
                out.append("\\%03d" % c)
        if name.bytes[pos]:
            out.append(".")
    return "".join(out) or "."


cpdef bytes name_take(bytes data, Py_ssize_t at):
    """The wire bytes of the name at ``at`` of record data that stand outside their message.

    Raises:
        WireError: cut short, or a compression pointer, which means nothing there.
    """
    cdef const uint8_t *p = data
    cdef dns_name name
    cdef int taken
    if at < 0 or at > len(data):
        raise_wire(WIRE_TRUNCATED)
    taken = raise_wire(dns_name_parse(p, len(data), at, &name))
    if taken != name.length:
        raise_wire(WIRE_LOOP)
    return data[at:at + taken]
