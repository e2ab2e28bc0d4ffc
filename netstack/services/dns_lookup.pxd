from libc.stdint cimport uint8_t, uint32_t

from netstack.services.dns_table cimport dns_table

# The first IPv4 address (host byte order) that a table has for a name given as text, or 0. A name without a dot is
# looked for in `domain` as well (its text; may be empty).
cdef uint32_t dns_lookup_v4(const dns_table *table, const uint8_t *name, size_t length, const uint8_t *domain,
                            size_t domain_length) noexcept nogil
