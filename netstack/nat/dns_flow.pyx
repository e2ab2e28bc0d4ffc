"""Forwarding of DNS queries, raw: every record type, option and rcode comes through as the name server gave it.

A query has an id of its own on the way up, and goes out of a port that is hard to guess: at a low rate each has a
socket of its own, at a high rate a server's sixteen sockets share them, a burst at a time, and each is replaced after a
second or a thousand queries. A server that refuses, fails (SERVFAIL, NOTIMP, REFUSED) or stays silent is followed by
the next; when all have failed the guest gets what the cache still has (RFC 8767) or SERVFAIL, never silence. The table
of pending queries is bounded.

A server may also be one that the control plane asks (DNS over TLS, a hook of a Python program): the query is mailed,
and the answer comes back by a command.
"""
from libc.errno cimport EAGAIN
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from netstack.host.clock cimport random_fill
from netstack.host.poller cimport POLL_ERROR, POLL_READ, poller_add, poller_rearm, poller_remove
from netstack.host.outbound cimport sock_is_loopback, sock_options, sock_options_near
from netstack.host.sockets cimport (
    sock_close, sock_error, sock_recv_error, sock_udp_connect,
    sock_udp_open, sock_udp_recv, sock_udp_send, udp_message,
)
from netstack.iface.packet cimport packet
from netstack.nat.context cimport (
    MAIL_DNS_ASK, MAIL_RESOLVER_CHECK, UDP_RECV_BATCH, UDP_RECV_ROOM, mail_dns_ask, nat_may_join, nat_post,
    nat_send_udp, nat_t,
)
from netstack.nat.dns_cache cimport (
    dns_cache_clear, dns_cache_free, dns_cache_get, dns_cache_has_stale, dns_cache_put,
)
from netstack.nat.dns_servers cimport (
    DNS_BATCH, DNS_SOCKETS, dns_plan, dns_plan_replace, dns_route, dns_route_down, dns_route_of, dns_server,
    dns_server_answered, dns_server_failed, dns_server_next, dns_upstreams, sent_key,
)
from netstack.nat.flow cimport POLLED_DNS, dns_query, dns_socket, udp_key
from netstack.services.dns cimport (
    DNS_ANSWERED, DNS_FORWARD, dns_answer, dns_client_limit, dns_failure, dns_match, dns_truncate,
)
from netstack.storage.counters cimport (
    DNS_ANSWERED as COUNT_ANSWERED, DNS_CACHED, DNS_FAILOVERS, DNS_FORWARDED, DNS_JUNK, DNS_PENDING_FULL, DNS_REPLIES,
    DNS_REPLY_MISMATCH, DNS_SERVERS_DOWN, DNS_SERVFAIL, DNS_STALE, DNS_TRUNCATED, count,
)
from netstack.storage.pool cimport pool_get, pool_put
from netstack.storage.table cimport table_del, table_free, table_get, table_len, table_next, table_put
from netstack.storage.wheel cimport wheel_arm, wheel_cancel, wheel_timer_init
from netstack.wire.addr cimport addr_from_v4, addr_is_v4, addr_t, addr_v4
from netstack.wire.be cimport be16, put_be16
from netstack.wire.dns cimport DNS_NOTIMP, DNS_RCODE, DNS_REFUSED, DNS_SERVFAIL as SERVFAIL

cdef enum:
    MAX_UDP_ANSWER = 4096           # what our own answers may have, whatever the guest's EDNS says
    ANY_UDP = 65507
    CHECK_NS = 1000000000
    STEP_NS = 750000000             # for the first answer; doubled for each round over all servers
    STALE_NS = 1800000000           # RFC 8767 section 5: a stale answer is given when there is none after this
    SOCKET_NS = 1000000000          # that a socket takes queries
    SOCKET_QUERIES = 1024
    ID_TRIES = 16
    JOINED_QUERY = 512              # bytes of a query that is sent joined with others
    STALE_AT = 32768                # in nat.scratch, whose front a datagram in fragments takes
    STALE_ROOM = 32768


