"""How long to look for events before sleeping.

A sleep costs the sleeper's wake-up, which on a virtual machine is several times the work of a small request, and more
where the processor has gone idle in between. When events follow each other within a few tens of microseconds, as the
answer of a local server does, looking for them is cheaper than sleeping. When they do not, looking wastes what others
could use. So the past decides: each sleep that looking would have spared earns credit, each one that it would not
loses some, and only with credit is there a look at all. A process that wants the same processor takes all credit away.
"""
cimport cython
from libc.stdint cimport uint64_t

cdef enum:
    ENOUGH = 8                  # credit from which on there is a look
    MOST = 24
    FRUITLESS = 4               # what a look in vain costs
    PENALTY = -32               # credit after a disturbance: so many short sleeps until the next look
    WAKE_NS = 15000             # what a sleep takes beyond what it waits for


cdef void spin_init(spin_t *s, uint64_t limit_ns) noexcept nogil:
    s.limit_ns = limit_ns
    s.credit = 0


cdef uint64_t spin_now(const spin_t *s) noexcept nogil:
    return s.limit_ns if s.credit >= ENOUGH else 0


cdef void spin_found(spin_t *s) noexcept nogil:
    if s.credit < MOST:
        s.credit += 1


cdef void spin_slept(spin_t *s, uint64_t waited_ns) noexcept nogil:
    """waited_ns: the look before the sleep, if there was one, is part of it."""
    if s.credit < 0 or (waited_ns < s.limit_ns + WAKE_NS and s.credit < MOST):
        s.credit += 1
    elif waited_ns >= s.limit_ns + WAKE_NS:
        s.credit = s.credit - FRUITLESS if s.credit > FRUITLESS else 0


cdef void spin_disturbs(spin_t *s) noexcept nogil:
    s.credit = PENALTY


@cython.auto_pickle(False)
cdef class Spin:
    """The policy as a Python object; times in nanoseconds."""

    cdef spin_t spin

    def __cinit__(self, uint64_t limit_ns):
        spin_init(&self.spin, limit_ns)

    @property
    def look(self) -> int:
        """How long to look now."""
        return spin_now(&self.spin)

    def found(self) -> None:
        """An event came while looking."""
        spin_found(&self.spin)

    def slept(self, uint64_t waited_ns) -> None:
        """An event came after so long a wait."""
        spin_slept(&self.spin, waited_ns)

    def disturbs(self) -> None:
        """Somebody else has had the processor meanwhile."""
        spin_disturbs(&self.spin)
