"""Hierarchical timer wheel: eight levels of 64 slots, the lowest of 2**16 ns.

A timer of tick T (deadline >> 16) lies on the level of the highest group of six bits in which T differs from
the wheel's own tick, in the slot that this group of T names. So everything on a level comes before everything
on the next level, and within a level the slots come in order: the next timer is in the lowest slot of the
lowest level that is not empty, which two bit scans find. When the wheel's tick reaches a slot of a higher
level, its timers move to finer slots.
"""
cimport cython
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from * nogil:
    """
    static inline int wheel_ctz(uint64_t x) { return __builtin_ctzll(x); }
    static inline int wheel_top(uint64_t x) { return 63 - __builtin_clzll(x); }
    """
    int wheel_ctz(uint64_t x)       # x must not be 0
    int wheel_top(uint64_t x)

cdef enum:
    SCAN = 8        # timers looked at on a higher level before the slot's beginning is good enough


cdef wheel_t *wheel_new(uint64_t now_ns) noexcept nogil:
    """An empty wheel that starts at now_ns; NULL without memory."""
    cdef wheel_t *w = <wheel_t *>calloc(1, sizeof(wheel_t))
    if w != NULL:
        w.tick = now_ns >> WHEEL_SHIFT
        w.next_ns = UINT64_MAX
        w.next_known = 1
    return w


cdef void wheel_free(wheel_t *w) noexcept nogil:
    """Frees the wheel; the timers belong to their owners and are not touched."""
    free(w)


cdef void wheel_timer_init(wheel_timer *t, uint32_t kind, void *owner) noexcept nogil:
    t.next = t.prev = NULL
    t.deadline_ns = 0
    t.kind = kind
    t.slot = 0
    t.owner = owner


cdef inline void insert(wheel_t *w, wheel_timer *t) noexcept nogil:
    cdef uint64_t tick = t.deadline_ns >> WHEEL_SHIFT
    cdef uint64_t differs
    cdef uint32_t level, index
    cdef wheel_timer *first
    if tick < w.tick:
        tick = w.tick           # already due: it is found in the current slot
    differs = tick ^ w.tick
    level = 0 if differs == 0 else <uint32_t>wheel_top(differs) // 6
    index = <uint32_t>(tick >> (6 * level)) & 63
    t.slot = level * 64 + index
    first = w.slots[t.slot]
    if first == NULL:
        t.next = t.prev = t
        w.slots[t.slot] = t
        w.occupied[level] |= <uint64_t>1 << index
    else:
        t.next = first
        t.prev = first.prev
        first.prev.next = t
        first.prev = t


cdef inline void unlink(wheel_t *w, wheel_timer *t) noexcept nogil:
    if t.next == t:
        w.slots[t.slot] = NULL
        w.occupied[t.slot >> 6] &= ~(<uint64_t>1 << (t.slot & 63))
    else:
        t.prev.next = t.next
        t.next.prev = t.prev
        if w.slots[t.slot] == t:
            w.slots[t.slot] = t.next
    t.next = t.prev = NULL


cdef void wheel_arm(wheel_t *w, wheel_timer *t, uint64_t deadline_ns) noexcept nogil:
    """Arms t for deadline_ns (which may lie in the past: then the next wheel_expire returns it)."""
    if t.prev != NULL:
        if t.deadline_ns == deadline_ns:
            return
        wheel_cancel(w, t)
    t.deadline_ns = deadline_ns
    insert(w, t)
    w.n += 1
    if deadline_ns < w.next_ns:
        w.next_ns = deadline_ns


cdef void wheel_cancel(wheel_t *w, wheel_timer *t) noexcept nogil:
    """Disarms t."""
    if t.prev == NULL:
        return
    unlink(w, t)
    w.n -= 1
    if w.n == 0:
        w.next_ns = UINT64_MAX
        w.next_known = 1
    elif t.deadline_ns <= w.next_ns:
        w.next_ns = UINT64_MAX      # arming may lower it again, but only a look at the slots can know it
        w.next_known = 0


cdef bint wheel_armed(const wheel_timer *t) noexcept nogil:
    """True when t waits in a wheel."""
    return t.prev != NULL


cdef inline int lowest(const wheel_t *w) noexcept nogil:
    """The first slot that is not empty, or -1."""
    cdef int level
    for level in range(WHEEL_LEVELS):
        if w.occupied[level]:
            return level * 64 + wheel_ctz(w.occupied[level])
    return -1


cdef inline uint64_t slot_tick(const wheel_t *w, int slot) noexcept nogil:
    """The first tick of a slot that is not empty."""
    cdef int shift = 6 * (slot >> 6)
    cdef uint64_t group = 0
    if shift + 6 < 64:
        group = (w.tick >> (shift + 6)) << (shift + 6)
    return group | (<uint64_t>(slot & 63) << shift)


