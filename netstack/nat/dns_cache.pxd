# Answers of name servers, kept as long as they say.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.storage.lru cimport lru_node, lru_t
from netstack.storage.table cimport table_t

ctypedef struct cache_key:      # two keyed hashes of question and bits; the question itself is compared as well
    uint64_t a
    uint64_t b

ctypedef struct dns_entry:      # followed by its message, and behind that by the offsets of its TTLs
    cache_key key
    lru_node recent
    uint64_t stored_ns
    uint64_t expires_ns
    uint32_t length
    uint16_t n_ttls
    uint16_t question           # bytes of the question

ctypedef struct dns_cache:
    table_t *table
    lru_t recent
    uint64_t k0, k1
    uint64_t bytes
    uint32_t limit              # entries

cdef enum:
    CACHE_BYTES = 8388608       # of all answers together
    CACHE_MESSAGE_MAX = 8192    # a longer answer is not kept

cdef dns_cache *dns_cache_new(uint32_t limit, uint64_t k0, uint64_t k1) noexcept nogil
cdef void dns_cache_free(dns_cache *c) noexcept nogil
cdef void dns_cache_clear(dns_cache *c) noexcept nogil
# Keeps a server's answer to a query, where that may be kept (RFC 2308; see dns_cache.pyx).
cdef void dns_cache_put(dns_cache *c, const uint8_t *query, uint32_t length, const uint8_t *reply,
                        uint32_t reply_length, uint64_t now_ns) noexcept nogil
# Writes the answer as of now, with the id and the question as the query spells it; its bytes, or 0. With `stale` also
# one whose time is over (RFC 8767), its TTLs being 30 seconds.
cdef int dns_cache_get(dns_cache *c, const uint8_t *query, uint32_t length, bint stale, uint64_t now_ns, uint8_t *out,
                       uint32_t room) noexcept nogil
# Whether there is one whose time is over.
cdef bint dns_cache_has_stale(dns_cache *c, const uint8_t *query, uint32_t length, uint64_t now_ns) noexcept nogil
