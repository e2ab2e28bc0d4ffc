"""A name of the virtual network looked up by the gateway itself, with the answer that a guest would get."""

import ipaddress

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy, memset

from netstack.services.dns cimport DNS_ANSWERED, DNS_STREAM, dns_answer
from netstack.services.dns_table cimport DnsTable, dns_table
from netstack.wire.be cimport be32, put_be16
from netstack.wire.dns cimport (
    DNS_CLASS_IN, DNS_HDR_LEN, DNS_TYPE_A, dns_hdr, dns_parse, dns_question, dns_question_parse, dns_record,
    dns_record_parse,
)
from netstack.wire.dns_name cimport DNS_LABEL_MAX, DNS_NAME_MAX


cdef int put_labels(const uint8_t *text, size_t length, uint8_t *out, int at) noexcept nogil:
    """The labels of a text, without the closing zero; the new end or -1. A dot at the end does not count."""
    cdef size_t begin = 0, end
    if length and text[length - 1] == c".":
        length -= 1
    while begin < length:
        end = begin
        while end < length and text[end] != c".":
            end += 1
        if end == begin or end - begin > DNS_LABEL_MAX or at + 1 + <int>(end - begin) >= DNS_NAME_MAX:
            return -1
        out[at] = <uint8_t>(end - begin)
        memcpy(out + at + 1, text + begin, end - begin)
        at += 1 + <int>(end - begin)
        begin = end + 1
    return at


cdef uint32_t ask(const dns_table *table, const uint8_t *name, size_t length, const uint8_t *domain,
                  size_t domain_length) noexcept nogil:
    cdef uint8_t[DNS_HDR_LEN + DNS_NAME_MAX + 4] query
    cdef uint8_t[2048] reply
    cdef size_t n = 0, at = DNS_HDR_LEN
    cdef dns_hdr hdr
    cdef dns_question question
    cdef dns_record record
    cdef int _i, end = put_labels(name, length, query + DNS_HDR_LEN, 0)
    if end > 0:
        end = put_labels(domain, domain_length, query + DNS_HDR_LEN, end)
    if end <= 0:
        return 0
    memset(query, 0, DNS_HDR_LEN)
    query[5] = 1                                    # QDCOUNT
    query[DNS_HDR_LEN + end] = 0
    end += DNS_HDR_LEN + 1
    put_be16(query + end, DNS_TYPE_A)
    put_be16(query + end + 2, DNS_CLASS_IN)
    if dns_answer(table, query, end + 4, reply, sizeof(reply), &n, DNS_STREAM) != DNS_ANSWERED:
        return 0
    if dns_parse(reply, n, &hdr) < 0 or dns_question_parse(reply, n, at, &question) < 0:
        return 0
    at = end + 4
    for _i in range(hdr.ancount):                    # aliases first
        if dns_record_parse(reply, n, at, &record) < 0:
            return 0
        if record.type == DNS_TYPE_A and record.rdlength == 4:
            return be32(reply + record.rdata_at)
        at = record.end
    return 0


cdef uint32_t dns_lookup_v4(const dns_table *table, const uint8_t *name, size_t length, const uint8_t *domain,
                            size_t domain_length) noexcept nogil:
    cdef uint32_t found
    if table == NULL or length == 0 or length > DNS_NAME_MAX:
        return 0
    found = ask(table, name, length, NULL, 0)
    if found == 0 and domain_length and memchr(name, c".", length) == NULL:
        found = ask(table, name, length, domain, domain_length)
    return found


def lookup(DnsTable table not None, str name, str domain=""):
    """The first IPv4 address that a table has for a name, or None.

    Args:
        table: the names.
        name: with or without a dot at its end; case does not matter.
        domain: where a name without a dot is looked for as well.
    """
    cdef bytes text = name.encode("ascii", "replace")
    cdef bytes search = domain.encode("ascii", "replace")
    cdef uint32_t found = dns_lookup_v4(table.pointer(), text, len(text), search, len(search))
    return str(ipaddress.IPv4Address(found)) if found else None
