"""DNS as the gateway answers it: names from a table, everything else is passed on untouched.

Sans-IO: a query goes in, a reply or a verdict comes out. The functions that the engine calls hold no lock and
touch no Python object; a table is immutable, and a change of names is a new table in the place of the old one.

A name is *ours* when the table holds it, when a wildcard of the table covers it (RFC 4592), or when it lies in one
of the table's zones. For our names every type is answered here, with an empty answer and a SOA record where there
is nothing (RFC 2308); for all others the query goes upstream raw, so that type, class, EDNS options and signatures
stay intact.

Malformed queries get FORMERR, other opcodes NOTIMP, and our names asked with another EDNS version BADVERS. What is
shorter than a header, and every response, is dropped: two servers must never answer each other.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from netstack.services.dns_table cimport (
    CHAIN_MAX,
    DnsTable,
    dns_table,
    dns_table_closest,
    dns_table_node,
    dns_table_record,
)
from netstack.storage.siphash cimport siphash_bytes
from netstack.wire.be cimport be16, put_be16
from netstack.wire.dns cimport (
    DNS_AA,
    DNS_BADVERS,
    DNS_CD,
    DNS_CLASS_ANY,
    DNS_CLASS_IN,
    DNS_EDNS_DO,
    DNS_FORMERR,
    DNS_HDR_LEN,
    DNS_MESSAGE_MAX,
    DNS_NOERROR,
    DNS_NOTIMP,
    DNS_NXDOMAIN,
    DNS_OPCODE,
    DNS_QR,
    DNS_RA,
    DNS_RCODE,
    DNS_RD,
    DNS_REFUSED,
    DNS_SERVFAIL,
    DNS_TC,
    DNS_TYPE_ANY,
    DNS_TYPE_AXFR,
    DNS_TYPE_CNAME,
    DNS_TYPE_IXFR,
    DNS_TYPE_OPT,
    DNS_TYPE_SOA,
    DNS_UDP_MIN,
    dns_edns,
    dns_edns_find,
    dns_edns_write,
    dns_hdr,
    dns_parse,
    dns_question,
    dns_question_parse,
    dns_record,
    dns_record_parse,
    dns_record_write,
    dns_write,
)
from netstack.wire.dns_name cimport dns_name, dns_name_equal, dns_name_lower, dns_name_text

cdef enum:
    OPT_LEN = 11                # of an OPT record without options
    POINTER_MAX = 0x3fff


# --------------------------------------------------------------------- replies


ctypedef struct reply_t:
    uint8_t *out
    size_t at               # bytes written
    size_t limit            # bytes that may be written, the OPT record not among them
    dns_hdr hdr


cdef void reply_begin(reply_t *r, const dns_hdr *query, int rcode, uint8_t *out, size_t limit) noexcept nogil:
    """An empty reply: id, opcode, RD and CD of the query; recursion is on offer."""
    memset(&r.hdr, 0, sizeof(dns_hdr))
    r.hdr.id = query.id
    r.hdr.flags = DNS_QR | DNS_RA | (query.flags & (DNS_OPCODE | DNS_RD | DNS_CD)) | (rcode & DNS_RCODE)
    r.out = out
    r.limit = limit
    r.at = DNS_HDR_LEN


cdef void reply_question(reply_t *r, const uint8_t *query, size_t size) noexcept nogil:
    """Echoes the question byte for byte: the case of the name may be the client's secret (0x20)."""
    memcpy(r.out + DNS_HDR_LEN, query + DNS_HDR_LEN, size)
    r.at += size
    r.hdr.qdcount = 1


cdef size_t reply_end(reply_t *r, const dns_edns *asked, int rcode, size_t room) noexcept nogil:
    """Adds the OPT record where the client sent one, then the header; the whole size."""
    cdef dns_edns opt
    cdef int n
    if asked != NULL:
        memset(&opt, 0, sizeof(dns_edns))
        opt.udp_size = DNS_EDNS_SIZE
        opt.flags = asked.flags & DNS_EDNS_DO
        opt.ext_rcode = <uint8_t>(rcode >> 4)
        n = dns_edns_write(r.out + r.at, room - r.at, &opt)
        if n > 0:
            r.at += n
            r.hdr.arcount += 1
    dns_write(r.out, room, &r.hdr)
    return r.at


