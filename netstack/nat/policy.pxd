# Where a guest's packet may go, and as what.
from libc.stdint cimport uint16_t, uint32_t
from netstack.nat.context cimport nat_t
from netstack.wire.addr cimport addr_t

cdef enum verdict:
    TO_HOST = 0             # an ordinary socket to addr
    TO_DNS = 1              # the gateway's resolver
    TO_DHCP = 2
    TO_CONTROL = 3          # the control plane gives the descriptor
    TO_NOBODY = 4           # an address of ours where nothing listens: refused
    TO_NOWHERE = 5          # an address of the virtual network that nobody has: host unreachable

cdef verdict policy_of(const nat_t *nat, uint32_t dst, uint16_t port, bint tcp, addr_t *addr) noexcept nogil
# A port of the host's loopback that is the gateway's own: a flow's socket, which takes datagrams for its guest from
# everybody, or a proxy, which leads to every guest. Guests find it closed.
cdef void policy_hide(nat_t *nat, uint16_t port, bint tcp, bint hide) noexcept nogil
