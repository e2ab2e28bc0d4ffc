# Which guest holds which address: MAC and switch port. Entries live as long as the interface, so flows may
# point at them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.storage.table cimport table_t
from netstack.wire.addr cimport addr_t

ctypedef struct neighbor:
    addr_t address
    uint8_t mac[6]
    int port                    # -1: its link is gone
    uint8_t held                # the gateway has given it this address (iface/source)
    uint64_t last_seen_ns

ctypedef struct neighbors_t:
    table_t *table
    uint32_t limit
    uint32_t changes            # counts entries that were made or have moved

cdef int neighbors_init(neighbors_t *n, uint32_t limit, uint64_t k0, uint64_t k1) noexcept nogil
cdef void neighbors_free(neighbors_t *n) noexcept nogil
cdef neighbor *neighbors_find(neighbors_t *n, const addr_t *address) noexcept nogil
# Finds or makes the entry and notes where it was seen; NULL when the table is full.
cdef neighbor *neighbors_learn(neighbors_t *n, const addr_t *address, const uint8_t *mac, int port,
                               uint64_t now_ns) noexcept nogil
# The first that was seen on a port, NULL: none.
cdef neighbor *neighbors_at(neighbors_t *n, int port) noexcept nogil
cdef void neighbors_forget_port(neighbors_t *n, int port) noexcept nogil
