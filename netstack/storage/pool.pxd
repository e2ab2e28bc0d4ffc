# Fixed-size objects in chunks, zeroed when handed out, bounded in number.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

ctypedef struct pool_chunk:
    pool_chunk *next        # in the list of chunks that have a free object
    pool_chunk *prev
    void *free              # objects that were put back, linked through their first word
    uint32_t fresh          # objects from here on have never been handed out
    uint32_t used
    uint8_t listed

ctypedef struct pool_t:
    uint32_t object_size    # as asked for
    uint32_t slot           # distance of two objects, bytes
    uint32_t per_chunk
    uint32_t limit
    uint32_t used
    uint32_t chunks         # allocated
    uint32_t chunk_bytes
    uint8_t mapped          # a chunk is whole pages of the system's, not of the heap
    pool_chunk *head        # chunks with a free object: those in use first, the empty one last
    pool_chunk *tail
    pool_chunk *spare       # the one empty chunk that is kept, or NULL

cdef pool_t *pool_new(uint32_t object_size, uint32_t per_chunk, uint32_t limit) noexcept nogil
# every object must have been put back, or be forgotten
cdef void pool_free(pool_t *p) noexcept nogil
cdef void *pool_get(pool_t *p) noexcept nogil              # NULL at the limit or without memory
cdef void pool_put(pool_t *p, void *object) noexcept nogil
cdef uint32_t pool_used(const pool_t *p) noexcept nogil
cdef uint64_t pool_bytes(const pool_t *p) noexcept nogil    # memory held; falls back when chunks empty
