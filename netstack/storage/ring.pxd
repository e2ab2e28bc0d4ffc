# A byte ring addressed by absolute stream offsets; grows on demand up to a limit and gives its memory back.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.storage.blocks cimport blocks_t

ctypedef struct ring_span:
    uint8_t *data
    uint32_t length

ctypedef struct ring_t:
    uint8_t *memory         # NULL while capacity is 0
    uint32_t capacity       # bytes, a power of two, or 0
    uint32_t origin         # stream offset that lies at memory[0], modulo capacity
    uint64_t head           # stream offset of the first byte held
    uint64_t tail           # stream offset behind the last byte held
    uint64_t placed         # stream offset behind the last byte that ring_place wrote

cdef void ring_init(ring_t *r, uint64_t offset) noexcept nogil
# blocks, the same for all of a ring's life: where memory of the size BLOCK comes from; NULL: from the allocator
cdef void ring_free(ring_t *r, blocks_t *blocks) noexcept nogil
# grow to at least that; keeps the bytes; 0 or -1
cdef int ring_reserve(ring_t *r, uint32_t capacity, blocks_t *blocks) noexcept nogil
# gives memory back where little or nothing is held
cdef void ring_shrink(ring_t *r, blocks_t *blocks) noexcept nogil
# Up to two spans of free room behind tail (their number is returned); ring_commit says how much was filled.
cdef int ring_free_spans(ring_t *r, uint32_t limit, ring_span *out) noexcept nogil
cdef void ring_commit(ring_t *r, uint32_t n) noexcept nogil
# Up to two spans of held bytes [offset, offset + length).
cdef int ring_spans(const ring_t *r, uint64_t offset, uint32_t length, ring_span *out) noexcept nogil
# Copies bytes to a place at or behind head, within capacity, without moving tail (reassembly).
cdef void ring_place(ring_t *r, uint64_t offset, const uint8_t *data, uint32_t length) noexcept nogil
cdef void ring_drop(ring_t *r, uint32_t n) noexcept nogil               # forgets n bytes at head
# Moves an empty ring n bytes on (bytes that went by without being stored). Bytes placed further on keep their
# offsets.
cdef void ring_skip(ring_t *r, uint32_t n) noexcept nogil
