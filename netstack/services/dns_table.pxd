from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from netstack.wire.dns_name cimport dns_name

cdef enum:
    CHAIN_MAX = 16          # aliases in a row

ctypedef struct dns_table_record:
    uint16_t type
    uint16_t rdlength
    uint32_t ttl            # seconds
    const uint8_t *rdata    # names in it without compression

ctypedef struct dns_table_node:
    uint64_t hash
    const uint8_t *name     # lower case, as on the wire
    uint8_t name_length
    uint8_t zone_length     # bytes of the closest zone that holds this name, 0 = none
    uint32_t first          # its records: records[first : first + count]
    uint32_t count          # 0: the name exists only as the end of longer ones
    int32_t wildcard        # the node of "*" below this name, or -1

ctypedef struct dns_table:  # immutable once built; one block of memory each for nodes, records and bytes
    dns_table_node *nodes
    dns_table_record *records
    uint8_t *bytes
    int32_t *slots          # open addressing, -1 = empty
    uint32_t slot_mask
    uint32_t node_count
    uint32_t labels_max     # no node has more labels
    uint64_t k0             # key of the hash
    uint64_t k1
    dns_table_record soa    # for negative answers


cdef class DnsTable:
    cdef dns_table table
    cdef readonly dict names
    cdef readonly tuple zones
    cdef int _fill(self, dict nodes, bytes soa, uint32_t ttl) except -1
    cdef const dns_table *pointer(self) noexcept    # valid as long as this object lives

# The node of the name (lower case), or of its longest tail that the table holds; NULL without any.
cdef const dns_table_node *dns_table_closest(const dns_table *t, const dns_name *name,
                                             bint *exact) noexcept nogil
