"""pcapng blocks, written to memory.

Source: draft-ietf-opsawg-pcapng, whose section numbers stand beside each.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from netstack.wire.be cimport put_be32


cdef uint8_t *put_text(uint8_t *p, uint16_t code, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    if n > TEXT:
        n = TEXT
    return put_option(p, code, text, <uint32_t>n) if n else p


cdef size_t closed(uint8_t *start, uint8_t *end) noexcept nogil:
    """Ends the options of a block and writes its two lengths."""
    cdef uint32_t length
    put32(end, 0)
    length = <uint32_t>(end - start) + 8
    put32(start + 4, length)
    put32(end + 4, length)
    return length


cdef size_t block_section(uint8_t *p, const char *hardware, const char *system, const char *application) noexcept nogil:
    """Section 4.1."""
    put32(p, BLOCK_SECTION)
    put32(p + 8, BYTE_ORDER_MAGIC)
    put16(p + 12, 1)
    put16(p + 14, 0)
    memset(p + 16, 0xff, 8)             # how long the section will be is not known
    return closed(p, put_text(put_text(put_text(p + 24, OPTION_HARDWARE, hardware), OPTION_OS, system),
                              OPTION_USER_APPLICATION, application))


cdef size_t block_interface(uint8_t *p, const interface_block *i, uint32_t snaplen, const char *filter,
                            const char *hardware, const char *system) noexcept nogil:
    """Section 4.2; the addresses are the guest's."""
    cdef uint8_t[1 + TEXT] text
    cdef uint8_t *q = p + 16
    cdef size_t n
    put32(p, BLOCK_INTERFACE)
    put16(p + 8, LINK_ETHERNET)
    put16(p + 10, 0)
    put32(p + 12, snaplen)
    q = put_text(q, 2, i.name)
    if i.address:
        put_be32(text, i.address)
        put_be32(text + 4, i.netmask)
        q = put_option(q, 4, text, 8)
    if i.has_mac:
        q = put_option(q, 6, i.mac, 6)
    text[0] = 9                         # nanoseconds
    q = put_option(q, OPTION_TSRESOL, text, 1)
    n = strlen(filter)
    if n:
        n = n if n < TEXT else TEXT
        text[0] = 0                     # as a text in libpcap's notation
        memcpy(text + 1, filter, n)
        q = put_option(q, 11, text, <uint32_t>n + 1)
    return closed(p, put_text(put_text(q, 12, system), 15, hardware))


cdef uint8_t *put_time(uint8_t *p, uint16_t code, uint64_t time_ns) noexcept nogil:
    cdef uint32_t[2] halves
    halves[0] = <uint32_t>(time_ns >> 32)
    halves[1] = <uint32_t>time_ns
    return put_option(p, code, halves, 8)


cdef size_t block_statistics(uint8_t *p, uint32_t id, const interface_block *i, uint64_t time_ns, uint64_t received,
                             uint64_t lost, uint64_t accepted) noexcept nogil:
    """Section 4.6."""
    cdef uint8_t *q = p + 20
    put32(p, BLOCK_STATISTICS)
    put32(p + 8, id)
    put32(p + 12, <uint32_t>(time_ns >> 32))
    put32(p + 16, <uint32_t>time_ns)
    q = put_time(q, 2, i.time_ns)
    q = put_time(q, 3, time_ns)
    q = put_option(q, 4, &received, 8)
    q = put_option(q, 5, &lost, 8)
    return closed(p, put_option(q, 6, &accepted, 8))


cdef size_t block_name(uint8_t *p, const uint8_t *address, int length, const char *name,
                       size_t name_length) noexcept nogil:
    """Section 4.5, with one record."""
    cdef uint8_t *q
    put32(p, BLOCK_NAMES)
    q = p + 8
    put16(q, 1 if length == 4 else 2)
    put16(q + 2, <uint16_t>(<size_t>length + name_length + 1))
    memcpy(q + 4, address, <size_t>length)
    memcpy(q + 4 + length, name, name_length)
    memset(q + 4 + <size_t>length + name_length, 0, 4)
    q += 4 + ((<size_t>length + name_length + 1 + 3) & ~<size_t>3)
    put32(q, 0)                         # the end of the records, then that of the options
    return closed(p, q + 4)


cdef void block_enhanced_head(uint8_t *p, uint32_t length, uint32_t id, uint64_t time_ns, uint32_t captured,
                              uint32_t on_link) noexcept nogil:
    """Section 4.3."""
    put32(p, BLOCK_ENHANCED)
    put32(p + 4, length)
    put32(p + 8, id)
    put32(p + 12, <uint32_t>(time_ns >> 32))
    put32(p + 16, <uint32_t>time_ns)
    put32(p + 20, captured)
    put32(p + 24, on_link)
