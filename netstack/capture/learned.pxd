# Names that answers of the DNS have told, kept for the files of a capture.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    LEARNED_SLOTS = 2048
    LEARNED_NAME = 256

ctypedef struct learned_name:
    uint8_t address[16]
    uint8_t length              # 4 or 16; 0 = free
    uint16_t name_length
    char name[LEARNED_NAME]

ctypedef struct learned_t:
    learned_name *slots         # made with the first name
    uint32_t n

cdef void learned_free(learned_t *l) noexcept nogil
# The names of a DNS message's answers: `tell` is called with each that is new. Anything malformed ends it.
cdef void learned_from(learned_t *l, const uint8_t *message, uint32_t length, void *context,
                       void (*tell)(void *, const learned_name *) noexcept nogil) noexcept nogil
