# The transmission control block: its types, and what every file of this folder asks of it. Declarations and
# inline functions only: there is no module behind this file. Users cimport from netstack.tcp.tcb, which
# gathers all that is public.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.storage.blocks cimport blocks_t
from netstack.storage.ranges cimport ranges_t
from netstack.storage.ring cimport ring_span, ring_t
from netstack.wire.tcp cimport tcp_hdr

# Event bits: what the user has to look at after a call.
cdef enum:
    TCP_EV_OUTPUT = 1       # tcp_next_segment has something to send
    TCP_EV_CONNECTED = 2    # the handshake is complete
    # in-order bytes: first those of the delivery (in the frame), see tcp_take; else tcp_read_spans
    TCP_EV_DATA = 4
    TCP_EV_SPACE = 8        # acknowledged bytes freed room: tcp_write_spans may give more
    TCP_EV_FIN = 16         # the peer's FIN is in order: after the bytes now readable comes the end
    TCP_EV_RESET = 32       # the peer reset the connection (or refused it)
    # user time-out, R2 or keep-alive: the connection is dead; the RST, if any, is in the output
    TCP_EV_TIMEOUT = 64
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
    # idle connections whose scoreboard went back to the allocator since the memory's owner looked
    uint32_t released
    blocks_t *blocks                # where rings of 64 KiB have their memory from; NULL: from the allocator

ctypedef struct tcp_config:         # constant; shared by many connections
    # largest payload we accept in one segment: MTU - 40 (IPv4), MTU - 60 (IPv6)
    uint16_t mss
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
    # only for a connection whose user has closed both directions; 0 = for ever
    uint64_t fin_wait_2_ns
    uint32_t burst_packets          # cap on packets in flight (queue of the link), 0 = none
    uint64_t challenge_interval_ns  # RFC 5961 section 10 limit: between challenge ACKs of one connection
    tcp_memory *memory              # may be NULL
    uint8_t ip_header               # bytes of the IP header: 40 for IPv6; 0 counts as 20 (IPv4)

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

# --- inside
cdef enum:                          # tx_record.flags
    TX_SACKED = 1                   # selectively acknowledged
    TX_LOST = 2                     # held to be lost and not sent again since
    TX_RETRANSMITTED = 4            # sent more than once
    TX_AFTER_RTO = 8                # sent for the first time after the last RTO (F-RTO)

# what one tcp_next_segment put on the wire: [seq, end), split when SACKed in part
ctypedef struct tx_record:
    uint64_t sent_ns                # last transmission
    uint32_t seq
    uint32_t end
    uint16_t mss                    # payload of each packet it went in: SACK edges lie on these boundaries
    uint8_t flags
    uint8_t sends                   # number of transmissions, saturating

ctypedef struct tx_resend:          # a retransmission, in the order of time (RACK looks at the oldest first)
    uint64_t sent_ns
    uint32_t seq

ctypedef struct tx_queue:           # records in the order of sequence numbers: items[head .. head + n)
    tx_record *items                # behind room for tx_sack_seen
    uint32_t head
    uint32_t n
    uint32_t room
    tx_resend *resent               # resent[resent_head .. resent_n)
    uint32_t resent_head
    uint32_t resent_n
    uint32_t resent_room
    uint32_t sacked                 # bytes marked TX_SACKED
    uint32_t lost                   # bytes marked TX_LOST
    uint32_t high_sacked            # behind the highest byte SACKed, valid while sacked > 0
    uint32_t lost_hint              # no record below is TX_LOST
    uint32_t rack_hint              # every record below has been judged by RACK: SACKed, lost or resent

cdef enum tcp_recovery_state:
    TCP_CA_OPEN = 0
    TCP_CA_CWR = 1                  # reducing after ECN or a loss that a tail probe repaired
    TCP_CA_RECOVERY = 2             # fast recovery
    TCP_CA_LOSS = 3                 # after a retransmission time-out

cdef enum tcp_rtx_timer:            # what t.rtx_at stands for: one timer, as RFC 8985 section 8 wants
    TCP_TIMER_NONE = 0
    TCP_TIMER_RTO = 1
    TCP_TIMER_PROBE = 2             # tail loss probe
    TCP_TIMER_REORDER = 3           # RACK's reordering window
    TCP_TIMER_PERSIST = 4           # zero window, and the sender's silly-window override

cdef enum:                          # tcb_t.want: what tcp_next_segment owes beyond data
    TCP_WANT_RST = 1
    TCP_WANT_SYN = 2                # SYN or SYN-ACK
    TCP_WANT_ACK = 4
    TCP_WANT_CHALLENGE = 8          # an ACK that RFC 5961 limits
    TCP_WANT_PROBE = 16             # tail loss probe
    TCP_WANT_PERSIST = 32           # window probe: no byte, SEQ = SND.UNA - 1
    TCP_WANT_KEEPALIVE = 64
    TCP_WANT_HEAD = 128             # the first record again, whatever cwnd and window say (RTO)

