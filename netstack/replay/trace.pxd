# A capture as frames that can be fed: parsed once, on one monotone clock.
from libc.stdint cimport int8_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.capture.records cimport frame_record

cdef enum frame_kind:
    KIND_OTHER = 0          # neither IP nor ARP
    KIND_BAD = 1            # does not parse: a length or a field is wrong
    KIND_VLAN = 2
    KIND_IPV6 = 3
    KIND_ARP = 4
    KIND_FRAGMENT = 5       # of a datagram that it does not complete
    KIND_IP = 6             # another protocol over IPv4
    KIND_TCP = 7
    KIND_UDP = 8
    KIND_ICMP = 9

cdef enum frame_flag:
    FRAME_CUT = 1           # by the snap length; what is missing was filled with zeros
    FRAME_OFFLOAD = 2       # its checksum was left to the network card
    FRAME_WRONG_SUM = 4     # its checksum is wrong
    FRAME_WHOLE = 8         # completes a fragmented datagram: the transport fields are the whole datagram's
    FRAME_SUPER = 16        # longer than a frame: the card's segmentation (or receive offload) was captured

cdef enum frame_role:       # for the guest that is being replayed
    ROLE_NONE = 0
    ROLE_UP = 1             # from the guest
    ROLE_DOWN = 2           # to the guest

cdef enum frame_expect:     # what is due when the frame has passed
    EXPECT_NOTHING = 0      # it is not judged by itself
    EXPECT_SILENCE = 1      # the guest gets nothing
    EXPECT_TCP = 2          # judged with its conversation
    EXPECT_UP = 3           # the host side gets this datagram
    EXPECT_DOWN = 4         # the guest gets this datagram
    EXPECT_ECHO = 5         # the gateway answers an echo request itself
    EXPECT_OURS = 6         # an answer of the gateway's services, or an ICMP error: netstack.replay.exchanges
    EXPECT_ERROR = 7        # the guest gets this ICMP error
    EXPECT_REFUSAL = 8      # a segment without a connection: a reset

cdef enum frame_result:     # what was seen
    RESULT_DELIVERED = 1
    RESULT_ANSWERED = 2
    RESULT_SPOKE = 4        # the guest got something on account of this frame
    RESULT_WRONG = 8
    RESULT_RESETS = 16      # TCP: its receiver must take this reset

ctypedef struct frame_t:
    const uint8_t *data     # with an Ethernet header
    const uint8_t *payload  # of the transport; of ICMP what follows the first eight bytes
    uint64_t time_ns
    uint64_t extent         # TCP: bytes of the peer's stream known when this frame has passed
    uint32_t length
    uint32_t number         # in its file, from 1
    uint32_t payload_length
    uint32_t src, dst       # IPv4; of ARP the protocol addresses
    uint32_t seq, ack
    uint32_t tsval
    uint32_t rest           # ICMP: bytes 4 to 7
    int32_t flow
    uint16_t sport, dport   # ICMP echo: the identifier in both
    uint16_t window, mss
    uint8_t kind, flags, role, tcp_flags
    uint8_t ttl, tos, type, code
    int8_t wscale           # -1: absent
    uint8_t sack_permitted, has_timestamps
    uint8_t expect          # frame_expect
    uint8_t result          # frame_result
    uint8_t dropped         # the first counter of drops that moved, and 1; 0 = none

cdef class Trace:
    cdef frame_t *frames
    cdef uint32_t n, room
    cdef list kept          # the bytes that the frames point into
    cdef dict pieces        # of fragmented datagrams
    cdef void *pairs    # table_t: who speaks to whom
    cdef void **pair_list
    cdef uint32_t n_pairs, pair_room
    cdef list dhcp          # indices of frames from or to the DHCP ports
    cdef dict macs          # IPv4 address -> MAC of the first frame from there
    cdef readonly str path
    cdef readonly str fault     # why reading ended early, "" when it did not
    cdef readonly object start_ns
    cdef uint64_t start         # the capture's time at which the replay's begins
    cdef readonly uint32_t gaps
    cdef int read(self, path) except -1
    cdef int add(self, const frame_record *record) except -1
    cdef int parse(self, frame_t *f, const uint8_t *d, uint32_t length, uint32_t original) except -1
    cdef int parse_transport(self, frame_t *f, uint8_t protocol, const uint8_t *l4, uint32_t length,
                             bint sums) except -1
    cdef int reassemble(self, frame_t *f, uint32_t at) except -1
    cdef int note_pair(self, frame_t *f) except -1
