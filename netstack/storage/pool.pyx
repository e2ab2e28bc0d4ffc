"""Fixed-size objects in chunks.

A chunk is one allocation: its header, then per_chunk slots. Each slot ends with a pointer to its chunk, so
that putting an object back is O(1) and needs no search. Objects of 64 bytes and more begin on a cache line.

Large chunks are pages of their own, filled to the last slot that fits: in the heap the buffers that belong to the
objects would lie between them, and when those are freed what is left of their pages could not go back.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from netstack.storage.pages cimport PAGES_WANTED, pages_map, pages_unmap

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **out, size_t alignment, size_t size)

cdef enum:
    LINE = 64
    HEADER = 64
    PAGE = 16384            # the largest page of the systems we know
    MAPPED = 3 * PAGE       # bytes of a chunk that is worth pages of its own


cdef pool_t *pool_new(uint32_t object_size, uint32_t per_chunk, uint32_t limit) noexcept nogil:
    """A pool of at most limit objects of object_size bytes.

    NULL without memory, for a size of 0 or above 1 MiB, and for a chunk above 2 GiB.
    """
    cdef pool_t *p
    cdef uint32_t alignment
    cdef uint64_t whole
    if object_size == 0 or object_size > 1 << 20 or per_chunk == 0 or per_chunk > 1 << 16:
        return NULL
    p = <pool_t *>calloc(1, sizeof(pool_t))
    if p == NULL:
        return NULL
    if object_size < sizeof(void *):
        object_size = sizeof(void *)    # the free list's link
    alignment = LINE if object_size >= LINE else 16
    p.object_size = object_size
    p.slot = (object_size + <uint32_t>sizeof(void *) + alignment - 1) & ~(alignment - 1)
    p.per_chunk = per_chunk if per_chunk < limit or limit == 0 else limit
    whole = HEADER + <uint64_t>p.slot * p.per_chunk
    if whole > <uint64_t>0x80000000:
        free(p)
        return NULL
    if PAGES_WANTED and whole >= MAPPED:
        p.mapped = 1
        whole = (whole + PAGE - 1) & ~<uint64_t>(PAGE - 1)
        p.per_chunk = <uint32_t>((whole - HEADER) // p.slot)
    p.chunk_bytes = <uint32_t>whole
    p.limit = limit
    return p


cdef inline pool_chunk *chunk_new(const pool_t *p) noexcept nogil:
    cdef void *memory = NULL
    if p.mapped:
        memory = pages_map(p.chunk_bytes)
    elif posix_memalign(&memory, LINE, p.chunk_bytes) != 0:
        return NULL
    if memory != NULL:
        memset(memory, 0, sizeof(pool_chunk))
    return <pool_chunk *>memory


cdef inline void chunk_free(const pool_t *p, pool_chunk *c) noexcept nogil:
    if p.mapped:
        pages_unmap(c, p.chunk_bytes)
    else:
        free(c)


cdef void pool_free(pool_t *p) noexcept nogil:
    """Frees the pool and its chunks.

    A full chunk whose objects are still out cannot be found: put them back first.
    """
    cdef pool_chunk *c
    cdef pool_chunk *following
    if p == NULL:
        return
    c = p.head
    while c != NULL:
        following = c.next
        chunk_free(p, c)
        c = following
    free(p)


cdef inline void unlist(pool_t *p, pool_chunk *c) noexcept nogil:
    if c.prev != NULL:
        c.prev.next = c.next
    else:
        p.head = c.next
    if c.next != NULL:
        c.next.prev = c.prev
    else:
        p.tail = c.prev
    c.next = c.prev = NULL
    c.listed = 0


cdef inline void list_first(pool_t *p, pool_chunk *c) noexcept nogil:
    c.prev = NULL
    c.next = p.head
    if p.head != NULL:
        p.head.prev = c
    else:
        p.tail = c
    p.head = c
    c.listed = 1


cdef inline void list_last(pool_t *p, pool_chunk *c) noexcept nogil:
    c.next = NULL
    c.prev = p.tail
    if p.tail != NULL:
        p.tail.next = c
    else:
        p.head = c
    p.tail = c
    c.listed = 1


cdef inline pool_chunk **owner_of(const pool_t *p, void *object) noexcept nogil:
    return <pool_chunk **>(<uint8_t *>object + p.slot - sizeof(void *))


cdef void *pool_get(pool_t *p) noexcept nogil:
    """A zeroed object, or NULL."""
    cdef pool_chunk *c = p.head
    cdef void *object
    if p.used >= p.limit:
        return NULL
    if c == NULL:
        c = chunk_new(p)
        if c == NULL:
            return NULL
        list_first(p, c)
        p.chunks += 1
    if c == p.spare:
        p.spare = NULL
    if c.free != NULL:
        object = c.free
        c.free = (<void **>object)[0]
    else:
        object = <uint8_t *>c + HEADER + <size_t>c.fresh * p.slot
        c.fresh += 1
        owner_of(p, object)[0] = c
    c.used += 1
    if c.used == p.per_chunk:
        unlist(p, c)
    p.used += 1
    memset(object, 0, p.object_size)
    return object


cdef void pool_put(pool_t *p, void *object) noexcept nogil:
    """Takes an object of this pool back; NULL is allowed."""
    cdef pool_chunk *c
    if object == NULL:
        return
    c = owner_of(p, object)[0]
    (<void **>object)[0] = c.free
    c.free = object
    c.used -= 1
    p.used -= 1
    if c.used == 0:
        if c.listed:
            unlist(p, c)
        if p.spare != NULL:     # one empty chunk is enough to damp a pool that swings around a boundary
            p.chunks -= 1
            chunk_free(p, c)
        else:
            p.spare = c
            list_last(p, c)
    elif not c.listed:
        list_first(p, c)


cdef uint32_t pool_used(const pool_t *p) noexcept nogil:
    """Objects handed out now."""
    return p.used


cdef uint64_t pool_bytes(const pool_t *p) noexcept nogil:
    """Bytes of all chunks and the pool itself."""
    return sizeof(pool_t) + <uint64_t>p.chunks * p.chunk_bytes


@cython.auto_pickle(False)
cdef class Pool:
    """The pool as a Python object: objects are addresses, filled with a byte when taken to show that they are
    zeroed.
    """

    cdef pool_t *pool
    cdef set out

    def __cinit__(self, uint32_t object_size, uint32_t per_chunk=64, uint32_t limit=1 << 20):
        self.out = set()
        self.pool = pool_new(object_size, per_chunk, limit)
        if self.pool == NULL:
            raise ValueError("object_size must be 1..2**20 and per_chunk 1..65536")

    def __dealloc__(self):
        if self.pool != NULL:
            for address in self.out:
                pool_put(self.pool, <void *><size_t>address)
            pool_free(self.pool)

    def get(self) -> int | None:
        """The address of a zeroed object (which is then filled with 0xa5), None at the limit.

        AssertionError if not zero.
        """
        cdef uint8_t *object = <uint8_t *>pool_get(self.pool)
        cdef uint32_t i
        if object == NULL:
            return None
        for i in range(self.pool.object_size):
            if object[i]:
                raise AssertionError("the object is not zeroed")
        memset(object, 0xa5, self.pool.object_size)
        self.out.add(<size_t>object)
        return <size_t>object

    def put(self, size_t address) -> None:
        """Put back the object at an address that get gave; KeyError for any other."""
        self.out.remove(address)
        pool_put(self.pool, <void *>address)

    def __len__(self):
        return pool_used(self.pool)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return pool_bytes(self.pool)

    @property
    def slot(self) -> int:
        """Distance of two objects in bytes."""
        return self.pool.slot

    def churn(self, uint64_t n) -> int:
        """Get and put one object n times without the GIL: how often there was one."""
        cdef uint64_t _, done = 0
        cdef void *object
        with nogil:
            for _ in range(n):
                object = pool_get(self.pool)
                done += object != NULL
                pool_put(self.pool, object)
        return done
