# A bounded hash table from fixed-size keys to pointers, keyed by a secret so that a peer cannot choose
# collisions.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

ctypedef struct table_t:
    uint32_t key_size       # bytes, as asked for
    uint32_t stride         # bytes of an entry: the key rounded up to 8 (unless it lies in the value), then the value
    uint32_t key_offset     # where in the object that the value points at its key lies; NO_OFFSET: the entry has it
    uint32_t initial
    uint32_t limit
    uint32_t n
    uint32_t room           # entries allocated
    uint32_t mask           # of the index: its size is a power of two and at least 2 * room
    uint64_t k0, k1
    uint64_t *index         # 0 = empty, else hash << 32 | entry + 1; linear probing
    uint8_t *entries        # dense: deletion moves the last one into the hole

cdef table_t *table_new(uint32_t key_size, uint32_t initial, uint32_t limit, uint64_t k0,
                        uint64_t k1) noexcept nogil
# The same for values that point at objects with their key in them, at key_offset: the table keeps no copy of it.
cdef table_t *table_new_inside(uint32_t key_size, uint32_t key_offset, uint32_t initial, uint32_t limit, uint64_t k0,
                               uint64_t k1) noexcept nogil
cdef void table_free(table_t *t) noexcept nogil
cdef void *table_get(const table_t *t, const void *key) noexcept nogil          # NULL when absent
# 0; -1 full or no memory; -2 present
cdef int table_put(table_t *t, const void *key, void *value) noexcept nogil
cdef void *table_del(table_t *t, const void *key) noexcept nogil                # the value or NULL
cdef uint32_t table_len(const table_t *t) noexcept nogil
# Start with 0; NULL at the end. Deleting the value just returned is allowed.
cdef void *table_next(const table_t *t, uint32_t *cursor) noexcept nogil
cdef uint64_t table_bytes(const table_t *t) noexcept nogil                      # memory held
