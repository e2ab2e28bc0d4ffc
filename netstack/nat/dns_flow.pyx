"""Forwarding of DNS queries, raw: every record type and rcode comes through as the upstream gave it.

Each query has a socket of its own, so that its source port is random and an ICMP error is its own, and an id of
its own.
An upstream that refuses or stays silent is followed by the next; when all have failed the guest gets SERVFAIL, never
silence. The table of pending queries is bounded.
"""
from libc.errno cimport EAGAIN
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from netstack.host.clock cimport random_fill
from netstack.host.poller cimport POLL_ERROR, POLL_READ, poller_add, poller_rearm, poller_remove
from netstack.host.sockets cimport (
    sock_close, sock_error, sock_recv_error, sock_udp_connect, sock_udp_open, sock_udp_recv, sock_udp_send, udp_message,
)
from netstack.iface.packet cimport packet
from netstack.nat.context cimport MAIL_RESOLVER_CHECK, nat_post, nat_send_udp, nat_t
from netstack.nat.flow cimport POLLED_DNS, dns_query, udp_key
from netstack.services.dns cimport DNS_ANSWERED, DNS_FORWARD, dns_answer, dns_failure, dns_match
from netstack.storage.counters cimport (
    DNS_ANSWERED as COUNT_ANSWERED, DNS_FAILOVERS, DNS_FORWARDED, DNS_JUNK, DNS_PENDING_FULL, DNS_REPLIES,
    DNS_REPLY_MISMATCH, DNS_SERVFAIL, count,
)
from netstack.storage.pool cimport pool_get, pool_put
from netstack.storage.table cimport table_del, table_get, table_len, table_next, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer_init
from netstack.wire.addr cimport addr_t, addr_v4
from netstack.wire.be cimport be16, put_be16

cdef enum:
    MAX_UDP_ANSWER = 4096           # what our own answers may have, whatever the guest's EDNS says
    SERVFAIL = 2
    TRIES = 2                       # rounds over all upstreams
    CHECK_NS = 1000000000


cdef uint8_t *text_of(dns_query *q) noexcept nogil:
    return q.long_query if q.long_query != NULL else q.query


cdef void close_socket(nat_t *nat, dns_query *q) noexcept nogil:
    if q.polled.fd >= 0:
        poller_remove(nat.poller, q.polled.fd)
        sock_close(q.polled.fd)
        q.polled.fd = -1


cdef void bury(nat_t *nat, dns_query *q) noexcept nogil:
    if q.dead:
        return
    q.dead = 1
    close_socket(nat, q)
    wheel_cancel(nat.wheel, &q.timer)
    table_del(nat.dns_queries, &q.key)
    q.timer.owner = nat.dead_dns        # the list of the dead
    nat.dead_dns = q


cdef void answer(nat_t *nat, dns_query *q, const uint8_t *message, uint32_t length, uint64_t now_ns) noexcept nogil:
    nat_send_udp(nat, q.guest, q.src_v4, 53, addr_v4(&q.key.guest), q.key.guest_port, message, length, 0, now_ns)


