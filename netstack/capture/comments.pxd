# What stands beside a frame in a capture: which counter, and what NAT has decided, in words.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.storage.decision cimport decision_t
from netstack.storage.frame cimport frame_meta

cdef enum:
    COMMENT = 200               # bytes of one comment at most, the closing zero included
    WATCHED = 128               # counters that tell about the frame at hand, at most

# The counters that a frame of a guest moves by what becomes of it; how many there are.
cdef int comment_counters(uint16_t *numbers) noexcept nogil
# Each writes a text and returns its length, 0 where there is nothing to say.
cdef int comment_counter(char *out, uint16_t number) noexcept nogil
cdef int comment_decision(char *out, const decision_t *decided) noexcept nogil
cdef int comment_super(char *out, const frame_meta *meta, uint32_t length) noexcept nogil
cdef int comment_lost(char *out, uint32_t lost) noexcept nogil
