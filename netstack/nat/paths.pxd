# What changes of the host's addresses and routes mean for flows.
from libc.stdint cimport int64_t, uint64_t
from netstack.nat.context cimport nat_t
from netstack.wire.addr cimport addr_t

# The host has lost an address: connections that have it as their source can never go on. How many there were.
cdef int64_t paths_address_gone(nat_t *nat, const addr_t *gone, uint64_t now_ns) noexcept nogil
# Routes are others: name servers are asked through new sockets. (Other sockets that are not connected follow by
# themselves, and connections stay on the way that their address belongs to.)
cdef void paths_changed(nat_t *nat, uint64_t now_ns) noexcept nogil