cdef void fail(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[1024] out
    cdef uint8_t *query = text_of(q)
    cdef int n
    put_be16(query, q.guest_id)
    n = dns_failure(query, q.length, SERVFAIL, out, sizeof(out))
    count(nat.counters, DNS_SERVFAIL)
    if n > 0:
        answer(nat, q, out, n, now_ns)
    bury(nat, q)


cdef bint send_to(nat_t *nat, dns_query *q) noexcept nogil:
    """Opens a socket to the current upstream and sends; False when that failed at once."""
    cdef addr_t *to = &nat.upstreams[q.upstream].addr
    cdef udp_message m
    cdef uint16_t id = 0
    q.polled.fd = sock_udp_open(<const uint8_t *>to, &nat.options)
    if q.polled.fd < 0:
        return False
    random_fill(&id, 2)
    put_be16(text_of(q), id)
    memset(&m, 0, sizeof(m))
    memcpy(m.addr, to, 16)
    m.port = nat.upstreams[q.upstream].port
    m.data = text_of(q)
    m.length = q.length
    m.gso_size = 0
    m.ttl = 0
    m.tos = 0
    if (sock_udp_connect(q.polled.fd, m.addr, m.port) < 0
            or poller_add(nat.poller, q.polled.fd, POLL_READ, &q.polled) < 0
            or sock_udp_send(q.polled.fd, &m, 1) != 1):
        close_socket(nat, q)
        return False
    return True


cdef void forward(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    """Sends to the current upstream or the first behind it that takes the query; SERVFAIL when none does."""
    cdef uint64_t wait
    while q.attempts < TRIES * nat.n_upstreams:
        q.upstream = <uint8_t>(q.attempts % nat.n_upstreams)
        q.attempts += 1
        if q.attempts > 1:
            count(nat.counters, DNS_FAILOVERS)
        if send_to(nat, q):
            # the first round is quick where another upstream stands behind; a resolver's usual patience is 5 s
            wait = nat.settings.dns_timeout_ns // (TRIES * nat.n_upstreams)
            wheel_arm(nat.wheel, &q.timer, now_ns + wait)
            return
    fail(nat, q, now_ns)


cdef void dns_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef dns_query *q
    cdef udp_key key
    cdef size_t n = 0
    cdef int verdict
    verdict = dns_answer(nat.names, p.payload, p.payload_length, nat.recv_memory, MAX_UDP_ANSWER, &n, MAX_UDP_ANSWER)
    if verdict == DNS_ANSWERED:
        count(nat.counters, COUNT_ANSWERED)
        nat_send_udp(nat, p.guest, p.ip.dst, 53, p.ip.src, p.udp.sport, nat.recv_memory, <uint32_t>n, 0, now_ns)
        return
    if verdict != DNS_FORWARD:
        count(nat.counters, DNS_JUNK)
        return
    key.guest = p.src
    key.guest_port = p.udp.sport
    key.zero = 0
    key.protocol = be16(p.payload)
    if table_get(nat.dns_queries, &key) != NULL:
        return                          # asked again while it is under way
    q = <dns_query *>pool_get(nat.dns_pool) if table_len(nat.dns_queries) < nat.settings.max_dns else NULL
    if q != NULL and p.payload_length > sizeof(q.query):
        q.long_query = <uint8_t *>malloc(p.payload_length)
        if q.long_query == NULL:
            pool_put(nat.dns_pool, q)
            q = NULL
    if q == NULL:
        count(nat.counters, DNS_PENDING_FULL)
        n = <size_t>dns_failure(p.payload, p.payload_length, SERVFAIL, nat.recv_memory, MAX_UDP_ANSWER)
        if <int>n > 0:
            nat_send_udp(nat, p.guest, p.ip.dst, 53, p.ip.src, p.udp.sport, nat.recv_memory, <uint32_t>n, 0, now_ns)
        return
    q.polled.kind = POLLED_DNS
    q.polled.fd = -1
    q.guest = p.guest
    q.key = key
    q.guest_id = be16(p.payload)
    q.length = p.payload_length
    q.src_v4 = p.ip.dst
    memcpy(text_of(q), p.payload, p.payload_length)
    wheel_timer_init(&q.timer, TIMER_DNS, q)
    if table_put(nat.dns_queries, &q.key, q) < 0:
        free(q.long_query)
        pool_put(nat.dns_pool, q)
        count(nat.counters, DNS_PENDING_FULL)
        return
    count(nat.counters, DNS_FORWARDED)
    if now_ns - nat.resolver_checked_ns > CHECK_NS:
        nat.resolver_checked_ns = now_ns
        nat_post(nat, MAIL_RESOLVER_CHECK, NULL, 0, NULL, 0)
    forward(nat, q, now_ns)


cdef void dns_flow_host_event(nat_t *nat, dns_query *q, uint32_t events, uint64_t now_ns) noexcept nogil:
    cdef udp_message m
    cdef sock_error e
    cdef int n
    if not q.dead and events & POLL_ERROR and q.polled.fd >= 0:
        e.payload = nat.recv_memory
        e.payload_length = 576
        if sock_recv_error(q.polled.fd, &e) > 0:    # refused or unreachable
            close_socket(nat, q)
            forward(nat, q, now_ns)
            return
    while not q.dead and q.polled.fd >= 0:
        m.data = nat.recv_memory
        m.length = 65536
        n = sock_udp_recv(q.polled.fd, &m, 1)
        if n == -EAGAIN or n == 0:
            poller_rearm(nat.poller, q.polled.fd, POLL_READ)
            return
        if n < 0:
            close_socket(nat, q)
            forward(nat, q, now_ns)
            return
        if m.length < 12 or not dns_match(text_of(q), q.length, m.data, m.length):
            count(nat.counters, DNS_REPLY_MISMATCH)
            continue
        put_be16(m.data, q.guest_id)
        count(nat.counters, DNS_REPLIES)
        answer(nat, q, m.data, m.length, now_ns)
        bury(nat, q)


cdef void dns_flow_timer(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    if q.dead:
        return
    close_socket(nat, q)
    forward(nat, q, now_ns)


cdef void dns_flows_restart(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef dns_query *q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while q != NULL:
        close_socket(nat, q)
        q.attempts = 0
        forward(nat, q, now_ns)
        q = <dns_query *>table_next(nat.dns_queries, &cursor)


cdef void dns_flows_reap(nat_t *nat) noexcept nogil:
    cdef dns_query *q = nat.dead_dns
    cdef dns_query *next_query
    nat.dead_dns = NULL
    while q != NULL:
        next_query = <dns_query *>q.timer.owner
        free(q.long_query)
        pool_put(nat.dns_pool, q)
        q = next_query


cdef void dns_flows_free_all(nat_t *nat) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef dns_query *q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while q != NULL:
        bury(nat, q)
        q = <dns_query *>table_next(nat.dns_queries, &cursor)
    dns_flows_reap(nat)
