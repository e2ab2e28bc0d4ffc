# A plan of name servers from what Python says of it.
from netstack.nat.dns_servers cimport dns_plan

# routes: (zone, [(address or None, port, asker)]) pairs (Engine.set_dns_routes). plan is zero before.
cdef int dns_plan_fill(dns_plan *plan, list routes) except -1
