"""A plan of name servers from what Python says of it."""
from libc.string cimport memcpy

from netstack.nat.dns_servers cimport DNS_ROUTES, DNS_ROUTE_SERVERS, DNS_SERVERS, dns_plan, dns_route, dns_server
from netstack.wire.addr cimport addr_from_object
from netstack.wire.dns_name cimport name_from_text


cdef int dns_plan_fill(dns_plan *plan, list routes) except -1:
    cdef dns_route *route
    cdef dns_server *server
    cdef bytes zone
    known = {}
    for name, servers in routes[:DNS_ROUTES]:
        zone = name_from_text(name or ".").lower()
        route = &plan.routes[plan.n_routes]
        memcpy(route.zone, <const char *>zone, len(zone))
        route.zone_length = len(zone)
        route.labels = labels_of(zone)
        for address, port, asker in servers[:DNS_ROUTE_SERVERS]:
            if (address, port, asker) not in known:
                if plan.n_servers == DNS_SERVERS:
                    continue
                known[address, port, asker] = plan.n_servers
                server = &plan.servers[plan.n_servers]
                if address is not None:
                    server.addr = addr_from_object(address)
                server.port = port
                server.asker = asker
                plan.n_servers += 1
            route.servers[route.n] = known[address, port, asker]
            route.n += 1
        plan.n_routes += 1
    return 0


cdef int labels_of(bytes name):
    """Of a name on the wire."""
    cdef int n = 0, at = 0
    while name[at]:
        n += 1
        at += 1 + name[at]
    return n
