"""A bad path as a pure queue model: loss, rate, delay, jitter, reordering, duplication and corruption.

A frame first meets loss, then a queue in front of a link of the given rate, then a delay. All chance comes
from one seeded generator, so the same frames at the same times with the same seed meet the same fate.
"""
cimport cython
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc

from netstack.host.sockets cimport iovec
from netstack.link.stored cimport stored_free, stored_frame, stored_new
from netstack.storage.frame cimport CSUM_FULL, CSUM_PARTIAL, frame_meta

cdef enum:
    OVERHEAD = 24               # bytes on the wire beside the frame: preamble, FCS, gap
    FULL_FRAME = 1514
    HELD_BACK = 1000000         # ns by which a reordered frame falls behind on a path without delay


WORDS = ("loss", "delay", "jitter", "reorder", "duplicate", "corrupt", "rate", "queue", "ordered", "seed")


TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}
PERCENT = {"%": 1.0}
UNITS = {
    "loss": PERCENT, "reorder": PERCENT, "duplicate": PERCENT, "corrupt": PERCENT,
    "delay": TIME, "jitter": TIME,
    "rate": {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3},
}


#: The most that words without a unit can say.
_MOST = {"queue": 0xffffffff, "ordered": 1, "seed": 0xffffffffffffffff}


def number(word, value, units):
    """The number that a word of :meth:`Impairment.parse` stands for, in the unit that Impairment takes."""
    value = value.lower()
    scale = 1.0
    for unit in sorted(units, key=len, reverse=True):
        if value.endswith(unit):
            value, scale = value[:-len(unit)], units[unit]
            break
    try:
        return float(value) * scale if units else int(value)
    except ValueError:
        raise ValueError(f"not a number: {word!r}") from None