cdef size_t short_reply(const uint8_t *query, size_t length, const dns_hdr *hdr, int rcode, uint8_t *out,
                        size_t room) noexcept nogil:
    """A reply of header, question and OPT record, as far as the query has them readable and they fit; 0 when not
    even the header fits."""
    cdef reply_t r
    cdef dns_question question
    cdef dns_edns asked
    cdef int size = -1
    cdef bint edns = False
    if room < DNS_HDR_LEN:
        return 0
    reply_begin(&r, hdr, rcode, out, room)
    if hdr.qdcount == 1:
        size = dns_question_parse(query, length, DNS_HDR_LEN, &question)
    if size > 0 and room - r.at >= <size_t>size:
        reply_question(&r, query, size)
        edns = dns_edns_find(query, length, &asked) == 1
    return reply_end(&r, &asked if edns else NULL, rcode, room)


cdef uint32_t dns_client_limit(const uint8_t *query, size_t length, uint32_t max_udp) noexcept nogil:
    """The largest reply in bytes that the sender of a query takes over UDP: 512, or what its OPT record says up
    to ``max_udp`` (never below 512)."""
    cdef dns_edns edns
    cdef uint32_t size = DNS_UDP_MIN
    if dns_edns_find(query, length, &edns) == 1 and edns.udp_size > size:
        size = edns.udp_size
    return max(DNS_UDP_MIN, min(size, max_udp))


cdef inline bint put(reply_t *r, uint32_t owner, uint16_t type, const dns_table_record *rr) noexcept nogil:
    """One record whose owner is written as a pointer to ``owner``; False when it does not fit whole."""
    cdef uint8_t pointer[2]
    cdef int n
    put_be16(pointer, <uint16_t>(0xc000 | owner))
    n = dns_record_write(
        r.out + r.at, r.limit - r.at, pointer, 2, type, DNS_CLASS_IN, rr.ttl, rr.rdata, rr.rdlength
    )
    if n < 0:
        return False
    r.at += n
    return True


cdef int answer_records(const dns_table *t, const dns_question *question, reply_t *r) noexcept nogil:
    """Fills answer and authority sections; the rcode, or -1 when the name asked is not ours."""
    cdef dns_name name = question.name
    cdef const dns_table_node *node
    cdef const dns_table_record *rr
    cdef const dns_table_record *alias
    cdef uint32_t owner = DNS_HDR_LEN, next_owner, i
    cdef uint8_t tail
    cdef int hop, found, rcode
    cdef bint exact = False
    for hop in range(CHAIN_MAX):
        dns_name_lower(&name)
        node = dns_table_closest(t, &name, &exact)
        tail = node.zone_length if node != NULL else 0
        rcode = DNS_NOERROR
        if node == NULL or (exact and node.count == 0 and tail == 0):
            return -1 if hop == 0 else DNS_NOERROR      # an alias may lead out of the table
        if not exact:
            if node.wildcard >= 0:
                if tail == 0:
                    tail = node.name_length
                node = &t.nodes[node.wildcard]
            elif tail == 0:
                return -1 if hop == 0 else DNS_NOERROR
            else:
                rcode = DNS_NXDOMAIN
        elif tail == 0:
            tail = node.name_length
        found = 0
        alias = NULL
        next_owner = 0
        if rcode == DNS_NOERROR:
            for i in range(node.first, node.first + node.count):
                rr = &t.records[i]
                if rr.type != question.type and question.type != DNS_TYPE_ANY and rr.type != DNS_TYPE_CNAME:
                    continue
                if not put(r, owner, rr.type, rr):
                    r.hdr.flags |= DNS_TC
                    return DNS_NOERROR
                r.hdr.ancount += 1
                found += 1
                if rr.type == DNS_TYPE_CNAME and question.type not in (DNS_TYPE_CNAME, DNS_TYPE_ANY):
                    alias = rr
                    next_owner = <uint32_t>(r.at - rr.rdlength)
        if alias != NULL and next_owner <= POINTER_MAX - 255:
            name.length = <uint8_t>alias.rdlength
            memcpy(name.bytes, alias.rdata, alias.rdlength)
            owner = next_owner
            continue
        if found == 0:
            if not put(r, owner + name.length - tail, DNS_TYPE_SOA, &t.soa):
                r.hdr.flags |= DNS_TC
                return rcode
            r.hdr.nscount += 1
        return rcode
    return DNS_NOERROR


