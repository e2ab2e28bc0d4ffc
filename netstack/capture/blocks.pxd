# pcapng blocks (draft-ietf-opsawg-pcapng section 4), written to memory in the machine's byte order.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK_SECTION = 0x0a0d0d0a
    BLOCK_INTERFACE = 1
    BLOCK_PACKET_OLD = 2
    BLOCK_SIMPLE = 3
    BLOCK_NAMES = 4
    BLOCK_STATISTICS = 5
    BLOCK_ENHANCED = 6
    PCAP_MAX_SNAPLEN = 262144   # bytes of a frame at most, written and read
    BYTE_ORDER_MAGIC = 0x1a2b3c4d
    LINK_ETHERNET = 1
    OPTION_COMMENT = 1
    OPTION_HARDWARE = 2         # of a section
    OPTION_OS = 3
    OPTION_USER_APPLICATION = 4
    OPTION_TSRESOL = 9          # of an interface
    OPTION_TSOFFSET = 14
    ENHANCED_HEAD = 28          # bytes of an enhanced packet block before the frame
    STATISTICS_BLOCK = 88
    TEXT = 256                  # bytes of an option's text at most
    SECTION_ROOM = 4 * TEXT
    INTERFACE_ROOM = 5 * TEXT + 64
    NAMES_ROOM = 320            # a block with one name

ctypedef struct interface_block:
    char name[64]
    uint8_t mac[6]
    uint8_t has_mac
    uint32_t address            # 0 = not known; host byte order
    uint32_t netmask
    uint64_t time_ns            # when it came

cdef inline void put32(uint8_t *p, uint32_t v) noexcept nogil:
    memcpy(p, &v, 4)


cdef inline void put16(uint8_t *p, uint16_t v) noexcept nogil:
    memcpy(p, &v, 2)


cdef inline uint32_t get32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef inline uint8_t *put_option(uint8_t *p, uint16_t code, const void *data, uint32_t length) noexcept nogil:
    """Appends an option, padded to 32 bits; what follows it."""
    cdef uint32_t padded = (length + 3) & ~<uint32_t>3
    put16(p, code)
    put16(p + 2, <uint16_t>length)
    memset(p + 4 + length, 0, padded - length)
    memcpy(p + 4, data, length)
    return p + 4 + padded

# Each writes one block, room for which is there, and returns its length. Texts are cut to TEXT bytes; "" is left out.
cdef size_t block_section(uint8_t *p, const char *hardware, const char *system, const char *application) noexcept nogil
cdef size_t block_interface(uint8_t *p, const interface_block *i, uint32_t snaplen, const char *filter,
                            const char *hardware, const char *system) noexcept nogil
cdef size_t block_statistics(uint8_t *p, uint32_t id, const interface_block *i, uint64_t time_ns, uint64_t received,
                             uint64_t lost, uint64_t accepted) noexcept nogil
# A name of an address (4 bytes, or 16).
cdef size_t block_name(uint8_t *p, const uint8_t *address, int length, const char *name,
                       size_t name_length) noexcept nogil
# The first 28 bytes of an enhanced packet block of `length` bytes.
cdef void block_enhanced_head(uint8_t *p, uint32_t length, uint32_t id, uint64_t time_ns, uint32_t captured,
                              uint32_t on_link) noexcept nogil
