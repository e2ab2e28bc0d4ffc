# Frames of a capture file, found in memory: pcap in both byte orders and precisions, and pcapng.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LINK_NULL = 0               # link types of the pcap registry
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12           # what DLT_RAW is on most systems, and on OpenBSD
    LINK_RAW_OPENBSD = 14
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_COOKED = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_COOKED2 = 276
    LINK_COUNT = 277            # size of a table by link type for those above

cdef enum records_fault:        # what is wrong at records_t.fault_at
    FAULT_NONE = 0
    FAULT_CUT = 1               # the file ends inside a record
    FAULT_NOT_A_CAPTURE = 2
    FAULT_VERSION = 3
    FAULT_RECORD_LENGTH = 4     # longer than any frame
    FAULT_BLOCK_LENGTH = 5      # too short or long, no multiple of four, or the two lengths differ
    FAULT_BYTE_ORDER = 6        # a section without a byte-order magic
    FAULT_INTERFACE = 7         # a packet of an interface that is not described
    FAULT_PACKET_LENGTH = 8     # a packet longer than its block, or too short a block
    FAULT_OPTION = 9            # an option that runs past its block
    FAULT_MEMORY = 10

ctypedef struct capture_interface:
    uint16_t link_type
    uint32_t snaplen            # 0 = no limit
    uint64_t ticks              # per second
    int64_t shift_ns            # if_tsoffset

ctypedef struct frame_record:
    const uint8_t *data
    int64_t time_ns             # since 1970; 0 where the file holds none
    uint32_t captured
    uint32_t length             # on the wire
    uint32_t interface          # in the order of the file's interface blocks; 0 in pcap
    uint16_t link_type

ctypedef struct records_t:
    uint8_t format              # 0 = not known yet, 1 = pcap, 2 = pcapng
    uint8_t big                 # byte order of the file, or of the section
    uint32_t unit               # ns of a pcap time fraction
    capture_interface *interfaces
    uint32_t n_interfaces       # of all sections
    uint32_t room
    uint32_t section            # interfaces before this section
    uint64_t offset             # in the file, of what comes next
    int fault                   # records_fault
    uint64_t fault_at
    uint64_t fault_value        # the length or number that is wrong

cdef records_t *records_new() noexcept nogil
cdef void records_free(records_t *r) noexcept nogil
# Fills out with at most room frames from data and returns the bytes that are done with; *n is the number of
# frames. Less than a record is left where that is less than length (and *n < room), or r.fault is set: frames
# before the fault are in out. data begins where the call before stopped.
cdef size_t records_read(
    records_t *r, const uint8_t *data, size_t length, frame_record *out, int room, int *n
) noexcept nogil
# A file that has ended with left bytes that records_read did not take: sets the fault unless that is right.
cdef void records_end(records_t *r, size_t left) noexcept nogil
cdef str records_fault_text(const records_t *r)
