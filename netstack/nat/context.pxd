# What every kind of flow works with: one nat_t per engine.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.poller cimport poller_t
from netstack.host.sockets cimport iovec, sock_options, udp_message
from netstack.iface.interface cimport iface_t
from netstack.iface.neighbors cimport neighbor
from netstack.iface.packet cimport packet
from netstack.nat.dns_cache cimport dns_cache
from netstack.nat.dns_servers cimport dns_upstreams
from netstack.nat.flow cimport dns_query, flow_key, forward_client, forward_t, tcp_flow, udp_flow, udp_key
from netstack.services.dns_table cimport dns_table
from netstack.storage.decision cimport decision_t
from netstack.storage.frame cimport frame_meta
from netstack.storage.lru cimport lru_t
from netstack.storage.mailbox cimport mailbox_t
from netstack.storage.pool cimport pool_t
from netstack.storage.table cimport table_t
from netstack.storage.wheel cimport wheel_t
from netstack.tcp.tcb cimport tcp_config, tcp_memory
from netstack.wire.addr cimport addr_t

# Where frames to the guests go. The engine gives it; nat does not know links.
ctypedef int (*frame_sink)(void *context, int port, const frame_meta *meta, const iovec *iov, int n) noexcept nogil

# Chooses a connection's initial sequence number and the offset of its timestamp clock in place of the ones that nat
# has made, where it knows better (a replay: those of the capture).
ctypedef void (*sequence_hook)(void *context, const flow_key *key, uint32_t *iss, uint32_t *ts_offset,
                               uint64_t now_ns) noexcept nogil

cdef enum:
    NAT_PORTS = 256                 # links that frames can go to
    UDP_BATCH = 32                  # datagrams sent or received by one system call
    UDP_BATCH_BYTES = 131072        # copied at most into one batch
    UDP_RECV_BATCH = 32
    UDP_RECV_ROOM = 65536

cdef enum mail_kind:                # messages to the control plane
    MAIL_DHCP = 1                   # mail_dhcp, then the message
    MAIL_PENDING_FLOW = 2           # mail_flow: a descriptor is wanted
    MAIL_LINK_CLOSED = 3            # int port
    MAIL_PING_FORBIDDEN = 4
    MAIL_RESOLVER_CHECK = 5         # queries are being forwarded: is the configuration still the same?
    MAIL_FLOW_GONE = 6              # uint64 id of a pending flow that the guest gave up
    MAIL_DNS_ASK = 7                # mail_dns_ask, then the query: a server that the control plane asks
    MAIL_CAPTURE = 8                # frames are missing in the capture, or it has ended by itself
    MAIL_DIALED = 16                # mail_dialed: a dial has succeeded or failed
    MAIL_ECHO_REPLY = 17            # mail_echo: a guest has answered the gateway's ping

cdef enum:
    PORT_ALL = -1                   # as a frame_sink's port: every guest's

ctypedef struct mail_dhcp:
    int port
    uint8_t mac[6]
    uint16_t zero
    uint32_t src
    uint32_t dst

ctypedef struct mail_flow:
    uint64_t id
    addr_t guest
    addr_t peer
    uint16_t guest_port
    uint16_t peer_port
    uint32_t zero

ctypedef struct divert_key:         # 8 bytes
    uint32_t addr
    uint16_t port
    uint16_t protocol

ctypedef struct divert_prefix_t:
    uint32_t addr
    uint32_t mask
    uint16_t port                   # 0 = any
    uint16_t protocol               # 6: the control plane connects; 17: refused

ctypedef struct mail_dialed:
    uint64_t id
    int error                       # errno, 0 = connected
    uint32_t zero

ctypedef struct mail_echo:
    uint64_t now_ns
    uint32_t guest
    uint16_t ident
    uint16_t sequence
    uint32_t length                 # bytes behind the ICMP header
    uint32_t ttl

ctypedef struct mail_dns_ask:       # comes back with the answer (COMMAND_DNS_ANSWER)
    udp_key key
    uint32_t attempt
    uint32_t asker                  # number of the server, as the control plane has given it

ctypedef struct nat_settings:
    uint64_t udp_one_way_ns
    uint64_t udp_two_way_ns
    uint64_t dns_timeout_ns
    uint64_t ping_timeout_ns
    uint64_t connect_timeout_ns
    uint32_t max_tcp, max_udp, max_ping, max_dns
    uint32_t dns_cache              # answers kept at most, 0 = none
    uint8_t all_pending             # every connection is asked of the control plane (a replaceable dialler)

