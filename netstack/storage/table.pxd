# A bounded hash table from fixed-size keys to pointers, keyed by a secret so that a peer cannot choose collisions.
from libc.stdint cimport uint32_t, uint64_t

ctypedef struct table_t:
    pass

cdef table_t *table_new(uint32_t key_size, uint32_t initial, uint32_t limit, uint64_t k0, uint64_t k1) noexcept nogil
cdef void table_free(table_t *t) noexcept nogil
cdef void *table_get(const table_t *t, const void *key) noexcept nogil          # NULL when absent
cdef int table_put(table_t *t, const void *key, void *value) noexcept nogil     # 0; -1 full or no memory; -2 present
cdef void *table_del(table_t *t, const void *key) noexcept nogil                # the value or NULL
cdef uint32_t table_len(const table_t *t) noexcept nogil
cdef void *table_next(const table_t *t, uint32_t *cursor) noexcept nogil        # start with 0; NULL at the end. Deleting
                                                                                # the value just returned is allowed.
