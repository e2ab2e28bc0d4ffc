# SipHash (Aumasson and Bernstein, 2012): with four rounds at the end over whole words, the pseudo-random function of
# RFC 6528; with three over bytes, the hash of tables whose keys others choose.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rotl(uint64_t x, int b) noexcept nogil:
    return (x << b) | (x >> (64 - b))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotl(v[1], 13)
    v[1] ^= v[0]
    v[0] = rotl(v[0], 32)
    v[2] += v[3]
    v[3] = rotl(v[3], 16)
    v[3] ^= v[2]
    v[0] += v[3]
    v[3] = rotl(v[3], 21)
    v[3] ^= v[0]
    v[2] += v[1]
    v[1] = rotl(v[1], 17)
    v[1] ^= v[2]
    v[2] = rotl(v[2], 32)


cdef inline uint64_t siphash_words(const uint64_t *words, uint32_t n, uint64_t k0, uint64_t k1) noexcept nogil:
    """SipHash-2-4 of n words (their bytes in little-endian order, as the reference vectors have it)."""
    cdef uint64_t[4] v
    cdef uint64_t last = (<uint64_t>(n * 8)) << 56
    cdef uint32_t i, _i
    v[0] = k0 ^ 0x736f6d6570736575u
    v[1] = k1 ^ 0x646f72616e646f6du
    v[2] = k0 ^ 0x6c7967656e657261u
    v[3] = k1 ^ 0x7465646279746573u
    for i in range(n):
        v[3] ^= words[i]
        sip_round(v)
        sip_round(v)
        v[0] ^= words[i]
    v[3] ^= last
    sip_round(v)
    sip_round(v)
    v[0] ^= last
    v[2] ^= 0xff
    for _i in range(4):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline uint64_t siphash_bytes(const void *data, size_t length, uint64_t k0, uint64_t k1) noexcept nogil:
    """SipHash-1-3 of length bytes: without the key nobody can choose data that collide."""
    cdef uint64_t[4] v
    cdef const uint8_t *p = <const uint8_t *>data
    cdef size_t words = length >> 3
    cdef size_t i
    cdef uint64_t m
    v[0] = k0 ^ 0x736f6d6570736575u
    v[1] = k1 ^ 0x646f72616e646f6du
    v[2] = k0 ^ 0x6c7967656e657261u
    v[3] = k1 ^ 0x7465646279746573u
    for i in range(words):
        memcpy(&m, p + 8 * i, 8)
        v[3] ^= m
        sip_round(v)
        v[0] ^= m
    m = 0
    memcpy(&m, p + 8 * words, length & 7)
    m |= <uint64_t>length << 56
    v[3] ^= m
    sip_round(v)
    v[0] ^= m
    v[2] ^= 0xff
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
