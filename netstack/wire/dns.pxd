from libc.stdint cimport uint8_t, uint16_t, uint32_t

from netstack.wire.dns_name cimport dns_name

cdef enum:
    DNS_HDR_LEN = 12
    DNS_MESSAGE_MAX = 65535
    DNS_UDP_MIN = 512           # what every client takes over UDP without EDNS

cdef enum:                      # bits of dns_hdr.flags
    DNS_QR = 0x8000
    DNS_OPCODE = 0x7800
    DNS_OPCODE_SHIFT = 11
    DNS_AA = 0x0400
    DNS_TC = 0x0200
    DNS_RD = 0x0100
    DNS_RA = 0x0080
    DNS_AD = 0x0020
    DNS_CD = 0x0010
    DNS_RCODE = 0x000f

cdef enum:
    DNS_NOERROR = 0
    DNS_FORMERR = 1
    DNS_SERVFAIL = 2
    DNS_NXDOMAIN = 3
    DNS_NOTIMP = 4
    DNS_REFUSED = 5
    DNS_BADVERS = 16            # needs the upper 8 bits in the OPT record

cdef enum:
    DNS_TYPE_A = 1
    DNS_TYPE_NS = 2
    DNS_TYPE_CNAME = 5
    DNS_TYPE_SOA = 6
    DNS_TYPE_PTR = 12
    DNS_TYPE_MX = 15
    DNS_TYPE_TXT = 16
    DNS_TYPE_SIG = 24
    DNS_TYPE_AAAA = 28
    DNS_TYPE_SRV = 33
    DNS_TYPE_OPT = 41
    DNS_TYPE_TSIG = 250
    DNS_TYPE_IXFR = 251
    DNS_TYPE_AXFR = 252
    DNS_TYPE_ANY = 255
    DNS_CLASS_IN = 1
    DNS_CLASS_ANY = 255
    DNS_EDNS_DO = 0x8000        # in dns_edns.flags

ctypedef struct dns_hdr:        # RFC 1035 section 4.1.1
    uint16_t id
    uint16_t flags
    uint16_t qdcount
    uint16_t ancount
    uint16_t nscount
    uint16_t arcount

ctypedef struct dns_question:
    dns_name name
    uint16_t type
    uint16_t qclass

ctypedef struct dns_record:     # where one resource record lies in its message
    size_t at                   # offset of the owner name
    uint16_t type
    uint16_t rclass
    uint32_t ttl                # seconds
    uint16_t rdlength
    size_t rdata_at             # offset of the data
    size_t end                  # offset of what follows

ctypedef struct dns_edns:       # RFC 6891 section 6.1.3: the OPT record
    uint16_t udp_size
    uint8_t ext_rcode           # upper 8 bits of the 12-bit rcode
    uint8_t version
    uint16_t flags
    const uint8_t *options      # code, length, data; each checked by dns_edns_find
    uint16_t options_length
    size_t at                   # where the whole record lies in its message
    size_t size

# Each parse returns the bytes taken at `at` (12: the header), each write the bytes written, or a wire_code.
cdef int dns_parse(const uint8_t *data, size_t length, dns_hdr *out) noexcept nogil
cdef int dns_write(uint8_t *out, size_t room, const dns_hdr *hdr) noexcept nogil
cdef int dns_question_parse(const uint8_t *data, size_t length, size_t at, dns_question *out) noexcept nogil
cdef int dns_record_parse(const uint8_t *data, size_t length, size_t at, dns_record *out) noexcept nogil
# name is the owner as on the wire: a whole name or the two bytes of a pointer.
cdef int dns_record_write(uint8_t *out, size_t room, const uint8_t *name, size_t name_length, uint16_t type,
                          uint16_t rclass, uint32_t ttl, const uint8_t *rdata,
                          uint16_t rdlength) noexcept nogil
# Walks the whole message: 1 with *out filled, 0 without an OPT record, a wire_code where it is malformed.
cdef int dns_edns_find(const uint8_t *data, size_t length, dns_edns *out) noexcept nogil
cdef int dns_edns_write(uint8_t *out, size_t room, const dns_edns *edns) noexcept nogil