cdef int dns_answer(const dns_table *table, const uint8_t *query, size_t length, uint8_t *out, size_t room,
                    size_t *out_length, uint32_t max_udp) noexcept nogil:
    """Answers one query, or says what else to do with it (a dns_verdict). ``table`` may be NULL: nothing is ours.

    ``out`` must not overlap the query and should hold 512 bytes or more. ``max_udp`` bounds the reply in bytes
    together with what the client says it takes; DNS_STREAM (0) for TCP.
    """
    cdef dns_hdr hdr
    cdef dns_question question
    cdef dns_edns asked
    cdef reply_t r
    cdef int size, edns, rcode
    cdef size_t limit, need
    out_length[0] = 0
    if length > DNS_MESSAGE_MAX or dns_parse(query, length, &hdr) < 0 or hdr.flags & DNS_QR:
        return DNS_DROP
    rcode = DNS_NOERROR
    size = 0
    edns = 0
    if hdr.flags & DNS_OPCODE:
        rcode = DNS_NOTIMP
    else:
        # RFC 9619: a query has exactly one question.
        size = dns_question_parse(query, length, DNS_HDR_LEN, &question) if hdr.qdcount == 1 else -1
        edns = dns_edns_find(query, length, &asked)
        if size < 0 or edns < 0:
            rcode = DNS_FORMERR
    if rcode != DNS_NOERROR:
        out_length[0] = short_reply(query, length, &hdr, rcode, out, room)
        return DNS_ANSWERED if out_length[0] else DNS_DROP
    if table == NULL or (question.qclass != DNS_CLASS_IN and question.qclass != DNS_CLASS_ANY):
        return DNS_FORWARD

    limit = min(room, <size_t>DNS_MESSAGE_MAX)
    if max_udp != DNS_STREAM:
        max_udp = max(<uint32_t>DNS_UDP_MIN, max_udp)
        limit = min(limit, <size_t>min(max_udp, max(<uint32_t>DNS_UDP_MIN, asked.udp_size if edns else 0)))
    need = OPT_LEN if edns else 0
    if limit < DNS_HDR_LEN + <size_t>size + need:
        return DNS_DROP
    reply_begin(&r, &hdr, DNS_NOERROR, out, limit - need)
    reply_question(&r, query, size)
    rcode = answer_records(table, &question, &r)
    if rcode < 0:
        return DNS_FORWARD
    if (edns and asked.version != 0) or question.type in (DNS_TYPE_AXFR, DNS_TYPE_IXFR):
        rcode = DNS_BADVERS if edns and asked.version != 0 else DNS_REFUSED
        out_length[0] = short_reply(query, length, &hdr, rcode, out, room)
        return DNS_ANSWERED
    r.hdr.flags |= DNS_AA | rcode
    out_length[0] = reply_end(&r, &asked if edns else NULL, rcode, limit)
    return DNS_ANSWERED


cdef int dns_failure(const uint8_t *query, size_t length, int rcode, uint8_t *out, size_t room) noexcept nogil:
    """The reply that says why there is no answer (SERVFAIL when no upstream answered): the bytes written, or 0
    where a query cannot be answered at all."""
    cdef dns_hdr hdr
    if dns_parse(query, length, &hdr) < 0 or hdr.flags & DNS_QR:
        return 0
    return <int>short_reply(query, length, &hdr, rcode, out, room)