# --- sockets

cdef uint16_t chance(dns_upstreams *u) noexcept nogil:
    """A number that nobody can guess; the system is asked for many at a time."""
    if u.n_random == 0:
        random_fill(u.random, sizeof(u.random))
        u.n_random = sizeof(u.random) // 2
    u.n_random -= 1
    return u.random[u.n_random]


cdef inline uint8_t *text_of(dns_query *q) noexcept nogil:
    return q.long_query if q.long_query != NULL else q.query


cdef void close_socket(nat_t *nat, dns_socket *s) noexcept nogil:
    """Its descriptor at once, its memory at the end of the round: events may still name it."""
    cdef dns_upstreams *u = nat.upstreams
    retire(u, s)
    if s.dead:
        return
    s.dead = 1
    if u.batch_socket == s:
        u.n_batch = 0
        u.batch_socket = NULL
    wheel_cancel(nat.wheel, &s.timer)
    poller_remove(nat.poller, s.polled.fd)
    sock_close(s.polled.fd)
    if s.next != NULL:
        s.next.previous = s.previous
    if s.previous != NULL:
        s.previous.next = s.next
    else:
        u.open = s.next
    s.next = u.dead
    u.dead = s


cdef void retire(dns_upstreams *u, dns_socket *s) noexcept nogil:
    cdef dns_server *server = &u.plan.servers[s.server]
    cdef uint32_t i
    if s.retired:
        return
    s.retired = 1
    if server.current == s:
        server.current = NULL
    for i in range(server.n_sockets):
        if server.sockets[i] == s:
            server.n_sockets -= 1
            server.sockets[i] = server.sockets[server.n_sockets]
            return


cdef dns_socket *open_socket(nat_t *nat, int number, uint64_t now_ns) noexcept nogil:
    cdef dns_upstreams *u = nat.upstreams
    cdef dns_server *server = &u.plan.servers[number]
    cdef const uint8_t *address = <const uint8_t *>&server.addr
    cdef addr_t wildcard = addr_from_v4(0)
    cdef sock_options options = nat.options
    cdef dns_socket *s = <dns_socket *>calloc(1, sizeof(dns_socket))
    if s == NULL:
        return NULL
    s.polled.kind = POLLED_DNS
    if not addr_is_v4(&server.addr):
        memset(&wildcard, 0, sizeof(wildcard))
    if sock_is_loopback(address):
        options = sock_options_near(&nat.options)
    s.polled.fd = sock_udp_open(<const uint8_t *>&wildcard, &options)
    if s.polled.fd < 0:
        free(s)
        return NULL
    if (sock_udp_connect(s.polled.fd, address, server.port) < 0
            or poller_add(nat.poller, s.polled.fd, POLL_READ, &s.polled) < 0):
        sock_close(s.polled.fd)
        free(s)
        return NULL
    u.serial += 1
    s.serial = u.serial
    s.server = <uint16_t>number
    s.next = u.open
    if u.open != NULL:
        u.open.previous = s
    u.open = s
    server.sockets[server.n_sockets] = s
    server.n_sockets += 1
    wheel_timer_init(&s.timer, TIMER_DNS_SOCKET, s)
    wheel_arm(nat.wheel, &s.timer, now_ns + SOCKET_NS)
    return s


cdef dns_socket *socket_to(nat_t *nat, int number, uint64_t now_ns) noexcept nogil:
    """The socket for the queries of this burst: a new one, or any of those there are."""
    cdef dns_upstreams *u = nat.upstreams
    cdef dns_server *server = &u.plan.servers[number]
    cdef dns_socket *s = server.current
    if s != NULL and server.burst == u.burst:
        return s
    if server.n_sockets < DNS_SOCKETS:
        s = open_socket(nat, number, now_ns)
        if s == NULL and server.n_sockets == 0:
            return NULL
    if s == NULL or server.n_sockets >= DNS_SOCKETS:
        s = server.sockets[chance(u) % server.n_sockets]
    server.current = s
    server.burst = u.burst
    return s