ctypedef struct tcp_cubic:          # RFC 9438; windows in segments, times in seconds
    double w_est
    uint64_t epoch_ns               # 0 = no epoch
    float w_max
    float k
    float prior_w_max               # before the last reduction (for undo)
    float fraction                  # of a byte of growth not yet in cwnd

ctypedef struct tcp_hystart:        # RFC 9406
    uint32_t last_min_us            # lowest RTT of the round before; UINT32_MAX = none
    uint32_t current_min_us
    uint32_t baseline_min_us
    uint8_t samples
    uint8_t css_rounds              # conservative slow start: rounds done, 0 = not in it
    uint8_t done

ctypedef struct tcp_sack_edges:
    uint32_t left
    uint32_t right

ctypedef struct tcp_cc             # defined below

ctypedef struct tcb_t:
    const tcp_config *config
    # --- connection
    uint32_t rst_seq
    uint32_t pending                # events to be returned by the next call that returns events
    uint16_t local_port, remote_port
    uint8_t state
    uint8_t active                  # opened by tcp_open
    uint8_t bad_transition          # a state change that the table does not allow: never set, tests look
    uint8_t fin_queued              # the user will write no more
    uint8_t fin_sent
    uint8_t fin_acked
    uint8_t stopped_reading
    uint8_t want                    # TCP_WANT_*
    uint8_t rst_with_ack
    uint8_t ts_on, sack_on, wscale_on, ecn_on
    uint8_t snd_wscale, rcv_wscale
    uint8_t syn_sends               # transmissions of the SYN or SYN-ACK
    uint32_t irs
    # --- sending, RFC 9293 section 3.3.1
    uint64_t path_mss_at            # when it was last lowered
    ring_t snd_ring                 # bytes [snd_una, written by the user)
    tx_queue tx
    uint32_t iss, snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2, snd_max_wnd
    uint32_t snd_up                 # behind the urgent bytes, valid with snd_urgent
    uint32_t snd_limit              # bytes the send ring may hold
    uint16_t peer_mss               # as announced
    uint16_t path_mss               # as ICMP and black-hole probing leave it
    # packets of this payload have been acknowledged since the path was last changed
    uint16_t proven_mss
    # payload of one packet: least of the two, less the options of every segment
    uint16_t snd_mss
    uint8_t snd_urgent
    uint8_t snd_filled              # the user has filled the ring: it would use a larger one
    uint8_t snd_blocked             # the user was refused room: TCP_EV_SPACE when there is some
    uint8_t cwnd_limited            # the window of this flight was filled
    uint8_t cwr_pending             # CWR goes with the next new data
    uint8_t ecn_echo                # CE was seen: ECE on every ACK until CWR comes
    uint8_t dupacks
    uint8_t recovery                # tcp_recovery_state
    uint8_t frto                    # 0 off, 1 the head went, 2 new data went
    uint8_t backoff                 # consecutive time-outs
    uint8_t full_timeouts           # of those, of segments as large as the path is believed to carry
    uint8_t n_sack_seen             # edges in tx_sack_seen
    # --- round trips
    uint64_t srtt_ns, rttvar_ns, rto_ns, min_rtt_ns, min_rtt_at
    uint64_t rto_base_ns            # the retransmission timer runs from here
    uint64_t progress_ns            # last time the peer acknowledged something or answered a probe
    uint64_t last_send_ns           # of data
    # --- loss recovery
    uint64_t rack_sent_ns
    uint64_t rack_rtt_ns
    uint32_t rack_end
    uint32_t recovery_point
    uint32_t dup_bytes              # what duplicate ACKs of a peer without SACK stand for
    uint32_t tlp_end
    uint32_t dsack_round
    uint32_t prr_delivered, prr_out, prr_flight
    uint32_t undo_una               # SND.UNA when the window was reduced
    uint32_t undo_sends             # retransmissions since that no D-SACK has named
    uint32_t undo_tsval             # of the first retransmission
    uint32_t prior_cwnd
    uint8_t tlp_active, tlp_resent, rtt_since_probe
    uint8_t reordering_seen, reo_mult, reo_persist
    uint8_t undo_valid, undo_has_tsval
    # --- congestion control; bytes
    tcp_cubic cubic
    tcp_hystart hystart
    uint32_t cwnd, ssthresh, prior_ssthresh, cwnd_credit
    # --- delivery rate: bytes acknowledged in a round
    uint64_t round_ns
    uint64_t rate                   # bytes per second, 0 = not known
    uint32_t round_end, round_una
    # --- receiving
    uint64_t rcv_off                # stream offset of rcv_nxt, the FIN not counted
    uint64_t ts_recent_ns
    uint64_t last_rcv_ns
    uint64_t challenge_ns           # not before
    uint64_t drs_ns                 # receive-window auto-tuning
    uint64_t rcv_rtt_ns
    ring_t rcv_ring                 # bytes [not yet consumed by the user, ...) with reassembly behind rcv_nxt
    ranges_t reassembly
    uint32_t rcv_nxt, rcv_wnd
    uint32_t rcv_adv                # right edge that was ever offered
    uint32_t rcv_buf                # bytes that may wait for the user
    uint32_t rcv_up
    uint32_t rcv_fin_seq            # of a FIN seen out of order, with rcv_fin_known
    uint32_t ack_bytes              # received and not acknowledged
    uint32_t last_ack_sent
    uint32_t ts_recent, ts_offset
    uint32_t dsack_left, dsack_right        # a duplicate to be named by the next ACK; equal = none
    uint32_t sack_order[4]          # a byte of each block, latest first; below RCV.NXT = none
    uint32_t drs_bytes
    uint16_t rcv_mss                # largest packet seen, at most config.mss
    uint8_t rcv_fin_known, rcv_fin  # rcv_fin: in order
    uint8_t rcv_urgent
    uint8_t ack_burst               # duplicate ACKs owed to a peer without SACK
    uint8_t sack_news               # blocks that no ACK has reported yet
    uint8_t hole_acks               # sent since RCV.NXT met the present hole, saturating
    # --- deadlines; UINT64_MAX = none
    uint8_t rtx_timer               # tcp_rtx_timer
    uint8_t keepalive_out
    uint8_t persist_out             # a window probe is unanswered
    uint64_t pace_ns                # when what was sent would have left at the pacing rate
    uint64_t rtx_at, delack_at, keepalive_at, life_at, pace_at, shrink_at

