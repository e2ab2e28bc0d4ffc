"""Learning L2 switch (IEEE 802.1D section 7.8, without a spanning tree): pure, it moves no frames itself.

A station that has not been heard for the ageing time is forgotten when it is looked up, and when the table is
full (at most once in an eighth of the ageing time, so that a flood of invented addresses costs no more than
one walk now and then).
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from netstack.storage.pool cimport pool_free, pool_get, pool_new, pool_put
from netstack.storage.table cimport (
    table_del, table_free, table_get, table_len, table_new, table_next, table_put,
)


cdef inline uint64_t mac_of(const uint8_t *p) noexcept nogil:
    cdef uint64_t mac = 0
    memcpy(&mac, p, 6)
    return mac


cdef switch_t *switch_new(uint32_t limit, uint64_t ageing_ns, uint64_t k0, uint64_t k1) noexcept nogil:
    """A switch that learns at most limit stations; NULL without memory or for a limit of 0."""
    cdef switch_t *s = <switch_t *>calloc(1, sizeof(switch_t))
    if s == NULL:
        return NULL
    s.ageing_ns = ageing_ns
    s.stations = table_new(sizeof(uint64_t), 16, limit, k0, k1)
    s.pool = pool_new(sizeof(switch_station), 64, limit)
    if s.stations == NULL or s.pool == NULL:
        switch_free(s)
        return NULL
    return s


cdef void switch_free(switch_t *s) noexcept nogil:
    """Frees the switch and what it has learnt."""
    cdef uint32_t cursor = 0
    cdef void *station
    if s == NULL:
        return
    if s.stations != NULL and s.pool != NULL:
        while True:
            station = table_next(s.stations, &cursor)
            if station == NULL:
                break
            pool_put(s.pool, station)
    table_free(s.stations)
    pool_free(s.pool)
    free(s)


cdef inline void forget(switch_t *s, switch_station *station) noexcept nogil:
    table_del(s.stations, &station.mac)
    pool_put(s.pool, station)


cdef inline bint aged(const switch_t *s, const switch_station *station, uint64_t now_ns) noexcept nogil:
    return now_ns > station.seen_ns and now_ns - station.seen_ns > s.ageing_ns


cdef void sweep(switch_t *s, uint64_t now_ns) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef switch_station *station
    while True:
        station = <switch_station *>table_next(s.stations, &cursor)
        if station == NULL:
            return
        if aged(s, station, now_ns):
            forget(s, station)


cdef int switch_learn(switch_t *s, const uint8_t *src, int port, uint64_t now_ns) noexcept nogil:
    """See the contract in switch.pxd."""
    cdef uint64_t mac = mac_of(src)
    cdef switch_station *station
    if src[0] & 1 or mac == 0:
        return -1
    station = <switch_station *>table_get(s.stations, &mac)
    if station != NULL:
        station.seen_ns = now_ns
        if station.port == port:
            return 0
        station.port = port
        return 1
    if table_len(s.stations) == s.stations.limit and now_ns - s.swept_ns >= s.ageing_ns >> 3:
        s.swept_ns = now_ns
        sweep(s, now_ns)
    station = <switch_station *>pool_get(s.pool)
    if station == NULL:
        return -1
    station.mac = mac
    station.seen_ns = now_ns
    station.port = port
    if table_put(s.stations, &mac, station) < 0:
        pool_put(s.pool, station)
        return -1
    return 0


cdef int switch_lookup(switch_t *s, const uint8_t *dst, uint64_t now_ns) noexcept nogil:
    """The port of dst, or SWITCH_FLOOD."""
    cdef uint64_t mac
    cdef switch_station *station
    if dst[0] & 1:
        return SWITCH_FLOOD
    mac = mac_of(dst)
    station = <switch_station *>table_get(s.stations, &mac)
    if station == NULL:
        return SWITCH_FLOOD
    if aged(s, station, now_ns):
        forget(s, station)
        return SWITCH_FLOOD
    return station.port


cdef void switch_forget_port(switch_t *s, int port) noexcept nogil:
    """Forgets every station of a port that has gone."""
    cdef uint32_t cursor = 0
    cdef switch_station *station
    while True:
        station = <switch_station *>table_next(s.stations, &cursor)
        if station == NULL:
            return
        if station.port == port:
            forget(s, station)


cdef uint32_t switch_len(const switch_t *s) noexcept nogil:
    """Stations known, aged ones that nobody has asked for included."""
    return table_len(s.stations)


@cython.auto_pickle(False)
cdef class Switch:
    """The switch as a Python object; MACs are six bytes, times are nanoseconds."""

    cdef switch_t *switch

    FLOOD = SWITCH_FLOOD

    def __cinit__(self, uint32_t limit=1024, uint64_t ageing_ns=300_000_000_000, uint64_t k0=0,
                  uint64_t k1=0):
        self.switch = switch_new(limit, ageing_ns, k0, k1)
        if self.switch == NULL:
            raise ValueError("limit must be 1..2**30")

    def __dealloc__(self):
        switch_free(self.switch)

    cdef const uint8_t *checked(self, bytes mac) except NULL:
        if len(mac) != 6:
            raise ValueError("a MAC has 6 bytes")
        return <const uint8_t *>mac

    def learn(self, bytes src, int port, uint64_t now_ns) -> int:
        """0, 1 when the station has moved, -1 when it is not learnt."""
        return switch_learn(self.switch, self.checked(src), port, now_ns)

    def lookup(self, bytes dst, uint64_t now_ns) -> int:
        """The port, or FLOOD."""
        return switch_lookup(self.switch, self.checked(dst), now_ns)

    def forget_port(self, int port) -> None:
        """Forget every station of a port."""
        switch_forget_port(self.switch, port)

    def __len__(self):
        return switch_len(self.switch)
