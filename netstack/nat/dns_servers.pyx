"""Which name server is asked: by zone, in order, and not those that have been silent lately.

A server that has failed three times in a row (or could not be reached at all) is given up for a second, then two, four
and so on up to half a minute; each time it is over one query tries it again, and an answer makes it whole. Servers that
are given up are still asked when no other is left.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from netstack.nat.flow cimport dns_query
from netstack.storage.table cimport table_new
from netstack.wire.addr cimport addr_eq
from netstack.wire.dns cimport DNS_HDR_LEN, dns_question, dns_question_parse
from netstack.wire.dns_name cimport dns_name_lower

cdef enum:
    FAILS = 3                   # in a row until a server is given up
    BACKOFF_STEPS = 5
    SECOND = 1000000000
    BACKOFF_MAX = 30            # seconds


cdef dns_upstreams *dns_upstreams_new(uint32_t max_queries, uint64_t k0, uint64_t k1) noexcept nogil:
    cdef dns_upstreams *u = <dns_upstreams *>calloc(1, sizeof(dns_upstreams))
    if u == NULL:
        return NULL
    u.sent = table_new(sizeof(sent_key), 16, max_queries, k0, k1)
    if u.sent == NULL:
        free(u)
        return NULL
    return u


cdef int dns_route_of(const dns_upstreams *u, const uint8_t *query, uint32_t length) noexcept nogil:
    cdef dns_question question
    cdef const dns_route *route
    cdef int best = -1
    cdef uint32_t i, at, left, labels = 0
    if u.plan.n_routes == 0 or dns_question_parse(query, length, DNS_HDR_LEN, &question) < 0:
        return -1
    if u.plan.n_routes == 1 and u.plan.routes[0].labels == 0:
        return 0
    dns_name_lower(&question.name)
    at = 0
    while question.name.bytes[at]:
        labels += 1
        at += 1 + question.name.bytes[at]
    for i in range(u.plan.n_routes):
        route = &u.plan.routes[i]
        if route.labels > labels or (best >= 0 and route.labels <= u.plan.routes[best].labels):
            continue
        at = 0
        left = labels
        while left > route.labels:
            left -= 1
            at += 1 + question.name.bytes[at]
        if (question.name.length - at == route.zone_length
                and memcmp(question.name.bytes + at, route.zone, route.zone_length) == 0):
            best = i
    return best


cdef inline bint given_up(const dns_server *s, uint64_t now_ns) noexcept nogil:
    return s.down_until_ns > now_ns


cdef int dns_server_next(dns_upstreams *u, const dns_query *q, uint64_t now_ns) noexcept nogil:
    cdef const dns_route *route = &u.plan.routes[q.route]
    cdef dns_server *s
    cdef int spare = -1
    cdef uint32_t i, at
    for i in range(route.n):
        at = (q.next_server + i) % route.n
        if q.failed & (1 << at):
            continue
        s = &u.plan.servers[route.servers[at]]
        if not given_up(s, now_ns):
            if s.down_until_ns:         # its time is over: this query finds out, and the others do not wait for it
                s.down_until_ns = now_ns + SECOND
            return <int>at
        if spare < 0:
            spare = <int>at
    return spare


cdef bint dns_route_down(const dns_upstreams *u, int route, uint64_t now_ns) noexcept nogil:
    cdef const dns_route *r = &u.plan.routes[route]
    cdef uint32_t i
    for i in range(r.n):
        if not given_up(&u.plan.servers[r.servers[i]], now_ns):
            return False
    return True


cdef bint dns_server_failed(dns_upstreams *u, int server, bint at_once, uint64_t now_ns) noexcept nogil:
    cdef dns_server *s = &u.plan.servers[server]
    cdef bint was_up = not given_up(s, now_ns)
    cdef uint32_t steps
    s.fails = min(<uint16_t>(s.fails + 1), <uint16_t>1000)
    if at_once and s.fails < FAILS:
        s.fails = FAILS
    if s.fails < FAILS or not was_up:
        return False
    steps = min(<uint32_t>(s.fails - FAILS), <uint32_t>BACKOFF_STEPS)
    s.down_until_ns = now_ns + min(<uint64_t>1 << steps, <uint64_t>BACKOFF_MAX) * SECOND
    return True


cdef void dns_server_answered(dns_upstreams *u, int server) noexcept nogil:
    u.plan.servers[server].fails = 0
    u.plan.servers[server].down_until_ns = 0


cdef void dns_plan_replace(dns_upstreams *u, const dns_plan *plan) noexcept nogil:
    cdef dns_plan *had = &u.plan
    cdef dns_server *s
    cdef const dns_server *new
    cdef uint32_t i, j
    cdef uint16_t[64] fails
    cdef uint64_t[64] down
    for i in range(plan.n_servers):
        new = &plan.servers[i]
        fails[i] = 0
        down[i] = 0
        for j in range(had.n_servers):
            s = &had.servers[j]
            if s.port == new.port and s.asker == new.asker and addr_eq(&s.addr, &new.addr):
                fails[i] = s.fails
                down[i] = s.down_until_ns
    memcpy(had, plan, sizeof(dns_plan))
    for i in range(plan.n_servers):
        had.servers[i].fails = fails[i]
        had.servers[i].down_until_ns = down[i]
