# The Internet checksum (RFC 1071). Sums are 64-bit partial sums in *memory* byte order: fold them once, at
# the end.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.wire.addr cimport addr_t

# Adds length bytes at data to the partial sum; an odd length is padded with a zero byte (so it must come
# last).
cdef uint64_t csum_add(const uint8_t *data, size_t length, uint64_t sum) noexcept nogil
# Partial sum of the IPv4 or IPv6 pseudo header (RFC 9293 3.1, RFC 8200 8.1), family taken from the addresses.
cdef uint64_t csum_pseudo(
    const addr_t *src, const addr_t *dst, uint8_t protocol, uint32_t length
) noexcept nogil
# Folds to 16 bits, not complemented; csum_store writes a folded sum as it lies in memory.
cdef uint16_t csum_fold(uint64_t sum) noexcept nogil
# The complemented checksum, to be stored with csum_store.
cdef uint16_t csum_finish(uint64_t sum) noexcept nogil
cdef void csum_store(uint8_t *p, uint16_t value) noexcept nogil
# True where data including its checksum field sums to 0xffff.
cdef bint csum_ok(const uint8_t *data, size_t length, uint64_t sum) noexcept nogil
# RFC 1624 update: the new checksum field value (memory order) when a 16-bit word changes from old to new.
cdef uint16_t csum_update(uint16_t check, uint16_t old, uint16_t new) noexcept nogil
