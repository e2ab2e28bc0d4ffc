# The transmission control block and what its users may do with it. Pure: segments, bytes and now_ns in; segments, bytes
# and a deadline out. (The owner of this folder completes the struct; the functions below are the contract.)
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.storage.ring cimport ring_span, ring_t
from netstack.storage.ranges cimport ranges_t
from netstack.wire.tcp cimport tcp_hdr

cdef enum tcp_state:
    TCP_CLOSED = 0
    TCP_LISTEN = 1          # only between tcp_accept and the user's tcp_established_ok: SYN seen, SYN-ACK held back
    TCP_SYN_SENT = 2
    TCP_SYN_RECEIVED = 3
    TCP_ESTABLISHED = 4
    TCP_FIN_WAIT_1 = 5
    TCP_FIN_WAIT_2 = 6
    TCP_CLOSE_WAIT = 7
    TCP_CLOSING = 8
    TCP_LAST_ACK = 9
    TCP_TIME_WAIT = 10

# Event bits: what the user has to look at after a call.
cdef enum:
    TCP_EV_OUTPUT = 1       # tcp_next_segment has something to send
    TCP_EV_CONNECTED = 2    # the handshake is complete
    TCP_EV_DATA = 4         # in-order bytes: first those of the delivery (in the frame), see tcp_take; else tcp_read_spans
    TCP_EV_SPACE = 8        # acknowledged bytes freed room: tcp_write_spans may give more
    TCP_EV_FIN = 16         # the peer's FIN is in order: after the bytes now readable comes the end
    TCP_EV_RESET = 32       # the peer reset the connection (or refused it)
    TCP_EV_TIMEOUT = 64     # user time-out, R2 or keep-alive: the connection is dead; the RST, if any, is in the output
    TCP_EV_CLOSED = 128     # state is CLOSED: the tcb may be freed once tcp_next_segment returns 0
    TCP_EV_ACKED_FIN = 256  # our FIN is acknowledged
    TCP_EV_URGENT = 512

cdef enum tcp_congestion:
    TCP_CC_CUBIC = 0
    TCP_CC_RENO = 1
    TCP_CC_NONE = 2         # a loss-free local link: the peer's window alone

ctypedef struct tcp_memory:         # shared by all connections of an engine
    uint64_t used                   # bytes of ring and scoreboard memory held
    uint64_t limit                  # beyond which windows shrink and rings do not grow

ctypedef struct tcp_config:         # constant; shared by many connections
    uint16_t mss                    # largest payload we accept in one segment: MTU - 40 (IPv4), MTU - 60 (IPv6)
    uint32_t max_gso                # largest payload of one tcp_next_segment; <= mss when the link has no TSO
    uint32_t rcv_buf_initial        # bytes
    uint32_t rcv_buf_max            # at most 1 << 30; decides our window scale
    uint32_t snd_buf_initial
    uint32_t snd_buf_max
    uint8_t congestion              # tcp_congestion
    uint8_t timestamps              # offer and accept RFC 7323 timestamps
    uint8_t sack
    uint8_t ecn
    uint8_t nagle
    uint64_t delayed_ack_ns         # 0 = acknowledge at once
    uint64_t rto_min_ns, rto_max_ns, rto_initial_ns
    uint64_t keepalive_idle_ns, keepalive_interval_ns      # idle 0 = off
    uint32_t keepalive_probes
    uint64_t user_timeout_ns        # 0 = R2 of RFC 9293 (100 s)
    uint64_t syn_timeout_ns         # gives up an active or passive handshake
    uint64_t time_wait_ns
    uint64_t fin_wait_2_ns          # only for a connection whose user has closed both directions; 0 = for ever
    uint32_t burst_packets          # cap on packets in flight (queue of the link), 0 = none
    uint64_t challenge_interval_ns  # RFC 5961 section 10 limit: between challenge ACKs of one connection
    tcp_memory *memory              # may be NULL

ctypedef struct tcp_delivery:       # in-order payload that still lies in the frame
    const uint8_t *data
    uint32_t length

ctypedef struct tcp_segment:        # one segment, perhaps a super-segment, to be sent
    tcp_hdr hdr                     # sport and dport are the tcb's local and remote port; checksum 0
    ring_span span[2]               # payload
    int n_spans
    uint32_t length                 # payload bytes
    uint16_t gso_size               # > 0 when length > what one packet may carry
    uint8_t ecn                     # IP ECN field of the packet: 0 not-ECT, 2 ECT(0)
    uint8_t retransmit

ctypedef struct tcb_t:
    const tcp_config *config
    uint8_t state
    uint16_t local_port, remote_port
    uint32_t snd_una, snd_nxt, snd_wnd
    uint32_t rcv_nxt, rcv_wnd
    ring_t snd_ring                 # bytes [snd_una, written by the user)
    ring_t rcv_ring                 # bytes [not yet consumed by the user, ...) with reassembly behind rcv_nxt
    ranges_t reassembly

