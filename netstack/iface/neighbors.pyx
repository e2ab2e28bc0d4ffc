"""Guests' addresses and where they were last seen."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from netstack.storage.table cimport table_free, table_get, table_len, table_new, table_next, table_put
from netstack.wire.addr cimport addr_t


cdef int neighbors_init(neighbors_t *n, uint32_t limit, uint64_t k0, uint64_t k1) noexcept nogil:
    n.limit = limit
    n.changes = 0
    n.table = table_new(sizeof(addr_t), 16, limit, k0, k1)
    return 0 if n.table != NULL else -1


cdef void neighbors_free(neighbors_t *n) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef void *entry
    if n.table == NULL:
        return
    entry = table_next(n.table, &cursor)
    while entry != NULL:
        free(entry)
        entry = table_next(n.table, &cursor)
    table_free(n.table)
    n.table = NULL


cdef neighbor *neighbors_find(neighbors_t *n, const addr_t *address) noexcept nogil:
    return <neighbor *>table_get(n.table, address)


cdef neighbor *neighbors_learn(neighbors_t *n, const addr_t *address, const uint8_t *mac, int port,
                               uint64_t now_ns) noexcept nogil:
    cdef neighbor *entry = <neighbor *>table_get(n.table, address)
    if entry == NULL:
        if table_len(n.table) >= n.limit:
            return NULL
        entry = <neighbor *>calloc(1, sizeof(neighbor))
        if entry == NULL:
            return NULL
        entry.address = address[0]
        if table_put(n.table, &entry.address, entry) != 0:
            free(entry)
            return NULL
    if entry.port != port or entry.last_seen_ns == 0 or memcmp(entry.mac, mac, 6) != 0:
        n.changes += 1
    memcpy(entry.mac, mac, 6)
    entry.port = port
    entry.last_seen_ns = now_ns
    return entry


cdef neighbor *neighbors_at(neighbors_t *n, int port) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef neighbor *entry = <neighbor *>table_next(n.table, &cursor)
    while entry != NULL and entry.port != port:
        entry = <neighbor *>table_next(n.table, &cursor)
    return entry


cdef void neighbors_forget_port(neighbors_t *n, int port) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef neighbor *entry = <neighbor *>table_next(n.table, &cursor)
    while entry != NULL:
        if entry.port == port:
            entry.port = -1
        entry = <neighbor *>table_next(n.table, &cursor)
