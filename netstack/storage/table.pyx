"""A bounded hash table from fixed-size keys to pointers.

Two arrays: dense entries (key and value, or only a value that points at an object with its key in it), and an
index of 64-bit words (32 bits of hash, 32 bits of entry number) with linear probing at a load of at most one
half. A look-up touches one line of the index and one entry; growing reads only the index. Deletion closes the
gap in the index (no tombstones) and moves the last entry into the hole.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from netstack.storage.siphash cimport siphash_bytes

cdef enum:
    LEAST = 8           # entries
    NO_OFFSET = 0xffffffff


cdef inline uint32_t hash32(const table_t *t, const void *key) noexcept nogil:
    cdef uint64_t h = siphash_bytes(key, t.key_size, t.k0, t.k1)
    return <uint32_t>(h ^ (h >> 32))


cdef inline uint8_t *entry_at(const table_t *t, uint32_t i) noexcept nogil:
    return t.entries + <size_t>i * t.stride


cdef inline void **value_at(const table_t *t, uint32_t i) noexcept nogil:
    return <void **>(t.entries + <size_t>(i + 1) * t.stride - sizeof(void *))


cdef inline const void *key_at(const table_t *t, uint32_t i) noexcept nogil:
    if t.key_offset == <uint32_t>NO_OFFSET:
        return entry_at(t, i)
    return <const uint8_t *>(<void **>entry_at(t, i))[0] + t.key_offset


cdef inline void index_insert(uint64_t *index, uint32_t mask, uint64_t word) noexcept nogil:
    cdef uint32_t at = <uint32_t>(word >> 32) & mask
    while index[at]:
        at = (at + 1) & mask
    index[at] = word


cdef int resize(table_t *t, uint32_t room) noexcept nogil:
    """Makes room for that many entries (>= n); 0, or -1 without memory, when nothing has changed."""
    cdef uint32_t size = 2 * LEAST
    cdef uint32_t i
    cdef uint64_t *index
    cdef uint8_t *entries
    while size < 2 * <uint64_t>room:
        size <<= 1
    index = <uint64_t *>calloc(size, sizeof(uint64_t))
    if index == NULL:
        return -1
    entries = <uint8_t *>realloc(t.entries, <size_t>room * t.stride)
    if entries == NULL:
        free(index)
        return -1
    if t.index != NULL:
        for i in range(t.mask + 1):
            if t.index[i]:
                index_insert(index, size - 1, t.index[i])
        free(t.index)
    t.index = index
    t.mask = size - 1
    t.entries = entries
    t.room = room
    return 0


cdef table_t *table_new(uint32_t key_size, uint32_t initial, uint32_t limit, uint64_t k0,
                        uint64_t k1) noexcept nogil:
    """A table of at most limit (<= 2**30) keys of key_size (1..256) bytes, with memory for initial.

    NULL: no memory, bad sizes.
    """
    return made(key_size, NO_OFFSET, initial, limit, k0, k1)


cdef table_t *table_new_inside(uint32_t key_size, uint32_t key_offset, uint32_t initial, uint32_t limit, uint64_t k0,
                               uint64_t k1) noexcept nogil:
    """A table whose values point at objects that have their key at key_offset, as long as they are in the table.

    NULL: no memory, bad sizes.
    """
    return made(key_size, key_offset, initial, limit, k0, k1)


cdef table_t *made(uint32_t key_size, uint32_t key_offset, uint32_t initial, uint32_t limit, uint64_t k0,
                   uint64_t k1) noexcept nogil:
    cdef table_t *t
    if key_size == 0 or key_size > 256 or limit == 0 or limit > 1 << 30:
        return NULL
    t = <table_t *>calloc(1, sizeof(table_t))
    if t == NULL:
        return NULL
    t.key_size = key_size
    t.key_offset = key_offset
    t.stride = sizeof(void *)
    if key_offset == <uint32_t>NO_OFFSET:
        t.stride += (key_size + 7) & ~<uint32_t>7
    t.limit = limit
    t.initial = initial if initial > LEAST else LEAST
    if t.initial > limit:
        t.initial = limit
    t.k0 = k0
    t.k1 = k1
    if resize(t, t.initial) < 0:
        free(t)
        return NULL
    return t


cdef void table_free(table_t *t) noexcept nogil:
    """Frees the table; the values belong to the caller."""
    if t == NULL:
        return
    free(t.index)
    free(t.entries)
    free(t)


cdef inline uint32_t find(const table_t *t, const void *key, uint32_t h) noexcept nogil:
    """The place in the index; t.index there is 0 when the key is absent."""
    cdef uint32_t at = h & t.mask
    while t.index[at]:
        if <uint32_t>(t.index[at] >> 32) == h and \
                memcmp(key_at(t, <uint32_t>t.index[at] - 1), key, t.key_size) == 0:
            break
        at = (at + 1) & t.mask
    return at


cdef void *table_get(const table_t *t, const void *key) noexcept nogil:
    """The value, or NULL."""
    cdef uint64_t word = t.index[find(t, key, hash32(t, key))]
    if word == 0:
        return NULL
    return value_at(t, <uint32_t>word - 1)[0]


cdef int table_put(table_t *t, const void *key, void *value) noexcept nogil:
    """Adds a key with a value that is not NULL.

    0; -1 at the limit or without memory; -2 when the key is there already.
    """
    cdef uint32_t h = hash32(t, key)
    cdef uint32_t at = find(t, key, h)
    cdef uint32_t room
    if t.index[at]:
        return -2
    if t.n >= t.limit:
        return -1
    if t.n == t.room:
        room = t.room * 2 if t.room <= t.limit // 2 else t.limit
        if resize(t, room) < 0:
            return -1
        at = find(t, key, h)
    if t.key_offset == <uint32_t>NO_OFFSET:
        memcpy(entry_at(t, t.n), key, t.key_size)
    value_at(t, t.n)[0] = value
    t.n += 1
    t.index[at] = <uint64_t>h << 32 | t.n
    return 0


cdef void *table_del(table_t *t, const void *key) noexcept nogil:
    """Removes a key; its value, or NULL when it is absent."""
    cdef uint32_t hole = find(t, key, hash32(t, key))
    cdef uint32_t entry, at, home, last
    cdef void *value
    if t.index[hole] == 0:
        return NULL
    entry = <uint32_t>t.index[hole] - 1
    value = value_at(t, entry)[0]
    # Close the gap: a word behind it moves in unless its home lies between the hole and itself.
    at = hole
    while True:
        at = (at + 1) & t.mask
        if t.index[at] == 0:
            break
        home = <uint32_t>(t.index[at] >> 32) & t.mask
        if ((at - home) & t.mask) >= ((at - hole) & t.mask):
            t.index[hole] = t.index[at]
            hole = at
    t.index[hole] = 0
    last = t.n - 1
    if entry != last:
        at = hash32(t, key_at(t, last)) & t.mask
        while <uint32_t>t.index[at] != last + 1:
            at = (at + 1) & t.mask
        t.index[at] = (t.index[at] & ~<uint64_t>0xffffffff) | (entry + 1)
        memcpy(entry_at(t, entry), entry_at(t, last), t.stride)
    t.n = last
    if t.room > t.initial and t.n < t.room >> 3:
        last = t.room >> 2
        resize(t, last if last > t.initial else t.initial)     # without memory it stays as it is
    return value


cdef uint32_t table_len(const table_t *t) noexcept nogil:
    """Keys present."""
    return t.n


cdef void *table_next(const table_t *t, uint32_t *cursor) noexcept nogil:
    """The next value, NULL at the end.

    The walk goes from the last entry to the first: deleting the value just returned moves a visited one into
    its place, and keys added meanwhile lie behind it, so that every key that is there throughout is met
    exactly once. (Deleting other keys during the walk may make it meet a key twice or miss one.)
    """
    cdef uint32_t i = t.n
    if cursor[0] and cursor[0] - 1 < i:
        i = cursor[0] - 1
    if i == 0:
        cursor[0] = 1
        return NULL
    cursor[0] = i
    return value_at(t, i - 1)[0]


cdef uint64_t table_bytes(const table_t *t) noexcept nogil:
    """Memory held in bytes."""
    return sizeof(table_t) + <uint64_t>t.room * t.stride + (<uint64_t>t.mask + 1) * sizeof(uint64_t)


def siphash13(const uint8_t[::1] data, uint64_t k0, uint64_t k1) -> int:
    """SipHash-1-3 of data with the key k0, k1 (each little-endian)."""
    cdef const uint8_t *p = &data[0] if data.shape[0] else NULL
    return siphash_bytes(p, <size_t>data.shape[0], k0, k1)


@cython.auto_pickle(False)
cdef class Table:
    """The table as a Python object: bytes keys of one length to integers above 0.

    With ``key_offset`` (8 or more) the table points at objects that have the integer at 0 and the key there.
    """

    cdef table_t *table
    cdef uint32_t key_offset

    def __cinit__(self, uint32_t key_size, uint32_t initial=0, uint32_t limit=1 << 20, uint64_t k0=0,
                  uint64_t k1=0, uint32_t key_offset=0):
        if 0 < key_offset < sizeof(size_t):
            raise ValueError("key_offset must be 0 or at least 8")
        self.key_offset = key_offset
        if key_offset:
            self.table = table_new_inside(key_size, key_offset, initial, limit, k0, k1)
        else:
            self.table = table_new(key_size, initial, limit, k0, k1)
        if self.table == NULL:
            raise ValueError("key_size must be 1..256 and limit 1..2**30")

    def __dealloc__(self):
        cdef uint32_t i
        if self.key_offset and self.table != NULL:
            for i in range(self.table.n):
                free(value_at(self.table, i)[0])
        table_free(self.table)

    cdef inline size_t number(self, void *value):
        return (<size_t *>value)[0] if self.key_offset and value != NULL else <size_t>value

    cdef const uint8_t *checked(self, bytes key) except NULL:
        if len(key) != self.table.key_size:
            raise ValueError(f"the key must have {self.table.key_size} bytes, not {len(key)}")
        return <const uint8_t *>key

    def get(self, bytes key) -> int | None:
        """The value or None."""
        cdef size_t value = self.number(table_get(self.table, self.checked(key)))
        return value if value else None

    def put(self, bytes key, size_t value) -> int:
        """0, -1 when full, -2 when present."""
        if value == 0:
            raise ValueError("the value must not be 0")
        cdef const uint8_t *k = self.checked(key)
        cdef uint8_t *object
        cdef int answer
        if self.key_offset == 0:
            return table_put(self.table, k, <void *>value)
        object = <uint8_t *>malloc(self.key_offset + self.table.key_size)
        if object == NULL:
            raise MemoryError
        (<size_t *>object)[0] = value
        memcpy(object + self.key_offset, k, self.table.key_size)
        answer = table_put(self.table, k, object)
        if answer < 0:
            free(object)
        return answer

    def delete(self, bytes key) -> int | None:
        """Remove a key: its value or None."""
        cdef void *gone = table_del(self.table, self.checked(key))
        cdef size_t value = self.number(gone)
        if self.key_offset:
            free(gone)
        return value if value else None

    def next(self, uint32_t cursor) -> tuple:
        """(value or None, cursor for the next call); start with 0."""
        cdef size_t value = self.number(table_next(self.table, &cursor))
        return (value if value else None), cursor

    def __len__(self):
        return table_len(self.table)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return table_bytes(self.table)

    def churn(self, uint64_t n, bytes keys) -> int:
        """Look up the keys that lie one behind the other in ``keys``, n look-ups in all, without the GIL: how
        many were found.
        """
        cdef const uint8_t *p = <const uint8_t *>keys
        cdef uint32_t size = self.table.key_size
        cdef uint64_t i, found = 0
        cdef uint64_t count = <uint64_t>len(keys) // size
        if count == 0:
            raise ValueError("no keys")
        with nogil:
            for i in range(n):
                found += table_get(self.table, p + (i % count) * size) != NULL
        return found
