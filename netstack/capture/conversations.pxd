# Conversations of a capture, and what the order of a connection's segments says about its path.
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.capture.fields cimport fields_t
from netstack.storage.table cimport table_t

cdef enum:
    MAX_CONVERSATIONS = 1 << 20     # frames of more belong to none, and are counted
    MAX_UNACKED = 4096              # segments of one direction that wait for an acknowledgement

cdef enum:                          # bits of side_t.seen
    SEEN_SYN = 1
    SEEN_FIN = 2
    SEEN_RST = 4
    SEEN_DATA = 8

ctypedef struct unacked_t:          # a segment that has not been acknowledged
    uint32_t seq, next_seq
    int64_t time

ctypedef struct side_t:             # what one of the two sends
    uint64_t frames, bytes, payload
    uint32_t retransmissions, out_of_order, duplicate_acks, zero_windows, lost_segments
    uint32_t rtt_count              # samples of its acknowledgements
    int64_t rtt_sum, rtt_min, rtt_max       # ns
    # TCP
    uint32_t first_seq              # of its SYN, or one before the first segment seen
    uint32_t next_seq               # the highest seen
    uint32_t contiguous             # up to where an acknowledgement surprises nobody
    uint32_t last_ack
    uint32_t window                 # unscaled
    uint32_t right_edge             # of what it accepts: last_ack and the scaled window
    uint32_t duplicates             # of last_ack, in a row
    uint16_t analysis               # of its last segment
    uint8_t has_seq, has_ack, has_contiguous, knows_scale
    uint8_t scale
    uint8_t seen
    uint8_t mptcp
    int64_t next_seq_time, last_ack_time
    unacked_t *unacked              # in the order of sending
    uint32_t n_unacked, room

ctypedef struct conversation_t:
    uint32_t number
    uint8_t version, protocol
    uint8_t swapped                 # the client is the second of the key's ends
    uint8_t reused                  # the ports of an earlier conversation
    uint8_t scales                  # SYNs with a window scale: it holds when both have one
    uint16_t port[2]                # of client and server
    uint32_t v4[2]
    uint64_t v6[4]
    int64_t first, last             # ns since 1970
    int64_t syn_time, syn_ack_time
    int64_t handshake               # ns from SYN to the client's first acknowledgement, 0 = not seen
    side_t client, server

ctypedef struct conversations_t:
    table_t *table
    conversation_t **list
    uint32_t n, room
    uint64_t refused                # frames for which there was no room

cdef conversations_t *conversations_new(uint64_t k0, uint64_t k1) noexcept nogil
cdef void conversations_free(conversations_t *c) noexcept nogil
# Finds or makes the conversation of a frame, counts it there, and fills in f.flow, f.analysis and f.rtt.
cdef void conversations_see(conversations_t *c, fields_t *f) noexcept nogil