ctypedef struct nat_t:
    iface_t *iface
    poller_t *poller
    wheel_t *wheel
    uint64_t *counters
    mailbox_t mailbox
    int mail_fd                     # woken when something was posted
    frame_sink sink
    void *sink_context
    sequence_hook sequence          # NULL: RFC 6528
    void *sequence_context
    decision_t decided              # about the guest's frame at hand, for those who record it
    decision_t told                 # about the frame that is being sent
    nat_settings settings
    sock_options options
    uint64_t k0, k1                 # secrets of this engine
    uint64_t next_id
    tcp_config tcp
    tcp_memory memory
    table_t *tcp_table
    pool_t *tcp_pool
    tcp_flow *touched
    tcp_flow *dead_tcp
    uint32_t tcp_freed              # flows since memory was last given back to the system
    uint8_t port_full[NAT_PORTS]    # set by the owner of the links: TCP had better wait until it calls nat_port_ready
    tcp_flow *waiting[NAT_PORTS]    # flows that do, oldest first, as a ring
    table_t *udp_table
    pool_t *udp_pool
    lru_t udp_recent
    udp_flow *dead_udp
    table_t *ping_table
    table_t *dns_queries
    pool_t *dns_pool
    dns_query *dead_dns
    dns_upstreams *upstreams
    dns_cache *cache                # NULL = none
    # connections and datagrams into guests
    table_t *resolutions            # guest addresses that have been asked for by ARP
    uint32_t neighbor_changes       # of the interface's neighbours, when they were last looked at
    forward_t *forwards
    forward_t *dead_forwards
    table_t *clients                # of published UDP ports, by client_key
    table_t *client_keys            # the same by flow_key
    lru_t client_recent
    table_t *diversions             # addresses and ports of the virtual network with a server behind them (nat/divert)
    divert_prefix_t prefixes[256]   # outgoing TCP that the control plane connects, and UDP that is refused
    uint32_t n_prefixes
    uint32_t echo_credit            # replies to the gateway's own pings that are still awaited
    const dns_table *names
    uint64_t resolver_checked_ns
    uint8_t ping_warned
    # ports of the host's loopback that guests find closed, a bit each (nat/policy): sockets of UDP flows and proxies
    uint8_t hidden_udp[8192]
    uint8_t hidden_tcp[8192]
    uint8_t udp_gso                 # the host's sockets can segment (UDP_SEGMENT)
    # datagrams of one flow that wait to go up by one system call
    udp_flow *batch_flow
    int batch_n
    uint32_t batch_bytes
    udp_message batch[UDP_BATCH]
    uint8_t *batch_memory           # UDP_BATCH_BYTES
    uint8_t *recv_memory            # UDP_RECV_BATCH * UDP_RECV_ROOM, with headroom in front
    uint8_t scratch[65536 + 128]    # one packet under construction

# Notes what has been decided about the guest's frame at hand.
cdef void nat_decide(nat_t *nat, uint8_t kind, const addr_t *target, uint16_t port, uint16_t local,
                     bint translated) noexcept nogil
# Sends an IP payload (transport header and data, checksum complete) to a guest, in fragments where it must be.
cdef void nat_send_ip(nat_t *nat, const neighbor *to, uint32_t src, uint32_t dst, uint8_t protocol, uint8_t tos,
                      const uint8_t *data, uint32_t length) noexcept nogil
# Sends an ICMP error from the address src (0 = the gateway) to a guest about the IP datagram at original.
cdef void nat_send_icmp_error(nat_t *nat, const neighbor *to, uint32_t src, uint8_t type, uint8_t code, uint32_t rest,
                              const uint8_t *original, uint32_t length, uint64_t now_ns) noexcept nogil
# UDP to a guest with a complete checksum.
cdef void nat_send_udp(nat_t *nat, const neighbor *to, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport,
                       const uint8_t *payload, uint32_t length, uint8_t tos, uint64_t now_ns) noexcept nogil
# Asks all guests for the MAC of an address.
cdef void nat_send_arp_request(nat_t *nat, uint32_t target) noexcept nogil
cdef int nat_post(nat_t *nat, uint32_t kind, const void *head, uint32_t head_length, const void *body,
                  uint32_t body_length) noexcept nogil
# The guest's view of a host address: loopback is the host alias. False where the guest may not see it.
cdef bint nat_peer_seen(nat_t *nat, const uint8_t *addr, uint32_t *v4) noexcept nogil
# How a guest sees a client on the host's side: by its own address where the guest can answer it; the loopback,
# and a Unix socket, as the host alias; everybody else as the gateway.
cdef uint32_t nat_client_seen(const nat_t *nat, bint as_gateway, const uint8_t *addr) noexcept nogil
# The peer's port of what begins on the host's side: the wanted one, or else a dynamic one that makes key unique among
# those taken; the search begins where a and b say. False without any.
cdef bint nat_peer_port(const nat_t *nat, const table_t *taken, flow_key *key, uint16_t wanted, uint64_t a,
                        uint64_t b) noexcept nogil


cdef inline bint nat_may_join(const nat_t *nat) noexcept nogil:
    """Whether datagrams may leave as one message: a scripted host is told of each by itself."""
    return nat.udp_gso and nat.options.script == NULL
