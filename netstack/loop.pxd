# The engine's loop in C: ports, rounds, calls from other threads. netstack.engine wraps it for Python.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.capture.tap cimport tap_t
from netstack.host.poller cimport poller_t
from netstack.host.sync cimport pthread_cond_t, pthread_mutex_t
from netstack.iface.interface cimport iface_t
from netstack.iface.neighbors cimport neighbor
from netstack.link.impair cimport impair_config
from netstack.link.link cimport link_t
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport polled
from netstack.storage.frame cimport frame_meta
from netstack.host.sockets cimport iovec
from netstack.storage.wheel cimport wheel_t, wheel_timer
from netstack.switch cimport switch_t

cdef enum:
    MAX_PORTS = 256             # links; the gateway is port 0
    TIMER_FRAGMENTS = 64        # kinds of the engine's own timers
    TIMER_LINK = 65             # a full link is tried again; owner: the port

ctypedef struct port_t

ctypedef struct port_writer:    # what the poller knows of a full link
    polled polled
    port_t *port

ctypedef struct port_t:         # a link on the switch
    polled polled
    link_t *link
    int index
    uint8_t readable            # a read has not come to its end since the last edge
    uint8_t unflushed
    uint8_t closed
    uint8_t blocked             # flush said LINK_AGAIN: it is called again when the link can be written to
    uint8_t mac[6]              # given to the link by its handshake; zero when it has none
    int reserve                 # frames of room that TCP leaves to others
    uint64_t lost               # of link.tx_lost, as counted already
    char name[64]               # what captures call the link
    port_writer writer
    wheel_timer retry

cdef enum call_kind:
    CALL_ADD_PORT = 1
    CALL_REMOVE_PORT = 2
    CALL_ATTACH = 3
    CALL_SEND_UDP = 4
    CALL_NAMES = 5
    CALL_FLOWS = 7
    CALL_TAP = 8                # a capture's tap, or NULL: it ends
    CALL_NEIGHBOR = 9
    CALL_FORGET_PORT = 10
    CALL_PORT_MAC = 11
    CALL_HOLD = 12
    CALL_IMPAIR = 14
    CALL_NEIGHBORS = 15

ctypedef struct call_t:
    call_t *next
    int kind
    int done
    void *arg
    int64_t number
    int64_t result
    pthread_mutex_t lock
    pthread_cond_t ready

ctypedef struct impair_paths:   # CALL_IMPAIR: of every link that is the engine's own; whole = a good path again
    impair_config up, down
    uint8_t whole

ctypedef struct udp_out:        # CALL_SEND_UDP: a datagram of the gateway's services
    neighbor to                 # address, MAC and port; need not be in the table
    uint32_t src, dst
    uint16_t sport, dport
    const uint8_t *data
    uint32_t length

ctypedef struct port_mac:       # CALL_PORT_MAC
    int port
    uint8_t mac[6]

ctypedef struct held_address:   # CALL_HOLD
    uint32_t address
    uint8_t mac[6]
    uint8_t let_go              # nobody holds it any more
    int port                    # -1 = not known yet

ctypedef struct new_port:       # CALL_ADD_PORT
    link_t *link
    int fd
    const char *name

ctypedef struct engine_t:
    nat_t *nat
    iface_t *iface
    poller_t *poller
    wheel_t *wheel
    switch_t *switch
    port_t *ports[MAX_PORTS]
    port_t *dead_ports
    int n_ports                 # highest port in use + 1
    int guests                  # links in use
    uint8_t taken[MAX_PORTS]    # port numbers that the control plane knows; free again with CALL_FORGET_PORT
    uint8_t source_rule         # iface/source
    uint8_t isolated            # guests see the gateway and not each other
    int wake_read, wake_write
    int stop
    int running
    uint64_t now_ns
    wheel_timer fragments_timer
    tap_t *tap                  # NULL: nothing is captured
    uint8_t stepped             # now_ns is virtual
    call_t *calls
    uint64_t counters[256]


# Where nat sends frames: context is the engine_t.
cdef int engine_sink(void *context, int index, const frame_meta *meta, const iovec *iov, int n) noexcept nogil
# One round. True when work is left that no event will announce. virtual_ns replaces the clock unless it is 0.
cdef bint engine_round(engine_t *e, uint64_t timeout_ns, uint64_t virtual_ns) noexcept nogil
# When the next round is due at the latest, UINT64_MAX = never.
cdef uint64_t engine_deadline(engine_t *e) noexcept nogil
# Nanoseconds since 1970, or the virtual time of an engine that is stepped.
cdef uint64_t engine_time(const engine_t *e) noexcept nogil
# The loop, until engine_stop.
cdef void engine_run(engine_t *e) noexcept nogil
cdef void engine_stop(engine_t *e) noexcept nogil
# Has the engine do something between two bursts (at once when it does not run) and waits for it. Any thread.
cdef int64_t engine_call(engine_t *e, int kind, void *arg, int64_t number) noexcept nogil
# Stepping: links in memory are looked at without an edge.
cdef void engine_look_at_links(engine_t *e) noexcept nogil
# The end: what links have batched goes out, and they close.
cdef void engine_close_links(engine_t *e) noexcept nogil
