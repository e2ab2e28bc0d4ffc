# Reassembly of IPv4 datagrams (RFC 791, RFC 815): bounded in datagrams, bytes and time; overlaps are refused.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.storage.ranges cimport ranges_t
from netstack.wire.ipv4 cimport ipv4_hdr

cdef enum:
    FRAG_HELD = 0           # kept; more is missing
    FRAG_DONE = 1           # the datagram is whole
    FRAG_DROPPED = 2        # refused; the counter is raised

cdef enum:
    FRAG_DATAGRAMS = 64
    FRAG_TIMEOUT_S = 30
    FRAG_BYTES = 4194304    # memory of all incomplete datagrams together

ctypedef struct fragment_entry:
    uint8_t used
    uint8_t protocol
    uint16_t ident
    uint32_t src
    uint32_t dst
    uint64_t deadline_ns
    uint8_t *memory         # payload, room bytes
    uint32_t room
    uint32_t total          # payload bytes of the whole datagram, 0 = not known yet
    uint8_t header[60]      # of the first fragment, as it came
    uint8_t header_length   # 0 = the first fragment has not come
    ranges_t ranges

ctypedef struct fragments_t:
    fragment_entry entries[64]
    uint64_t bytes
    uint32_t used
    uint8_t *done           # the datagram completed last: room for a header in front, then its payload
    uint32_t done_length

cdef void fragments_init(fragments_t *f) noexcept nogil
cdef void fragments_free(fragments_t *f) noexcept nogil
# Takes one fragment. On FRAG_DONE done holds header_length + payload bytes, valid until the next call.
cdef int fragments_add(fragments_t *f, const ipv4_hdr *hdr, const uint8_t *header, const uint8_t *payload,
                       uint32_t length, uint64_t now_ns, uint64_t *counters) noexcept nogil
# Drops what is overdue and returns how many; *next is the next deadline. When the first fragment of a dropped
# datagram was here its header
# and eight bytes are copied to quote (68 bytes), for the time-exceeded that is due (RFC 792), and *quote_length is set.
cdef int fragments_expire(fragments_t *f, uint64_t now_ns, uint64_t *counters, uint8_t *quote,
                          uint32_t *quote_length) noexcept nogil
cdef uint64_t fragments_deadline(const fragments_t *f) noexcept nogil
