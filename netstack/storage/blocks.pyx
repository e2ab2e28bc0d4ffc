"""Blocks of 64 KiB, the size in which rings begin.

The allocator serves short connections badly: it moves the end of its heap up and down with each of them, so that every
ring is made of pages that the kernel has just cleared, and after a burst of connections it cannot give back what lies
between those that stay. Here a block that is put back is the next one to be taken, with its pages; behind ``WARM`` of
them the pages go back to the system at once, while the addresses are kept (a slab is mapped once, without huge pages:
one byte must not cost 2 MiB).
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc

from netstack.storage.pages cimport PAGES_WANTED, pages_drop, pages_map, pages_unmap

cdef enum:
    PER_SLAB = 64
    WARM = 64                   # free blocks that keep their pages: at most 4 MiB


cdef bint stack_push(block_stack *s, void *what) noexcept nogil:
    cdef uint32_t room
    cdef void **at
    if s.n == s.room:
        room = s.room * 2 if s.room else PER_SLAB
        at = <void **>realloc(s.at, room * sizeof(void *))
        if at == NULL:
            return False
        s.at = at
        s.room = room
    s.at[s.n] = what
    s.n += 1
    return True


cdef inline void *stack_pop(block_stack *s) noexcept nogil:
    s.n -= 1
    return s.at[s.n]


cdef blocks_t *blocks_new() noexcept nogil:
    return <blocks_t *>calloc(1, sizeof(blocks_t)) if PAGES_WANTED else NULL


cdef void blocks_free(blocks_t *b) noexcept nogil:
    """Unmaps the slabs: no block of them may be in use."""
    if b == NULL:
        return
    while b.slabs.n:
        pages_unmap(stack_pop(&b.slabs), PER_SLAB * <size_t>BLOCK)
    free(b.warm.at)
    free(b.cold.at)
    free(b.slabs.at)
    free(b)


cdef bint add_slab(blocks_t *b) noexcept nogil:
    cdef uint8_t *slab = <uint8_t *>pages_map(PER_SLAB * <size_t>BLOCK)
    cdef int i
    if slab == NULL:
        return False
    if not stack_push(&b.slabs, slab):
        pages_unmap(slab, PER_SLAB * <size_t>BLOCK)
        return False
    for i in range(PER_SLAB - 1, -1, -1):       # the lowest is taken first
        if not stack_push(&b.cold, slab + i * <size_t>BLOCK):
            break
    return b.cold.n > 0


cdef uint8_t *blocks_get(blocks_t *b) noexcept nogil:
    """A block with anything in it; NULL without memory."""
    if b.warm.n == 0 and b.cold.n == 0 and not add_slab(b):
        return NULL
    b.used += 1
    return <uint8_t *>stack_pop(&b.warm if b.warm.n else &b.cold)


cdef void blocks_put(blocks_t *b, uint8_t *block) noexcept nogil:
    """A block for which there is no memory to remember it is lost until the slabs go."""
    b.used -= 1
    if b.warm.n < WARM and stack_push(&b.warm, block):
        return
    pages_drop(block, BLOCK)
    stack_push(&b.cold, block)


@cython.auto_pickle(False)
cdef class Blocks:
    """The blocks as a Python object: blocks are addresses, whose first byte is written when they are taken."""

    def __cinit__(self):
        self.out = set()
        self.blocks = blocks_new()

    def __dealloc__(self):
        blocks_free(self.blocks)

    @property
    def usable(self) -> bool:
        """False in a build that checks memory accesses: buffers come from the allocator there."""
        return self.blocks != NULL

    def get(self) -> int:
        """The address of a block. MemoryError when there is none."""
        cdef uint8_t *block = blocks_get(self.blocks) if self.blocks != NULL else NULL
        if block == NULL:
            raise MemoryError("no block of 64 KiB is to be had")
        block[0] = block[BLOCK - 1] = 0xa5
        self.out.add(<size_t>block)
        return <size_t>block

    def put(self, address: int) -> None:
        """Put a block back. KeyError for an address that is not out."""
        self.out.remove(address)
        blocks_put(self.blocks, <uint8_t *><size_t>address)

    def __len__(self):
        return self.blocks.used if self.blocks != NULL else 0

    @property
    def warm(self) -> int:
        """Free blocks that keep their pages."""
        return self.blocks.warm.n if self.blocks != NULL else 0

    @property
    def cold(self) -> int:
        """Free blocks without pages."""
        return self.blocks.cold.n if self.blocks != NULL else 0
