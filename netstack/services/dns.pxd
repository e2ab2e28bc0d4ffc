from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.services.dns_table cimport DnsTable, dns_table

cdef enum dns_verdict:
    DNS_DROP = 0            # junk, or a response sent to us: say nothing
    DNS_ANSWERED = 1        # out holds the reply
    DNS_FORWARD = 2         # not ours: the query goes to the resolver upstream as it is

cdef enum:
    DNS_STREAM = 0          # for max_udp: the client is on TCP, where only the output buffer bounds a reply
    DNS_EDNS_SIZE = 1232    # the datagram size that our own OPT records announce

cdef int dns_answer(const dns_table *table, const uint8_t *query, size_t length, uint8_t *out, size_t room,
                    size_t *out_length, uint32_t max_udp) noexcept nogil
cdef int dns_failure(const uint8_t *query, size_t length, int rcode, uint8_t *out, size_t room) noexcept nogil
cdef bint dns_match(const uint8_t *query, size_t length, const uint8_t *response,
                    size_t response_length) noexcept nogil
cdef uint32_t dns_client_limit(const uint8_t *query, size_t length, uint32_t max_udp) noexcept nogil
cdef int dns_truncate(const uint8_t *response, size_t length, size_t limit, uint8_t *out,
                      size_t room) noexcept nogil
cdef uint64_t dns_question_hash(const uint8_t *message, size_t length, uint64_t k0,
                                uint64_t k1) noexcept nogil
