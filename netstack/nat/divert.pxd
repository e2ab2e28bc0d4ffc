# Addresses and ports of the virtual network that have a server behind them, and outgoing TCP that the
# control plane connects.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.nat.context cimport divert_prefix_t, nat_t
from netstack.nat.policy cimport verdict
from netstack.wire.addr cimport addr_t

ctypedef struct diversion:          # to be added or taken away
    uint32_t addr
    uint16_t port
    uint16_t protocol               # 6 or 17
    uint8_t to_control              # the control plane gives the descriptor; otherwise:
    addr_t target
    uint16_t target_port

# Where something stands at dst:*port: the verdict, and for TO_HOST the address and the port to go to. False: ask
# the policy.
cdef bint divert(const nat_t *nat, uint32_t dst, uint16_t *port, uint16_t protocol, verdict *where,
                 addr_t *target) noexcept nogil
# The address and port under which a guest knows the host's server at addr:*port, where it has come by a diversion.
cdef bint diverted_from(const nat_t *nat, const addr_t *addr, uint16_t *port, uint16_t protocol,
                        uint32_t *v4) noexcept nogil
cdef int divert_add(nat_t *nat, const diversion *d) noexcept nogil         # 0, -EEXIST, -EADDRNOTAVAIL or -ENOMEM
cdef int divert_remove(nat_t *nat, const diversion *d) noexcept nogil      # 0 or -ENOENT
cdef void divert_prefixes(nat_t *nat, const divert_prefix_t *prefixes, uint32_t n) noexcept nogil
cdef void divert_free_all(nat_t *nat) noexcept nogil