ctypedef struct tcp_cc:             # congestion control as a table of functions
    void (*init)(tcb_t *t, uint64_t now_ns) noexcept nogil
    # acked bytes were delivered in order while the window was in use (slow start and avoidance)
    void (*on_ack)(tcb_t *t, uint32_t acked, uint64_t now_ns) noexcept nogil
    # the slow start threshold after a loss or an ECN mark
    uint32_t (*on_loss)(tcb_t *t, uint64_t now_ns) noexcept nogil
    # the loss was none: cwnd and ssthresh have been restored already
    void (*on_undo)(tcb_t *t) noexcept nogil
    # nothing was sent for idle_ns
    void (*on_idle)(tcb_t *t, uint64_t idle_ns) noexcept nogil


cdef inline blocks_t *blocks_of(const tcb_t *t) noexcept nogil:
    return t.config.memory.blocks if t.config.memory != NULL else NULL


cdef inline void account(tcb_t *t, int64_t change) noexcept nogil:
    if t.config.memory != NULL:
        t.config.memory.used += change


cdef inline bint memory_pressed(const tcb_t *t) noexcept nogil:
    return t.config.memory != NULL and t.config.memory.used >= t.config.memory.limit


cdef inline uint32_t ts_clock(const tcb_t *t, uint64_t now_ns) noexcept nogil:
    # milliseconds, as RFC 7323 section 5.4 allows, plus the offset of this connection
    return <uint32_t>(now_ns / 1000000) + t.ts_offset


cdef inline uint32_t flight(const tcb_t *t) noexcept nogil:
    # bytes held to be in the network: RFC 6675's pipe
    return t.snd_nxt - t.snd_una - t.tx.sacked - t.tx.lost - t.dup_bytes


# Bytes written and not yet sent. The stream's first byte is ISS + 1, and ring offsets are sequence numbers.
cdef inline uint32_t unsent(const tcb_t *t) noexcept nogil:
    if t.fin_sent or t.state <= 3:
        return 0
    return <uint32_t>t.snd_ring.tail - t.snd_nxt


cdef inline bint can_send_data(const tcb_t *t) noexcept nogil:
    # FIN-WAIT-1, CLOSING and LAST-ACK also hold queued data until the FIN behind it is sent
    return 4 <= t.state <= 9 and t.state != 6


cdef inline uint64_t u64_min(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint64_t u64_max(uint64_t a, uint64_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint32_t u32_min(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint32_t u32_max(uint32_t a, uint32_t b) noexcept nogil:
    return a if a > b else b


cdef enum:
    MS = 1000000                    # nanoseconds
    SYN_MSS_FLOOR = 64              # an announced MSS below this is not taken seriously
