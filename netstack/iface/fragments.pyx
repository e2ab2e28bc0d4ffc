"""Reassembly of IPv4 fragments into one owned buffer each, every copy checked against its room."""
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from netstack.storage.counters cimport (
    FRAGMENT_BAD, FRAGMENT_DUPLICATE, FRAGMENT_LIMIT, FRAGMENT_OVERLAP, FRAGMENT_TIMEOUT, FRAGMENTS_REASSEMBLED,
    count,
)
from netstack.storage.ranges cimport ranges_add, ranges_bytes, ranges_contains, ranges_free, ranges_init
from netstack.wire.ipv4 cimport ipv4_hdr

cdef enum:
    HOLES = 128             # ranges an incomplete datagram may have


cdef void fragments_init(fragments_t *f) noexcept nogil:
    memset(f, 0, sizeof(fragments_t))


cdef void release(fragments_t *f, fragment_entry *e) noexcept nogil:
    f.bytes -= e.room
    f.used -= 1
    free(e.memory)
    ranges_free(&e.ranges)
    memset(e, 0, sizeof(fragment_entry))


cdef void fragments_free(fragments_t *f) noexcept nogil:
    cdef int i
    for i in range(FRAG_DATAGRAMS):
        if f.entries[i].used:
            release(f, &f.entries[i])
    free(f.done)
    f.done = NULL


cdef fragment_entry *oldest(fragments_t *f, const fragment_entry *but) noexcept nogil:
    cdef fragment_entry *found = NULL
    cdef int i
    for i in range(FRAG_DATAGRAMS):
        if f.entries[i].used and &f.entries[i] != but:
            if found == NULL or f.entries[i].deadline_ns < found.deadline_ns:
                found = &f.entries[i]
    return found


cdef fragment_entry *entry_for(fragments_t *f, const ipv4_hdr *hdr, uint64_t now_ns, uint64_t *counters) noexcept nogil:
    """The datagram that this fragment belongs to, made when it is new."""
    cdef fragment_entry *e
    cdef fragment_entry *empty = NULL
    cdef int i
    for i in range(FRAG_DATAGRAMS):
        e = &f.entries[i]
        if not e.used:
            if empty == NULL:
                empty = e
        elif (e.ident == hdr.ident and e.src == hdr.src and e.dst == hdr.dst and e.protocol == hdr.protocol):
            return e
    if empty == NULL:
        empty = oldest(f, NULL)
        count(counters, FRAGMENT_LIMIT)
        release(f, empty)
    empty.used = 1
    empty.ident = hdr.ident
    empty.src = hdr.src
    empty.dst = hdr.dst
    empty.protocol = hdr.protocol
    empty.deadline_ns = now_ns + <uint64_t>FRAG_TIMEOUT_S * 1000000000
    ranges_init(&empty.ranges, HOLES)
    f.used += 1
    return empty


cdef int make_room(fragments_t *f, fragment_entry *e, uint32_t end, uint64_t *counters) noexcept nogil:
    """Grows the entry's memory to hold end bytes, evicting older datagrams over the limit; 0 or -1."""
    cdef uint32_t room = e.room if e.room > 0 else 4096
    cdef fragment_entry *victim
    cdef uint8_t *memory
    if end <= e.room:
        return 0
    while room < end:
        room *= 2
    while f.bytes + (room - e.room) > FRAG_BYTES:
        victim = oldest(f, e)
        if victim == NULL:
            return -1
        count(counters, FRAGMENT_LIMIT)
        release(f, victim)
    memory = <uint8_t *>realloc(e.memory, room)
    if memory == NULL:
        return -1
    f.bytes += room - e.room
    e.memory = memory
    e.room = room
    return 0


cdef int fragments_add(fragments_t *f, const ipv4_hdr *hdr, const uint8_t *header, const uint8_t *payload,
                       uint32_t length, uint64_t now_ns, uint64_t *counters) noexcept nogil:
    cdef uint32_t left = hdr.frag_offset
    cdef uint32_t right = left + length
    cdef fragment_entry *e
    if length == 0 or right + hdr.header_length > 65535 or (hdr.more_fragments and length & 7):
        count(counters, FRAGMENT_BAD)
        return FRAG_DROPPED
    e = entry_for(f, hdr, now_ns, counters)
    if ranges_contains(&e.ranges, left, right):
        count(counters, FRAGMENT_DUPLICATE)
        return FRAG_DROPPED
    if (e.total and (right > e.total or (not hdr.more_fragments and right != e.total))) or (
            not hdr.more_fragments and e.ranges.n and e.ranges.items[e.ranges.n - 1].right > right):
        count(counters, FRAGMENT_BAD)       # two ends, or bytes behind the end
        release(f, e)
        return FRAG_DROPPED
    if overlaps(e, left, right):
        count(counters, FRAGMENT_OVERLAP)
        release(f, e)
        return FRAG_DROPPED
    if make_room(f, e, right, counters) < 0 or ranges_add(&e.ranges, left, right) < 0:
        count(counters, FRAGMENT_LIMIT)
        release(f, e)
        return FRAG_DROPPED
    memcpy(e.memory + left, payload, length)
    if not hdr.more_fragments:
        e.total = right
    if left == 0:
        memcpy(e.header, header, hdr.header_length)
        e.header_length = hdr.header_length
    if not e.total or not e.header_length or ranges_bytes(&e.ranges) != e.total:
        return FRAG_HELD
    if f.done == NULL:
        f.done = <uint8_t *>malloc(65536 + 64)
        if f.done == NULL:
            count(counters, FRAGMENT_LIMIT)
            release(f, e)
            return FRAG_DROPPED
    memcpy(f.done, e.header, e.header_length)
    memcpy(f.done + e.header_length, e.memory, e.total)
    f.done_length = e.header_length + e.total
    release(f, e)
    count(counters, FRAGMENTS_REASSEMBLED)
    return FRAG_DONE


cdef bint overlaps(const fragment_entry *e, uint32_t left, uint32_t right) noexcept nogil:
    cdef uint32_t i
    for i in range(e.ranges.n):
        if e.ranges.items[i].left < right and left < e.ranges.items[i].right:
            return True
    return False


cdef int fragments_expire(fragments_t *f, uint64_t now_ns, uint64_t *counters, uint8_t *quote,
                          uint32_t *quote_length) noexcept nogil:
    cdef int i
    cdef int dropped = 0
    cdef fragment_entry *e
    quote_length[0] = 0
    for i in range(FRAG_DATAGRAMS):
        e = &f.entries[i]
        if e.used and e.deadline_ns <= now_ns:
            if e.header_length and e.ranges.items[0].left == 0 and e.ranges.items[0].right >= 8:
                memcpy(quote, e.header, e.header_length)
                memcpy(quote + e.header_length, e.memory, 8)
                quote_length[0] = e.header_length + 8
            count(counters, FRAGMENT_TIMEOUT)
            release(f, e)
            dropped += 1
            if quote_length[0]:
                break               # the caller sends the error and calls again
    return dropped


cdef uint64_t fragments_deadline(const fragments_t *f) noexcept nogil:
    cdef uint64_t first = UINT64_MAX
    cdef int i
    if f.used == 0:
        return first
    for i in range(FRAG_DATAGRAMS):
        if f.entries[i].used and f.entries[i].deadline_ns < first:
            first = f.entries[i].deadline_ns
    return first
