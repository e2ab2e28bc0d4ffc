"""The addresses that answers of the DNS have told, under the names that were asked for.

The table is bounded: a name that finds its places taken takes one of them. What it costs is that a name stands in a
capture twice, or is missing in a later file of a ring.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from netstack.wire.dns cimport (
    DNS_CLASS_IN, DNS_HDR_LEN, DNS_QR, DNS_RCODE, DNS_TYPE_A, DNS_TYPE_AAAA, dns_hdr, dns_parse, dns_question,
    dns_question_parse, dns_record, dns_record_parse,
)
from netstack.wire.dns_name cimport dns_name

cdef enum:
    TRIES = 8


cdef void learned_free(learned_t *l) noexcept nogil:
    free(l.slots)
    l.slots = NULL
    l.n = 0


cdef int text_of(const dns_name *name, char *out) noexcept nogil:
    """A name as text without its last dot; 0 for the root, and for one that is not plain ASCII."""
    cdef int at = 0, n = 0
    cdef int i
    cdef uint8_t c
    while name.bytes[at]:
        if n:
            out[n] = 46
            n += 1
        for i in range(name.bytes[at]):
            c = name.bytes[at + 1 + i]
            if c <= 32 or c >= 127:
                return 0
            out[n] = <char>c
            n += 1
        at += 1 + name.bytes[at]
    return n


cdef learned_name *add(learned_t *l, const uint8_t *address, int length, const char *name, int n) noexcept nogil:
    """The entry of a name that is new, otherwise NULL."""
    cdef uint32_t hash = 2166136261u
    cdef learned_name *slot
    cdef learned_name *into = NULL
    cdef int i
    if l.slots == NULL:
        l.slots = <learned_name *>calloc(LEARNED_SLOTS, sizeof(learned_name))
        if l.slots == NULL:
            return NULL
    for i in range(length):
        hash = (hash ^ address[i]) * 16777619u
    for i in range(n):
        hash = (hash ^ <uint8_t>name[i]) * 16777619u
    for i in range(TRIES):
        slot = &l.slots[(hash + <uint32_t>i) % LEARNED_SLOTS]
        if slot.length == 0:
            into = slot
            l.n += 1
            break
        if slot.length == length and slot.name_length == n and memcmp(slot.address, address, length) == 0 and \
                memcmp(slot.name, name, n) == 0:
            return NULL
    if into == NULL:
        into = &l.slots[(hash + (hash >> 16) % TRIES) % LEARNED_SLOTS]
    memset(into, 0, sizeof(learned_name))
    memcpy(into.address, address, length)
    into.length = <uint8_t>length
    memcpy(into.name, name, n)
    into.name_length = <uint16_t>n
    return into


cdef void learned_from(learned_t *l, const uint8_t *message, uint32_t length, void *context,
                       void (*tell)(void *, const learned_name *) noexcept nogil) noexcept nogil:
    cdef dns_hdr header
    cdef dns_question question
    cdef dns_record record
    cdef learned_name *new
    cdef char[LEARNED_NAME] name
    cdef int n, taken, _i, size
    cdef size_t at = DNS_HDR_LEN
    if dns_parse(message, length, &header) < 0:
        return
    if not header.flags & DNS_QR or header.flags & DNS_RCODE or header.qdcount != 1:
        return
    taken = dns_question_parse(message, length, at, &question)
    if taken < 0:
        return
    at += <size_t>taken
    n = text_of(&question.name, name)
    if n == 0:
        return
    for _i in range(header.ancount):     # behind an alias an address is the name's that was asked for as well
        taken = dns_record_parse(message, length, at, &record)
        if taken < 0:
            return
        at += <size_t>taken
        if record.rclass != DNS_CLASS_IN:
            continue
        size = 4 if record.type == DNS_TYPE_A else 16 if record.type == DNS_TYPE_AAAA else 0
        if size == 0 or record.rdlength != size:
            continue
        new = add(l, message + record.rdata_at, size, name, n)
        if new != NULL:
            tell(context, new)
