# How long to look for events before sleeping: a policy that learns from how long the last sleeps were.
from libc.stdint cimport int32_t, uint64_t

ctypedef struct spin_t:
    uint64_t limit_ns       # the longest look; 0 = never look
    int32_t credit          # what looking would have saved lately

cdef void spin_init(spin_t *s, uint64_t limit_ns) noexcept nogil
# How long to look now: limit_ns or 0.
cdef uint64_t spin_now(const spin_t *s) noexcept nogil
cdef void spin_found(spin_t *s) noexcept nogil                          # an event came while looking
cdef void spin_slept(spin_t *s, uint64_t waited_ns) noexcept nogil      # it came after so long a sleep
cdef void spin_disturbs(spin_t *s) noexcept nogil                       # somebody else wants the processor
