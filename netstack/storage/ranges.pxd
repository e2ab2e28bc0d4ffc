# A small sorted set of disjoint half-open ranges of 64-bit stream offsets, bounded in number.
from libc.stdint cimport uint16_t, uint64_t

ctypedef struct range_t:
    uint64_t left
    uint64_t right

ctypedef struct ranges_t:
    range_t *items
    uint16_t n
    uint16_t room
    uint16_t limit

cdef void ranges_init(ranges_t *s, uint16_t limit) noexcept nogil
cdef void ranges_free(ranges_t *s) noexcept nogil
# 1 new bytes, 0 nothing new, -1 at the limit
cdef int ranges_add(ranges_t *s, uint64_t left, uint64_t right) noexcept nogil
cdef void ranges_drop_below(ranges_t *s, uint64_t offset) noexcept nogil
cdef bint ranges_contains(const ranges_t *s, uint64_t left, uint64_t right) noexcept nogil
cdef uint64_t ranges_bytes(const ranges_t *s) noexcept nogil