cdef inline uint64_t rotl(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t draw(impair_t *m) noexcept nogil:
    """xoshiro256++ (Blackman and Vigna)."""
    cdef uint64_t *s = m.random
    cdef uint64_t result = rotl(s[0] + s[3], 23) + s[0]
    cdef uint64_t t = s[1] << 17
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotl(s[3], 45)
    return result


cdef inline double chance(impair_t *m) noexcept nogil:
    """Even in [0, 1)."""
    return <double>(draw(m) >> 11) * (1.0 / 9007199254740992.0)


cdef void configure(impair_t *m, const impair_config *config) noexcept nogil:
    cdef uint64_t z = config.seed
    cdef uint64_t x
    cdef int i
    m.config = config[0]
    for i in range(4):          # splitmix64 spreads the seed
        z += 0x9e3779b97f4a7c15ULL
        x = z
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL
        m.random[i] = x ^ (x >> 31)


cdef impair_t *impair_new(const impair_config *config) noexcept nogil:
    cdef impair_t *m = <impair_t *>calloc(1, sizeof(impair_t))
    if m != NULL:
        configure(m, config)
    return m


cdef void impair_free(impair_t *m) noexcept nogil:
    cdef uint32_t i
    if m == NULL:
        return
    for i in range(m.n):
        stored_free(m.heap[i].frame)
    free(m.heap)
    free(m)


cdef inline bint before(const impair_entry *a, const impair_entry *b) noexcept nogil:
    return a.due < b.due or (a.due == b.due and a.order < b.order)


cdef int put(impair_t *m, stored_frame *f, uint64_t due) noexcept nogil:
    """Into the heap; -1 (and f is freed) at the limit or without memory."""
    cdef uint32_t i, parent, room
    cdef impair_entry *heap
    cdef impair_entry e
    if m.n == m.room:
        room = m.room * 2 if m.room else 64
        heap = <impair_entry *>realloc(m.heap, room * sizeof(impair_entry)) if m.n < IMPAIR_LIMIT else NULL
        if heap == NULL:
            m.stats.full += 1
            stored_free(f)
            return -1
        m.heap = heap
        m.room = room
    e.due = due
    e.order = m.order
    e.frame = f
    m.order += 1
    i = m.n
    m.n += 1
    while i:
        parent = (i - 1) >> 1
        if not before(&e, &m.heap[parent]):
            break
        m.heap[i] = m.heap[parent]
        i = parent
    m.heap[i] = e
    return 0


cdef int impair_push(impair_t *m, stored_frame *f, uint64_t now_ns) noexcept nogil:
    """Decides a frame's fate; see the contract in impair.pxd."""
    cdef impair_config *c = &m.config
    cdef stored_frame *twin = NULL
    cdef uint64_t begin, bits, bit, due, delay
    cdef iovec whole
    m.stats.pushed += 1
    if f == NULL:
        m.stats.full += 1
        return 0
    if c.loss > 0 and chance(m) < c.loss:
        m.stats.lost += 1
        stored_free(f)
        return 0
    due = now_ns
    if c.rate:
        begin = m.link_free if m.link_free > now_ns else now_ns
        # what waits, in bytes, against what may wait
        if <double>(begin - now_ns) * <double>c.rate / 8e9 > <double>c.queue * FULL_FRAME:
            m.stats.full += 1
            stored_free(f)
            return 0
        bits = (<uint64_t>f.length + OVERHEAD) * 8
        due = m.link_free = begin + <uint64_t>(<double>bits * 1e9 / <double>c.rate)
    if c.corrupt > 0 and chance(m) < c.corrupt and f.length > 14:
        m.stats.corrupted += 1
        if f.meta.csum == CSUM_PARTIAL:
            # its checksum would be made from the wrong bytes; the receiver of a real link drops it
            stored_free(f)
            return 0
        bit = draw(m) % ((<uint64_t>f.length - 14) * 8)
        f.data[14 + (bit >> 3)] ^= <uint8_t>(1 << (bit & 7))
        f.meta.csum = CSUM_FULL     # nobody knows it to be good any more
    delay = c.delay_ns
    if c.jitter_ns:
        delay = delay + <uint64_t>(chance(m) * 2.0 * <double>c.jitter_ns)
        delay = delay - c.jitter_ns if delay > c.jitter_ns else 0
    if c.reorder > 0 and chance(m) < c.reorder:
        m.stats.reordered += 1
        due += delay // 5 if delay else HELD_BACK       # overtakes the others, or falls behind them
    else:
        due += delay
        if c.ordered and due < m.last_due:
            due = m.last_due
        m.last_due = due
    if c.duplicate > 0 and chance(m) < c.duplicate:
        whole.iov_base = f.data
        whole.iov_len = f.length
        twin = stored_new(&f.meta, &whole, 1)
    if put(m, f, due) < 0:
        stored_free(twin)
        return 0
    if twin != NULL and put(m, twin, due) == 0:
        m.stats.duplicated += 1
    return 1


cdef stored_frame *impair_pop(impair_t *m, uint64_t now_ns) noexcept nogil:
    cdef stored_frame *f
    cdef impair_entry last
    cdef uint32_t i = 0
    cdef uint32_t child
    if m.n == 0 or m.heap[0].due > now_ns:
        return NULL
    f = m.heap[0].frame
    m.n -= 1
    last = m.heap[m.n]
    while True:
        child = 2 * i + 1
        if child >= m.n:
            break
        if child + 1 < m.n and before(&m.heap[child + 1], &m.heap[child]):
            child += 1
        if not before(&m.heap[child], &last):
            break
        m.heap[i] = m.heap[child]
        i = child
    if m.n:
        m.heap[i] = last
    m.stats.popped += 1
    return f


cdef void impair_change(impair_t *m, const impair_config *config, uint64_t now_ns) noexcept nogil:
    cdef uint64_t popped = m.stats.popped
    cdef uint32_t n = m.n, i
    cdef impair_entry *again = NULL
    if n:
        again = <impair_entry *>malloc(m.room * sizeof(impair_entry))
    if again != NULL:               # without memory they keep their times
        for i in range(n):
            again[i].frame = impair_pop(m, UINT64_MAX)
            again[i].due = now_ns
            again[i].order = m.order
            m.order += 1
        free(m.heap)
        m.heap = again              # in order, it is a heap as well
        m.n = n
    m.stats.popped = popped
    m.link_free = 0
    m.last_due = 0
    configure(m, config)


cdef uint64_t impair_next(const impair_t *m) noexcept nogil:
    return m.heap[0].due if m.n else UINT64_MAX


@cython.auto_pickle(False)
cdef class Impairment:
    """The settings of one direction of a bad path.

    ``loss``, ``reorder``, ``duplicate``, ``corrupt`` in percent of frames; ``delay`` (one way) and ``jitter``
    in milliseconds; ``rate`` in Mbit/s (0: unlimited) with a ``queue`` of that many full frames in front of
    it; ``ordered``: jitter keeps the order; ``seed``: the same one gives the same fate. A reordered frame
    takes a fifth of the delay and so overtakes others (without delay it is held back by 1 ms). A corrupted
    frame has one bit flipped behind its Ethernet header; one with a partial checksum is dropped instead.
    ValueError for a value out of range.
    """

    def __init__(self, double loss=0, double delay=0, double jitter=0, double reorder=0, double duplicate=0,
                 double corrupt=0, double rate=0, uint32_t queue=1000, bint ordered=False, uint64_t seed=1):
        chances = {"loss": loss, "reorder": reorder, "duplicate": duplicate, "corrupt": corrupt}
        for name, percent in chances.items():
            if not 0 <= percent <= 100:
                raise ValueError(f"{name} must be 0 to 100 percent, not {percent}")
        for name, value in (("delay", delay), ("jitter", jitter)):
            if not 0 <= value <= 1e9:
                raise ValueError(f"{name} must be 0 to 1e9 milliseconds, not {value}")
        if not (rate == 0 or 1e-6 <= rate <= 1e6):
            raise ValueError(f"rate must be 0 or 1e-6 to 1e6 Mbit/s, not {rate}")
        if queue == 0:
            raise ValueError("queue must be at least 1 frame")
        self.config.loss = loss / 100
        self.config.reorder = reorder / 100
        self.config.duplicate = duplicate / 100
        self.config.corrupt = corrupt / 100
        self.config.delay_ns = <uint64_t>(delay * 1e6)
        self.config.jitter_ns = <uint64_t>(jitter * 1e6)
        self.config.rate = <uint64_t>(rate * 1e6)
        self.config.queue = queue
        self.config.ordered = ordered
        self.config.seed = seed

    @classmethod
    def parse(cls, str text):
        """From words between commas or blanks: ``loss=1%,delay=20ms±5ms,reorder=0.5%,rate=10mbit``.

        Units: ``%``; ``us``, ``ms`` (when there is none) and ``s``; ``kbit``, ``mbit`` (when there is none)
        and ``gbit``. ``delay=20ms±5ms`` (or ``20ms+-5ms``) is delay and jitter. ValueError names the word
        that is not understood.
        """
        values = {}
        for word in text.replace(",", " ").split():
            name, equals, value = word.partition("=")
            if not equals or name not in WORDS:
                raise ValueError(f"not an impairment: {word!r} (there are {', '.join(WORDS)})")
            if name == "delay":
                value, jitter, spread = value.replace("+-", "±").partition("±")
                if jitter:
                    values["jitter"] = number(word, spread, UNITS["jitter"])
            values[name] = number(word, value, UNITS.get(name, {}))
            if name in _MOST and not 0 <= values[name] <= _MOST[name]:
                raise ValueError(f"{name} must be 0 to {_MOST[name]}, not {value}")
        return cls(**values)

    def __repr__(self):
        c = self.config
        return (
            f"Impairment(loss={c.loss * 100:g}, delay={c.delay_ns / 1e6:g}, jitter={c.jitter_ns / 1e6:g}, "
            f"reorder={c.reorder * 100:g}, duplicate={c.duplicate * 100:g}, corrupt={c.corrupt * 100:g}, "
            f"rate={c.rate / 1e6:g}, queue={c.queue}, ordered={bool(c.ordered)}, seed={c.seed})"
        )


cdef dict stats_dict(const impair_stats *s):
    return {"pushed": s.pushed, "popped": s.popped, "lost": s.lost, "full": s.full, "reordered": s.reordered,
            "duplicated": s.duplicated, "corrupted": s.corrupted}


@cython.auto_pickle(False)
cdef class ImpairedQueue:
    """The model alone: ``push(frame, now_ns)`` and ``pop(now_ns)``, for tests and for paths joined by hand.
    """

    cdef impair_t *model

    def __cinit__(self, Impairment impairment not None):
        self.model = impair_new(&impairment.config)
        if self.model == NULL:
            raise MemoryError

    def __dealloc__(self):
        impair_free(self.model)

    def push(self, const uint8_t[::1] frame, uint64_t now_ns) -> bool:
        """Put a frame in; False when it was lost or found no room."""
        cdef frame_meta meta
        cdef iovec iov
        meta.csum = meta.gso_type = 0
        meta.gso_size = meta.hdr_len = meta.csum_start = meta.csum_offset = 0
        iov.iov_base = <void *>(&frame[0] if frame.shape[0] else NULL)
        iov.iov_len = frame.shape[0]
        return impair_push(self.model, stored_new(&meta, &iov, 1 if frame.shape[0] else 0), now_ns) == 1

    def pop(self, uint64_t now_ns) -> bytes | None:
        """The next frame that is due, or None."""
        cdef stored_frame *f = impair_pop(self.model, now_ns)
        if f == NULL:
            return None
        try:
            return <bytes>f.data[:f.length]
        finally:
            stored_free(f)

    def next_deadline(self) -> int | None:
        """When the next frame is due, None when none is held."""
        cdef uint64_t due = impair_next(self.model)
        return None if due == UINT64_MAX else due

    def stats(self) -> dict:
        """Frames by fate."""
        return stats_dict(&self.model.stats)

    def __len__(self):
        return self.model.n
