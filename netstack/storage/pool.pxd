# Fixed-size objects in chunks, zeroed when handed out, bounded in number.
from libc.stdint cimport uint32_t, uint64_t

ctypedef struct pool_t:
    pass

cdef pool_t *pool_new(uint32_t object_size, uint32_t per_chunk, uint32_t limit) noexcept nogil
cdef void pool_free(pool_t *p) noexcept nogil
cdef void *pool_get(pool_t *p) noexcept nogil              # NULL at the limit or without memory
cdef void pool_put(pool_t *p, void *object) noexcept nogil
cdef uint32_t pool_used(const pool_t *p) noexcept nogil
cdef uint64_t pool_bytes(const pool_t *p) noexcept nogil    # memory held; falls back when chunks empty