cdef bint dns_match(const uint8_t *query, size_t length, const uint8_t *response,
                    size_t response_length) noexcept nogil:
    """Whether a response belongs to a query: id, opcode and the question, the case of the name set aside.

    A server that could not read or would not serve the query may leave the question out (FORMERR, SERVFAIL,
    NOTIMP, REFUSED). Address and port are the caller's to compare (RFC 5452 section 9.1).
    """
    cdef dns_hdr q, r
    cdef dns_question asked, answered
    cdef int rcode
    if dns_parse(query, length, &q) < 0 or dns_parse(response, response_length, &r) < 0:
        return False
    if not r.flags & DNS_QR or r.id != q.id or (r.flags ^ q.flags) & DNS_OPCODE:
        return False
    if r.qdcount == 0:
        rcode = r.flags & DNS_RCODE
        return rcode in (DNS_FORMERR, DNS_SERVFAIL, DNS_NOTIMP, DNS_REFUSED)
    if r.qdcount != 1 or dns_question_parse(query, length, DNS_HDR_LEN, &asked) < 0:
        return False
    if dns_question_parse(response, response_length, DNS_HDR_LEN, &answered) < 0:
        return False
    return (
        asked.type == answered.type and asked.qclass == answered.qclass
        and dns_name_equal(&asked.name, &answered.name)
    )


cdef uint64_t dns_question_hash(const uint8_t *message, size_t length, uint64_t k0,
                                uint64_t k1) noexcept nogil:
    """A keyed hash of the first question (name in lower case, type, class) for a table of pending queries; 0 where
    there is none to read."""
    cdef dns_question question
    cdef uint8_t key[259]
    cdef uint32_t n
    if length < DNS_HDR_LEN or be16(message + 4) == 0:
        return 0
    if dns_question_parse(message, length, DNS_HDR_LEN, &question) < 0:
        return 0
    dns_name_lower(&question.name)
    n = question.name.length
    memcpy(key, question.name.bytes, n)
    put_be16(key + n, question.type)
    put_be16(key + n + 2, question.qclass)
    return siphash_bytes(key, n + 4, k0, k1)


cdef int dns_truncate(const uint8_t *response, size_t length, size_t limit, uint8_t *out,
                      size_t room) noexcept nogil:
    """Copies a response cut down to ``limit`` bytes: whole records from the front, and the OPT record.

    One that fits stays as it is. TC is set when an answer or authority record had to go; additional ones are a
    courtesy (RFC 2181 section 9). Records that stay keep their offsets, so that compression pointers hold. A message
    that cannot be walked is cut to its header and question. The bytes written, or 0 where that does not fit or is
    not there. ``out`` may be ``response``.
    """
    cdef dns_hdr hdr
    cdef dns_question question
    cdef dns_record rr
    cdef dns_edns edns
    cdef size_t at = DNS_HDR_LEN, kept
    cdef uint32_t i, records, answers, authority
    cdef int size, found
    cdef uint16_t counts[3]
    cdef uint16_t flags
    if dns_parse(response, length, &hdr) < 0:
        return 0
    limit = min(limit, room)
    if length <= limit:
        if out != response:
            memmove(out, response, length)
        return <int>length
    found = dns_edns_find(response, length, &edns)
    for _ in range(hdr.qdcount):
        size = dns_question_parse(response, length, at, &question)
        if size < 0:
            return 0
        at += size
    if at > limit:
        return 0
    kept = at
    memset(counts, 0, sizeof(counts))
    flags = hdr.flags | DNS_TC
    if found >= 0:
        if found and limit - kept >= edns.size:
            limit -= edns.size
        else:
            found = 0
        answers = hdr.ancount
        authority = answers + hdr.nscount
        records = authority + hdr.arcount
        for i in range(records):
            dns_record_parse(response, length, at, &rr)     # cannot fail: the walk above went the same way
            at = rr.end
            if rr.type == DNS_TYPE_OPT:
                continue
            if rr.at != kept or rr.end > limit:
                break               # what follows the OPT record would move: its pointers would not hold
            kept = rr.end
            counts[0 if i < answers else 1 if i < authority else 2] += 1
        if counts[0] == hdr.ancount and counts[1] == hdr.nscount:
            flags = hdr.flags
    hdr.flags = flags
    hdr.ancount = counts[0]
    hdr.nscount = counts[1]
    hdr.arcount = counts[2]
    if found > 0:
        memmove(out + kept, response + edns.at, edns.size)
        if out != response:
            memmove(out, response, kept)
        kept += edns.size
        hdr.arcount += 1
    elif out != response:
        memmove(out, response, kept)
    dns_write(out, room, &hdr)
    return <int>kept


