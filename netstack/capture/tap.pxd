# Where the engine's thread lays down what a capture is to hold: functions of a recorder, so that an engine that
# captures nothing loads none of them. Inline: there is no module behind this file.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.sockets cimport iovec
from netstack.storage.decision cimport decision_t
from netstack.storage.frame cimport frame_meta

cdef enum:
    TAP_PORTS = 256

ctypedef struct record_t:       # what lies in the queue in front of a frame's bytes
    uint32_t size               # from this record to the next
    uint8_t kind
    uint8_t outbound            # to the guest
    uint16_t port
    uint64_t time_ns            # since 1970
    uint32_t captured
    uint32_t length             # on the link
    uint32_t lost               # records lost since the one before
    uint16_t counters[2]        # that the frame has moved, 1 more than their numbers; 0 = none
    frame_meta meta
    decision_t decision

ctypedef struct tap_link:       # a guest's link, as its interface block has it
    int port
    const char *name
    uint8_t has_mac
    uint8_t mac[6]
    uint32_t address            # 0 = not known
    uint32_t netmask

ctypedef struct tap_t:
    uint64_t *counters          # the engine's
    int engine_wake             # signalled when the capture ends by itself
    uint8_t known[TAP_PORTS]    # links that have been described
    # A link, before its first frame; again when another has its number.
    void (*describe)(tap_t *, const tap_link *link, uint64_t time_ns) noexcept nogil
    void (*gone)(tap_t *, int port, uint64_t time_ns) noexcept nogil
    # A frame. What comes back may be written to until `settle`; NULL where it is not recorded.
    record_t *(*frame)(tap_t *, int port, bint outbound, uint64_t time_ns, const frame_meta *meta, const iovec *iov,
                       int n) noexcept nogil
    # Before the frames of a burst: what the counters are.
    void (*look)(tap_t *) noexcept nogil
    # What a frame (NULL: one that is not recorded) of a guest came to: by the counters, and by what NAT says.
    void (*judge)(tap_t *, record_t *frame, const decision_t *decided) noexcept nogil
    # A frame to a guest is as it stays.
    void (*settle)(tap_t *) noexcept nogil
    # At the end of a round. True, once for each, when records begin to be lost and when the capture has ended.
    bint (*turn)(tap_t *) noexcept nogil
    # The last call: the capture ends at this time.
    void (*stop)(tap_t *, uint64_t time_ns) noexcept nogil
