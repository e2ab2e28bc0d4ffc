# Hierarchical timer wheel. Intrusive: a wheel_timer lies inside its owner. No callbacks: expired timers are
# returned.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    WHEEL_SHIFT = 16        # a slot of the lowest level is 2**16 ns
    WHEEL_LEVELS = 8        # of 64 slots each: 16 + 8 * 6 = 64 bits

ctypedef struct wheel_timer:
    wheel_timer *next
    wheel_timer *prev       # NULL when not armed
    uint64_t deadline_ns
    uint32_t kind           # the owner's business
    uint32_t slot           # the wheel's business
    void *owner             # the owner's business

ctypedef struct wheel_t:
    uint64_t tick           # the slot up to which everything has been looked at
    uint64_t next_ns        # what wheel_next will say; valid while next_known
    uint32_t next_known
    uint32_t n
    uint64_t occupied[8]    # per level, a bit for each slot that is not empty
    wheel_timer *slots[512]

cdef wheel_t *wheel_new(uint64_t now_ns) noexcept nogil
cdef void wheel_free(wheel_t *w) noexcept nogil
cdef void wheel_timer_init(wheel_timer *t, uint32_t kind, void *owner) noexcept nogil
# moves it when already armed
cdef void wheel_arm(wheel_t *w, wheel_timer *t, uint64_t deadline_ns) noexcept nogil
# harmless when not armed
cdef void wheel_cancel(wheel_t *w, wheel_timer *t) noexcept nogil
cdef bint wheel_armed(const wheel_timer *t) noexcept nogil
# An instant not later than the next deadline, UINT64_MAX when nothing is armed. It is the deadline itself
# when that lies within the lowest level (less than 4.2 ms away); further away it may be the beginning of the
# slot (1/64 of the distance or so early), where the wheel sorts that slot into finer ones.
cdef uint64_t wheel_next(wheel_t *w) noexcept nogil
# One timer whose deadline is <= now_ns, disarmed; NULL when there is none. Never early.
cdef wheel_timer *wheel_expire(wheel_t *w, uint64_t now_ns) noexcept nogil
cdef uint32_t wheel_len(const wheel_t *w) noexcept nogil