# --------------------------------------------------------------------- Python: the face

DROP = DNS_DROP
ANSWERED = DNS_ANSWERED
FORWARD = DNS_FORWARD


def answer(DnsTable table, const uint8_t[::1] query not None, unsigned int max_udp=1232):
    """(verdict, reply): ``ANSWERED`` with the bytes of the reply, or ``FORWARD`` or ``DROP`` with None.

    ``table`` may be None: then nothing is ours. ``max_udp`` is in bytes; 0 for a query over TCP.
    """
    cdef const uint8_t *p = &query[0] if query.shape[0] else NULL
    cdef size_t size = 0
    cdef size_t room = DNS_MESSAGE_MAX if max_udp == DNS_STREAM else max(<uint32_t>DNS_UDP_MIN, max_udp)
    cdef const dns_table *t = table.pointer() if table is not None else NULL
    cdef int verdict
    cdef uint8_t *out
    if room > DNS_MESSAGE_MAX:
        room = DNS_MESSAGE_MAX
    out = <uint8_t *>malloc(room)
    if out == NULL:
        raise MemoryError
    try:
        with nogil:
            verdict = dns_answer(t, p, query.shape[0], out, room, &size, max_udp)
        return verdict, (out[:size] if verdict == DNS_ANSWERED else None)
    finally:
        free(out)


def failure(const uint8_t[::1] query not None, int rcode=DNS_SERVFAIL):
    """The reply with question and OPT record of the query and this rcode; None where no reply is due."""
    cdef uint8_t out[512]
    cdef const uint8_t *p = &query[0] if query.shape[0] else NULL
    cdef int size = dns_failure(p, query.shape[0], rcode, out, sizeof(out))
    return out[:size] if size else None


def matches(const uint8_t[::1] query not None, const uint8_t[::1] response not None):
    """Whether the response belongs to the query: id, opcode, question."""
    cdef const uint8_t *q = &query[0] if query.shape[0] else NULL
    cdef const uint8_t *r = &response[0] if response.shape[0] else NULL
    return bool(dns_match(q, query.shape[0], r, response.shape[0]))


def client_limit(const uint8_t[::1] query not None, unsigned int max_udp=1232):
    """The largest reply in bytes that the sender of this query takes over UDP, up to ``max_udp``."""
    cdef const uint8_t *p = &query[0] if query.shape[0] else NULL
    return dns_client_limit(p, query.shape[0], max_udp)


def truncate(const uint8_t[::1] response not None, Py_ssize_t limit):
    """The response cut to at most ``limit`` bytes, whole records only, TC set where an answer was left out.

    None where not even header and question fit.
    """
    cdef const uint8_t *p = &response[0] if response.shape[0] else NULL
    cdef Py_ssize_t room = min(max(limit, 0), <Py_ssize_t>response.shape[0])
    cdef uint8_t *out = <uint8_t *>malloc(room + 1)
    cdef int size
    if out == NULL:
        raise MemoryError
    try:
        size = dns_truncate(p, response.shape[0], room, out, room)
        return out[:size] if size else None
    finally:
        free(out)


def question(const uint8_t[::1] message not None):
    """(name as it is spelt, type) of a message's first question; None where there is none to read."""
    cdef const uint8_t *p = &message[0] if message.shape[0] else NULL
    cdef dns_question first
    cdef dns_hdr hdr
    if dns_parse(p, message.shape[0], &hdr) < 0 or hdr.qdcount == 0:
        return None
    if dns_question_parse(p, message.shape[0], DNS_HDR_LEN, &first) < 0:
        return None
    return dns_name_text(&first.name), first.type


def question_hash(const uint8_t[::1] message not None, uint64_t k0=0, uint64_t k1=0):
    """The keyed 64-bit hash of a message's first question, its name in lower case; 0 where there is none."""
    cdef const uint8_t *p = &message[0] if message.shape[0] else NULL
    return dns_question_hash(p, message.shape[0], k0, k1)