# --- life
# iss_secret material and the timestamp offset are arguments: nothing here draws randomness.
cdef void tcb_init(tcb_t *t, const tcp_config *config, uint16_t local_port, uint16_t remote_port,
                   uint32_t iss, uint32_t ts_offset) noexcept nogil
cdef void tcb_free(tcb_t *t) noexcept nogil                 # gives all memory back; the struct itself is the user's
# Passive open: takes a SYN; nothing is answered until tcp_established_ok (the host side is connected) or tcp_abort (RST).
# Retransmitted SYNs in between are absorbed by tcp_segment_arrives. 0, or -1 when it is not a SYN that may open.
cdef int tcp_accept(tcb_t *t, const tcp_hdr *syn, uint8_t ip_ecn, uint64_t now_ns) noexcept nogil
cdef uint32_t tcp_established_ok(tcb_t *t, uint64_t now_ns) noexcept nogil     # send the SYN-ACK; events
cdef uint32_t tcp_open(tcb_t *t, uint64_t now_ns) noexcept nogil               # active open; events
cdef uint32_t tcp_close(tcb_t *t, uint64_t now_ns) noexcept nogil              # no more writes: FIN behind what is queued
# The user will read no more: data that arrives later is answered by RST (RFC 9293 SHLD-3); with unread data: RST at once.
cdef uint32_t tcp_stop_reading(tcb_t *t, uint64_t now_ns) noexcept nogil
cdef uint32_t tcp_abort(tcb_t *t, uint64_t now_ns) noexcept nogil              # RST (also in LISTEN: refuse); -> CLOSED

# --- segments
# ip_ecn: the two ECN bits of the IP header. delivery is filled with in-order payload which lies in the frame (length 0 when
# there is none or it was kept in the ring because older bytes wait there). The user must then call tcp_take.
cdef uint32_t tcp_segment_arrives(tcb_t *t, const tcp_hdr *hdr, const uint8_t *payload, uint32_t length, uint8_t ip_ecn,
                                  uint64_t now_ns, tcp_delivery *delivery) noexcept nogil
# consumed bytes of the delivery were used by the user; the rest is kept in the receive ring. To be called exactly once
# after each tcp_segment_arrives whose delivery.length > 0, before any other call on this tcb.
cdef void tcp_take(tcb_t *t, const tcp_delivery *delivery, uint32_t consumed, uint64_t now_ns) noexcept nogil
# The next segment to send (data, retransmission, ACK, SYN, FIN, RST, probe): 1, or 0 when there is nothing to send now.
# The caller sends what it got; a segment it cannot send counts as lost. ACKs owed are held until asked for here, so a caller that
# asks once per burst of input coalesces them.
cdef int tcp_next_segment(tcb_t *t, uint64_t now_ns, tcp_segment *out) noexcept nogil
cdef bint tcp_wants_output(const tcb_t *t) noexcept nogil   # cheap test: an ACK is due now (not merely delayed) or data may go

# --- the user's bytes
cdef int tcp_write_spans(tcb_t *t, uint32_t limit, ring_span *out) noexcept nogil   # 0..2 spans to receive into
cdef uint32_t tcp_wrote(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil       # events
cdef int tcp_read_spans(tcb_t *t, ring_span *out) noexcept nogil                     # 0..2 spans of in-order bytes
cdef uint32_t tcp_consumed(tcb_t *t, uint32_t n, uint64_t now_ns) noexcept nogil     # events (a window update may be due)
cdef uint32_t tcp_readable(const tcb_t *t) noexcept nogil                            # bytes in order and not consumed
cdef uint32_t tcp_unacked(const tcb_t *t) noexcept nogil                             # bytes written and not acknowledged

# --- time and the path
cdef uint64_t tcp_deadline(const tcb_t *t) noexcept nogil                            # UINT64_MAX = none
cdef uint32_t tcp_timeout(tcb_t *t, uint64_t now_ns) noexcept nogil                  # to be called at or after the deadline; events
# ICMP errors about a segment of ours with this sequence number (RFC 5927 checks): mtu > 0 is a too-big for the IP MTU.
cdef uint32_t tcp_icmp_error(tcb_t *t, uint32_t quoted_seq, bint hard, uint32_t mtu, uint64_t now_ns) noexcept nogil

# --- segments without a connection (RFC 9293 3.10.7.1): fills out with the RST that answers hdr; 0 when none is due
cdef int tcp_reset_for(const tcp_hdr *hdr, uint32_t length, tcp_segment *out) noexcept nogil