cdef uint64_t wheel_next(wheel_t *w) noexcept nogil:
    """When wheel_expire should be called next; see the contract in wheel.pxd."""
    cdef int slot, seen = 0
    cdef uint64_t earliest = UINT64_MAX
    cdef wheel_timer *t
    cdef wheel_timer *first
    if w.next_known:
        return w.next_ns
    slot = lowest(w)
    if slot < 0:
        w.next_ns = UINT64_MAX
        w.next_known = 1
        return UINT64_MAX
    first = t = w.slots[slot]
    while True:
        if t.deadline_ns < earliest:
            earliest = t.deadline_ns
        t = t.next
        if t == first:
            break
        seen += 1
        if slot >= 64 and seen == SCAN:
            earliest = slot_tick(w, slot) << WHEEL_SHIFT
            break
    w.next_ns = earliest
    w.next_known = 1
    return earliest


cdef wheel_timer *wheel_expire(wheel_t *w, uint64_t now_ns) noexcept nogil:
    """The next timer that is due at now_ns, disarmed, or NULL."""
    cdef uint64_t tick, begin
    cdef int slot
    cdef wheel_timer *t
    cdef wheel_timer *first
    if w.next_known and now_ns < w.next_ns:
        return NULL
    tick = now_ns >> WHEEL_SHIFT
    if tick < w.tick:
        tick = w.tick           # deadlines are compared with now_ns itself, so nothing comes early
    while True:
        slot = lowest(w)
        if slot < 0:
            break
        begin = slot_tick(w, slot)
        if begin > tick:
            break
        w.tick = begin
        if slot < 64:
            first = t = w.slots[slot]
            while True:
                if t.deadline_ns <= now_ns:
                    wheel_cancel(w, t)
                    return t
                t = t.next
                if t == first:
                    break
            # Nothing here is due, so this slot is the current one: no later slot can be due either.
            w.next_known = 0
            return NULL
        while w.slots[slot] != NULL:
            t = w.slots[slot]
            unlink(w, t)
            insert(w, t)
    w.tick = tick
    w.next_known = 0
    return NULL


cdef uint32_t wheel_len(const wheel_t *w) noexcept nogil:
    """Timers armed."""
    return w.n


@cython.auto_pickle(False)
cdef class Wheel:
    """The wheel as a Python object; timers are small integers."""

    cdef wheel_t *wheel
    cdef wheel_timer *timers
    cdef uint32_t room

    def __cinit__(self, uint64_t now_ns=0, uint32_t timers=64):
        cdef uint32_t i
        self.wheel = wheel_new(now_ns)
        self.timers = <wheel_timer *>calloc(timers, sizeof(wheel_timer))
        if self.wheel == NULL or self.timers == NULL:
            raise MemoryError
        self.room = timers
        for i in range(timers):
            wheel_timer_init(&self.timers[i], i, NULL)

    def __dealloc__(self):
        wheel_free(self.wheel)
        free(self.timers)

    cdef wheel_timer *at(self, uint32_t timer) except NULL:
        if timer >= self.room:
            raise IndexError(timer)
        return &self.timers[timer]

    def arm(self, uint32_t timer, uint64_t deadline_ns) -> None:
        """Arm or move a timer."""
        wheel_arm(self.wheel, self.at(timer), deadline_ns)

    def cancel(self, uint32_t timer) -> None:
        """Disarm a timer."""
        wheel_cancel(self.wheel, self.at(timer))

    def armed(self, uint32_t timer) -> bool:
        """True while the timer waits."""
        return bool(wheel_armed(self.at(timer)))

    def next(self) -> int:
        """When to call expire, 2**64 - 1 when nothing is armed."""
        return wheel_next(self.wheel)

    def expire(self, uint64_t now_ns) -> int | None:
        """One timer that is due, or None."""
        cdef wheel_timer *t = wheel_expire(self.wheel, now_ns)
        return None if t == NULL else t.kind

    def __len__(self):
        return wheel_len(self.wheel)

    def churn(self, uint64_t n, uint64_t step_ns, uint64_t delay_ns) -> int:
        """Per round move one timer to delay_ns from now, ask for the next deadline, expire what is due, and
        let step_ns pass.

        Gives the number of timers that expired. No GIL: the work of a connection's retransmission timer.
        """
        cdef uint64_t i, now = self.wheel.tick << WHEEL_SHIFT
        cdef uint64_t expired = 0
        with nogil:
            for i in range(n):
                wheel_arm(self.wheel, &self.timers[i % self.room], now + delay_ns)
                wheel_next(self.wheel)
                while wheel_expire(self.wheel, now) != NULL:
                    expired += 1
                now += step_ns
        return expired
