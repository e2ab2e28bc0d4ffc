# A list by last use. Intrusive: a node lies inside its owner. Inline: there is no module behind this file.
from libc.stdint cimport uint64_t

cdef enum:
    LRU_EXACT_NS = 1000000000   # the order is exact to a second, which spares moving a busy entry for each packet

ctypedef struct lru_node:
    lru_node *newer
    lru_node *older
    uint64_t listed_ns          # when it was last moved
    void *owner

ctypedef struct lru_t:
    lru_node *newest
    lru_node *oldest


cdef inline void lru_link(lru_t *l, lru_node *n, uint64_t now_ns) noexcept nogil:
    n.listed_ns = now_ns
    n.newer = NULL
    n.older = l.newest
    if l.newest != NULL:
        l.newest.newer = n
    else:
        l.oldest = n
    l.newest = n


cdef inline void lru_add(lru_t *l, lru_node *n, void *owner, uint64_t now_ns) noexcept nogil:
    n.owner = owner
    lru_link(l, n, now_ns)


cdef inline void lru_remove(lru_t *l, lru_node *n) noexcept nogil:
    if n.newer != NULL:
        n.newer.older = n.older
    else:
        l.newest = n.older
    if n.older != NULL:
        n.older.newer = n.newer
    else:
        l.oldest = n.newer


cdef inline void lru_use(lru_t *l, lru_node *n, uint64_t now_ns) noexcept nogil:
    if now_ns - n.listed_ns > LRU_EXACT_NS and l.newest != n:
        lru_remove(l, n)
        lru_link(l, n, now_ns)


# The owner of the entry that has been silent longest, NULL when there is none.
cdef inline void *lru_oldest(const lru_t *l) noexcept nogil:
    return l.oldest.owner if l.oldest != NULL else NULL
