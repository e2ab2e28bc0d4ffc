# Sequence numbers live modulo 2**32 (RFC 9293 section 3.4). They are compared here and nowhere else;
# everywhere else the names say what is meant. Inline: there is no module behind this file.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef inline bint seq_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint seq_leq(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) <= 0


cdef inline bint seq_gt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) > 0


cdef inline bint seq_geq(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) >= 0


# a in [left, right)
cdef inline bint seq_within(uint32_t a, uint32_t left, uint32_t right) noexcept nogil:
    return a - left < right - left


cdef inline uint32_t seq_max(uint32_t a, uint32_t b) noexcept nogil:
    return b if <int32_t>(a - b) < 0 else a


# The 64-bit stream offset of seq, given a nearby offset: offsets are sequence numbers that do not wrap, so
# that the low 32 bits of an offset are the sequence number of its byte.
cdef inline uint64_t seq_offset(uint64_t near, uint32_t seq) noexcept nogil:
    return near + <uint64_t><int64_t><int32_t>(seq - <uint32_t>near)


# RFC 7323: timestamps compare like sequence numbers.
cdef inline bint ts_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0
