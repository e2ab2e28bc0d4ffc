# Blocks of 64 KiB in slabs of the process's address space; what is not in use costs no memory.
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    BLOCK = 65536               # bytes

ctypedef struct block_stack:
    void **at
    uint32_t n
    uint32_t room

ctypedef struct blocks_t:
    block_stack warm            # free blocks whose pages are still there; the last one put back is taken first
    block_stack cold            # free blocks without pages
    block_stack slabs
    uint32_t used               # blocks handed out

# NULL without memory, and where a checker of memory accesses (asan) should see each buffer by itself
cdef blocks_t *blocks_new() noexcept nogil
cdef void blocks_free(blocks_t *b) noexcept nogil           # every block must have been put back
cdef uint8_t *blocks_get(blocks_t *b) noexcept nogil        # not zeroed; NULL without memory
cdef void blocks_put(blocks_t *b, uint8_t *block) noexcept nogil

cdef class Blocks:
    cdef blocks_t *blocks
    cdef set out