cdef void dns_socket_timer(nat_t *nat, dns_socket *s) noexcept nogil:
    retire(nat.upstreams, s)
    if s.pending == 0:
        close_socket(nat, s)


cdef void let_go(nat_t *nat, dns_query *q) noexcept nogil:
    """The query waits for no server any more."""
    cdef dns_socket *s = q.socket
    cdef sent_key key
    q.asked_control = 0
    if q.batched:
        send_batch(nat, 0)
        q.batched = 0
    if s == NULL:
        return
    q.socket = NULL
    key.serial = s.serial
    key.id = be16(text_of(q))
    key.zero = 0
    table_del(nat.upstreams.sent, &key)
    s.pending -= 1
    if s.pending == 0 and s.retired and not s.dead:
        close_socket(nat, s)


# --- sending

cdef void send_batch(nat_t *nat, uint64_t now_ns) noexcept nogil:
    """Sends what waits; with the time, what could not be sent is asked of the next server.

    Queries of one length leave as one message that the kernel cuts (UDP_SEGMENT): most of what a datagram costs is its
    way through the kernel.
    """
    cdef dns_upstreams *u = nat.upstreams
    cdef udp_message[DNS_BATCH] m
    cdef dns_query *queries[DNS_BATCH]
    cdef int[DNS_BATCH + 1] first       # query of each message
    cdef dns_socket *s = u.batch_socket
    cdef uint8_t *text = nat.scratch
    cdef int n = <int>u.n_batch
    cdef int i = 0, j, messages = 0, sent = 0, r
    cdef uint32_t length
    cdef bint join = nat_may_join(nat)
    if n == 0:
        return
    u.n_batch = 0
    u.batch_socket = NULL
    for i in range(n):                  # by length; there are few
        u.batch[i].batched = 0
        j = i
        while j > 0 and queries[j - 1].length > u.batch[i].length:
            queries[j] = queries[j - 1]
            j -= 1
        queries[j] = u.batch[i]
    i = 0
    while i < n:
        length = queries[i].length
        j = i + 1
        while join and length <= JOINED_QUERY and j < n and queries[j].length == length:
            j += 1
        memset(&m[messages], 0, sizeof(udp_message))
        memcpy(m[messages].addr, &u.plan.servers[s.server].addr, 16)
        m[messages].data = text_of(queries[i])
        m[messages].length = length
        first[messages] = i
        if j - i > 1:
            m[messages].data = text
            m[messages].length = length * (j - i)
            m[messages].gso_size = <uint16_t>length
        while i < j:
            if m[messages].gso_size:
                memcpy(text, text_of(queries[i]), length)
                text += length
            i += 1
        messages += 1
    first[messages] = n
    while sent < messages:
        r = sock_udp_send(s.polled.fd, m + sent, messages - sent)
        if r <= 0:
            break
        sent += r
    if sent < messages and now_ns:
        failed(nat, s.server, True, now_ns)
        for i in range(first[sent], n):
            refused(nat, queries[i], now_ns)


