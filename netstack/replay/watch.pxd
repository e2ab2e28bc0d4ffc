# One guest's part of a capture while it is fed: what the script, the link and the judge share.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.scripted cimport scripted_t
from netstack.link.link cimport link_t
from netstack.loop cimport engine_t
from netstack.nat.flow cimport flow_key
from netstack.replay.flows cimport flow_t
from netstack.replay.trace cimport frame_t
from netstack.storage.frame cimport frame_meta
from netstack.storage.table cimport table_t

cdef enum:
    NO_FRAME = 0xffffffff       # as a cause: time has passed
    NO_STATE = 255              # of a connection that there is not
    FRAME_ROOM = 262144 + 64    # the longest frame that a capture can hold
    ROUNDS = 100000             # of the engine without coming to rest
    DNS_PORT = 53
    UPSTREAM = 0xc0000235       # 192.0.2.53 (RFC 5737): the resolver behind the gateway's
    MAX_QUERIES = 4096          # that wait for their answers

ctypedef struct play_key:       # 16 bytes
    uint32_t peer
    uint16_t guest_port, peer_port
    uint32_t protocol
    uint32_t zero

ctypedef struct output_t:       # a frame that the stack sent to the guest
    uint64_t time_ns
    uint64_t at                 # in the arena
    uint32_t length
    uint32_t cause              # index of a frame, or NO_FRAME

ctypedef struct query_t:        # a DNS query on its way to the scripted upstream
    uint32_t socket, generation
    uint16_t ident
    uint32_t length
    uint8_t message[512]

ctypedef struct play_t:
    frame_t *frames
    uint32_t n
    uint32_t next               # index of the frame that is fed next
    flow_t *flows
    uint32_t n_flows, flows_room
    table_t *by_key             # play_key -> index + 1 of the flow that bears the name now
    engine_t *engine
    scripted_t *script
    link_t link
    uint32_t guest, gateway
    uint8_t guest_mac[6]        # in the replay
    uint8_t station[6]          # in the capture
    uint8_t gateway_mac[6]
    uint64_t now_ns
    uint64_t end_ns             # 0 while frames are left
    uint32_t cause
    uint8_t judging
    uint8_t restless
    uint8_t keep                # every frame that is sent is kept, not only those that netstack.replay.exchanges reads
    uint8_t no_memory
    # the frame that the link has for the engine
    uint8_t *scratch
    uint32_t pending
    frame_meta meta
    # what the stack sent
    output_t *outputs
    uint32_t n_outputs, outputs_room
    uint8_t *arena
    uint64_t arena_used, arena_room
    uint64_t sent_frames, sent_bytes
    query_t *queries
    uint32_t n_queries
    uint64_t counters[256]      # before the frame that is being fed

# What stands for the frame that is being fed, as the engine's link; and what the script's sockets report.
cdef int watch_begin(play_t *p) noexcept nogil          # 0, -1 without memory
cdef void watch_end(play_t *p) noexcept nogil
cdef flow_t *watch_flow(play_t *p, uint32_t peer, uint16_t guest_port, uint16_t peer_port,
                        uint8_t protocol) noexcept nogil
# The conversation bears its name from now on, whoever bore it before. -1 without room.
cdef int watch_bears(play_t *p, flow_t *w) noexcept nogil
cdef void watch_fed(play_t *p, flow_t *w, const frame_t *f) noexcept nogil
cdef void watch_differs(play_t *p, flow_t *w, uint8_t what, uint64_t a, uint64_t b) noexcept nogil
