"""Messages between the engine thread and the control thread (one writer, one reader, no locks)."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef extern from *:
    """
    #define mb_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define mb_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    """
    uint64_t mb_load(uint64_t *p) noexcept nogil
    void mb_store(uint64_t *p, uint64_t v) noexcept nogil

cdef enum:
    HEADER = 8                  # u32 kind, u32 length of head + body


cdef int mailbox_init(mailbox_t *m, uint32_t capacity) noexcept nogil:
    m.memory = <uint8_t *>calloc(1, capacity)
    m.capacity = capacity
    m.head = 0
    m.tail = 0
    return 0 if m.memory != NULL else -1


cdef void mailbox_free(mailbox_t *m) noexcept nogil:
    free(m.memory)
    m.memory = NULL
    m.capacity = 0


cdef void put(mailbox_t *m, uint64_t at, const void *data, uint32_t length) noexcept nogil:
    cdef uint32_t start = <uint32_t>(at & (m.capacity - 1))
    cdef uint32_t first = m.capacity - start
    if length == 0:
        return
    if first > length:
        first = length
    memcpy(m.memory + start, data, first)
    memcpy(m.memory, <const uint8_t *>data + first, length - first)


cdef void get(mailbox_t *m, uint64_t at, void *out, uint32_t length) noexcept nogil:
    cdef uint32_t start = <uint32_t>(at & (m.capacity - 1))
    cdef uint32_t first = m.capacity - start
    if length == 0:
        return
    if first > length:
        first = length
    memcpy(out, m.memory + start, first)
    memcpy(<uint8_t *>out + first, m.memory, length - first)


cdef int mailbox_post(mailbox_t *m, uint32_t kind, const void *head, uint32_t head_length,
                      const void *body, uint32_t body_length) noexcept nogil:
    cdef uint64_t tail = m.tail
    cdef uint64_t used = tail - mb_load(&m.head)
    cdef uint32_t[2] header
    if <uint64_t>head_length + body_length + HEADER > m.capacity - used:
        return -1
    header[0] = kind
    header[1] = head_length + body_length
    put(m, tail, header, HEADER)
    put(m, tail + HEADER, head, head_length)
    put(m, tail + HEADER + head_length, body, body_length)
    mb_store(&m.tail, tail + HEADER + head_length + body_length)
    return 0


cdef int mailbox_take(mailbox_t *m, uint32_t *kind, uint8_t *out, uint32_t room) noexcept nogil:
    cdef uint64_t head = m.head
    cdef uint32_t[2] header
    if mb_load(&m.tail) == head:
        return -1
    get(m, head, header, HEADER)
    kind[0] = header[0]
    get(m, head + HEADER, out, header[1] if header[1] < room else room)
    mb_store(&m.head, head + HEADER + header[1])
    return <int>header[1]


cdef class Mailbox:
    """A queue of ``(kind, bytes)`` for one writing and one reading thread.

    Args:
        capacity: bytes, a power of two; each message takes eight more than its content.
    """
    cdef mailbox_t box

    def __cinit__(self, uint32_t capacity):
        if capacity < 16 or capacity & (capacity - 1):
            raise ValueError("capacity must be a power of two, at least 16")
        if mailbox_init(&self.box, capacity) < 0:
            raise MemoryError

    def __dealloc__(self):
        mailbox_free(&self.box)

    def post(self, uint32_t kind, bytes message) -> bool:
        """Appends a message; False when there is no room."""
        return mailbox_post(&self.box, kind, NULL, 0, <const char *>message, <uint32_t>len(message)) == 0

    def take(self):
        """The oldest message as ``(kind, bytes)``, or None."""
        cdef uint32_t kind = 0
        cdef bytearray out = bytearray(self.box.capacity)
        cdef int n = mailbox_take(&self.box, &kind, <uint8_t *><char *>out, self.box.capacity)
        if n < 0:
            return None
        return kind, bytes(out[:n])
