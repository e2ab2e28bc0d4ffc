# The name servers that queries are forwarded to: which zone goes where, which of them answer, and the sockets to them.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.sockets cimport udp_message
from netstack.nat.flow cimport dns_query, dns_socket
from netstack.storage.table cimport table_t
from netstack.wire.addr cimport addr_t

cdef enum:
    DNS_SERVERS = 64            # of all routes together
    DNS_ROUTES = 64             # zones with servers of their own, and the default
    DNS_ROUTE_SERVERS = 8
    DNS_SOCKETS = 16            # of one server that take queries
    DNS_BATCH = 32              # queries sent by one system call

ctypedef struct dns_server:
    addr_t addr
    uint16_t port
    uint16_t fails              # in a row
    uint32_t asker              # 0: by UDP at addr; else the control plane asks and knows it by this number
    uint64_t down_until_ns      # given up until then, 0 = not
    dns_socket *sockets[16]
    uint32_t n_sockets
    dns_socket *current         # takes the queries of this burst
    uint64_t burst              # that `current` was chosen for

ctypedef struct dns_route:
    uint8_t zone[255]           # lower case, as on the wire; the root for the default
    uint8_t zone_length
    uint8_t labels
    uint8_t n
    uint8_t servers[8]

ctypedef struct dns_plan:       # what the control plane gives
    dns_server servers[64]
    dns_route routes[64]
    uint32_t n_servers, n_routes

ctypedef struct dns_upstreams:
    dns_plan plan
    table_t *sent               # queries by (serial of a socket, id)
    dns_socket *open
    dns_socket *dead
    uint32_t serial
    uint64_t burst
    dns_query *batch[32]
    dns_socket *batch_socket
    uint32_t n_batch
    uint16_t random[128]
    uint32_t n_random           # of them not used yet

ctypedef struct sent_key:
    uint32_t serial
    uint16_t id
    uint16_t zero

cdef dns_upstreams *dns_upstreams_new(uint32_t max_queries, uint64_t k0, uint64_t k1) noexcept nogil
# The route of a question: the longest zone that its name lies in. -1: there is none, not even a default.
cdef int dns_route_of(const dns_upstreams *u, const uint8_t *query, uint32_t length) noexcept nogil
# Where in the query's route to ask next: servers in order, those that are given up last. -1: all have refused it.
cdef int dns_server_next(dns_upstreams *u, const dns_query *q, uint64_t now_ns) noexcept nogil
# Whether every server of a route is given up.
cdef bint dns_route_down(const dns_upstreams *u, int route, uint64_t now_ns) noexcept nogil
# True when the server is given up by this.
cdef bint dns_server_failed(dns_upstreams *u, int server, bint at_once, uint64_t now_ns) noexcept nogil
cdef void dns_server_answered(dns_upstreams *u, int server) noexcept nogil
# The same servers keep what is known of them.
cdef void dns_plan_replace(dns_upstreams *u, const dns_plan *plan) noexcept nogil
