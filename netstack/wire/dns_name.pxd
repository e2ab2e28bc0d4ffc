from libc.stdint cimport uint8_t

cdef enum:
    DNS_NAME_FIRST = 12         # the header ends here: no pointer leads in front of it
    DNS_NAME_MAX = 255          # RFC 1035 section 2.3.4: bytes of a whole name, the closing zero included
    DNS_LABEL_MAX = 63
    DNS_POINTERS_MAX = 126      # a name has at most 127 labels, so more hops than that are never needed

ctypedef struct dns_name:       # a name without compression, as on the wire, the case kept
    uint8_t length              # bytes, the closing zero included: 1..255
    uint8_t bytes[255]

# The parses return the bytes taken at `at`, or a wire_code.
cdef int dns_name_parse(const uint8_t *data, size_t length, size_t at, dns_name *out) noexcept nogil
# skip does not follow a pointer, it only checks its direction.
cdef int dns_name_skip(const uint8_t *data, size_t length, size_t at) noexcept nogil
cdef bint dns_name_equal(const dns_name *a, const dns_name *b) noexcept nogil   # ASCII case set aside
cdef void dns_name_lower(dns_name *name) noexcept nogil
cdef str dns_name_text(const dns_name *name)

cpdef bytes name_from_text(str text)
cpdef str name_to_text(bytes wire)
cpdef bytes name_take(bytes data, Py_ssize_t at)
