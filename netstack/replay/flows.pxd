# What a capture says of one conversation of the guest, and what the stack was seen to make of it.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.replay.trace cimport frame_t

cdef enum flow_fact:        # of the capture
    FACT_SYN_UP = 1             # the guest's SYN is there
    FACT_SYN_DOWN = 2           # the peer's SYN, or SYN-ACK
    FACT_INBOUND = 4            # the peer opened
    FACT_MIDDLE = 8             # neither SYN is there
    FACT_FIN_UP = 16            # the guest's FIN, in order
    FACT_FIN_DOWN = 32
    FACT_RESET_UP = 64          # the guest has reset it
    FACT_RESET_DOWN = 128       # the peer has, and the guest went by it
    FACT_HOLE_UP = 256          # bytes of the guest's that the peer acknowledged are missing
    FACT_HOLE_DOWN = 512        # bytes of the peer's that the guest acknowledged are missing: zeros stand for them
    FACT_CUT = 1024
    FACT_OFFLOAD = 2048
    FACT_WRONG_SUM = 4096
    FACT_OVERLAP = 8192         # the same bytes were sent again with another content
    FACT_GUESSED = 16384        # the peer's initial sequence number is known from acknowledgements only
    FACT_FIN_ACKED_UP = 32768   # the guest has acknowledged the peer's FIN
    FACT_REOPENED = 65536       # the same ports were used by a conversation before
    FACT_DATA_IN_SYN = 131072
    FACT_SIMULTANEOUS = 262144  # both sides sent a SYN without ACK
    FACT_TFO = 524288           # data in the SYN was acknowledged by the SYN-ACK

cdef enum flow_seen:        # of the stack
    SEEN_SYN = 1                # it has sent its SYN or SYN-ACK
    SEEN_FIN = 2
    SEEN_RST = 4
    SEEN_CONNECT = 8            # the host side was asked for
    SEEN_SHUT = 16              # the guest's end was passed on
    SEEN_CLOSED = 32            # the host side was closed
    SEEN_ABORTED = 64           # ... with a reset
    SEEN_TIMED_OUT = 128

cdef enum difference:       # the first thing that was not as it should be
    SAME = 0
    DIFF_BYTES_UP = 1           # other bytes were handed to the host side
    DIFF_BYTES_DOWN = 2         # other bytes were sent to the guest
    DIFF_TOO_MANY_UP = 3
    DIFF_ACK_UNSENT = 4         # acknowledges what the guest has not sent
    DIFF_WINDOW_SHRUNK = 5
    DIFF_BEYOND_WINDOW = 6
    DIFF_RESET = 7              # a reset that the capture does not have
    DIFF_NO_RESET = 8           # and the other way round
    DIFF_SHORT_UP = 9           # bytes were not handed over
    DIFF_UNACKED = 10
    DIFF_STATE = 11
    DIFF_NOT_DELIVERED = 12     # a datagram did not reach the host side
    DIFF_OTHER_DATAGRAM = 13    # or as another one
    DIFF_NO_ANSWER = 14         # a datagram of the peer's did not reach the guest
    DIFF_OTHER_ANSWER = 15
    DIFF_SPOKE = 16             # an answer where silence was due
    DIFF_NO_SYN = 17
    DIFF_SEQUENCE = 18          # a segment that belongs to no place of the peer's stream
    DIFF_RESTLESS = 19          # the stack did not come to rest
    DIFF_NO_FIN = 20            # the peer's end did not reach the guest
    DIFF_NO_ERROR = 21          # an ICMP error did not reach the guest

ctypedef struct piece_t:        # out of order
    uint64_t at
    const uint8_t *data
    uint32_t length

ctypedef struct stream_t:       # one direction of a conversation, put together
    uint8_t *data
    uint64_t length, room
    piece_t *pieces             # sorted by at
    uint32_t n, n_room
    uint64_t fin_at             # offset of the FIN, valid with fin_known
    uint8_t fin_known
    uint8_t ended               # the FIN is in order
    uint8_t overlap
    piece_t *holes              # filled with zeros, data not used
    uint32_t n_holes, holes_room
    uint64_t missing            # bytes of them

ctypedef struct flow_t:
    uint32_t guest, peer
    uint16_t guest_port, peer_port
    uint8_t protocol
    uint8_t ours                # the peer is an address of the gateway's
    uint32_t facts              # flow_fact
    uint32_t seen               # flow_seen
    uint32_t iss_up, iss_down
    uint8_t know_up, know_down
    uint8_t peer_wscale_on, peer_ts_on, peer_sack_on    # what the peer's SYN agreed to
    uint32_t peer_tsval
    uint8_t peer_has_tsval
    uint64_t peer_tsval_ns      # when it was sent
    uint8_t later_ts            # the guest's segments behind its SYN carry timestamps
    uint32_t frames_up, frames_down, first_frame
    uint64_t bytes_up, bytes_down       # of payload, as captured
    stream_t up, down
    uint64_t up_due             # bytes that are due to the host: the guest's until somebody reset
    # --- while it is fed
    int64_t socket              # of the scripted host, -1 = none
    uint32_t generation
    uint64_t handed             # bytes the host side got
    uint64_t fed_end            # behind the highest byte of the guest's that was fed; the FIN counts
    uint64_t sent_end           # behind the highest byte that the stack has sent; the FIN counts
    uint64_t acked              # what the stack acknowledged; the FIN counts
    uint64_t window_edge        # of the stack's, the highest
    uint64_t guest_edge         # of the guest's, the highest
    uint64_t guest_acked
    uint8_t guest_scale, our_scale, scaled
    uint8_t open_down           # the stack was made to open it
    uint8_t fin_passed          # the frame with the peer's FIN has passed
    uint8_t accept_passed       # so has its SYN
    uint8_t reset_passed        # somebody has reset it
    uint32_t state_at_end       # tcp_state, 255 = no such flow any more
    uint32_t delivered, expected_up, answered, expected_down, silent
    uint8_t diff                # difference
    uint32_t diff_cause         # index of the frame at which it was seen
    uint64_t diff_a, diff_b
    uint32_t outputs

cdef inline uint64_t offset_of(uint64_t near, uint32_t first, uint32_t seq) noexcept nogil:
    """The stream offset of a sequence number whose offset is near another; first: the number of the first byte. What
    lies before the stream is beyond 2**63."""
    cdef uint32_t base = first + <uint32_t>near
    return near + <uint64_t><int64_t><int32_t>(seq - base)

cdef int stream_add(stream_t *s, uint64_t at, const uint8_t *data, uint32_t length) noexcept nogil
cdef int stream_fill(stream_t *s, uint64_t until) noexcept nogil
cdef void stream_fin(stream_t *s, uint64_t at) noexcept nogil
cdef void stream_free(stream_t *s) noexcept nogil
# Takes one TCP segment into what is known of its conversation. 0, -1 without memory.
cdef int flow_segment(flow_t *w, frame_t *f, bint up) noexcept nogil
