"""A byte ring addressed by absolute 64-bit stream offsets.

The byte with stream offset ``o`` lies at ``memory[(o - origin) & (capacity - 1)]``. ``origin`` moves to
``head`` whenever the ring is empty, so that a ring which is drained as fast as it is filled keeps using the
same few cache lines.

With blocks given, a ring of 64 KiB is one of them, and a larger one is pages of its own, which come zeroed, grow
without a copy and go back whole: in the heap, rings of every size between long-lived objects would leave holes that
never close. Without blocks everything comes from the heap.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from netstack.storage.blocks cimport BLOCK, Blocks, blocks_get, blocks_put, blocks_t
from netstack.storage.pages cimport pages_grow, pages_map_large, pages_unmap

cdef enum:
    SMALLEST = 4096             # bytes: below a page there is nothing to save
    LARGEST = 1 << 30


cdef void ring_init(ring_t *r, uint64_t offset) noexcept nogil:
    """An empty ring without memory whose first byte will have the given stream offset."""
    r.memory = NULL
    r.capacity = 0
    r.head = r.tail = r.placed = offset
    r.origin = <uint32_t>offset


cdef void ring_free(ring_t *r, blocks_t *blocks) noexcept nogil:
    """Gives the memory back; the offsets stay, the bytes are gone."""
    give(r, blocks)
    r.head = r.placed = r.tail
    r.origin = <uint32_t>r.tail


cdef inline bint is_block(const blocks_t *blocks, uint32_t size) noexcept nogil:
    return size == BLOCK and blocks != NULL


cdef inline bint is_pages(const blocks_t *blocks, uint32_t size) noexcept nogil:
    return size > BLOCK and blocks != NULL


cdef inline uint8_t *take(blocks_t *blocks, uint32_t size) noexcept nogil:
    if is_block(blocks, size):
        return blocks_get(blocks)
    return <uint8_t *>(pages_map_large(size) if is_pages(blocks, size) else malloc(size))


cdef inline void give(ring_t *r, blocks_t *blocks) noexcept nogil:
    if is_block(blocks, r.capacity):
        blocks_put(blocks, r.memory)
    elif is_pages(blocks, r.capacity):
        pages_unmap(r.memory, r.capacity)
    else:
        free(r.memory)
    r.memory = NULL
    r.capacity = 0


cdef inline uint64_t ring_end(const ring_t *r) noexcept nogil:
    """The offset behind the last byte worth keeping."""
    return r.placed if r.placed > r.tail else r.tail


cdef inline uint32_t round_up(uint32_t n) noexcept nogil:
    cdef uint32_t capacity = SMALLEST
    while capacity < n:
        capacity <<= 1
    return capacity


cdef int move(ring_t *r, uint32_t capacity, blocks_t *blocks) noexcept nogil:
    """Other memory, of a size that holds what is held. 0, or -1 without memory (nothing has changed then)."""
    cdef uint8_t *memory = take(blocks, capacity)
    cdef ring_span spans[2]
    cdef uint32_t done = 0
    cdef int i, n
    if memory == NULL:
        return -1
    n = span_of(r, r.head, <uint32_t>(ring_end(r) - r.head), spans)
    for i in range(n):
        memcpy(memory + done, spans[i].data, spans[i].length)
        done += spans[i].length
    give(r, blocks)
    r.memory = memory
    r.capacity = capacity
    r.origin = <uint32_t>r.head
    return 0


cdef int ring_reserve(ring_t *r, uint32_t capacity, blocks_t *blocks) noexcept nogil:
    """Grows to at least capacity bytes (at most 2**30).

    0, or -1 without memory (nothing has changed then).
    """
    cdef uint32_t bigger, position, held
    cdef uint8_t *memory
    if capacity <= r.capacity:
        return 0
    if capacity > LARGEST:
        return -1
    bigger = round_up(capacity)
    held = <uint32_t>(ring_end(r) - r.head)
    if is_pages(blocks, r.capacity):
        memory = <uint8_t *>pages_grow(r.memory, r.capacity, bigger)
    elif held <= r.capacity >> 2 or (blocks != NULL and bigger >= BLOCK):
        return move(r, bigger, blocks)      # cheaper than realloc, which would copy what nobody needs as well
    else:
        memory = <uint8_t *>realloc(r.memory, bigger)
    if memory == NULL:
        return -1
    # The part that had wrapped to the beginning goes behind the old end: bigger >= 2 * capacity, so there is
    # room.
    position = (<uint32_t>r.head - r.origin) & (r.capacity - 1)
    if position + held > r.capacity:
        memcpy(memory + r.capacity, memory, position + held - r.capacity)
    r.memory = memory
    r.capacity = bigger
    r.origin = <uint32_t>r.head - position
    return 0


cdef void ring_shrink(ring_t *r, blocks_t *blocks) noexcept nogil:
    """Frees everything when nothing is held, and halves or more when at most a quarter of the capacity is
    used.
    """
    cdef uint32_t held = <uint32_t>(ring_end(r) - r.head)
    cdef uint32_t smaller
    if r.capacity == 0:
        return
    if held == 0:
        give(r, blocks)
        r.origin = <uint32_t>r.head
        return
    if held > r.capacity >> 2:
        return
    smaller = round_up(held * 2)
    if smaller < r.capacity:
        move(r, smaller, blocks)        # without memory the larger one still works


cdef inline int span_of(const ring_t *r, uint64_t offset, uint32_t length, ring_span *out) noexcept nogil:
    cdef uint32_t position, first
    if length == 0:
        return 0
    position = (<uint32_t>offset - r.origin) & (r.capacity - 1)
    first = r.capacity - position
    out[0].data = r.memory + position
    if length <= first:
        out[0].length = length
        return 1
    out[0].length = first
    out[1].data = r.memory
    out[1].length = length - first
    return 2


cdef int ring_free_spans(ring_t *r, uint32_t limit, ring_span *out) noexcept nogil:
    """Room behind tail, at most limit bytes, as 0, 1 or 2 spans."""
    cdef uint32_t room = r.capacity - <uint32_t>(r.tail - r.head)
    return span_of(r, r.tail, limit if limit < room else room, out)


cdef void ring_commit(ring_t *r, uint32_t n) noexcept nogil:
    """The first n bytes of the room behind tail are filled now (by the caller or by ring_place)."""
    cdef uint32_t room = r.capacity - <uint32_t>(r.tail - r.head)
    r.tail += n if n < room else room


cdef int ring_spans(const ring_t *r, uint64_t offset, uint32_t length, ring_span *out) noexcept nogil:
    """The held bytes of [offset, offset + length) as 0, 1 or 2 spans; what is not held is left out."""
    cdef uint64_t end = offset + length
    if offset < r.head:
        offset = r.head
    if end > r.tail:
        end = r.tail
    if offset >= end:
        return 0
    return span_of(r, offset, <uint32_t>(end - offset), out)


cdef void ring_place(ring_t *r, uint64_t offset, const uint8_t *data, uint32_t length) noexcept nogil:
    """Copies data to [offset, offset + length); what lies below head or behind head + capacity is left out.
    """
    cdef uint64_t end = offset + length
    cdef ring_span spans[2]
    cdef int i, n
    if offset < r.head:
        if end <= r.head:
            return
        data += r.head - offset
        offset = r.head
    if end > r.head + r.capacity:
        end = r.head + r.capacity
    if offset >= end:
        return
    n = span_of(r, offset, <uint32_t>(end - offset), spans)
    for i in range(n):
        memcpy(spans[i].data, data, spans[i].length)
        data += spans[i].length
    if end > r.placed:
        r.placed = end


cdef void ring_drop(ring_t *r, uint32_t n) noexcept nogil:
    """Forgets the first n held bytes (all of them when there are fewer)."""
    cdef uint64_t held = r.tail - r.head
    r.head += n if n < held else held
    if r.head == r.tail and r.placed <= r.tail:
        r.origin = <uint32_t>r.head


cdef void ring_skip(ring_t *r, uint32_t n) noexcept nogil:
    """Moves an empty ring n bytes on; does nothing when bytes are held."""
    if r.head != r.tail:
        return
    r.head += n
    r.tail = r.head
    if r.placed <= r.tail:
        r.origin = <uint32_t>r.head


@cython.auto_pickle(False)
cdef class Ring:
    """The ring as a Python object: ``write``/``read`` bytes, ``place`` and ``commit`` for reassembly."""

    cdef ring_t ring
    cdef Blocks blocks
    cdef blocks_t *from_blocks

    def __cinit__(self, uint64_t offset=0, Blocks blocks=None):
        self.blocks = blocks
        self.from_blocks = NULL if blocks is None else blocks.blocks
        ring_init(&self.ring, offset)

    def __dealloc__(self):
        ring_free(&self.ring, self.from_blocks)

    @property
    def head(self) -> int:
        """Stream offset of the first byte held."""
        return self.ring.head

    @property
    def tail(self) -> int:
        """Stream offset behind the last byte held."""
        return self.ring.tail

    @property
    def capacity(self) -> int:
        """Bytes of memory."""
        return self.ring.capacity

    @property
    def position(self) -> int:
        """Where in the memory the byte at head lies or will lie (0 when there is no memory)."""
        if self.ring.capacity == 0:
            return 0
        return (self.ring.head - self.ring.origin) & (self.ring.capacity - 1)

    def __len__(self):
        return self.ring.tail - self.ring.head

    def reserve(self, uint32_t capacity) -> None:
        """Grow to at least capacity bytes; MemoryError when that cannot be had."""
        if ring_reserve(&self.ring, capacity, self.from_blocks) < 0:
            raise MemoryError(f"cannot reserve {capacity} bytes")

    def shrink(self) -> None:
        """Give back memory that is not needed."""
        ring_shrink(&self.ring, self.from_blocks)

    def write(self, const uint8_t[::1] data) -> int:
        """Append as much of data as there is room for; the number of bytes taken."""
        cdef ring_span spans[2]
        cdef uint32_t done = 0
        cdef int i, n
        n = ring_free_spans(&self.ring, <uint32_t>data.shape[0], spans)
        for i in range(n):
            memcpy(spans[i].data, &data[done], spans[i].length)
            done += spans[i].length
        ring_commit(&self.ring, done)
        return done

    def commit(self, uint32_t n) -> None:
        """Count n bytes behind tail as held."""
        ring_commit(&self.ring, n)

    def place(self, uint64_t offset, const uint8_t[::1] data) -> None:
        """Put bytes at a stream offset at or behind head without moving tail."""
        if data.shape[0]:
            ring_place(&self.ring, offset, &data[0], <uint32_t>data.shape[0])

    def peek(self, uint64_t offset, uint32_t length) -> list:
        """The spans of the held bytes of [offset, offset + length), each as bytes."""
        cdef ring_span spans[2]
        cdef int i, n
        n = ring_spans(&self.ring, offset, length, spans)
        return [<bytes>spans[i].data[:spans[i].length] for i in range(n)]

    def drop(self, uint32_t n) -> None:
        """Forget n bytes at head."""
        ring_drop(&self.ring, n)

    def skip(self, uint32_t n) -> None:
        """Move an empty ring n bytes on."""
        ring_skip(&self.ring, n)

    def churn(self, uint64_t n, uint32_t size) -> int:
        """Fill size bytes behind tail and drop them at head, n times, without the GIL: the work of a bulk
        stream.
        """
        cdef ring_span spans[2]
        cdef uint64_t _, total = 0
        cdef int k
        if ring_reserve(&self.ring, size, self.from_blocks) < 0:
            raise MemoryError
        with nogil:
            for _ in range(n):
                k = ring_free_spans(&self.ring, size, spans)
                while k:
                    k -= 1
                    total += spans[k].length
                ring_commit(&self.ring, size)
                ring_drop(&self.ring, size)
        return total
