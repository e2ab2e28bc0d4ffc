# One 16-byte address for IPv4 and IPv6: IPv4 is held as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

ctypedef struct addr_t:
    uint64_t w[2]           # network byte order, as the 16 bytes lie in memory


cdef inline addr_t addr_from_v4(uint32_t v4) noexcept nogil:
    """v4 in host byte order."""
    cdef addr_t a
    cdef uint8_t *b = <uint8_t *>&a
    a.w[0] = 0
    a.w[1] = 0
    b[10] = 0xff
    b[11] = 0xff
    b[12] = <uint8_t>(v4 >> 24)
    b[13] = <uint8_t>(v4 >> 16)
    b[14] = <uint8_t>(v4 >> 8)
    b[15] = <uint8_t>v4
    return a


cdef inline addr_t addr_from_v6(const uint8_t *p) noexcept nogil:
    cdef addr_t a
    memcpy(&a, p, 16)
    return a


cdef inline bint addr_is_v4(const addr_t *a) noexcept nogil:
    cdef const uint8_t *b = <const uint8_t *>a
    return a.w[0] == 0 and b[8] == 0 and b[9] == 0 and b[10] == 0xff and b[11] == 0xff


cdef inline uint32_t addr_v4(const addr_t *a) noexcept nogil:
    """The IPv4 address in host byte order; meaningful only where addr_is_v4."""
    cdef const uint8_t *b = <const uint8_t *>a
    return (<uint32_t>b[12] << 24) | (<uint32_t>b[13] << 16) | (<uint32_t>b[14] << 8) | b[15]


cdef inline bint addr_eq(const addr_t *a, const addr_t *b) noexcept nogil:
    return a.w[0] == b.w[0] and a.w[1] == b.w[1]


cdef addr_t addr_from_object(object value) except *     # str, int (IPv4), bytes of 4 or 16, ipaddress object
cdef object addr_to_object(const addr_t *a)             # ipaddress.IPv4Address or IPv6Address
cdef addr_t addr_from_bytes(bytes packed) noexcept      # packed has 4 or 16 bytes
cdef object addr_to_v6_object(const addr_t *a)          # IPv6Address even where addr_is_v4
cdef uint32_t v4_from_object(object value) except? 0xffffffff   # ValueError where the address is IPv6
cdef object v4_to_object(uint32_t v4)
cdef int mac_from_object(object value, uint8_t *out) except -1  # str with : or -, or 6 bytes
cdef str mac_to_str(const uint8_t *mac)
