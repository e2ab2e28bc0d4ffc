# A bounded queue of messages from one writing thread to one reading thread, without locks.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

ctypedef struct mailbox_t:
    uint8_t *memory
    uint32_t capacity           # a power of two
    uint64_t head               # written by the reader
    uint64_t tail               # written by the writer

cdef int mailbox_init(mailbox_t *m, uint32_t capacity) noexcept nogil       # 0 or -1
cdef void mailbox_free(mailbox_t *m) noexcept nogil
# Appends kind and the bytes of head and body; -1 when there is no room (nothing was written). The writer's side.
cdef int mailbox_post(mailbox_t *m, uint32_t kind, const void *head, uint32_t head_length,
                      const void *body, uint32_t body_length) noexcept nogil
# The length of the message taken (copied to out, at most room), or -1 when there is none. The reader's side.
cdef int mailbox_take(mailbox_t *m, uint32_t *kind, uint8_t *out, uint32_t room) noexcept nogil
