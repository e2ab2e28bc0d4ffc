# One NAT entry of each kind. Hot fields first; all addresses are 128-bit.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.iface.neighbors cimport neighbor
from netstack.storage.lru cimport lru_node
from netstack.storage.wheel cimport wheel_timer
from netstack.tcp.tcb cimport tcb_t
from netstack.wire.addr cimport addr_t

cdef enum polled_kind:          # what a poller token points at: every polled thing begins with this tag
    POLLED_LINK = 1
    POLLED_WAKE = 2
    POLLED_TCP = 3
    POLLED_UDP = 4
    POLLED_PING = 5
    POLLED_DNS = 6
    POLLED_LINK_WRITE = 7       # a link that was full
    POLLED_FORWARD = 8

ctypedef struct polled:
    int kind
    int fd

ctypedef struct flow_key:       # 40 bytes
    addr_t guest
    addr_t peer                 # whom the guest believes it talks to
    uint16_t guest_port         # ICMP: the identifier
    uint16_t peer_port
    uint32_t protocol

cdef enum tcp_host_state:
    HOST_PENDING = 0            # the control plane has been asked for a descriptor
    HOST_CONNECTING = 1
    HOST_OPEN = 2
    HOST_CLOSED = 3             # the descriptor is closed

cdef enum tcp_origin:           # who has opened the connection
    ORIGIN_GUEST = 0
    ORIGIN_PUBLISHED = 1        # a client of a published port
    ORIGIN_DIALED = 2           # a program: the control plane is told how it ends (MAIL_DIALED)

ctypedef struct opening_t:      # what is said when a dialled connection is there (nat/opening); the bytes lie behind it
    uint32_t n_host             # first those for the host's client
    uint32_t n_guest            # then those for the guest

ctypedef struct tcp_flow:
    polled polled               # the host's descriptor, -1 when there is none
    uint8_t host                # tcp_host_state
    uint8_t connected           # the guest's handshake is complete
    uint8_t host_readable       # a read has not come to EAGAIN since the last edge
    uint8_t host_writable
    uint8_t host_rdhup          # an edge said that the host has ended its direction
    uint8_t host_eof            # the host's end of file (or a reset in its place) was read
    uint8_t host_reset
    uint8_t guest_fin           # the guest's FIN is in order
    uint8_t host_shut           # and was passed on
    uint8_t up_dead             # the host takes no more: what the guest sends is dropped
    uint8_t dead                # waits to be freed at the end of the round
    uint8_t touched             # is on the list below
    uint8_t origin              # tcp_origin
    uint8_t resolving           # waits for the guest's MAC: guest is NULL and nothing has been sent
    int host_error              # errno with which the host's side has failed, for those who record it
    int next_fd                 # takes the descriptor's place at its end of file (nat/tcp_host), or -1
    addr_t client               # of a published port: who it is
    uint16_t client_port
    uint32_t retransmits        # segments sent once more
    tcp_flow *next_touched
    tcp_flow *next_waiting      # ring of those that wait for room on one link; NULL when it does not wait
    tcp_flow *prev_waiting
    neighbor *guest             # NULL while resolving
    flow_key key
    uint64_t id                 # for the control plane
    uint64_t opened_ns
    uint64_t bytes_up, bytes_down
    int waits_for               # the port of that link (next_waiting)
    uint32_t ack_step           # bytes from one ACK to the next within a round, 0 = none yet
    opening_t *opening          # not said yet; NULL mostly
    wheel_timer timer
    tcb_t tcb

ctypedef struct udp_key:        # 24 bytes: endpoint-independent mapping (RFC 4787 REQ-1)
    addr_t guest
    uint16_t guest_port
    uint16_t zero
    uint32_t protocol

ctypedef struct udp_flow:       # also a ping flow: guest_port is then the identifier
    polled polled
    uint8_t two_way
    uint8_t readable
    uint8_t dead
    uint8_t diverted            # has been sent by a diversion: answers may come from its target
    uint8_t raw                 # a ping flow over a raw socket
    uint8_t fragments           # what the host's socket does with what is longer than its path: a fragments_mode
    uint16_t local_port         # of the host's socket, 0 = not known
    uint16_t ident              # what the host's socket uses as identifier
    neighbor *guest
    udp_key key
    udp_flow *next_dead         # waits to be freed at the end of the round
    lru_node recent
    uint64_t last_ns
    uint64_t packets_up, packets_down, bytes_up, bytes_down
    addr_t last_peer
    uint16_t last_peer_port
    wheel_timer timer

ctypedef struct dns_socket:     # one of the sockets to a name server; queries share it
    polled polled
    uint16_t server             # its number in dns_upstreams.servers
    uint8_t retired             # takes no more queries; closed when its last one has ended
    uint8_t dead                # waits to be freed at the end of the round
    uint32_t serial             # with the id of a query the key of dns_upstreams.sent
    uint32_t pending            # queries that wait for their answer
    uint32_t sent
    dns_socket *next            # of those that are open, or of the dead
    dns_socket *previous
    wheel_timer timer

ctypedef struct dns_query:      # a query on its way to a name server
    uint8_t dead
    uint8_t route               # its number in dns_upstreams.routes
    uint8_t next_server         # where in the route's list to go on
    uint8_t failed              # a bit for each of the route's servers that has refused it
    uint8_t attempts
    uint8_t asked_control       # the control plane is asking (DNS over TLS, a hook)
    uint8_t batched             # waits to be sent with others
    uint8_t stale               # the cache has an answer whose time is over
    uint8_t answered            # the guest has that one; what comes now is for the cache
    uint16_t server             # that is being asked
    uint16_t guest_id           # the id that the guest chose; ours is in query[0:2]
    dns_socket *socket          # through which it was sent, or NULL
    neighbor *guest
    udp_key key                 # guest address and port; protocol holds the guest's id
    uint32_t length
    uint32_t src_v4             # the address that the guest asked
    uint64_t start_ns
    wheel_timer timer
    uint8_t query[512]
    uint8_t *long_query         # instead, when it is longer than that

ctypedef struct socks_relay:    # the datagrams of one SOCKS client (RFC 1928 section 7)
    addr_t client               # only from this address
    uint16_t client_port        # and this port, 0 = any
    uint16_t own_port           # of the socket
    uint8_t domain_length
    uint8_t domain[255]         # where names without a dot are looked for, as text

ctypedef struct forward_t:      # a published port: a listening socket, or a UDP socket
    polled polled
    uint8_t protocol            # 6 or 17
    uint8_t as_gateway          # clients appear as the gateway
    uint8_t dead
    uint8_t readable            # a read has not come to its end since the last edge
    uint8_t fragments           # a fragments_mode
    uint32_t guest              # IPv4; 0 while nobody is known by the rule's name
    uint16_t guest_port
    uint64_t rule               # of the control plane; a range has many sockets
    socks_relay *socks          # NULL: every datagram goes to the one guest above
    forward_t *next
    forward_t *previous
    wheel_timer timer

ctypedef struct client_key:     # 48 bytes: who has sent to which socket, at which address of the host, for whom
    addr_t addr
    addr_t local                # zero where the socket has one address only
    uint64_t forward            # the socket
    uint32_t guest
    uint16_t port
    uint16_t guest_port

ctypedef struct forward_client:     # one client of a published UDP port
    flow_key key                # as the guest sees it
    client_key client           # as the host does
    forward_t *through
    uint32_t interface          # of the host, where the client's address is valid on that one only
    uint8_t two_way
    uint64_t last_ns
    lru_node recent
    wheel_timer timer
