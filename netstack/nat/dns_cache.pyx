"""Answers of name servers, kept as long as they say, and a while longer for the time when no server answers.

What is kept: answers to one question of class IN, with the code NOERROR or NXDOMAIN, that are whole (no TC). Each lives
for the smallest TTL in it; one that says that there is nothing lives for its SOA record's minimum, too, and is not kept
without such a record (RFC 2308 section 5). TTLs are counted down in what is given out.

An answer belongs to the question together with what may change it: the query's RD, AD and CD bits, and its OPT record
with the DO bit. A query with EDNS options (a cookie, a client's subnet) has an answer of its own: it neither fills the
cache nor is answered from it, save that a stale answer is better than none.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from netstack.storage.lru cimport lru_add, lru_link, lru_oldest, lru_remove
from netstack.storage.siphash cimport siphash_bytes
from netstack.storage.table cimport table_del, table_free, table_get, table_len, table_new, table_put
from netstack.wire.be cimport be32, put_be16, put_be32
from netstack.wire.dns cimport (
    DNS_AD, DNS_CD, DNS_CLASS_IN, DNS_EDNS_DO, DNS_HDR_LEN, DNS_NOERROR, DNS_NXDOMAIN, DNS_OPCODE, DNS_QR, DNS_RCODE,
    DNS_RD, DNS_TC, DNS_TYPE_ANY, DNS_TYPE_OPT, DNS_TYPE_SIG, DNS_TYPE_SOA, DNS_TYPE_TSIG, dns_edns, dns_edns_find,
    dns_hdr, dns_parse, dns_question, dns_question_parse, dns_record, dns_record_parse,
)
from netstack.wire.dns_name cimport dns_name_lower

cdef enum:
    TTL_MAX = 86400             # seconds: longer TTLs count as this
    NEGATIVE_MAX = 10800        # RFC 2308 section 5 recommends one to three hours at most
    STALE_TTL = 30              # RFC 8767 section 4
    STALE_MAX = 86400           # seconds that an answer is kept beyond its time; the same recommends one to three days
    TTLS_MAX = 512              # records of an answer that is kept
    EDNS = 1                    # in the first byte of a key: there was an OPT record,
    DO = 2                      # with the DO bit

cdef enum:
    SECOND = 1000000000


cdef dns_cache *dns_cache_new(uint32_t limit, uint64_t k0, uint64_t k1) noexcept nogil:
    cdef dns_cache *c = <dns_cache *>calloc(1, sizeof(dns_cache))
    if c == NULL:
        return NULL
    c.limit = limit
    c.k0 = k0
    c.k1 = k1
    c.table = table_new(sizeof(cache_key), 64, limit + 1, k0, k1)
    if c.table == NULL:
        free(c)
        return NULL
    return c


cdef void drop(dns_cache *c, dns_entry *e) noexcept nogil:
    table_del(c.table, &e.key)
    lru_remove(&c.recent, &e.recent)
    c.bytes -= e.length
    free(e)


cdef void dns_cache_clear(dns_cache *c) noexcept nogil:
    while c.recent.oldest != NULL:
        drop(c, <dns_entry *>c.recent.oldest.owner)


cdef void dns_cache_free(dns_cache *c) noexcept nogil:
    if c == NULL:
        return
    dns_cache_clear(c)
    table_free(c.table)
    free(c)


cdef inline uint8_t *message_of(dns_entry *e) noexcept nogil:
    return <uint8_t *>e + sizeof(dns_entry)


cdef int key_of(const dns_cache *c, const uint8_t *query, uint32_t length, bint options, cache_key *key) noexcept nogil:
    """The key of a query; the bytes of its question, or 0 where it has no place in the cache. ``options``: also where
    it has EDNS options."""
    cdef dns_hdr hdr
    cdef dns_question question
    cdef dns_edns edns
    cdef uint8_t[264] text
    cdef int size, found
    cdef uint32_t n
    if dns_parse(query, length, &hdr) < 0 or hdr.qdcount != 1 or hdr.flags & (DNS_QR | DNS_OPCODE):
        return 0
    if hdr.ancount or hdr.nscount:
        return 0
    size = dns_question_parse(query, length, DNS_HDR_LEN, &question)
    if size <= 0 or question.qclass != DNS_CLASS_IN or size != question.name.length + 4:
        return 0
    # transfers, signatures of messages and what else is no type of a record (128 to 255)
    if question.type in (DNS_TYPE_OPT, DNS_TYPE_SIG, 0) or DNS_TYPE_ANY >= question.type >= 128:
        return 0
    found = dns_edns_find(query, length, &edns)
    if found < 0 or hdr.arcount != found or (found and (edns.version or (edns.options_length and not options))):
        return 0
    dns_name_lower(&question.name)
    n = question.name.length
    text[0] = (EDNS | (DO if edns.flags & DNS_EDNS_DO else 0)) if found else 0
    text[1] = <uint8_t>((1 if hdr.flags & DNS_RD else 0) | (hdr.flags & (DNS_AD | DNS_CD)))
    memcpy(text + 2, question.name.bytes, n)
    put_be16(text + 2 + n, question.type)
    key.a = siphash_bytes(text, n + 4, c.k0, c.k1)
    key.b = siphash_bytes(text, n + 4, ~c.k0, c.k1)
    return size


cdef inline uint8_t lower(uint8_t byte) noexcept nogil:
    return byte | 0x20 if 65 <= byte <= 90 else byte


cdef bint same_question(const uint8_t *a, const uint8_t *b, uint32_t n) noexcept nogil:
    """Two questions of the same length without compression; labels are no longer than 63, so that no length is a
    letter."""
    cdef uint32_t i
    for i in range(n):
        if a[i] != b[i] and lower(a[i]) != lower(b[i]):
            return False
    return True


cdef int lifetime(const uint8_t *reply, uint32_t length, const dns_hdr *hdr, uint32_t at, uint16_t *offsets,
                  uint32_t *seconds) noexcept nogil:
    """How many TTLs the records behind the question have, with their offsets, and how long the answer lives; -1 where
    it is not to be kept."""
    cdef dns_record rr
    cdef uint32_t records = <uint32_t>hdr.ancount + hdr.nscount + hdr.arcount
    cdef uint32_t i, ttl, least = TTL_MAX
    cdef int n = 0
    cdef bint nothing = hdr.ancount == 0 or hdr.flags & DNS_RCODE == DNS_NXDOMAIN
    cdef bint soa = False
    for i in range(records):
        if dns_record_parse(reply, length, at, &rr) < 0:
            return -1
        at = <uint32_t>rr.end
        if rr.type == DNS_TYPE_TSIG or rr.type == DNS_TYPE_SIG:
            return -1           # signs this very message
        if rr.type == DNS_TYPE_OPT:
            if rr.rdlength or rr.ttl >> 24:
                return -1       # options are for this client; a longer code is no answer
            continue
        if n == TTLS_MAX:
            return -1
        offsets[n] = <uint16_t>(rr.rdata_at - 6)
        n += 1
        ttl = 0 if rr.ttl >> 31 else rr.ttl     # RFC 2181 section 8
        least = min(least, ttl)
        if nothing and rr.type == DNS_TYPE_SOA and hdr.ancount <= i < <uint32_t>hdr.ancount + hdr.nscount:
            soa = rr.rdlength >= 22
            if soa:
                least = min(least, min(<uint32_t>NEGATIVE_MAX, be32(reply + rr.end - 4)))
    if nothing and not soa:
        return -1
    seconds[0] = least
    return n if least else -1


cdef void dns_cache_put(dns_cache *c, const uint8_t *query, uint32_t length, const uint8_t *reply,
                        uint32_t reply_length, uint64_t now_ns) noexcept nogil:
    cdef cache_key key
    cdef dns_hdr hdr
    cdef dns_entry *e
    cdef dns_entry *old
    cdef uint16_t[TTLS_MAX] offsets
    cdef uint32_t seconds = 0
    cdef int size, n
    if c == NULL or reply_length > CACHE_MESSAGE_MAX or dns_parse(reply, reply_length, &hdr) < 0:
        return
    if hdr.flags & DNS_TC or hdr.qdcount != 1 or hdr.flags & DNS_RCODE not in (DNS_NOERROR, DNS_NXDOMAIN):
        return
    size = key_of(c, query, length, False, &key)
    if size == 0 or reply_length < DNS_HDR_LEN + <uint32_t>size:
        return
    if not same_question(query + DNS_HDR_LEN, reply + DNS_HDR_LEN, size):
        return
    n = lifetime(reply, reply_length, &hdr, DNS_HDR_LEN + size, offsets, &seconds)
    if n < 0:
        return
    old = <dns_entry *>table_get(c.table, &key)
    if old != NULL:
        drop(c, old)
    while c.recent.oldest != NULL and (table_len(c.table) >= c.limit or c.bytes + reply_length > CACHE_BYTES):
        drop(c, <dns_entry *>lru_oldest(&c.recent))
    e = <dns_entry *>malloc(sizeof(dns_entry) + reply_length + 1 + n * sizeof(uint16_t))
    if e == NULL:
        return
    e.key = key
    e.stored_ns = now_ns
    e.expires_ns = now_ns + seconds * <uint64_t>SECOND
    e.length = reply_length
    e.n_ttls = <uint16_t>n
    e.question = <uint16_t>size
    memcpy(message_of(e), reply, reply_length)
    memcpy(message_of(e) + reply_length, offsets, n * sizeof(uint16_t))
    if table_put(c.table, &e.key, e) < 0:
        free(e)
        return
    c.bytes += reply_length
    lru_add(&c.recent, &e.recent, e, now_ns)


cdef dns_entry *find(dns_cache *c, const uint8_t *query, uint32_t length, bint stale, uint64_t now_ns) noexcept nogil:
    cdef cache_key key
    cdef dns_entry *e
    cdef int size
    if c == NULL or table_len(c.table) == 0:
        return NULL
    size = key_of(c, query, length, stale, &key)
    if size == 0:
        return NULL
    e = <dns_entry *>table_get(c.table, &key)
    if e == NULL or e.question != size:
        return NULL
    if not same_question(query + DNS_HDR_LEN, message_of(e) + DNS_HDR_LEN, size):
        return NULL
    if now_ns < e.expires_ns:
        return e
    if now_ns >= e.expires_ns + STALE_MAX * <uint64_t>SECOND:
        drop(c, e)
        return NULL
    return e if stale else NULL


cdef bint dns_cache_has_stale(dns_cache *c, const uint8_t *query, uint32_t length, uint64_t now_ns) noexcept nogil:
    return find(c, query, length, True, now_ns) != NULL


cdef int dns_cache_get(dns_cache *c, const uint8_t *query, uint32_t length, bint stale, uint64_t now_ns, uint8_t *out,
                       uint32_t room) noexcept nogil:
    cdef dns_entry *e = find(c, query, length, stale, now_ns)
    cdef uint32_t age, ttl
    cdef uint16_t at
    cdef uint32_t i
    if e == NULL or e.length > room:
        return 0
    if c.recent.newest != &e.recent:
        lru_remove(&c.recent, &e.recent)
        lru_link(&c.recent, &e.recent, now_ns)
    memcpy(out, message_of(e), e.length)
    memcpy(out, query, 2)
    memcpy(out + DNS_HDR_LEN, query + DNS_HDR_LEN, e.question)
    age = <uint32_t>((now_ns - e.stored_ns) // SECOND)
    for i in range(e.n_ttls):
        memcpy(&at, message_of(e) + e.length + 2 * i, 2)
        ttl = be32(out + at)
        if now_ns >= e.expires_ns:
            ttl = STALE_TTL
        else:
            ttl = min(ttl, <uint32_t>0x7fffffff)
            ttl = ttl - age if ttl > age else 0
        put_be32(out + at, ttl)
    return <int>e.length
