# Hierarchical timer wheel. Intrusive: a wheel_timer lies inside its owner. No callbacks: expired timers are returned.
from libc.stdint cimport uint32_t, uint64_t

ctypedef struct wheel_timer:
    wheel_timer *next
    wheel_timer *prev       # NULL when not armed
    uint64_t deadline_ns
    uint32_t kind           # the owner's business
    uint32_t slot           # the wheel's business
    void *owner             # the owner's business

ctypedef struct wheel_t:
    pass

cdef wheel_t *wheel_new(uint64_t now_ns) noexcept nogil
cdef void wheel_free(wheel_t *w) noexcept nogil
cdef void wheel_timer_init(wheel_timer *t, uint32_t kind, void *owner) noexcept nogil
cdef void wheel_arm(wheel_t *w, wheel_timer *t, uint64_t deadline_ns) noexcept nogil   # moves it when already armed
cdef void wheel_cancel(wheel_t *w, wheel_timer *t) noexcept nogil                       # harmless when not armed
cdef bint wheel_armed(const wheel_timer *t) noexcept nogil
# An instant not later than the next deadline (never early by more than a slot), UINT64_MAX when nothing is armed.
cdef uint64_t wheel_next(wheel_t *w) noexcept nogil
# One timer whose deadline is <= now_ns, disarmed; NULL when there is none. Never early.
cdef wheel_timer *wheel_expire(wheel_t *w, uint64_t now_ns) noexcept nogil
cdef uint32_t wheel_len(const wheel_t *w) noexcept nogil