cdef bint send_query(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    """Sends to the query's server, or has it sent at the end of the burst; False when that cannot be."""
    cdef dns_upstreams *u = nat.upstreams
    cdef dns_server *server = &u.plan.servers[q.server]
    cdef dns_socket *s
    cdef mail_dns_ask mail
    cdef sent_key key
    cdef uint16_t id = 0
    if server.asker:
        q.asked_control = 1
        memset(&mail, 0, sizeof(mail))
        mail.key = q.key
        mail.attempt = q.attempts
        mail.asker = server.asker
        return nat_post(nat, MAIL_DNS_ASK, &mail, sizeof(mail), text_of(q), q.length) == 0
    s = socket_to(nat, q.server, now_ns)
    if s == NULL:
        return False
    key.serial = s.serial
    key.zero = 0
    for _ in range(ID_TRIES):
        key.id = id = chance(u)
        if table_get(u.sent, &key) == NULL:
            break
    put_be16(text_of(q), id)
    if table_put(u.sent, &key, q) < 0:
        return False
    q.socket = s
    s.pending += 1
    s.sent += 1
    if s.sent >= SOCKET_QUERIES:
        retire(u, s)
    batch(nat, q, now_ns)
    return True


cdef void batch(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef dns_upstreams *u = nat.upstreams
    if q.batched:
        return
    if u.batch_socket != q.socket or u.n_batch == DNS_BATCH:
        send_batch(nat, now_ns)
    q.batched = 1
    u.batch_socket = q.socket
    u.batch[u.n_batch] = q
    u.n_batch += 1


cdef void dns_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil:
    nat.upstreams.burst += 1
    while nat.upstreams.n_batch:
        send_batch(nat, now_ns)


# --- a query's life

cdef void bury(nat_t *nat, dns_query *q) noexcept nogil:
    if q.dead:
        return
    let_go(nat, q)
    q.dead = 1
    wheel_cancel(nat.wheel, &q.timer)
    table_del(nat.dns_queries, &q.key)
    q.timer.owner = nat.dead_dns        # the list of the dead
    nat.dead_dns = q


cdef void to_guest(nat_t *nat, const dns_query *q, const uint8_t *query, uint8_t *message, uint32_t length,
                   uint64_t now_ns) noexcept nogil:
    """Whole where the client takes it so, else cut, with TC: it will ask again by TCP. ``message`` may be changed."""
    cdef uint32_t limit = ANY_UDP
    if length > 512:
        limit = dns_client_limit(query, q.length, ANY_UDP)
        if length > limit:
            count(nat.counters, DNS_TRUNCATED)
            length = dns_truncate(message, length, limit, message, length)
    put_be16(message, q.guest_id)
    nat_send_udp(nat, q.guest, q.src_v4, 53, addr_v4(&q.key.guest), q.key.guest_port, message, length, 0, now_ns)


cdef bint give_stale(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef uint8_t *out = nat.scratch + STALE_AT
    cdef int n
    if q.answered or not q.stale:
        return False
    n = dns_cache_get(nat.cache, text_of(q), q.length, True, now_ns, out, STALE_ROOM)
    if n <= 0:
        return False
    q.answered = 1
    count(nat.counters, DNS_STALE)
    to_guest(nat, q, text_of(q), out, n, now_ns)
    return True


cdef void fail(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[1024] out
    cdef int n
    if not q.answered and not give_stale(nat, q, now_ns):
        n = dns_failure(text_of(q), q.length, SERVFAIL, out, sizeof(out))
        count(nat.counters, DNS_SERVFAIL)
        if n > 0:
            to_guest(nat, q, text_of(q), out, n, now_ns)
    bury(nat, q)


cdef void ask(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    """Sends to the next server that takes the query; the guest hears of it when none does."""
    cdef dns_upstreams *u = nat.upstreams
    cdef const dns_route *route
    cdef uint64_t step, until = q.start_ns + nat.settings.dns_timeout_ns
    cdef bint again
    cdef int at
    while now_ns < until and q.route < u.plan.n_routes:
        at = dns_server_next(u, q, now_ns)
        if at < 0:
            break
        route = &u.plan.routes[q.route]
        # the same server is sent the same once more: what it says to the first counts as well
        again = q.socket != NULL and q.server == route.servers[at]
        if not again:
            let_go(nat, q)
            if q.attempts:
                count(nat.counters, DNS_FAILOVERS)
        q.server = route.servers[at]
        q.next_server = <uint8_t>((at + 1) % route.n)
        step = min(<uint64_t>STEP_NS, nat.settings.dns_timeout_ns // route.n) << min(q.attempts // route.n, 8)
        q.attempts = min(q.attempts + 1, 200)
        if again:
            batch(nat, q, now_ns)
        if again or send_query(nat, q, now_ns):
            until = min(until, now_ns + step)
            if q.stale and not q.answered:
                until = min(until, max(now_ns + 1, q.start_ns + STALE_NS))
            wheel_arm(nat.wheel, &q.timer, until)
            return
        q.failed |= 1 << at
    fail(nat, q, now_ns)


cdef void refused(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    """Its server cannot be reached, or is of no use for this query."""
    cdef const dns_route *route = &nat.upstreams.plan.routes[q.route]
    cdef uint32_t i
    for i in range(route.n):
        if route.servers[i] == q.server:
            q.failed |= 1 << i
    ask(nat, q, now_ns)


cdef void failed(nat_t *nat, int server, bint at_once, uint64_t now_ns) noexcept nogil:
    if dns_server_failed(nat.upstreams, server, at_once, now_ns):
        count(nat.counters, DNS_SERVERS_DOWN)


cdef bint others_left(const nat_t *nat, const dns_query *q) noexcept nogil:
    """Whether the query can be asked of a server that has not failed it yet."""
    cdef const dns_route *route = &nat.upstreams.plan.routes[q.route]
    cdef uint32_t i
    for i in range(route.n):
        if route.servers[i] != q.server and not q.failed & (1 << i):
            return True
    return False


cdef void answered(nat_t *nat, dns_query *q, uint8_t *reply, uint32_t length, uint64_t now_ns) noexcept nogil:
    """A server's answer that fits the query."""
    cdef int code = be16(reply + 2) & DNS_RCODE
    dns_server_answered(nat.upstreams, q.server)
    if (code == SERVFAIL or code == DNS_NOTIMP or code == DNS_REFUSED) and others_left(nat, q):
        refused(nat, q, now_ns)         # the next one may know more; the last one's word counts
        return
    count(nat.counters, DNS_REPLIES)
    if code == SERVFAIL and give_stale(nat, q, now_ns):
        bury(nat, q)
        return
    dns_cache_put(nat.cache, text_of(q), q.length, reply, length, now_ns)
    if not q.answered:
        to_guest(nat, q, text_of(q), reply, length, now_ns)
    bury(nat, q)


cdef dns_query *new_query(nat_t *nat, const packet *p, const udp_key *key, uint64_t now_ns) noexcept nogil:
    """A query under way; NULL when there are too many."""
    cdef dns_query *q = NULL
    if table_len(nat.dns_queries) < nat.settings.max_dns:
        q = <dns_query *>pool_get(nat.dns_pool)
    if q == NULL:
        return NULL
    if p.payload_length > sizeof(q.query):
        q.long_query = <uint8_t *>malloc(p.payload_length)
        if q.long_query == NULL:
            pool_put(nat.dns_pool, q)
            return NULL
    q.guest = p.guest
    q.key = key[0]
    q.guest_id = be16(p.payload)
    q.length = p.payload_length
    q.src_v4 = p.ip.dst
    q.start_ns = now_ns
    memcpy(text_of(q), p.payload, p.payload_length)
    wheel_timer_init(&q.timer, TIMER_DNS, q)
    if table_put(nat.dns_queries, &q.key, q) < 0:
        free(q.long_query)
        pool_put(nat.dns_pool, q)
        return NULL
    return q


cdef void dns_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef dns_query *q
    cdef udp_key key
    cdef dns_query asked
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
    if now_ns - nat.resolver_checked_ns > CHECK_NS:
        nat.resolver_checked_ns = now_ns
        nat_post(nat, MAIL_RESOLVER_CHECK, NULL, 0, NULL, 0)
    key.guest = p.src
    key.guest_port = p.udp.sport
    key.zero = 0
    key.protocol = be16(p.payload)
    n = <size_t>dns_cache_get(nat.cache, p.payload, p.payload_length, False, now_ns, nat.recv_memory, UDP_RECV_ROOM)
    if n:
        count(nat.counters, DNS_CACHED)
        asked.guest = p.guest
        asked.key = key
        asked.guest_id = be16(p.payload)
        asked.length = p.payload_length
        asked.src_v4 = p.ip.dst
        to_guest(nat, &asked, p.payload, nat.recv_memory, <uint32_t>n, now_ns)
        return
    if table_get(nat.dns_queries, &key) != NULL:
        return                          # asked again while it is under way
    q = new_query(nat, p, &key, now_ns)
    if q == NULL:
        count(nat.counters, DNS_PENDING_FULL)
        n = <size_t>dns_failure(p.payload, p.payload_length, SERVFAIL, nat.recv_memory, MAX_UDP_ANSWER)
        if n > 0:
            nat_send_udp(nat, p.guest, p.ip.dst, 53, p.ip.src, p.udp.sport, nat.recv_memory, <uint32_t>n, 0, now_ns)
        return
    count(nat.counters, DNS_FORWARDED)
    begin(nat, q, now_ns)


cdef void begin(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef int route = dns_route_of(nat.upstreams, text_of(q), q.length)
    q.stale = dns_cache_has_stale(nat.cache, text_of(q), q.length, now_ns)
    if route < 0:
        fail(nat, q, now_ns)
        return
    q.route = <uint8_t>route
    if q.stale and dns_route_down(nat.upstreams, route, now_ns):
        give_stale(nat, q, now_ns)      # and ask all the same: it may be back
    ask(nat, q, now_ns)


cdef void dns_flow_timer(nat_t *nat, dns_query *q, uint64_t now_ns) noexcept nogil:
    if q.dead:
        return
    if now_ns - q.start_ns >= STALE_NS:
        give_stale(nat, q, now_ns)
    failed(nat, q.server, False, now_ns)
    ask(nat, q, now_ns)


# --- what comes back

cdef void datagram_arrives(nat_t *nat, dns_socket *s, uint8_t *data, uint32_t length, uint64_t now_ns) noexcept nogil:
    cdef dns_query *q = NULL
    cdef sent_key key
    if length >= 12:
        key.serial = s.serial
        key.id = be16(data)
        key.zero = 0
        q = <dns_query *>table_get(nat.upstreams.sent, &key)
    if q == NULL or not dns_match(text_of(q), q.length, data, length):
        count(nat.counters, DNS_REPLY_MISMATCH)
        return
    answered(nat, q, data, length, now_ns)


cdef void server_unreachable(nat_t *nat, dns_socket *s, uint64_t now_ns) noexcept nogil:
    """The server cannot be reached: all that wait for it here go on."""
    cdef uint32_t cursor = 0
    cdef dns_query *q
    failed(nat, s.server, True, now_ns)
    retire(nat.upstreams, s)
    s.pending += 1                      # so that it outlives the last of them
    q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while q != NULL:
        if q.socket == s:
            refused(nat, q, now_ns)
            cursor = 0                  # the table may have moved
        q = <dns_query *>table_next(nat.dns_queries, &cursor)
    s.pending -= 1
    close_socket(nat, s)


cdef void dns_socket_event(nat_t *nat, dns_socket *s, uint32_t events, uint64_t now_ns) noexcept nogil:
    cdef udp_message[UDP_RECV_BATCH] m
    cdef sock_error e
    cdef uint32_t at, size
    cdef int i, n
    if s.dead:
        return
    if events & POLL_ERROR:
        e.payload = nat.recv_memory
        e.payload_length = 576
        if sock_recv_error(s.polled.fd, &e) > 0:    # refused or unreachable
            server_unreachable(nat, s, now_ns)
            return
    while not s.dead:
        for i in range(<int>UDP_RECV_BATCH):
            m[i].data = nat.recv_memory + i * UDP_RECV_ROOM
            m[i].length = UDP_RECV_ROOM
        n = sock_udp_recv(s.polled.fd, m, UDP_RECV_BATCH)
        if n == -EAGAIN or n == 0:
            poller_rearm(nat.poller, s.polled.fd, POLL_READ)
            return
        if n < 0:
            server_unreachable(nat, s, now_ns)
            return
        for i in range(n):
            at = 0
            while not s.dead:                       # joined ones (UDP_GRO) are of one size, the last perhaps shorter
                size = m[i].length - at
                if m[i].gso_size:
                    size = min(size, <uint32_t>m[i].gso_size)
                datagram_arrives(nat, s, m[i].data + at, size, now_ns)
                at += size
                if at >= m[i].length:
                    break
        if n < UDP_RECV_BATCH and not s.dead:
            poller_rearm(nat.poller, s.polled.fd, POLL_READ)
            return


cdef void dns_from_control_arrives(nat_t *nat, const dns_from_control *a, uint64_t now_ns) noexcept nogil:
    cdef dns_query *q = <dns_query *>table_get(nat.dns_queries, &a.key)
    if q == NULL or not q.asked_control or q.attempts != a.attempt:
        return                          # given up, or asked of another meanwhile
    if a.length < 12 or a.length > UDP_RECV_ROOM:
        if a.length == 0:
            failed(nat, q.server, False, now_ns)
        refused(nat, q, now_ns)
        return
    if not dns_match(text_of(q), q.length, a.data, a.length):
        count(nat.counters, DNS_REPLY_MISMATCH)
        return
    memcpy(nat.recv_memory, a.data, a.length)
    answered(nat, q, nat.recv_memory, a.length, now_ns)


# --- changes, and the end

cdef void dns_flows_restart(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef dns_query *q
    close_all(nat)
    q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while q != NULL:
        q.attempts = 0
        q.failed = 0
        q.next_server = 0
        q.start_ns = now_ns
        begin(nat, q, now_ns)           # takes at most this one off the table
        q = <dns_query *>table_next(nat.dns_queries, &cursor)
    dns_flows_flush(nat, now_ns)


cdef void close_all(nat_t *nat) noexcept nogil:
    """Every socket; the queries that went through them wait for nobody."""
    cdef dns_upstreams *u = nat.upstreams
    cdef uint32_t cursor = 0
    cdef dns_query *q = <dns_query *>table_next(nat.dns_queries, &cursor)
    u.n_batch = 0
    u.batch_socket = NULL
    while q != NULL:
        q.batched = 0
        let_go(nat, q)
        q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while u.open != NULL:
        close_socket(nat, u.open)


cdef void dns_plan_set(nat_t *nat, const dns_plan *plan, uint64_t now_ns) noexcept nogil:
    close_all(nat)
    dns_plan_replace(nat.upstreams, plan)
    if nat.cache != NULL and plan.n_routes:     # without any server what is known is all there is
        dns_cache_clear(nat.cache)
    dns_flows_restart(nat, now_ns)


cdef void dns_flows_reap(nat_t *nat) noexcept nogil:
    cdef dns_query *q = nat.dead_dns
    cdef dns_query *next_query
    cdef dns_socket *s = nat.upstreams.dead
    cdef dns_socket *next_socket
    nat.dead_dns = NULL
    while q != NULL:
        next_query = <dns_query *>q.timer.owner
        free(q.long_query)
        pool_put(nat.dns_pool, q)
        q = next_query
    nat.upstreams.dead = NULL
    while s != NULL:
        next_socket = s.next
        free(s)
        s = next_socket


cdef void dns_flows_free_all(nat_t *nat) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef dns_query *q
    close_all(nat)
    q = <dns_query *>table_next(nat.dns_queries, &cursor)
    while q != NULL:
        bury(nat, q)
        q = <dns_query *>table_next(nat.dns_queries, &cursor)
    dns_flows_reap(nat)
    table_free(nat.upstreams.sent)
    free(nat.upstreams)
    nat.upstreams = NULL
    dns_cache_free(nat.cache)
    nat.cache = NULL
