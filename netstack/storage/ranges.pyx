"""A small sorted set of disjoint half-open ranges of 64-bit stream offsets.

Ranges that touch are joined. New ranges mostly lie at the end (the newest segment behind a gap), so the
search runs from there.
"""
cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove


cdef void ranges_init(ranges_t *s, uint16_t limit) noexcept nogil:
    """An empty set that will hold at most limit ranges."""
    s.items = NULL
    s.n = 0
    s.room = 0
    s.limit = limit


cdef void ranges_free(ranges_t *s) noexcept nogil:
    """Empties the set and gives its memory back; it can be used again."""
    free(s.items)
    s.items = NULL
    s.n = 0
    s.room = 0


cdef int ranges_add(ranges_t *s, uint64_t left, uint64_t right) noexcept nogil:
    """Adds [left, right). 1 when bytes are new, 0 when none is (or the range is empty), -1 at the limit or
    without memory.
    """
    cdef uint32_t first, last, room
    cdef range_t *items
    if left >= right:
        return 0
    # items[first .. last) overlap or touch [left, right)
    last = s.n
    while last > 0 and s.items[last - 1].left > right:
        last -= 1
    first = last
    while first > 0 and s.items[first - 1].right >= left:
        first -= 1
    if first < last:
        if s.items[first].left <= left and s.items[first].right >= right:
            return 0
        if left < s.items[first].left:
            s.items[first].left = left
        if s.items[last - 1].right > right:
            right = s.items[last - 1].right
        s.items[first].right = right
        if last - first > 1:
            memmove(&s.items[first + 1], &s.items[last], (s.n - last) * sizeof(range_t))
            s.n -= <uint16_t>(last - first - 1)
        return 1
    if s.n >= s.limit:
        return -1
    if s.n == s.room:
        room = s.room * 2 if s.room else 4
        if room > s.limit:
            room = s.limit
        items = <range_t *>realloc(s.items, room * sizeof(range_t))
        if items == NULL:
            return -1
        s.items = items
        s.room = <uint16_t>room
    memmove(&s.items[first + 1], &s.items[first], (s.n - first) * sizeof(range_t))
    s.items[first].left = left
    s.items[first].right = right
    s.n += 1
    return 1


cdef void ranges_drop_below(ranges_t *s, uint64_t offset) noexcept nogil:
    """Removes everything below offset; a range that spans it is cut."""
    cdef uint32_t gone = 0
    while gone < s.n and s.items[gone].right <= offset:
        gone += 1
    if gone:
        s.n -= <uint16_t>gone
        memmove(s.items, &s.items[gone], s.n * sizeof(range_t))
    if s.n and s.items[0].left < offset:
        s.items[0].left = offset


cdef bint ranges_contains(const ranges_t *s, uint64_t left, uint64_t right) noexcept nogil:
    """True when every byte of [left, right) is in the set (an empty range always is)."""
    cdef uint32_t i = s.n
    if left >= right:
        return True
    while i > 0:
        i -= 1
        if s.items[i].left <= left:
            return s.items[i].right >= right
    return False


cdef uint64_t ranges_bytes(const ranges_t *s) noexcept nogil:
    """The number of bytes in the set."""
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(s.n):
        total += s.items[i].right - s.items[i].left
    return total


@cython.auto_pickle(False)
cdef class Ranges:
    """The set as a Python object; iterating gives (left, right) in order."""

    cdef ranges_t ranges

    def __cinit__(self, uint16_t limit=64):
        ranges_init(&self.ranges, limit)

    def __dealloc__(self):
        ranges_free(&self.ranges)

    def __len__(self):
        return self.ranges.n

    def __iter__(self):
        return iter([(self.ranges.items[i].left, self.ranges.items[i].right) for i in range(self.ranges.n)])

    def add(self, uint64_t left, uint64_t right) -> int:
        """1 when bytes are new, 0 when none is, -1 at the limit."""
        return ranges_add(&self.ranges, left, right)

    def drop_below(self, uint64_t offset) -> None:
        """Remove everything below offset."""
        ranges_drop_below(&self.ranges, offset)

    def contains(self, uint64_t left, uint64_t right) -> bool:
        """True when every byte of [left, right) is in the set."""
        return bool(ranges_contains(&self.ranges, left, right))

    @property
    def nbytes(self) -> int:
        """The number of bytes in the set."""
        return ranges_bytes(&self.ranges)
